/** A client's events: what its program does, and the messages that it leads to. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ClientRig, dmaAccess } from '../../tests/kit/client-rig.ts';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { until } from '../../tests/kit/event-loop.ts';
import type { PeerScript } from '../../tests/kit/scripted-peer.ts';
import type { VfioEvent } from '../abi/event.ts';
import { IrqIndex, RegionFlags } from '../abi/vfio.ts';
import type { LogLevel } from '../base/log.ts';
import { EventStream } from '../events/stream.ts';
import { FakeEventFd, HeapMemory } from '../sys/fake.ts';
import { Command } from './messages.ts';

let rig: ClientRig;
beforeAll(async () => {
  rig = await ClientRig.start();
});
afterAll(() => rig[Symbol.asyncDispose]());

const IOVA = 0x20_0000n;
const MARK = Uint8Array.of(0xa5, 0xc3, 0x96, 0xf1);
const { READ, WRITE, MMAP } = RegionFlags;
const shared = { 7: { flags: READ | WRITE, size: 256 }, 2: { flags: READ | WRITE | MMAP, size: 0x2000, shared: true } };

function connect(script: PeerScript = {}, data = false) {
  const logged: string[] = [];
  const stream = new EventStream({ log: { log: (level: LogLevel, text) => void logged.push(`${level}: ${text}`) } });
  const reader = stream.read({ data });
  const connected = rig.connect(script, { events: stream });
  return { ...connected, logged, stream, all: () => reader.take() };
}

/** All that is in events, as text; bytes in hex, or as the characters that they are. */
function textOf(events: readonly VfioEvent[], encoding: 'hex' | 'latin1' = 'hex'): string {
  return JSON.stringify(events, (_, value) => {
    if (value instanceof Uint8Array) return Buffer.from(value).toString(encoding);
    return typeof value === 'bigint' ? String(value) : value;
  });
}

/** The kinds of events, of messages their names, and the chain of causes of each. */
function short(events: readonly VfioEvent[]): string[] {
  return events.map((event) => {
    const names: string[] = [];
    for (let at: VfioEvent | undefined = event; at !== undefined; at = events.find(({ seq }) => seq === at!.cause)) {
      names.push(at.kind === 'message' ? `${at.twin ? 'twin ' : ''}${at.command} ${at.type}` : at.kind);
    }
    return names.join(' ← ');
  });
}

describe('vfio-user client: events', () => {
  it('of a register access: the access, its message, the reply', () => {
    const { device, all } = connect();
    const region = device.region(0);
    all();
    region.write32(8, 7);
    const value = region.read32(8);
    const events = all();
    expect(short(events)).toEqual([
      'access',
      'REGION_WRITE command ← access',
      'REGION_WRITE reply ← REGION_WRITE command ← access',
      'access',
      'REGION_READ command ← access',
      'REGION_READ reply ← REGION_READ command ← access',
    ]);
    const access = { device: 'peer', region: 0, offset: 8, size: 4, verdict: 'device' };
    expect([events[0], events[3]]).toMatchObject([
      { ...access, op: 'write', value: 7 },
      { ...access, op: 'read', value },
    ]);
    device.close();
  });

  it('of a mapping: each load is an access; 64 bits are a bigint', () => {
    const { device, all } = connect();
    device.region(7).write16(4, 6);
    const mapping = device.region(0).map(0, 4096);
    all();
    mapping.write64(0x10, 0x1122_3344_5566_7788n);
    expect(all()[0]).toMatchObject({ kind: 'access', op: 'write', offset: 0x10, size: 8, value: 0x1122_3344_5566_7788n });
    mapping[Symbol.dispose]();
    expect(all()).toMatchObject([{ kind: 'mapping', op: 'unmap', region: 0, offset: 0, size: 4096 }]);
    device.close();
  });

  it('of memory that the server shares: the mapping, and no access of it', () => {
    const { device, all } = connect({ regions: shared });
    device.region(7).write16(4, 6);
    const region = device.region(2);
    all();
    using mapping = region.map(0, 4096);
    mapping.read32(0);
    all();
    mapping.write32(0, 0xf196_c3a5);
    expect(all()).toEqual([]);
    device.close();
  });

  it('of accesses that fail: refused by the server, and here, once each', () => {
    const { device, all } = connect({ on: { [Command.REGION_WRITE]: [{ do: 'error', errno: 5 }] } });
    const region = device.region(0);
    all();
    expect(errnoFrom(() => region.write32(0, 1))).toBe('EIO');
    expect(errnoFrom(() => region.read32(2 ** 40))).toBe('EINVAL');
    expect(errnoFrom(() => region.read(-1, new Uint8Array(4)))).toBe('EINVAL');
    const accesses = all().filter((event) => event.kind === 'access');
    expect(accesses.map(({ verdict, errno }) => [verdict, errno])).toEqual([
      ['refused', 'EIO'],
      ['refused', 'EINVAL'],
      ['refused', 'EINVAL'],
    ]);
    device.close();
  });

  it('of DMA mappings, with their refusals', () => {
    const { device, all } = connect();
    using heap = HeapMemory.allocate(0x1000);
    using given = device.dma.allocate(0x1000);
    all();
    device.dma.map({ iova: IOVA, memory: heap });
    device.dma.map({ iova: 0x30_0000n, memory: given, access: 1 });
    expect(errnoFrom(() => device.dma.map({ iova: IOVA, memory: heap }))).toBe('EEXIST');
    device.dma.unmap(IOVA, 0x1000n);
    expect(all().filter(({ kind }) => kind !== 'message')).toMatchObject([
      { kind: 'dma-map', iova: IOVA, size: 0x1000n, access: 'read, write', memory: 'remote' },
      { kind: 'dma-map', access: 'read', memory: 'direct' },
      { kind: 'dma-map', errno: 'EEXIST', reason: expect.stringContaining('overlaps') },
      { kind: 'dma-unmap', iova: IOVA, size: 0x1000n },
    ]);
    device.close();
  });

  it.each([
    ['read', Command.DMA_READ, new Uint8Array(0)],
    ['write', Command.DMA_WRITE, MARK],
  ] as const)('of a DMA that this side serves: %s', async (op, command, bytes) => {
    const ask = { do: 'ask', when: 'after', command, payload: dmaAccess(IOVA + 0x10n, 4, bytes) } as const;
    const script = { on: { [Command.REGION_WRITE]: [ask] } };
    for (const data of [false, true]) {
      const { device, all } = connect(script, data);
      using memory = HeapMemory.allocate(0x1000);
      memory.windows[0]!.set(MARK, 0x10);
      device.dma.map({ iova: IOVA, memory });
      device.region(0);
      all();
      device.region(0).write32(0, 1);
      const events: VfioEvent[] = [];
      await until(
        () =>
          events.push(...all()) > 0 &&
          events.some((event) => event.kind === 'message' && event.command.startsWith('DMA') && event.type === 'reply'),
      );
      const name = op === 'read' ? 'DMA_READ' : 'DMA_WRITE';
      expect(short(events).slice(-3)).toEqual([`${name} command`, `dma ← ${name} command`, `${name} reply ← ${name} command`]);
      expect(events.find(({ kind }) => kind === 'dma')).toMatchObject({ op, iova: IOVA + 0x10n, size: 4, way: 'remote' });
      const hex = textOf(events);
      expect(hex.includes('a5c396f1')).toBe(data);
      device.close();
    }
  });

  it('of interrupts: the request, and each delivery', async () => {
    const { device, all } = connect({ on: { [Command.REGION_WRITE]: [{ do: 'signal', index: 1, vector: 1 }] } });
    using one = new FakeEventFd();
    using two = new FakeEventFd();
    device.setIrqs({ index: IrqIndex.MSI, start: 0, count: 2, action: 'trigger', data: 'sinks', sinks: [one, two] });
    expect(all().find(({ kind }) => kind === 'set-irqs')).toMatchObject({
      irq: 'msi',
      action: 'trigger',
      with: 'eventfd',
      start: 0,
      count: 2,
    });
    device.region(0).write32(0, 1);
    await until(() => two.count > 0);
    expect(all().filter(({ kind }) => kind === 'interrupt')).toMatchObject([{ step: 'delivered', irq: 'msi', vector: 1 }]);
    const refused = (index: number) =>
      expect(errnoFrom(() => device.setIrqs({ index, start: 64, count: 1, action: 'trigger', data: 'none' }))).toBe('EINVAL');
    refused(IrqIndex.MSI);
    expect(all()).toMatchObject([{ kind: 'set-irqs', irq: 'msi', errno: 'EINVAL' }]);
    // As of the engine: a request that names no interrupt has no event.
    refused(9);
    expect(all()).toEqual([]);
    device.close();
  });

  it('of its life: opened with the messages that it took, reset, closed', () => {
    const { device, all } = connect();
    device.reset();
    device.close();
    const events = all();
    expect(short(events).slice(0, 3)).toEqual(['open', 'VERSION command ← open', 'VERSION reply ← VERSION command ← open']);
    expect(events.filter(({ kind }) => kind === 'open' || kind === 'reset')).toMatchObject([
      { kind: 'open', step: 'opened', pid: process.pid },
      { kind: 'reset', by: 'VFIO_DEVICE_RESET' },
      { kind: 'open', step: 'closed' },
    ]);
  });

  it('of a server that dies: the line of the log, and the reason', () => {
    const { device, all, logged } = connect({ on: { [Command.DEVICE_RESET]: [{ do: 'die' }] } });
    all();
    expect(errnoFrom(() => device.reset())).toBe('ENODEV');
    const reason = 'the server closed the connection';
    expect(all().filter(({ kind }) => kind !== 'message')).toMatchObject([
      { kind: 'reset', errno: 'ENODEV' },
      { kind: 'note', level: 'warn', text: `peer: ${reason}` },
      { kind: 'open', step: 'closed', errno: 'ENODEV', reason },
    ]);
    expect(logged).toEqual([`warn: peer: ${reason}`]);
  });

  it('of a server that refuses: no device, and the errno', () => {
    const stream = new EventStream();
    using reader = stream.read({ kinds: ['open'] });
    expect(errnoFrom(() => rig.connect({ on: { [Command.VERSION]: [{ do: 'error', errno: 16 }] } }, { events: stream }))).toBe('EBUSY');
    expect(reader.take()).toMatchObject([{ step: 'refused', errno: 'EBUSY' }]);
  });

  it('S3-05 never with the VF token that it shows', () => {
    const stream = new EventStream();
    using reader = stream.read({ data: true });
    const { device } = rig.connect({}, { events: stream, token: '83d8f4f2-509f-382f-3c1e-e6bfe0fa1001' });
    const text = textOf(reader.take(), 'latin1');
    expect(text).toContain('vfio_ts_vf_token');
    expect(text).not.toMatch(/509f|0fa1001/);
    device.close();
  });

  it('are of no memory that the server shares, unless a reader wants data', () => {
    for (const data of [false, true]) {
      const { device, all } = connect({ regions: shared }, data);
      const region = device.region(2);
      all();
      region.write32(0, 0xf196_c3a5);
      const hex = textOf(all());
      expect([hex.includes('a5c396f1'), hex.includes(String(0xf196_c3a5))]).toEqual([data, false]);
      device.close();
    }
  });
});
