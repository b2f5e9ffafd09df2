/**
 * Regions and mappings of a client: the messages that it sends for them. The peer follows a script.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ClientRig, seen, words } from '../../tests/kit/client-rig.ts';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { RegionFlags, RegionIndex } from '../abi/vfio.ts';
import { HeaderFlags } from '../abi/vfio-user.ts';
import { Command } from './messages.ts';

const { READ, WRITE, MMAP, CAPS } = RegionFlags;

let rig: ClientRig;
beforeAll(async () => {
  rig = await ClientRig.start();
});
afterAll(() => rig[Symbol.asyncDispose]());

describe('vfio-user client: regions', () => {
  it('an access of a register is one REGION_READ or REGION_WRITE of its width', async () => {
    const connected = rig.connect();
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
    const connected = rig.connect();
    const registers = connected.device.region(0);
    const config = connected.device.region(RegionIndex.CONFIG);
    for (const bad of [-1, 0.5, Number.NaN, 2 ** 53, 0x2000]) expect(errnoFrom(() => registers.read32(bad))).toBe('EINVAL');
    expect(errnoFrom(() => registers.read32(0x1ffe))).toBe('EINVAL');
    expect(errnoFrom(() => config.read32(254))).toBe('EFAULT');
    expect(errnoFrom(() => config.read32(-4))).toBe('EINVAL');
    for (const bad of [256, -1, 0.5, Number.NaN]) expect(errnoFrom(() => registers.write8(0, bad))).toBe('EINVAL');
    expect(errnoFrom(() => registers.write16(0, 0x1_0000))).toBe('EINVAL');
    expect(errnoFrom(() => registers.write32(0, 2 ** 32))).toBe('EINVAL');
    expect(errnoFrom(() => registers.write64(0, 2n ** 64n))).toBe('EINVAL');
    expect(errnoFrom(() => registers.read(0, 'x' as never))).toBe('EFAULT');
    expect(await seen(connected, Command.REGION_WRITE)).toEqual([]);
  });

  it('long transfers go in as many messages as the server takes', async () => {
    const size = 0x40000;
    const script = { regions: { 0: { flags: READ | WRITE, size }, 7: { flags: READ | WRITE, size: 256 } } };
    const connected = rig.connect({ ...script, json: '{"capabilities":{"max_data_xfer_size":20000}}' });
    const data = Uint8Array.from({ length: 50000 }, (_, i) => i * 7);
    const back = new Uint8Array(50000);
    const region = connected.device.region(0);
    expect([region.write(8, data), region.read(8, back)]).toEqual([50000, 50000]);
    expect(back).toEqual(data);
    const reads = await seen(connected, Command.REGION_READ);
    expect(reads.filter((m) => words(m)[2] === 0).map((m) => words(m)[3])).toEqual([20000, 20000, 10000]);
    const large = rig.connect(script);
    expect([large.device.region(0).write(0, new Uint8Array(size)), large.device.region(0).read(0, new Uint8Array(size))]).toEqual([
      size,
      size,
    ]);
    const writes = await seen(large, Command.REGION_WRITE);
    expect(writes.map((m) => words(m)[3])).toEqual(new Array(8).fill(32768));
  });

  it('writes of config space go register by register, reads at once', async () => {
    const connected = rig.connect();
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
    const connected = rig.connect({}, { postedWrites: true });
    const { device } = connected;
    device.region(0).write32(4, 0x1234);
    device.region(RegionIndex.CONFIG).write32(0x40, 1);
    device.region(0).write(0x10, new Uint8Array(16));
    expect(device.region(0).read32(4)).toBe(0x1234);
    const writes = await seen(connected, Command.REGION_WRITE);
    expect(writes.map((m) => m.flags)).toEqual([HeaderFlags.NO_REPLY, 0, 0]);
  });

  it('info: BARs of memory can be mapped, I/O BARs and small ones cannot; regions that are not there', () => {
    using device = rig.connect({
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
    for (const index of [8, 9, -1, Number.NaN]) expect(errnoFrom(() => device.region(index))).toBe('EINVAL');
    expect(errnoFrom(() => device.region(2).write32(0, 1))).toBe('none');
    expect(errnoFrom(() => device.region(2).write(0, new Uint8Array(4)))).toBe('EINVAL');
    expect(errnoFrom(() => device.region(2).map())).toBe('EINVAL');
  });

  it('asks again with room for the capabilities when there are many', async () => {
    const sparse = Array.from({ length: 300 }, (_, i) => [i * 0x2000, 0x1000] as const);
    const connected = rig.connect({
      regions: { 0: { flags: READ | WRITE | MMAP, size: 0x40_0000, shared: true, sparse }, 7: { flags: 3, size: 256 } },
    });
    const { info } = connected.device.region(0);
    expect([info.flags, info.sparseAreas?.length]).toEqual([READ | WRITE | MMAP | CAPS, 300]);
    using mapping = connected.device.region(0).map(0x2000, 0x1000);
    expect(mapping.memory).not.toBeNull();
    expect(errnoFrom(() => connected.device.region(0).map())).toBe('EINVAL');
    expect(errnoFrom(() => connected.device.region(0).map(0x1000, 0x1000))).toBe('EINVAL');
    mapping[Symbol.dispose]();
    const asked = await seen(connected, Command.DEVICE_GET_REGION_INFO);
    expect(asked.map((m) => words(m)[0])).toEqual([4096, 32 + 16 + 4800]);
  });

  it('an area that is the whole region is not reported', () => {
    using device = rig.connect({
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
    const connected = rig.connect();
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
    for (const bad of [0x2000, 0x1ffd, -1, 0.5, Number.NaN]) expect(errnoFrom(() => mapping.read32(bad))).toBe('EFAULT');
    expect(mapping.memory!.memory.windows[0]![mapping.memory!.offset]).toBe(0xef);
    mapping[Symbol.dispose]();
    expect(errnoFrom(() => mapping.read32(0))).toBe('EFAULT');
    const writes = await seen(connected, Command.REGION_WRITE);
    expect(writes).toEqual([]);
  });

  it('of shared memory: BusError while memory decoding is off, asked once after each change', async () => {
    const connected = rig.connect();
    const { device } = connected;
    const config = device.region(RegionIndex.CONFIG);
    using mapping = device.region(2).map();
    config.write16(4, 0);
    expect([errnoFrom(() => mapping.read32(0)), errnoFrom(() => mapping.write32(0, 1))]).toEqual(['BusError', 'BusError']);
    config.write16(4, 2);
    for (let i = 0; i < 10; i++) mapping.read32(0);
    mapping[Symbol.dispose]();
    const looked = (await seen(connected, Command.REGION_READ)).filter((m) => words(m)[0] === 4);
    expect(looked.length).toBe(2);
  });

  it('of registers: each access is a message, and an error of the server is a BusError', async () => {
    const connected = rig.connect({ on: { [Command.REGION_WRITE]: [{ do: 'answer' }, { do: 'answer' }, { do: 'error', errno: 5 }] } });
    const { device } = connected;
    using mapping = device.region(0).map(0x1000, 0x1000);
    expect(mapping.memory).toBeNull();
    mapping.write32(4, 7);
    mapping.write64(8, 9n);
    expect(errnoFrom(() => mapping.write16(4, 7))).toBe('BusError');
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
    const { device, report } = rig.connect();
    const one = device.region(0).map();
    const two = device.region(2).map();
    device.close();
    expect(errnoFrom(() => device.region(0))).toBe('ENODEV');
    expect([one.read32(0), two.read32(0)]).toEqual([0, 0]);
    one[Symbol.dispose]();
    expect(two.read32(0)).toBe(0);
    two[Symbol.dispose]();
    expect((await report).failed).toBeNull();
  });
});
