import { describe, expect, test } from 'vitest';
import { SlowMemory, testContainer, testContext, testGroup } from '../../tests/kit/dma-rig.ts';
import { Dma, DmaFault } from '../abi/device-host.ts';
import type { Access, Memory } from '../abi/memory.ts';
import { VfioError } from '../base/errno.ts';
import { Process } from '../engine/dma/process.ts';
import { HeapMemory } from '../sys/fake.ts';
import { HostDma } from './host-dma.ts';
import { IommuDomain } from './iommu-domain.ts';

function setUp() {
  const context = testContext();
  const group = testGroup(1);
  const container = testContainer(context, [group]);
  const process = Process.root();
  const gate = {
    busMaster: true,
    powered: true,
    get domain() {
      return group.domain;
    },
  };
  const dma = new HostDma(gate, context.events, '0000:00:04.0');
  const memory = HeapMemory.allocate(4 * 4096);
  const map = (iova: bigint, access: Access = 3, offset = 0, size = memory.size - offset) =>
    container.mapMemory({ process, memory, iova, access, offset, size });
  const unmap = (iova: bigint, size: number) => container.unmapDma({ iova, size: BigInt(size) });
  return { context, group, container, process, gate, dma, memory, map, unmap };
}

const bytes = (...values: number[]) => new Uint8Array(values);

/** The outcome of a DMA: 'done', the reason of its fault, or 'pending'. */
async function outcome(promise: Promise<void>): Promise<string> {
  return Promise.race([
    promise.then(
      () => 'done',
      (error: unknown) => (error instanceof DmaFault ? error.reason : String(error)),
    ),
    new Promise<string>((resolve) => setImmediate(() => resolve('pending'))),
  ]);
}

describe('HostDma', () => {
  test('S2-38 DMA before bus mastering is on does not land and is counted', () => {
    const { dma, gate, memory, map } = setUp();
    map(0n);
    gate.busMaster = false;
    expect(dma.tryWrite(0n, bytes(1, 2, 3))).toBe(Dma.FAULT);
    expect(dma.tryRead(0n, bytes(0))).toBe(Dma.FAULT);
    expect(dma.view(0n, 16, 3)).toBe(null);
    expect([...memory.windows[0].subarray(0, 3)]).toEqual([0, 0, 0]);
    expect(dma.faults['bus-master-off']).toBe(2);
    gate.busMaster = true;
    expect(dma.tryWrite(0n, bytes(1, 2, 3))).toBe(Dma.DONE);
    expect([...memory.windows[0].subarray(0, 3)]).toEqual([1, 2, 3]);
  });

  test('S2-38 each thing in the way has its reason', async () => {
    const { dma, gate, group, container, map } = setUp();
    map(0x10000n, 1);
    gate.powered = false;
    dma.tryWrite(0x10000n, bytes(1));
    gate.powered = true;
    dma.tryWrite(0x10000n, bytes(1));
    dma.tryRead(0x20000n, bytes(1));
    expect(dma.lastFault).toEqual({ reason: 'not-mapped', iova: 0x20000n, access: 'read' });
    await expect(dma.read(0x20000n, bytes(1))).rejects.toThrow(new DmaFault('not-mapped', 0x20000n));
    container.detachGroup(group);
    dma.tryRead(0x10000n, bytes(1));
    await expect(dma.write(0x10000n, bytes(1))).rejects.toMatchObject({ name: 'DmaFault', reason: 'no-domain', iova: 0x10000n });
    expect(dma.faults).toEqual({
      'bus-master-off': 0,
      'not-powered': 1,
      stopped: 0,
      'no-domain': 2,
      'not-mapped': 2,
      permission: 1,
      'remote-failed': 0,
    });
    expect(dma.faultCount).toBe(6);
  });

  test('S2-47 a device that faults for ever costs a line in five seconds', () => {
    const { context, dma } = setUp();
    for (let i = 0; i < 100_000; i++) dma.tryWrite(i * 4096, bytes(1));
    expect(context.lines).toEqual(['warn: 0000:00:04.0: DMA write at 0x0 did not land: not-mapped (1 so far)']);
    expect(dma.faults['not-mapped']).toBe(100_000);
  });

  test('S2-38 addresses that are none fault and never throw', () => {
    const { dma, map } = setUp();
    map(0n);
    const odd = [Number.NaN, -1, 0.5, 2 ** 53, Number.POSITIVE_INFINITY, -(2 ** 60), -1n, 2n ** 64n, 2n ** 100n, undefined, null, 'x', {}];
    for (const iova of odd) {
      expect(dma.tryRead(iova as never, new Uint8Array(1))).toBe(Dma.FAULT);
      expect(dma.tryWrite(iova as never, new Uint8Array(1))).toBe(Dma.FAULT);
      expect(dma.view(iova as never, 1, 1)).toBe(null);
    }
    expect(dma.faults['not-mapped']).toBe(2 * odd.length);
    for (const size of [0, -1, Number.NaN, 1.5, 2 ** 53, 2 ** 40]) expect(dma.view(0n, size, 1)).toBe(null);
    for (const access of [0, 4, 7, Number.NaN]) expect(dma.view(0n, 1, access as Access)).toBe(null);
  });

  test('S2-38 the end of the 64-bit space is an end', () => {
    const { dma, context } = setUp();
    const group = testGroup(2, { apertureLast: 2n ** 64n - 1n, reserved: [] });
    const container = testContainer(context, [group]);
    using memory = HeapMemory.allocate(4096);
    const top = new HostDma({ busMaster: true, powered: true, domain: group.domain }, context.events);
    container.mapMemory({ process: Process.root(), memory, iova: 2n ** 64n - 4096n });
    expect(top.tryWrite(2n ** 64n - 2n, bytes(7, 8))).toBe(Dma.DONE);
    expect(top.tryWrite(2n ** 64n - 2n, bytes(1, 2, 3))).toBe(Dma.FAULT);
    expect([...memory.windows[0].subarray(4094)]).toEqual([7, 8]);
    expect(dma.tryRead(2n ** 64n - 2n, bytes(0))).toBe(Dma.FAULT);
  });

  test('S2-38 a DMA across mappings lands whole or not at all', () => {
    const { dma, memory, map, unmap } = setUp();
    map(0x10000n, 3, 8192, 4096);
    map(0x11000n, 3, 0, 4096);
    map(0x12000n, 1, 4096, 4096);
    const pattern = Uint8Array.from({ length: 6000 }, (_, i) => i % 251);
    expect(dma.tryWrite(0x10100n, pattern)).toBe(Dma.DONE);
    expect(memory.windows[0].subarray(8192 + 0x100, 12288)).toEqual(pattern.subarray(0, 0xf00));
    const back = new Uint8Array(6000);
    expect(dma.tryRead(0x10100, back)).toBe(Dma.DONE);
    expect(back).toEqual(pattern);
    memory.windows[0].fill(0);
    expect(dma.tryWrite(0x11f00n, new Uint8Array(0x200).fill(9))).toBe(Dma.FAULT);
    expect(dma.lastFault!.reason).toBe('permission');
    unmap(0x11000n, 4096);
    expect(dma.tryWrite(0x10f00n, new Uint8Array(0x200).fill(9))).toBe(Dma.FAULT);
    expect(dma.lastFault!.reason).toBe('not-mapped');
    expect(memory.windows[0].every((b) => b === 0)).toBe(true);
  });

  test('S2-38 a DMA of no bytes passes the gates and moves nothing', () => {
    const { dma, gate, map } = setUp();
    map(0n);
    expect(dma.tryWrite(0, new Uint8Array(0))).toBe(Dma.DONE);
    expect(dma.tryRead(4n * 4096n, new Uint8Array(0))).toBe(Dma.FAULT);
    gate.busMaster = false;
    expect(dma.tryWrite(0, new Uint8Array(0))).toBe(Dma.FAULT);
  });

  test('S2-53 a mapping for reading cannot be written, one for writing cannot be read', () => {
    const { dma, map } = setUp();
    map(0x10000n, 1, 0, 4096);
    map(0x20000n, 2, 4096, 4096);
    expect([dma.tryRead(0x10000, bytes(0)), dma.tryWrite(0x10000, bytes(0))]).toEqual([Dma.DONE, Dma.FAULT]);
    expect([dma.tryRead(0x20000, bytes(0)), dma.tryWrite(0x20000, bytes(0))]).toEqual([Dma.FAULT, Dma.DONE]);
    expect(dma.view(0x10000, 16, 2)).toBe(null);
    expect(dma.view(0x10000, 16, 1)).not.toBe(null);
    expect(dma.view(0x20000, 16, 3)).toBe(null);
    expect(dma.faults.permission).toBe(2);
  });
});

describe('views', () => {
  test('S2-38 a view is the bytes themselves, across neighbours of one memory', () => {
    const { dma, memory, map } = setUp();
    map(0x10000n, 3, 0, 4096);
    map(0x11000n, 3, 4096, 4096);
    map(0x12000n, 3, 0, 4096);
    const view = dma.view(0x10ff0n, 32, 3)!;
    view[16] = 77;
    expect(memory.windows[0][4096]).toBe(77);
    expect(dma.view(0x11ff0n, 32, 3)).toBe(null);
    expect(dma.view(0x12ff0n, 32, 3)).toBe(null);
  });

  test('S2-38 the epoch changes with everything that ends a view, and with nothing else', () => {
    const { dma, gate, group, container, map, unmap } = setUp();
    map(0x10000n);
    const seen: number[] = [dma.epoch];
    const changed = (action: () => void) => {
      action();
      const now = dma.epoch;
      const fresh = !seen.includes(now);
      seen.push(now);
      return fresh;
    };
    expect(changed(() => map(0x20000n))).toBe(false);
    expect(changed(() => dma.tryWrite(0x10000n, bytes(1)))).toBe(false);
    expect(changed(() => dma.view(0x10000n, 8, 3))).toBe(false);
    expect(changed(() => unmap(0x90000n, 4096))).toBe(false);
    expect(changed(() => unmap(0x20000n, 4 * 4096))).toBe(true);
    expect(changed(() => Object.assign(gate, { busMaster: false }))).toBe(true);
    expect(changed(() => Object.assign(gate, { busMaster: true }))).toBe(true);
    expect(changed(() => Object.assign(gate, { powered: false }))).toBe(true);
    gate.powered = true;
    seen.push(dma.epoch);
    expect(changed(() => container.detachGroup(group))).toBe(true);
  });

  test('S2-38 the epoch changes for a view that was taken without asking for the epoch', () => {
    const { dma, gate, group, container, map } = setUp();
    map(0x10000n);
    gate.powered = false;
    const epoch = dma.epoch;
    gate.powered = true;
    expect(dma.view(0x10000n, 16, 3)).not.toBe(null);
    container.detachGroup(group);
    expect(dma.epoch).not.toBe(epoch);
  });

  test('S2-38 a domain that comes back empty is not mistaken for the one before', () => {
    const context = testContext();
    const properties = { unit: {}, coherent: true, enforcesCoherency: false, pageSizes: 0x1000n };
    const gate = { busMaster: true, powered: true, domain: new IommuDomain(properties) };
    const dma = new HostDma(gate, context.events);
    const before = dma.epoch;
    gate.domain = new IommuDomain(properties);
    expect(dma.epoch).not.toBe(before);
  });
});

describe('remote memory', () => {
  function remote() {
    const made = setUp();
    const slow = new SlowMemory(8192);
    made.container.mapMemory({ process: made.process, memory: slow, iova: 0x100000n });
    return { ...made, slow };
  }

  test('S2-38 remote memory is reached asynchronously only', async () => {
    const { dma, slow } = remote();
    slow.bytes.set([5, 6], 4095);
    const into = bytes(0, 0);
    expect(dma.tryRead(0x100fffn, into)).toBe(Dma.REMOTE);
    expect(dma.tryWrite(0x100fffn, into)).toBe(Dma.REMOTE);
    expect(dma.view(0x100000n, 16, 1)).toBe(null);
    const read = dma.read(0x100fffn, into);
    await slow.answer();
    expect(await outcome(read)).toBe('done');
    expect([...into]).toEqual([5, 6]);
    const write = dma.write(0x100000n, bytes(8, 9));
    await slow.answer();
    expect(await outcome(write)).toBe('done');
    expect([...slow.bytes.subarray(0, 2)]).toEqual([8, 9]);
    expect([slow.references, dma.faultCount]).toEqual([2, 0]);
  });

  test('S2-38 memory that does not ask whether bytes may land, and memory that takes them at once', async () => {
    const { dma, container, process } = setUp();
    const bytesThere = new Uint8Array(8192).fill(3);
    const taken: number[] = [];
    const simple: Memory = Object.assign(new SlowMemory(8192), {
      read: async (offset: number, into: Uint8Array) => into.set(bytesThere.subarray(offset, offset + into.length)),
      takesAtOnce: true,
      write: async (_offset: number, from: Uint8Array) => {
        taken.push(...from);
        await new Promise(setImmediate);
      },
    });
    container.mapMemory({ process, memory: simple, iova: 0x100000n });
    const into = bytes(0, 0);
    expect([await outcome(dma.read(0x100000n, into)), ...into]).toEqual(['done', 3, 3]);
    const from = bytes(1, 2);
    const write = dma.write(0x100000n, from);
    from.fill(0);
    expect([await outcome(write), ...taken]).toEqual(['done', 1, 2]);
  });

  test('S2-30 data that arrives after the unmap is dropped, and the device sees a fault', async () => {
    const { dma, slow, unmap } = remote();
    slow.bytes.fill(1);
    const into = bytes(0, 0);
    const read = dma.read(0x100000n, into);
    unmap(0x100000n, 8192);
    expect(slow.references).toBe(2);
    await slow.answer();
    expect(await outcome(read)).toBe('not-mapped');
    expect([...into]).toEqual([0, 0]);
    expect(slow.references).toBe(1);
  });

  test('S2-30 data that arrives after bus mastering went off, or the domain, is dropped', async () => {
    const { dma, gate, group, container, slow } = remote();
    slow.bytes.fill(1);
    const into = bytes(0, 0);
    const first = dma.read(0x100000n, into);
    gate.busMaster = false;
    await slow.answer();
    expect(await outcome(first)).toBe('bus-master-off');
    gate.busMaster = true;
    const second = dma.read(0x100000n, into);
    container.detachGroup(group);
    await slow.answer();
    expect(await outcome(second)).toBe('no-domain');
    expect([...into]).toEqual([0, 0]);
  });

  test('S2-30 a write in pieces stops where the mapping went, and says so', async () => {
    const { dma, container, process, slow, memory, unmap } = remote();
    container.mapMemory({ process, memory, iova: 0x102000n });
    const other = new SlowMemory(4096);
    container.mapMemory({ process, memory: other, iova: 0xff000n });
    const write = dma.write(0xffffen, bytes(1, 2, 3, 4));
    unmap(0x100000n, 8192);
    await other.answer();
    expect(await outcome(write)).toBe('not-mapped');
    expect([...other.bytes.subarray(4094)]).toEqual([1, 2]);
    expect([slow.pending, slow.references, other.references]).toEqual([0, 1, 2]);
    expect(dma.lastFault!.iova).toBe(0x100000n);
  });

  test('S2-30 a mapping that goes while its bytes are under way makes a fault', async () => {
    const { dma, slow, unmap } = remote();
    const write = dma.write(0x100000n, bytes(1));
    unmap(0x100000n, 8192);
    await slow.answer();
    expect(await outcome(write)).toBe('not-mapped');
  });

  test('S2-38 pieces of direct and remote memory make one DMA, and the caller may reuse its buffer', async () => {
    const { dma, slow, memory, map } = remote();
    map(0xff000n, 3, 0, 4096);
    const from = bytes(1, 2, 3, 4);
    const write = dma.write(0xffffen, from);
    from.fill(0);
    await slow.answer();
    expect(await outcome(write)).toBe('done');
    expect([...memory.windows[0].subarray(4094, 4096), ...slow.bytes.subarray(0, 2)]).toEqual([1, 2, 3, 4]);
    const into = bytes(0, 0, 0, 0);
    const read = dma.read(0xffffen, into);
    expect(await outcome(read)).toBe('pending');
    await slow.answer();
    expect(await outcome(read)).toBe('done');
    expect([...into]).toEqual([1, 2, 3, 4]);
  });

  test('S2-38 a peer that fails is a fault of its own, with the cause', async () => {
    const { dma, slow } = remote();
    const read = dma.read(0x100000n, bytes(0));
    await slow.fail(new VfioError('EIO', 'the peer is gone'));
    await expect(read).rejects.toMatchObject({ reason: 'remote-failed', cause: { code: 'EIO' } });
    expect(dma.faults['remote-failed']).toBe(1);
    expect(slow.references).toBe(2);
  });

  test('B.6 dirty pages: a remote write is marked when it lands', async () => {
    const { dma, container, slow } = remote();
    container.dirtyPages(1);
    const write = dma.write(0x100fffn, bytes(1, 2));
    const data = new Uint8Array(8);
    const get = () => container.dirtyPages(4, { iova: 0x100000n, size: 8192n, bitmap: { pageSize: 4096n, data } });
    get();
    data.fill(0);
    await slow.answer();
    await write;
    get();
    expect(data[0]).toBe(3);
  });
});
