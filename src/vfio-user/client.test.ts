/** The client against a peer that follows a script: what it sends, what it makes of what it gets, and how it ends. */
import { readdirSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type PeerAction, type PeerReport, type PeerScript, ScriptedPeer, type SeenMessage } from '../../tests/kit/scripted-peer.ts';
import type { DeviceEvent } from '../abi/device.ts';
import type { RemoteMemory } from '../abi/memory.ts';
import { IrqIndex, RegionFlags, RegionIndex } from '../abi/vfio.ts';
import { Command, DmaAccess, HeaderFlags } from '../abi/vfio-user.ts';
import { VfioError } from '../base/errno.ts';
import { EventFd } from '../sys/eventfd.ts';
import { FakeEventFd, HeapMemory } from '../sys/fake.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import { VfioUserDevice, type VfioUserOptions } from './client.ts';

const { READ, WRITE, MMAP, CAPS } = RegionFlags;

let peer: ScriptedPeer;
beforeAll(async () => {
  peer = await ScriptedPeer.start();
});
afterAll(() => peer[Symbol.asyncDispose]());

interface Connected {
  readonly device: VfioUserDevice;
  readonly report: Promise<PeerReport>;
}

function connect(script: PeerScript = {}, options: VfioUserOptions = {}): Connected {
  const { stream, report } = peer.serve(script);
  return { device: VfioUserDevice.connect(stream, { name: 'peer', timeoutMs: 5000, ...options }), report };
}

function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (error instanceof VfioError) return error.name === 'BusError' ? 'BusError' : error.code;
    throw error;
  }
  return 'none';
}

/** What the peer saw of `command`, once the client has closed. */
async function seen({ device, report }: Connected, command: number): Promise<readonly SeenMessage[]> {
  device.close();
  const { seen: all, failed } = await report;
  expect(failed).toBeNull();
  return all.filter((message) => message.command === command);
}

const words = (message: SeenMessage): number[] => {
  const view = new DataView(message.payload.buffer, message.payload.byteOffset, message.payload.length);
  return Array.from({ length: Math.floor(message.payload.length / 4) }, (_, i) => view.getUint32(4 * i, true));
};

/** Payload of DMA_READ, or with `data` of DMA_WRITE. */
function dmaAccess(address: bigint, count: number, data = new Uint8Array(0)): Uint8Array {
  const payload = new Uint8Array(DmaAccess.structSize + data.length);
  DmaAccess.encode(new DataView(payload.buffer), 0, { address, count: BigInt(count) });
  payload.set(data, DmaAccess.structSize);
  return payload;
}

async function until(done: () => boolean): Promise<void> {
  while (!done()) await new Promise((resolve) => setImmediate(resolve));
}

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

describe('vfio-user client: VERSION and discovery', () => {
  it('proposes 0.2 with its capabilities first, and asks what device it is', async () => {
    const connected = connect();
    expect(connected.device.info).toEqual({ name: 'peer', flags: 3, numRegions: 9, numIrqs: 5 });
    const [version] = await seen(connected, Command.VERSION);
    expect([...version!.payload.subarray(0, 4)]).toEqual([0, 0, 2, 0]);
    expect(JSON.parse(new TextDecoder().decode(version!.payload.subarray(4, -1)))).toEqual({
      capabilities: {
        max_msg_fds: 16,
        max_data_xfer_size: 1048576,
        max_dma_maps: 65535,
        pgsizes: 0x40201000,
        twin_socket: { supported: true },
        write_multiple: true,
      },
    });
  });

  it('takes an older minor version and no capabilities at all', () => {
    const { device } = connect({ version: [0, 0], json: null });
    using _device = device;
    expect([device.dma.available, device.dma.pageSizes, device.dma.ranges]).toEqual([65535, 4096n, [{ first: 0n, last: 2n ** 64n - 1n }]]);
  });

  it('takes what the server says of DMA', () => {
    using device = connect({ json: '{"capabilities":{"max_dma_maps":7,"pgsizes":2101248}}' }).device;
    expect([device.dma.available, device.dma.pageSizes]).toEqual([7, 0x20_1000n]);
  });

  it.each([
    ['another major version', { version: [1, 0] }],
    ['a minor version above what was proposed', { version: [0, 3] }],
    ['JSON that is none', { json: '{"capabilities":' }],
    ['a capability of the wrong type', { json: '{"capabilities":{"max_msg_fds":"foo"}}' }],
    ['a twin socket that does not come along', { json: '{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}' }],
    ['an error', { on: { [Command.VERSION]: [{ do: 'error', errno: 22 }] } }],
    [
      'a payload too short',
      { on: { [Command.VERSION]: [{ do: 'send', bytes: [1, 0, 1, 0, 18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0] }] } },
    ],
    ['more regions than a device has', { numRegions: 1000 }],
    ['a short GET_INFO', { on: { [Command.DEVICE_GET_INFO]: [{ do: 'resize', by: -4 }] } }],
  ] as [string, PeerScript][])('EPROTO for a server that answers with %s', async (_, script) => {
    await peer.idle();
    const before = openDescriptors();
    const { stream, report } = peer.serve(script);
    expect(codeOf(() => VfioUserDevice.connect(stream))).toBe('EPROTO');
    await report;
    expect(openDescriptors()).toBe(before);
  });

  it('ENOENT where no socket is', () => {
    expect(codeOf(() => VfioUserDevice.connect('/nonexistent/socket'))).toBe('ENOENT');
  });
});

describe('vfio-user client: regions', () => {
  it('an access of a register is one REGION_READ or REGION_WRITE of its width', async () => {
    const connected = connect();
    const registers = connected.device.region(0);
    registers.write8(1, 0x12);
    registers.write16(2, 0x3456);
    registers.write32(4, 0xfedc_ba98);
    registers.write64(8, 0xffff_ffff_0123_4567n);
    expect([registers.read8(1), registers.read16(2), registers.read32(4), registers.read64(8)]).toEqual([
      0x12,
      0x3456,
      0xfedc_ba98,
      0xffff_ffff_0123_4567n,
    ]);
    const writes = await seen(connected, Command.REGION_WRITE);
    expect(writes.map((m) => [m.flags, ...words(m).slice(0, 4)])).toEqual([
      [0, 1, 0, 0, 1],
      [0, 2, 0, 0, 2],
      [0, 4, 0, 0, 4],
      [0, 8, 0, 0, 8],
    ]);
  });

  it('values and offsets that cannot be are refused without a message', async () => {
    const connected = connect();
    const registers = connected.device.region(0);
    const config = connected.device.region(RegionIndex.CONFIG);
    for (const bad of [-1, 0.5, Number.NaN, 2 ** 53, 0x2000]) expect(codeOf(() => registers.read32(bad))).toBe('EINVAL');
    expect(codeOf(() => registers.read32(0x1ffe))).toBe('EINVAL');
    expect(codeOf(() => config.read32(254))).toBe('EFAULT');
    expect(codeOf(() => config.read32(-4))).toBe('EINVAL');
    for (const bad of [256, -1, 0.5, Number.NaN]) expect(codeOf(() => registers.write8(0, bad))).toBe('EINVAL');
    expect(codeOf(() => registers.write16(0, 0x1_0000))).toBe('EINVAL');
    expect(codeOf(() => registers.write32(0, 2 ** 32))).toBe('EINVAL');
    expect(codeOf(() => registers.write64(0, 2n ** 64n))).toBe('EINVAL');
    expect(codeOf(() => registers.read(0, 'x' as never))).toBe('EFAULT');
    expect(await seen(connected, Command.REGION_WRITE)).toEqual([]);
  });

  it('long transfers go in as many messages as the server takes', async () => {
    const size = 0x40000;
    const script = { regions: { 0: { flags: READ | WRITE, size }, 7: { flags: READ | WRITE, size: 256 } } };
    const connected = connect({ ...script, json: '{"capabilities":{"max_data_xfer_size":20000}}' });
    const data = Uint8Array.from({ length: 50000 }, (_, i) => i * 7);
    const back = new Uint8Array(50000);
    const region = connected.device.region(0);
    expect([region.write(8, data), region.read(8, back)]).toEqual([50000, 50000]);
    expect(back).toEqual(data);
    const reads = await seen(connected, Command.REGION_READ);
    expect(reads.filter((m) => words(m)[2] === 0).map((m) => words(m)[3])).toEqual([20000, 20000, 10000]);
    const large = connect(script);
    expect([large.device.region(0).write(0, new Uint8Array(size)), large.device.region(0).read(0, new Uint8Array(size))]).toEqual([
      size,
      size,
    ]);
    const writes = await seen(large, Command.REGION_WRITE);
    expect(writes.map((m) => words(m)[3])).toEqual(new Array(8).fill(32768));
  });

  it('writes of config space go register by register, reads at once', async () => {
    const connected = connect();
    const config = connected.device.region(RegionIndex.CONFIG);
    config.write(0x41, new Uint8Array(8));
    config.read(0x41, new Uint8Array(8));
    const writes = await seen(connected, Command.REGION_WRITE);
    expect(writes.map((m) => [words(m)[0], words(m)[3]])).toEqual([
      [0x41, 1],
      [0x42, 2],
      [0x44, 4],
      [0x48, 1],
    ]);
  });

  it('posted writes want no reply; config space and what is longer than a register wait all the same', async () => {
    const connected = connect({}, { postedWrites: true });
    const { device } = connected;
    device.region(0).write32(4, 0x1234);
    device.region(RegionIndex.CONFIG).write32(0x40, 1);
    device.region(0).write(0x10, new Uint8Array(16));
    expect(device.region(0).read32(4)).toBe(0x1234);
    const writes = await seen(connected, Command.REGION_WRITE);
    expect(writes.map((m) => m.flags)).toEqual([HeaderFlags.NO_REPLY, 0, 0]);
  });

  it('info: BARs of memory can be mapped, I/O BARs and small ones cannot; regions that are not there', () => {
    using device = connect({
      regions: {
        0: { flags: READ | WRITE, size: 4096 },
        1: { flags: READ | WRITE, size: 4096 },
        2: { flags: READ, size: 256 },
        7: { flags: 3, size: 256 },
      },
      config: [...new Array(0x14).fill(0), 1],
    }).device;
    expect([0, 1, 2, 3].map((index) => device.region(index).info)).toEqual([
      { index: 0, flags: READ | WRITE | MMAP, size: 4096 },
      { index: 1, flags: READ | WRITE, size: 4096 },
      { index: 2, flags: READ, size: 256 },
      { index: 3, flags: 0, size: 0 },
    ]);
    for (const index of [8, 9, -1, Number.NaN]) expect(codeOf(() => device.region(index))).toBe('EINVAL');
    expect(codeOf(() => device.region(2).write32(0, 1))).toBe('none');
    expect(codeOf(() => device.region(2).write(0, new Uint8Array(4)))).toBe('EINVAL');
    expect(codeOf(() => device.region(2).map())).toBe('EINVAL');
  });

  it('asks again with room for the capabilities when there are many', async () => {
    const sparse = Array.from({ length: 300 }, (_, i) => [i * 0x2000, 0x1000] as const);
    const connected = connect({
      regions: { 0: { flags: READ | WRITE | MMAP, size: 0x40_0000, shared: true, sparse }, 7: { flags: 3, size: 256 } },
    });
    const { info } = connected.device.region(0);
    expect([info.flags, info.sparseAreas?.length]).toEqual([READ | WRITE | MMAP | CAPS, 300]);
    using mapping = connected.device.region(0).map(0x2000, 0x1000);
    expect(mapping.memory).not.toBeNull();
    expect(codeOf(() => connected.device.region(0).map())).toBe('EINVAL');
    expect(codeOf(() => connected.device.region(0).map(0x1000, 0x1000))).toBe('EINVAL');
    mapping[Symbol.dispose]();
    const asked = await seen(connected, Command.DEVICE_GET_REGION_INFO);
    expect(asked.map((m) => words(m)[0])).toEqual([4096, 32 + 16 + 4800]);
  });

  it('an area that is the whole region is none worth telling', () => {
    using device = connect({
      regions: { 2: { flags: READ | WRITE | MMAP, size: 0x4000, shared: true, sparse: [[0, 0x4000]] }, 7: { flags: 3, size: 256 } },
      config: [0, 0, 0, 0, 2],
    }).device;
    expect(device.region(2).info).toEqual({ index: 2, flags: READ | WRITE | MMAP, size: 0x4000 });
    using mapping = device.region(2).map();
    expect(mapping.memory).not.toBeNull();
  });
});

describe('vfio-user client: mappings', () => {
  it('of shared memory: no copy, no message; every width, aligned or not', async () => {
    const connected = connect();
    const { device } = connected;
    const region = device.region(2);
    using mapping = region.map(0x1000, 0x2000);
    mapping.write32(0, 0x89ab_cdef);
    mapping.write8(4, 0x12);
    mapping.write16(6, 0x5678);
    mapping.write64(8, 0x1122_3344_5566_7788n);
    mapping.write32(0x11, 0xa1b2_c3d4);
    mapping.write64(0x1b, 0x0102_0304_0506_0708n);
    const bytes = new Uint8Array(4);
    region.read(0x1000, bytes);
    expect([...bytes]).toEqual([0xef, 0xcd, 0xab, 0x89]);
    expect([mapping.read32(0), mapping.read8(4), mapping.read16(6), mapping.read64(8), mapping.read32(0x11), mapping.read64(0x1b)]).toEqual(
      [0x89ab_cdef, 0x12, 0x5678, 0x1122_3344_5566_7788n, 0xa1b2_c3d4, 0x0102_0304_0506_0708n],
    );
    for (const bad of [0x2000, 0x1ffd, -1, 0.5, Number.NaN]) expect(codeOf(() => mapping.read32(bad))).toBe('EFAULT');
    expect(mapping.memory!.memory.windows[0]![mapping.memory!.offset]).toBe(0xef);
    mapping[Symbol.dispose]();
    expect(codeOf(() => mapping.read32(0))).toBe('EFAULT');
    const writes = await seen(connected, Command.REGION_WRITE);
    expect(writes).toEqual([]);
  });

  it('of shared memory: BusError while memory decoding is off, asked once after each change', async () => {
    const connected = connect();
    const { device } = connected;
    const config = device.region(RegionIndex.CONFIG);
    using mapping = device.region(2).map();
    config.write16(4, 0);
    expect([codeOf(() => mapping.read32(0)), codeOf(() => mapping.write32(0, 1))]).toEqual(['BusError', 'BusError']);
    config.write16(4, 2);
    for (let i = 0; i < 10; i++) mapping.read32(0);
    mapping[Symbol.dispose]();
    const looked = (await seen(connected, Command.REGION_READ)).filter((m) => words(m)[0] === 4);
    expect(looked.length).toBe(2);
  });

  it('of registers: each access is a message, and an error of the server is a BusError', async () => {
    const connected = connect({ on: { [Command.REGION_WRITE]: [{ do: 'answer' }, { do: 'answer' }, { do: 'error', errno: 5 }] } });
    const { device } = connected;
    using mapping = device.region(0).map(0x1000, 0x1000);
    expect(mapping.memory).toBeNull();
    mapping.write32(4, 7);
    mapping.write64(8, 9n);
    expect(codeOf(() => mapping.write16(4, 7))).toBe('BusError');
    expect([mapping.read32(4), mapping.read64(8), mapping.read8(4), device.region(0).read32(0x1004)]).toEqual([7, 9n, 7, 7]);
    mapping[Symbol.dispose]();
    const writes = await seen(connected, Command.REGION_WRITE);
    expect(writes.map((m) => [words(m)[0], words(m)[3]])).toEqual([
      [0x1004, 4],
      [0x1008, 8],
      [0x1004, 2],
    ]);
  });

  it('keep the connection after close, until the last is disposed', async () => {
    const { device, report } = connect();
    const one = device.region(0).map();
    const two = device.region(2).map();
    device.close();
    expect(codeOf(() => device.region(0))).toBe('ENODEV');
    expect([one.read32(0), two.read32(0)]).toEqual([0, 0]);
    one[Symbol.dispose]();
    expect(two.read32(0)).toBe(0);
    two[Symbol.dispose]();
    expect((await report).failed).toBeNull();
  });
});

describe('vfio-user client: DMA', () => {
  it('memory with a descriptor goes as that, other memory as a promise to answer messages', async () => {
    const connected = connect();
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

  it('B.6 MAP: refused here with the errno of the kernel, and nothing is sent', async () => {
    const connected = connect({ json: '{"capabilities":{"max_dma_maps":2}}' });
    const { dma } = connected.device;
    using memory = dma.allocate(0x4000);
    const map = (iova: bigint, more: object = {}) => codeOf(() => dma.map({ iova, memory, ...more }));
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
    expect([codeOf(() => dma.unmap(0x10_1000n, 0x1000n)), codeOf(() => dma.unmap(0xf_f000n, 0x2000n))]).toEqual(['EINVAL', 'EINVAL']);
    expect([codeOf(() => dma.unmap(0n, 0n)), codeOf(() => dma.unmap(8n, 4096n)), codeOf(() => dma.unmap(0n, 8n))]).toEqual([
      'EINVAL',
      'EINVAL',
      'EINVAL',
    ]);
    expect(codeOf(() => dma.unmap(2n ** 64n - 4096n, 8192n))).toBe('EOVERFLOW');
    expect([dma.unmapAll(), dma.unmapAll()]).toEqual([0x5000n, 0n]);
    const gone = MemfdMemory.allocate(4096);
    gone[Symbol.dispose]();
    expect(codeOf(() => dma.map({ iova: 0n, memory: gone, size: 4096 }))).toBe('EFAULT');
    expect((await seen(connected, Command.DMA_MAP)).length).toBe(2);
  });

  it('what the server refuses is not mapped, and its memory is let go', () => {
    using device = connect({ on: { [Command.DMA_MAP]: [{ do: 'error', errno: 12 }] } }).device;
    using memory = device.dma.allocate(4096);
    expect(codeOf(() => device.dma.map({ iova: 0n, memory }))).toBe('ENOMEM');
    expect([memory.references, device.dma.available]).toEqual([1, 100]);
    device.dma.map({ iova: 0n, memory });
    expect(memory.references).toBe(2);
  });

  it('a server that does not know UNMAP_ALL is asked one by one', async () => {
    const connected = connect({ on: { [Command.DMA_UNMAP]: [{ do: 'error', errno: 22 }] } });
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
      const connected = connect({
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
      const connected = connect({
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
    const connected = connect({
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
      read: async (offset, into) => void into.fill(offset),
      write: async () => {
        throw new Error('gone');
      },
      [Symbol.dispose]: () => {},
    };
    const ask = (command: number, payload: Uint8Array) => ({ do: 'ask', when: 'after', command, payload }) as const;
    const connected = connect({
      on: {
        [Command.REGION_WRITE]: [ask(Command.DMA_READ, dmaAccess(5n, 3)), ask(Command.DMA_WRITE, dmaAccess(5n, 1, new Uint8Array(1)))],
      },
    });
    connected.device.dma.map({ iova: 0n, memory: remote });
    connected.device.region(0).write32(0, 1);
    await until(() => references === 3);
    await until(() => references === 2);
    connected.device.region(0).write32(0, 1);
    await until(() => references === 3);
    await until(() => references === 2);
    const [read] = await seen(connected, Command.DMA_READ);
    expect([...read!.payload.subarray(16)]).toEqual([5, 5, 5]);
    const [write] = (await connected.report).seen.filter((m) => m.command === Command.DMA_WRITE);
    expect([write!.error, references]).toEqual([5, 1]);
  });
});

describe('vfio-user client: interrupts', () => {
  it('eventfds of the caller go to the server; those of others are passed on', async () => {
    const connected = connect({
      on: {
        [Command.REGION_WRITE]: [
          { do: 'signal', index: 1, vector: 0 },
          { do: 'signal', index: 1, vector: 1 },
        ],
      },
    });
    const { device } = connected;
    using own = EventFd.create();
    using other = new FakeEventFd();
    expect(device.setIrqs({ index: IrqIndex.MSI, start: 0, count: 2, action: 'trigger', data: 'sinks', sinks: [own, other] })).toBe(0);
    expect([own.references, other.references]).toEqual([2, 2]);
    device.region(0).write32(0, 1);
    expect(own.read()).toBe(1n);
    device.region(0).write32(0, 1);
    await until(() => other.count > 0);
    device.setIrqs({ index: IrqIndex.MSI, start: 0, count: 0, action: 'trigger', data: 'none' });
    expect([own.references, other.references]).toEqual([1, 1]);
    const set = await seen(connected, Command.DEVICE_SET_IRQS);
    expect(set.map((m) => [m.fds, ...words(m)])).toEqual([
      [2, 20, 0x24, 1, 0, 2],
      [0, 20, 0x21, 1, 0, 0],
    ]);
  });

  it('as many descriptors as the server takes, the last first; vectors without one are messages of their own', async () => {
    const connected = connect({ json: '{"capabilities":{"max_msg_fds":3}}' });
    const { device } = connected;
    using fd = EventFd.create();
    const sinks = [fd, fd, fd, fd, null, null, fd, fd, null];
    device.setIrqs({ index: IrqIndex.MSIX, start: 2, count: 9, action: 'trigger', data: 'sinks', sinks });
    expect(fd.references).toBe(7);
    device.setIrqs({ index: IrqIndex.MSIX, start: 2, count: 2, action: 'trigger', data: 'sinks', sinks: [null, null] });
    expect(fd.references).toBe(5);
    const set = await seen(connected, Command.DEVICE_SET_IRQS);
    expect(set.map((m) => [m.fds, ...words(m).slice(3)])).toEqual([
      [0, 10, 1],
      [2, 8, 2],
      [0, 6, 2],
      [3, 3, 3],
      [1, 2, 1],
      [0, 2, 2],
    ]);
    expect(fd.references).toBe(1);
  });

  it('when a part of many is refused, what was done is undone', async () => {
    const connected = connect({
      json: '{"capabilities":{"max_msg_fds":1}}',
      on: {
        [Command.DEVICE_SET_IRQS]: [
          { do: 'answer' },
          { do: 'error', errno: 28 },
          { do: 'answer' },
          { do: 'answer' },
          { do: 'error', errno: 28 },
        ],
      },
    });
    const { device } = connected;
    using fd = EventFd.create();
    const set = (count: number) =>
      codeOf(() =>
        device.setIrqs({ index: IrqIndex.MSIX, start: 0, count, action: 'trigger', data: 'sinks', sinks: new Array(count).fill(fd) }),
      );
    expect([set(2), fd.references]).toEqual(['ENOSPC', 1]);
    expect([set(1), fd.references]).toEqual(['none', 2]);
    // The second message of the next is answered as usual, so only a single one is refused here: nothing to undo.
    expect([set(1), fd.references]).toEqual(['ENOSPC', 2]);
    const sent = await seen(connected, Command.DEVICE_SET_IRQS);
    expect(sent.map((m) => [m.fds, ...words(m).slice(1)])).toEqual([
      [1, 0x24, 2, 1, 1],
      [1, 0x24, 2, 0, 1],
      [0, 0x21, 2, 0, 0],
      [1, 0x24, 2, 0, 1],
      [1, 0x24, 2, 0, 1],
    ]);
  });

  it('a source that unmasks is the caller’s eventfd, or one that is passed on', async () => {
    const connected = connect();
    const { device } = connected;
    using own = EventFd.create();
    using other = new FakeEventFd();
    const unmask = (source: EventFd | FakeEventFd | null) =>
      device.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'unmask', data: 'sinks', sources: [source] });
    unmask(own);
    expect(own.references).toBe(2);
    unmask(other);
    expect([own.references, other.references]).toEqual([1, 2]);
    unmask(null);
    expect(other.references).toBe(1);
    device.setIrqs({ index: IrqIndex.INTX, start: 0, count: 1, action: 'mask', data: 'bool', values: [true] });
    const set = await seen(connected, Command.DEVICE_SET_IRQS);
    expect(set.map((m) => [m.fds, m.payload.length, ...words(m).slice(1, 2)])).toEqual([
      [1, 20, 0x14],
      [1, 20, 0x14],
      [0, 20, 0x14],
      [0, 21, 0x0a],
    ]);
  });

  it('REQ and ERR make events, and signal the caller’s sink too', async () => {
    const connected = connect({
      on: {
        [Command.REGION_WRITE]: [
          { do: 'signal', index: 4, vector: 0 },
          { do: 'signal', index: 3, vector: 0 },
        ],
      },
    });
    const { device } = connected;
    const events: string[] = [];
    using fd = EventFd.create();
    const request = (data: object) =>
      codeOf(() => device.setIrqs({ index: IrqIndex.REQ, start: 0, count: 1, action: 'trigger', ...data } as never));
    expect(request({ data: 'none' })).toBe('EINVAL');
    expect(request({ action: 'mask', data: 'none' })).toBe('ENOTTY');
    const listening = device.on((event) => events.push(event.kind));
    expect(request({ data: 'sinks', sinks: [fd] })).toBe('none');
    device.region(0).write32(0, 1);
    device.region(0).write32(0, 1);
    await until(() => events.length === 2);
    expect([events.sort(), fd.read()]).toEqual([['error', 'request'], 1n]);
    expect([request({ data: 'none' }), fd.read(), fd.references]).toEqual(['none', 1n, 2]);
    expect([request({ data: 'none', count: 0 }), fd.references, request({ data: 'none', count: 0 })]).toEqual(['none', 1, 'EINVAL']);
    listening[Symbol.dispose]();
    const set = await seen(connected, Command.DEVICE_SET_IRQS);
    expect(set.map((m) => [m.fds, ...words(m).slice(1)])).toEqual([
      [1, 0x24, 3, 0, 1],
      [1, 0x24, 4, 0, 1],
      [0, 0x21, 3, 0, 0],
      [0, 0x21, 4, 0, 0],
    ]);
  });

  it('a server without ERR and REQ makes no such events; the others come', () => {
    using device = connect({ irqs: [[1, 1]] }).device;
    using _listening = device.on(() => {});
    expect(codeOf(() => device.irq(4))).toBe('EINVAL');
    expect(device.irq(0)).toEqual({ index: 0, flags: 1, count: 1 });
  });
});

describe('vfio-user client: other requests', () => {
  it('RESET, FEATURE and HOT_RESET_INFO', async () => {
    const connected = connect({
      on: {
        [Command.DEVICE_FEATURE]: [{ do: 'answer' }, { do: 'send', bytes: [] }],
        [Command.DEVICE_RESET]: [{ do: 'answer' }, { do: 'error', errno: 22 }],
      },
    });
    const { device } = connected;
    expect([codeOf(() => device.reset()), codeOf(() => device.reset())]).toEqual(['none', 'EINVAL']);
    expect(codeOf(() => device.hotResetInfo())).toBe('ENODEV');
    expect(codeOf(() => device.feature({ feature: 5, set: true, data: new Uint8Array(0) }))).toBe('ENOTTY');
    for (const feature of [-1, 65536, 0.5]) expect(codeOf(() => device.feature({ feature, data: new Uint8Array(0) }))).toBe('EINVAL');
    expect(codeOf(() => device.feature({ feature: 1, data: null as never }))).toBe('EFAULT');
    const [feature] = await seen(connected, Command.DEVICE_FEATURE);
    expect(words(feature!)).toEqual([8, 0x2_0005]);
  });
});

describe('vfio-user client: when the server is wrong or gone', () => {
  const wrong: [string, PeerScript['on'], string][] = [
    ['an errno', { [Command.REGION_READ]: [{ do: 'error', errno: 16 }] }, 'EBUSY'],
    ['an error without an errno', { [Command.REGION_READ]: [{ do: 'error', errno: 0 }] }, 'EINVAL'],
    ['an errno beyond all', { [Command.REGION_READ]: [{ do: 'error', errno: 70000 }] }, 'EINVAL'],
    ['an errno that has no name here', { [Command.REGION_READ]: [{ do: 'error', errno: 133 }] }, 'EIO'],
  ];
  it.each(wrong)('%s is that error, and the connection goes on', (_, on, code) => {
    using device = connect({ on: on! }).device;
    const registers = device.region(RegionIndex.CONFIG);
    expect([codeOf(() => registers.read16(0)), codeOf(() => registers.read16(0))]).toEqual([code, 'none']);
  });

  it('a reply in small pieces is put together', () => {
    using device = connect({
      on: {
        [Command.REGION_READ]: [
          { do: 'dribble', bytes: 3 },
          { do: 'dribble', bytes: 1 },
        ],
      },
    }).device;
    const config = device.region(RegionIndex.CONFIG);
    expect([config.read16(0), config.read16(2)]).toEqual([0x1234, 0x11e8]);
  });

  const bytesOf = (...numbers: number[]) => numbers.flatMap((n) => [n & 0xff, (n >>> 8) & 0xff, (n >>> 16) & 0xff, n >>> 24]);
  const ends: [string, PeerAction, string][] = [
    ['another id', { do: 'patch', at: 0, bytes: [0x77, 0x77] }, 'EPROTO'],
    ['another command', { do: 'patch', at: 2, bytes: [10, 0] }, 'EPROTO'],
    ['a type that does not exist', { do: 'patch', at: 8, bytes: [7] }, 'EPROTO'],
    ['another count', { do: 'patch', at: 28, bytes: [3] }, 'EPROTO'],
    ['too few bytes', { do: 'resize', by: -1 }, 'EPROTO'],
    ['too many bytes', { do: 'resize', by: 1 }, 'EPROTO'],
    ['a header alone', { do: 'resize', by: -18 }, 'EPROTO'],
    ['a size below a header’s', { do: 'send', bytes: bytesOf(0x0009_0003, 8, 1, 0) }, 'EPROTO'],
    ['a size beyond all', { do: 'send', bytes: bytesOf(0x0009_0003, 0x7fff_ffff, 1, 0) }, 'EPROTO'],
    ['a command beyond all', { do: 'send', bytes: bytesOf(0x000c_0003, 0x7fff_ffff, 0, 0) }, 'EPROTO'],
    ['the end of the stream', { do: 'die' }, 'ENODEV'],
    ['the end in the middle of a header', { do: 'die', bytes: 7 }, 'ENODEV'],
    ['the end in the middle of the data', { do: 'die', bytes: 33 }, 'ENODEV'],
  ];
  it.each(ends)('%s ends the connection', async (_, action, code) => {
    await peer.idle();
    const before = openDescriptors();
    const { device, report } = connect({ on: { [Command.REGION_READ]: [{ do: 'answer' }, action] } });
    const events: DeviceEvent[] = [];
    device.on((event) => events.push(event));
    const config = device.region(RegionIndex.CONFIG);
    using mapping = device.region(2).map();
    using memory = device.dma.allocate(4096);
    using fd = EventFd.create();
    device.dma.map({ iova: 0n, memory });
    device.setIrqs({ index: 1, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [fd] });
    expect(config.read16(0)).toBe(0x1234);
    expect(codeOf(() => config.read16(0))).toBe(code);
    const { dma } = {
      get dma() {
        return codeOf(() => device.dma);
      },
    };
    expect([
      codeOf(() => config.read16(0)),
      codeOf(() => device.region(0)),
      codeOf(() => device.reset()),
      dma,
      codeOf(() => mapping.read32(0)),
    ]).toEqual(['ENODEV', 'ENODEV', 'ENODEV', 'ENODEV', 'BusError']);
    expect([memory.references, fd.references]).toEqual([1, 1]);
    await until(() => events.length > 0);
    expect(events).toEqual([{ kind: 'gone', reason: expect.any(String) }]);
    device.close();
    mapping[Symbol.dispose]();
    memory[Symbol.dispose]();
    fd[Symbol.dispose]();
    await report;
    expect(openDescriptors()).toBe(before);
  });

  it('silence is ETIMEDOUT, and the connection is closed', async () => {
    const { device } = connect({ on: { [Command.REGION_READ]: [{ do: 'nothing' }] } }, { timeoutMs: 50 });
    const events: DeviceEvent[] = [];
    device.on((event) => events.push(event));
    const config = device.region(RegionIndex.CONFIG);
    expect(codeOf(() => config.read16(0))).toBe('ETIMEDOUT');
    expect(codeOf(() => config.read16(0))).toBe('ENODEV');
    await until(() => events.length > 0);
    expect(events[0]).toMatchObject({ kind: 'gone', reason: expect.stringContaining('REGION_READ') });
  });

  it('a server that never says VERSION is ETIMEDOUT', () => {
    const { stream } = peer.serve({ on: { [Command.VERSION]: [{ do: 'nothing' }] } });
    expect(codeOf(() => VfioUserDevice.connect(stream, { timeoutMs: 50 }))).toBe('ETIMEDOUT');
  });

  it('a server that asks and asks does not keep a request from ending', () => {
    const ask = { do: 'ask', when: 'before', command: Command.DMA_READ, payload: dmaAccess(0n, 1) } as const;
    const { device } = connect({ on: { [Command.REGION_READ]: [ask, ask, ask, { do: 'nothing' }] } }, { timeoutMs: 200 });
    const config = device.region(RegionIndex.CONFIG);
    expect([1, 2, 3, 4].map(() => codeOf(() => config.read16(0)))).toEqual(['none', 'none', 'none', 'ETIMEDOUT']);
  });

  it('the end is noticed while nobody asks', async () => {
    const { device } = connect({ on: { [Command.REGION_WRITE]: [{ do: 'die', bytes: 32 }] } });
    const events: DeviceEvent[] = [];
    device.on((event) => events.push(event));
    device.region(0).write32(0, 1);
    await until(() => events.length > 0);
    expect(events).toEqual([{ kind: 'gone', reason: 'the server closed the connection' }]);
    expect(codeOf(() => device.region(0))).toBe('ENODEV');
  });

  it('a reply to nothing ends it too', async () => {
    const reply = { do: 'ask', when: 'after', command: Command.DMA_READ, payload: new Uint8Array(0), flags: 1 } as const;
    const { device } = connect({ on: { [Command.REGION_WRITE]: [reply] } });
    const events: DeviceEvent[] = [];
    device.on((event) => events.push(event));
    device.region(0).write32(0, 1);
    await until(() => events.length > 0);
    expect(events[0]).toMatchObject({ kind: 'gone', reason: expect.stringContaining('reply to nothing') });
  });

  it('after close every call is ENODEV, and nothing is left open', async () => {
    await peer.idle();
    const before = openDescriptors();
    const { device, report } = connect({ twin: true });
    device.region(2);
    device.close();
    device.close();
    expect([
      codeOf(() => device.region(0)),
      codeOf(() => device.irq(0)),
      codeOf(() => device.on(() => {})),
      codeOf(() => device.hotResetInfo()),
    ]).toEqual(new Array(4).fill('ENODEV'));
    await report;
    expect(openDescriptors()).toBe(before);
  });

  it('whatever it sends, a request ends with its answer or an errno, and nothing is left open', async () => {
    await peer.idle();
    const before = openDescriptors();
    const word = fc.oneof(fc.integer({ min: 0, max: 0xff }), fc.constantFrom(0, 1, 0x10, 0x20, 0xff));
    const header = fc
      .tuple(
        fc.constantFrom(3, 4),
        fc.constantFrom(9, 11, 12, 99),
        fc.constantFrom(0, 8, 16, 32, 34, 48, 0xffff_ffff),
        fc.constantFrom(0, 1, 0x21, 0x10, 7),
      )
      .map(([id, command, size, flags]) => bytesOf(id | (command << 16), size, flags, 5));
    const garbage = fc.array(fc.oneof(header, fc.array(word, { maxLength: 40 })), { maxLength: 6 }).map((parts) => parts.flat());
    await fc.assert(
      fc.asyncProperty(garbage, fc.boolean(), async (bytes, twin) => {
        const { device, report } = connect({ twin, on: { [Command.REGION_READ]: [{ do: 'send', bytes, die: true }] } });
        using memory = HeapMemory.allocate(4096);
        device.dma.map({ iova: 0n, memory });
        expect(['none', 'EIO', 'EPROTO', 'ENODEV', 'EINVAL']).toContain(codeOf(() => device.region(RegionIndex.CONFIG).read16(0)));
        device.close();
        expect((await report).failed).toBeNull();
        expect(memory.references).toBe(1);
      }),
      { numRuns: 200 },
    );
    expect(openDescriptors()).toBe(before);
  });
});
