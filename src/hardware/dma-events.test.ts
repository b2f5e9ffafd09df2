import { describe, expect, it } from 'vitest';
import { SlowMemory, testContainer, testContext, testGroup } from '../../tests/kit/dma-rig.ts';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { Dma } from '../abi/device-host.ts';
import type { Memory } from '../abi/memory.ts';
import { Process } from '../engine/dma/process.ts';
import { HeapMemory } from '../sys/fake.ts';
import { HostDma } from './host-dma.ts';

function setUp() {
  const context = testContext();
  const group = testGroup(1, { apertureLast: 2n ** 64n - 1n, reserved: [] });
  const container = testContainer(context, [group]);
  const process = Process.root();
  const gate = { busMaster: true, powered: true, domain: group.domain };
  const events = context.stream.source('0000:00:04.0');
  const dma = new HostDma(gate, events, events.name);
  const map = (iova: bigint, memory: Memory) => container.mapMemory({ process, memory, iova, access: 3 });
  const slow = new SlowMemory(8192);
  map(0n, HeapMemory.allocate(4096));
  map(2n ** 64n - 4096n, HeapMemory.allocate(4096));
  map(0x100000n, slow);
  return { events, dma, gate, slow, container, stream: context.stream };
}

const kinds = ['dma', 'dma-refused'] as const;

it('transfers and views of direct memory, up to the end of the 64-bit space', () => {
  const { dma, stream } = setUp();
  using reader = stream.read({ kinds, data: true });
  dma.tryWrite(2n ** 64n - 2n, Uint8Array.of(7, 8));
  dma.tryRead(4094, new Uint8Array(2));
  dma.view(8n, 16, 1);
  dma.view(8n, 16, 3);
  expect(reader.take()).toMatchObject([
    { op: 'write', iova: 2n ** 64n - 2n, size: 2, way: 'direct', data: Uint8Array.of(7, 8) },
    { op: 'read', iova: 4094n, size: 2, way: 'direct' },
    { op: 'read', iova: 8n, size: 16, way: 'view' },
    { op: 'write', iova: 8n, size: 16, way: 'view' },
  ]);
});

it('refusals are counted by the source, also without a reader', () => {
  const { dma, events, gate } = setUp();
  gate.busMaster = false;
  expect([dma.tryRead(0n, new Uint8Array(1)), dma.faults['bus-master-off'], events.counted('bus-master-off')]).toEqual([Dma.FAULT, 1, 1]);
});

describe('remote memory', () => {
  it('is one event, when the transfer is over, with the cause of its beginning', async () => {
    const { dma, events, slow, stream } = setUp();
    using reader = stream.read({ kinds, data: true });
    slow.bytes.set([5, 6], 4095);
    events.cause = 41;
    const read = dma.read(0x100fffn, new Uint8Array(2));
    events.cause = 42;
    const write = dma.write(0x100000n, Uint8Array.of(9));
    events.cause = 0;
    expect(reader.take()).toEqual([]);
    await slow.answer();
    await Promise.all([read, write, slow.answer()]);
    expect(reader.take().sort((a, b) => a.cause - b.cause)).toMatchObject([
      { kind: 'dma', op: 'read', iova: 0x100fffn, size: 2, way: 'remote', cause: 41, data: Uint8Array.of(5, 6) },
      { kind: 'dma', op: 'write', iova: 0x100000n, size: 1, way: 'remote', cause: 42, data: Uint8Array.of(9) },
    ]);
    expect(events.cause).toBe(0);
  });

  it('that fails is refused, with the cause of its beginning', async () => {
    const { dma, events, gate, slow, stream } = setUp();
    using reader = stream.read({ kinds });
    events.cause = 41;
    const read = dma.read(0x100000n, new Uint8Array(2));
    events.cause = 0;
    gate.busMaster = false;
    await slow.answer();
    await expect(read).rejects.toThrow();
    expect(reader.take()).toMatchObject([{ kind: 'dma-refused', reason: 'bus-master-off', iova: 0x100000n, cause: 41 }]);
  });

  it('callbacks of the promise have the cause of the transfer', async () => {
    const { dma, events, slow, stream } = setUp();
    using _reader = stream.read();
    const causes: number[] = [];
    events.cause = 41;
    const read = dma.read(0x100000n, new Uint8Array(2)).then(() => void causes.push(events.cause));
    const refused = dma.read(0x900000n, new Uint8Array(2)).catch(() => void causes.push(events.cause));
    events.cause = 0;
    await slow.answer();
    await Promise.all([read, refused]);
    expect([causes, events.cause]).toEqual([[41, 41], 0]);
  });
});

it('while there is no reader, no event is built', () => {
  const { dma, events } = setUp();
  (events as { dma: unknown }).dma = () => expect.unreachable();
  dma.tryWrite(0n, Uint8Array.of(1));
  dma.tryRead(0n, new Uint8Array(1));
  expect(dma.view(0n, 4, 3)).not.toBe(null);
  expect(errnoFrom(() => dma.tryRead(0n, new Uint8Array(1)))).toBe('none');
});
