import { expect, it } from 'vitest';
import { ControllerUnderTest } from '../../../tests/kit/nvme/controller-under-test.ts';
import { LateStorage } from '../../../tests/kit/nvme/late-storage.ts';
import { PagedHost, settle } from '../../../tests/kit/nvme/paged-host.ts';
import type { VfioEvent } from '../../abi/event.ts';
import { AdminOpcode, FeatureId, NvmeReg, NvmOpcode, sqDoorbell } from '../../abi/nvme.ts';
import { Cns } from '../../abi/nvme-identify.ts';
import { MemoryStorage } from '../storage/memory-storage.ts';

type Commands = Extract<VfioEvent, { kind: 'command' }>;

function commandsOf(events: readonly VfioEvent[]): Commands[] {
  return events.filter((event) => event.kind === 'command');
}

/** Controller with one I/O queue pair, and a read of blocks. */
function ready(options: ConstructorParameters<typeof ControllerUnderTest>[0] = {}) {
  const c = new ControllerUnderTest(options);
  c.enable();
  c.createPair(1);
  const data = c.page();
  const read = (cid: number, lba = 0) => ({ opcode: NvmOpcode.READ, cid, nsid: 1, prp1: data, cdw10: lba });
  return { c, data, read };
}

it('a command is an event: its name, queue, fields and status, caused by its doorbell', () => {
  const { c, read } = ready();
  using reader = c.host.stream.read();
  c.submit(1, read(7, 5));
  expect(reader.take().filter(({ kind }) => kind !== 'dma')).toMatchObject([
    { kind: 'access', seq: 1, op: 'write', offset: sqDoorbell(1, 0), cause: 0 },
    {
      kind: 'command',
      cause: 1,
      name: 'Read',
      queue: 'I/O 1',
      fields: { cid: 7, nsid: 1, slba: 5, blocks: 1 },
      status: 'ok',
      latencyNs: 0,
    },
    { kind: 'interrupt', step: 'raised', irq: 'msix', vector: 1 },
  ]);
});

it('the doorbell causes the command’s DMA, and the command its interrupt', () => {
  const { c, read } = ready();
  using reader = c.host.stream.read();
  c.submit(1, read(1));
  const events = reader.take();
  const [doorbell, command] = events.filter(({ kind }) => kind === 'access' || kind === 'command');
  const data = events.find((event) => event.kind === 'dma' && event.size === 512);
  const interrupt = events.find(({ kind }) => kind === 'interrupt');
  expect([data?.cause, command?.cause, interrupt?.cause]).toEqual([doorbell?.seq, doorbell?.seq, command?.seq]);
});

it('data are in the events of a reader that asks for them, and of others the device uses the memory in place', () => {
  const { c, data, read } = ready();
  const block = Uint8Array.from({ length: 512 }, (_, i) => i & 0xff);
  const blocks = (events: readonly VfioEvent[]) => events.filter((event) => event.kind === 'dma' && event.size === 512);
  using reader = c.host.stream.read();
  {
    using all = c.host.stream.read({ data: true });
    c.host.dma.tryWrite(data, block);
    c.submit(1, { ...read(1), opcode: NvmOpcode.WRITE });
    c.submit(1, read(2));
    expect(blocks(all.take()).slice(1)).toMatchObject([
      { op: 'read', size: 512, way: 'direct', data: block },
      { op: 'write', size: 512, way: 'direct', data: block },
    ]);
  }
  reader.take();
  c.submit(1, read(3));
  expect(blocks(reader.take())).toMatchObject([{ op: 'write', way: 'view' }]);
});

it('each command of a queue has the doorbell that announced it, also when it waits for others', () => {
  const { c, read } = ready({ namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 5 } }] });
  using reader = c.host.stream.read({ kinds: ['access', 'command', 'interrupt'] });
  c.put(1, read(1));
  c.submit(1, read(2));
  c.host.clock.advance(2);
  c.submit(1, read(3));
  c.host.clock.advance(10);
  const events = reader.take();
  const [first, second] = events.filter(({ kind }) => kind === 'access');
  expect(commandsOf(events).map(({ fields, cause, latencyNs }) => [fields.cid, cause, latencyNs])).toEqual([
    [1, first!.seq, 5e6],
    [2, first!.seq, 5e6],
    [3, second!.seq, 5e6],
  ]);
  expect(c.host.events.cause).toBe(0);
});

it('admin commands have fields of their own', () => {
  const { c } = ready();
  using reader = c.host.stream.read({ kinds: ['command'] });
  c.admin({ opcode: AdminOpcode.IDENTIFY, prp1: c.page(), cdw10: Cns.CONTROLLER });
  c.admin({ opcode: AdminOpcode.GET_FEATURES, cdw10: FeatureId.NUMBER_OF_QUEUES });
  c.admin({ opcode: AdminOpcode.DELETE_SQ, cdw10: 1 });
  expect(commandsOf(reader.take()).map(({ name, queue, fields }) => [name, queue, { ...fields, cid: 0 }])).toEqual([
    ['Identify', 'admin', { cid: 0, nsid: 0, cns: 1 }],
    ['Get Features', 'admin', { cid: 0, nsid: 0, fid: 7 }],
    ['Delete SQ', 'admin', { cid: 0, qid: 1 }],
  ]);
});

it('a failed command has the status in words, and an opcode that does not exist its number', () => {
  const { c, read } = ready();
  using reader = c.host.stream.read({ kinds: ['command'] });
  c.run(1, read(1, 2 ** 30));
  c.run(1, { opcode: 0x7f });
  c.run(1, { ...read(3), cdw11: 0xffff_ffff });
  expect(commandsOf(reader.take()).map(({ name, status, fields }) => [name, status, fields.slba])).toEqual([
    ['Read', 'LBA Out of Range', 2 ** 30],
    ['opcode 0x7f', 'Invalid Command Opcode', undefined],
    ['Read', 'LBA Out of Range', 0xffff_ffff_0000_0000n],
  ]);
});

it('a command that waits for the disk keeps its cause, and ends when the disk has', () => {
  const storage = new LateStorage(2 ** 20, true);
  const { c, read } = ready({ namespaces: [{ storage }] });
  using reader = c.host.stream.read();
  c.submit(1, read(1));
  c.submit(1, read(2, 8));
  c.host.clock.advance(3);
  storage.end();
  const events = reader.take();
  const doorbells = events.filter(({ kind }) => kind === 'access').map(({ seq }) => seq);
  expect(commandsOf(events).map(({ cause, latencyNs }) => [cause, latencyNs])).toEqual(doorbells.map((seq) => [seq, 3e6]));
  const transfers = events.filter((event) => event.kind === 'dma' && event.way === 'direct' && event.size === 512);
  expect(transfers.map(({ cause }) => cause)).toEqual(doorbells);
});

it('commands on remote memory keep their causes over messages', async () => {
  const host = new PagedHost();
  const { c, read } = ready({ host });
  await settle();
  host.make('remote');
  using reader = c.host.stream.read({ kinds: ['access', 'command', 'interrupt'] });
  c.submit(1, read(1));
  c.submit(1, read(2));
  await settle();
  const events = reader.take();
  const doorbells = events.filter(({ kind }) => kind === 'access').map(({ seq }) => seq);
  const commands = commandsOf(events);
  expect(commands.map(({ cause }) => cause)).toEqual(doorbells);
  const last = events.filter(({ kind }) => kind === 'interrupt').at(-1);
  expect(last?.cause).toBe(commands.at(-1)?.seq);
  expect(c.host.events.cause).toBe(0);
});

it('Abort ends the aborted command with its status', () => {
  const { c, read } = ready({ namespaces: [{ storage: new MemoryStorage(2 ** 20), limits: { latencyMs: 50 } }] });
  using reader = c.host.stream.read({ kinds: ['command'] });
  const cid = c.submit(1, read(9));
  c.admin({ opcode: AdminOpcode.ABORT, cdw10: (cid << 16) | 1 });
  expect(commandsOf(reader.take()).map(({ name, status }) => [name, status])).toEqual([
    ['Read', 'Command Abort Requested'],
    ['Abort', 'ok'],
  ]);
});

it('a request for events ends with the event, and a reset ends commands under way', () => {
  const storage = new LateStorage(2 ** 20, true);
  const { c, read } = ready({ namespaces: [{ storage }] });
  using reader = c.host.stream.read({ kinds: ['command'] });
  c.submit(0, { opcode: AdminOpcode.ASYNC_EVENT_REQUEST });
  c.submit(0, { opcode: AdminOpcode.ASYNC_EVENT_REQUEST });
  c.submit(1, read(1));
  expect(reader.take()).toEqual([]);
  // A doorbell of a queue that does not exist.
  c.w(sqDoorbell(9, 0), 1);
  expect(commandsOf(reader.take()).map(({ name, status }) => [name, status])).toEqual([['Async Event Request', 'ok']]);
  c.w(NvmeReg.CC, 0);
  storage.end();
  expect(commandsOf(reader.take()).map(({ name, status }) => [name, status])).toEqual([
    ['Async Event Request', 'controller reset'],
    ['Read', 'controller reset'],
  ]);
});

it('a command of before the reader makes no event, and one of a later reader has its own doorbell', () => {
  const storage = new LateStorage(2 ** 20, true);
  const { c, read } = ready({ namespaces: [{ storage }] });
  c.submit(1, read(1));
  const first = c.host.stream.read({ kinds: ['command'] });
  storage.end();
  expect(first.take()).toEqual([]);
  c.submit(1, read(2));
  first[Symbol.dispose]();
  storage.end();
  c.completions(1);
  c.submit(1, read(3));
  using second = c.host.stream.read({ kinds: ['command'] });
  storage.end();
  expect(second.take()).toEqual([]);
  c.completions(1);
  storage.late = false;
  c.run(1, read(4));
  expect(commandsOf(second.take()).map(({ fields }) => fields.cid)).toEqual([4]);
});
