/**
 * DMA of a client: mappings, and the server’s own commands. Against a peer that follows a script.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ClientRig, dmaAccess, seen, words } from '../../tests/kit/client-rig.ts';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { until } from '../../tests/kit/event-loop.ts';
import type { RemoteMemory } from '../abi/memory.ts';
import { HeaderFlags } from '../abi/vfio-user.ts';
import { HeapMemory } from '../sys/fake.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import { Command } from './messages.ts';

let rig: ClientRig;
beforeAll(async () => {
  rig = await ClientRig.start();
});
afterAll(() => rig[Symbol.asyncDispose]());

describe('vfio-user client: DMA', () => {
  it('memory with a descriptor goes as that, other memory as a promise to answer messages', async () => {
    const connected = rig.connect();
    const { dma } = connected.device;
    using shared = dma.allocate(0x3000);
    using heap = HeapMemory.allocate(0x2000);
    dma.map({ iova: 0x10_0000n, memory: shared, offset: 0x1000, size: 0x2000, access: 1 });
    dma.map({ iova: 0x20_0000n, memory: heap });
    expect([dma.available, shared.references, heap.references]).toEqual([98, 2, 2]);
    expect(dma.unmap(0x10_0000n, 0x1000_0000n)).toBe(0x4000n);
    expect([dma.available, shared.references, heap.references]).toEqual([100, 1, 1]);
    const maps = await seen(connected, Command.DMA_MAP);
    expect(maps.map((m) => [m.fds, ...words(m)])).toEqual([
      [1, 32, 1, 0x1000, 0, 0x10_0000, 0, 0x2000, 0],
      [0, 32, 3, 0, 0, 0x20_0000, 0, 0x2000, 0],
    ]);
  });

  it('B.6 MAP: the client refuses with the errno of the kernel, and sends nothing', async () => {
    const connected = rig.connect({ json: '{"capabilities":{"max_dma_maps":2}}' });
    const { dma } = connected.device;
    using memory = dma.allocate(0x4000);
    const map = (iova: bigint, more: object = {}) => errnoFrom(() => dma.map({ iova, memory, ...more }));
    expect(map(0x10_0000n)).toBe('none');
    for (const iova of [0x10_0000n, 0x10_3000n, 0xf_d000n]) expect(map(iova)).toBe('EEXIST');
    for (const more of [{ size: 0 }, { size: 100 }, { offset: 8 }, { size: -1 }, { size: Number.NaN }, { access: 0 }, { access: 4 }]) {
      expect(map(0x20_0000n, more)).toBe('EINVAL');
    }
    expect([map(0x20_0010n), map(-4096n), map(2n ** 64n)]).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
    expect(map(2n ** 64n - 4096n, { size: 8192 })).toBe('EOVERFLOW');
    expect(map(0x20_0000n, { size: 0x5000 })).toBe('EFAULT');
    expect(map(2n ** 64n - 4096n, { size: 4096 })).toBe('none');
    expect(map(0x30_0000n)).toBe('ENOSPC');
    expect([errnoFrom(() => dma.unmap(0x10_1000n, 0x1000n)), errnoFrom(() => dma.unmap(0xf_f000n, 0x2000n))]).toEqual(['EINVAL', 'EINVAL']);
    expect([errnoFrom(() => dma.unmap(0n, 0n)), errnoFrom(() => dma.unmap(8n, 4096n)), errnoFrom(() => dma.unmap(0n, 8n))]).toEqual([
      'EINVAL',
      'EINVAL',
      'EINVAL',
    ]);
    expect(errnoFrom(() => dma.unmap(2n ** 64n - 4096n, 8192n))).toBe('EOVERFLOW');
    expect([dma.unmapAll(), dma.unmapAll()]).toEqual([0x5000n, 0n]);
    const gone = MemfdMemory.allocate(4096);
    gone[Symbol.dispose]();
    expect(errnoFrom(() => dma.map({ iova: 0n, memory: gone, size: 4096 }))).toBe('EFAULT');
    expect((await seen(connected, Command.DMA_MAP)).length).toBe(2);
  });

  it('a mapping that the server refuses is not mapped, and its memory is released', () => {
    using device = rig.connect({ on: { [Command.DMA_MAP]: [{ do: 'error', errno: 12 }] } }).device;
    using memory = device.dma.allocate(4096);
    expect(errnoFrom(() => device.dma.map({ iova: 0n, memory }))).toBe('ENOMEM');
    expect([memory.references, device.dma.available]).toEqual([1, 100]);
    device.dma.map({ iova: 0n, memory });
    expect(memory.references).toBe(2);
  });

  it('a server that does not know UNMAP_ALL is asked one by one', async () => {
    const connected = rig.connect({ on: { [Command.DMA_UNMAP]: [{ do: 'error', errno: 22 }] } });
    const { dma } = connected.device;
    using memory = dma.allocate(4096);
    dma.map({ iova: 0n, memory });
    dma.map({ iova: 0x8000n, memory });
    expect([dma.unmapAll(), memory.references]).toEqual([0x2000n, 1]);
    const unmaps = await seen(connected, Command.DMA_UNMAP);
    expect(unmaps.map((m) => words(m).slice(1))).toEqual([
      [2, 0, 0, 0, 0],
      [0, 0, 0, 4096, 0],
      [0, 0x8000, 0, 4096, 0],
    ]);
  });

  for (const twin of [false, true]) {
    const where = twin ? 'on the twin socket' : 'on the one socket';

    it(`DMA_READ and DMA_WRITE are answered while a reply is awaited, and behind it, ${where}`, async () => {
      const write = dmaAccess(0x1ffcn, 8, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
      const connected = rig.connect({
        twin,
        on: {
          [Command.REGION_READ]: [
            { do: 'answer' },
            { do: 'ask', when: 'before', command: Command.DMA_READ, payload: dmaAccess(0x1004n, 6) },
            { do: 'ask', when: twin ? 'before' : 'behind', command: Command.DMA_WRITE, payload: write },
            { do: 'ask', when: 'before', command: Command.DMA_READ, payload: dmaAccess(0x1000n, 0) },
          ],
        },
      });
      const { device } = connected;
      const [low, high] = [HeapMemory.allocate(4096), device.dma.allocate(4096)];
      device.dma.map({ iova: 0x1000n, memory: low });
      device.dma.map({ iova: 0x2000n, memory: high });
      low.windows[0]!.set([9, 8, 7, 6, 5, 4], 4);
      const registers = device.region(0);
      registers.write32(0, 77);
      expect([registers.read32(0), registers.read32(0), registers.read32(0)]).toEqual([77, 77, 77]);
      expect([...low.windows[0]!.subarray(4092), ...high.windows[0]!.subarray(0, 4)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
      const answers = (await seen(connected, Command.DMA_READ)).concat(
        (await connected.report).seen.filter((m) => m.command === Command.DMA_WRITE),
      );
      expect(answers.map((m) => [m.flags, m.error, [...m.payload.subarray(16)]])).toEqual([
        [1, 0, [9, 8, 7, 6, 5, 4]],
        [1, 0, []],
        [1, 0, []],
      ]);
      expect(answers.map((m) => words(m).slice(0, 4))).toEqual([
        [0x1004, 0, 6, 0],
        [0x1000, 0, 0, 0],
        [0x1ffc, 0, 8, 0],
      ]);
      low[Symbol.dispose]();
      high[Symbol.dispose]();
    });

    it(`and when nothing is awaited, from the event loop, ${where}`, async () => {
      const connected = rig.connect({
        twin,
        on: { [Command.REGION_WRITE]: [{ do: 'ask', when: 'after', command: Command.DMA_READ, payload: dmaAccess(0n, 4) }] },
      });
      using memory = HeapMemory.allocate(4096);
      connected.device.dma.map({ iova: 0n, memory });
      memory.windows[0]!.fill(3);
      connected.device.region(0).write32(0, 1);
      // The peer is heard from again only after its question was answered.
      expect(connected.device.region(0).read32(0)).toBe(1);
      const [answer] = await seen(connected, Command.DMA_READ);
      expect([...answer!.payload.subarray(16)]).toEqual([3, 3, 3, 3]);
    });
  }

  it('what the server may not have is an errno to it: unmapped, not permitted, malformed, unknown', async () => {
    const ask = (command: number, payload: Uint8Array, flags = 0) => ({ do: 'ask', when: 'before', command, payload, flags }) as const;
    const huge = dmaAccess(0n, 4);
    huge[12] = 1;
    const connected = rig.connect({
      on: {
        [Command.REGION_WRITE]: [
          ask(Command.DMA_READ, dmaAccess(0x9000n, 4)),
          ask(Command.DMA_READ, dmaAccess(0xffcn, 8)),
          ask(Command.DMA_READ, dmaAccess(2n ** 64n - 4n, 8)),
          ask(Command.DMA_WRITE, dmaAccess(0n, 4, new Uint8Array(4))),
          ask(Command.DMA_WRITE, dmaAccess(0n, 4, new Uint8Array(5))),
          ask(Command.DMA_READ, huge),
          ask(Command.DMA_READ, dmaAccess(0n, 2 ** 20 + 1)),
          ask(Command.DMA_READ, new Uint8Array(15)),
          ask(Command.DMA_READ, dmaAccess(0n, 4, new Uint8Array(4))),
          ask(Command.REGION_READ, new Uint8Array(16)),
          ask(99, new Uint8Array(0)),
          ask(99, new Uint8Array(0), HeaderFlags.NO_REPLY),
          ask(Command.DMA_READ, dmaAccess(0n, 4)),
        ],
      },
    });
    const { device } = connected;
    using memory = HeapMemory.allocate(4096);
    device.dma.map({ iova: 0n, memory, access: 1 });
    const registers = device.region(0);
    for (let i = 0; i < 13; i++) registers.write32(0, i);
    device.close();
    const answers = (await connected.report).seen.filter((m) => (m.flags & 1) !== 0);
    expect(answers.map((m) => [m.command, m.error])).toEqual([
      [11, 14],
      [11, 14],
      [11, 14],
      [12, 14],
      [12, 22],
      [11, 22],
      [11, 22],
      [11, 22],
      [11, 22],
      [9, 38],
      [99, 38],
      [11, 0],
    ]);
  });

  it('memory that answers later is answered later', async () => {
    let references = 1;
    let answer = () => {};
    const later = (what: () => void) => new Promise<void>((resolve) => (answer = resolve)).then(what);
    const remote: RemoteMemory = {
      kind: 'remote',
      size: 4096,
      get: () => {
        references++;
        return remote;
      },
      put: () => void references--,
      get references() {
        return references;
      },
      read: (offset, into) => later(() => void into.fill(offset)),
      write: () =>
        later(() => {
          throw new Error('gone');
        }),
      [Symbol.dispose]: () => {},
    };
    const ask = (command: number, payload: Uint8Array) => ({ do: 'ask', when: 'after', command, payload }) as const;
    const connected = rig.connect({
      on: {
        [Command.REGION_WRITE]: [ask(Command.DMA_READ, dmaAccess(5n, 3)), ask(Command.DMA_WRITE, dmaAccess(5n, 1, new Uint8Array(1)))],
      },
    });
    connected.device.dma.map({ iova: 0n, memory: remote });
    connected.device.region(0).write32(0, 1);
    await until(() => references === 3);
    answer();
    await until(() => references === 2);
    connected.device.region(0).write32(0, 1);
    await until(() => references === 3);
    answer();
    await until(() => references === 2);
    const [read] = await seen(connected, Command.DMA_READ);
    expect([...read!.payload.subarray(16)]).toEqual([5, 5, 5]);
    const [write] = (await connected.report).seen.filter((m) => m.command === Command.DMA_WRITE);
    expect([write!.error, references]).toEqual([5, 1]);
  });
});
