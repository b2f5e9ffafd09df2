import fc from 'fast-check';
import { expect, it } from 'vitest';
import { DeviceRig, plain, resettable, ScriptedModel, setCommand } from '../../../tests/kit/device-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { Command, Config } from '../../abi/pci.ts';
import { RegionFlags, RegionIndex } from '../../abi/vfio.ts';
import { msix, pcie, pm } from '../../pci/capabilities.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';

const { READ, WRITE, MMAP, CAPS } = RegionFlags;

/** One BAR of each kind: registers, I/O ports, plain 64-bit memory, a small one; and a ROM. */
const mixed: PciDeclaration = {
  ...resettable,
  name: 'mixed',
  bars: [
    { index: 0, size: 0x1000, type: 'mem32' },
    { index: 1, size: 0x100, type: 'io' },
    { index: 2, size: 0x10000, type: 'mem64', backing: 'memory', prefetchable: true },
    { index: 4, size: 0x100, type: 'mem32' },
  ],
  rom: Uint8Array.of(0x55, 0xaa, 1, 2, 3),
};

/** Eight MSI-X entries at 0x20 of an otherwise ordinary register BAR. */
const withMsix: PciDeclaration = {
  ...resettable,
  name: 'with msix',
  bars: [{ index: 0, size: 0x1000, type: 'mem32' }],
  capabilities: [pcie({ flr: true }), msix({ vectors: 8, tableBar: 0, tableOffset: 0x20, pbaBar: 0, pbaOffset: 0x800 })],
};

it('S2-11 and B.8 region indexes: nine regions, EINVAL from the ninth on', () => {
  const file = new DeviceRig(plain).open();
  const infos = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => file.region(i).info);
  expect(infos.map((info) => [info.flags, info.size])).toEqual([
    [READ | WRITE | MMAP, 0x100000],
    ...new Array(6).fill([0, 0]),
    [READ | WRITE, 0x100],
  ]);
  for (const index of [9, 10, 40, -1, 0.5, Number.NaN, 2 ** 53]) expect(errnoFrom(() => file.region(index))).toBe('EINVAL');
});

it('B.8 VGA: a device without VGA ranges has no VGA region', () => {
  const file = new DeviceRig(plain).open();
  expect(errnoFrom(() => file.region(RegionIndex.VGA))).toBe('EINVAL');
});

it('B.8 BAR info: memory BARs of a page can be mapped, I/O BARs cannot; the upper half of a 64-bit BAR is no region', () => {
  const file = new DeviceRig(mixed).open();
  expect([0, 1, 2, 3].map((i) => file.region(i).info.flags)).toEqual([READ | WRITE | MMAP, READ | WRITE, READ | WRITE | MMAP, 0]);
});

it('B.8 BAR info: a small BAR can be mapped when it has its page for itself', () => {
  const rig = new DeviceRig({
    ...resettable,
    bars: [
      { index: 0, size: 0x100, type: 'mem32' },
      { index: 1, size: 0x100, type: 'mem32' },
      { index: 2, size: 0x100, type: 'mem32' },
    ],
  });
  rig.fn.config.setBarAddress(0, 0xd000_0000n);
  rig.fn.config.setBarAddress(1, 0xd000_1000n);
  rig.fn.config.setBarAddress(2, 0xd000_1100n);
  const file = rig.open();
  expect([0, 1, 2].map((i) => (file.region(i).info.flags & MMAP) !== 0)).toEqual([true, false, false]);
});

it('B.8 BAR info: a BAR of another device in the page counts too', () => {
  const other = { declaration: mixed, create: (host: ConstructorParameters<typeof ScriptedModel>[0]) => new ScriptedModel(host) };
  const rig = new DeviceRig(
    { ...resettable, bars: [{ index: 0, size: 0x100, type: 'mem32' }] },
    { others: [{ at: '05.0', model: other }] },
  );
  rig.fn.config.setBarAddress(0, 0xd000_0000n);
  const neighbour = rig.machine.function('00:05.0').config;
  neighbour.setBarAddress(4, 0xd000_0f00n);
  expect(rig.open().region(0).info.flags & MMAP).toBe(0);
});

it('B.8 MSIX BAR: says that its table may be mapped', () => {
  const { info } = new DeviceRig(withMsix).open().region(0);
  expect(info.flags).toBe(READ | WRITE | MMAP | CAPS);
  expect(info.msixMappable).toBe(true);
});

it('B.8 read/write: past the end EINVAL, short at the end, nothing for nothing', () => {
  const file = new DeviceRig(plain).open();
  const bar = file.region(0);
  expect(errnoFrom(() => bar.read(0x100000, new Uint8Array(4)))).toBe('EINVAL');
  expect(bar.read(0x100000 - 4, new Uint8Array(8))).toBe(4);
  expect(bar.write(0x100000 - 2, new Uint8Array(8))).toBe(2);
  expect(bar.read(0, new Uint8Array(0))).toBe(0);
  expect(bar.read(0x100000, new Uint8Array(0))).toBe(0);
  expect(errnoFrom(() => file.region(1).read(0, new Uint8Array(4)))).toBe('EINVAL');
  expect(errnoFrom(() => file.region(1).write(0, new Uint8Array(4)))).toBe('EINVAL');
  expect(errnoFrom(() => file.region(6).read(0, new Uint8Array(4)))).toBe('EINVAL');
});

it('B.8 read/write: accesses are split into naturally aligned ones, 64-bit ones into halves, low half first', () => {
  const rig = new DeviceRig(plain);
  const bar = rig.open().region(0);
  const access = (offset: number, count: number) => {
    rig.model.accesses.length = 0;
    bar.read(offset, new Uint8Array(count));
    return rig.model.accesses;
  };
  expect(access(1, 3)).toEqual(['r1 0+0x1', 'r2 0+0x2']);
  expect(access(0, 8)).toEqual(['r4 0+0x0', 'r4 0+0x4']);
  expect(access(3, 14)).toEqual(['r1 0+0x3', 'r4 0+0x4', 'r4 0+0x8', 'r4 0+0xc', 'r1 0+0x10']);
  rig.model.accesses.length = 0;
  bar.write(2, Uint8Array.of(1, 2, 3, 4, 5, 6));
  expect(rig.model.accesses).toEqual(['w2 0+0x2=0x201', 'w4 0+0x4=0x6050403']);
});

it('B.8 read/write: a model with 64-bit registers gets 64-bit accesses', () => {
  class Wide extends ScriptedModel {
    read64(bar: number, offset: number): bigint {
      this.accesses.push(`r8 ${bar}+${offset}`);
      return 0x1122_3344_5566_7788n;
    }
    write64(bar: number, offset: number, value: bigint): void {
      this.accesses.push(`w8 ${bar}+${offset}=${value}`);
    }
  }
  const rig = new DeviceRig(plain, { models: (host) => new Wide(host) });
  const bar = rig.open().region(0);
  const into = new Uint8Array(8);
  expect(bar.read(8, into)).toBe(8);
  expect([...into]).toEqual([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
  expect(bar.read64(8)).toBe(0x1122_3344_5566_7788n);
  bar.write64(16, 5n);
  bar.write(24, Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0));
  expect(rig.model.accesses).toEqual(['r8 0+8', 'r8 0+8', 'w8 0+16=5', 'w8 0+24=9']);
  expect(bar.read64(1)).toBe(0n);
  expect(rig.model.accesses.at(-1)).toBe('r1 0+0x8');
});

it('B.8 read/write: EIO while memory decoding is off, also half-way through a call', () => {
  const rig = new DeviceRig(plain);
  const file = rig.open();
  const bar = file.region(0);
  setCommand(file, 0);
  expect(errnoFrom(() => bar.read(0, new Uint8Array(4)))).toBe('EIO');
  expect(errnoFrom(() => bar.write(0, new Uint8Array(4)))).toBe('EIO');
  expect(errnoFrom(() => bar.read32(0))).toBe('EIO');
  expect(errnoFrom(() => bar.write64(0, 1n))).toBe('EIO');
  expect(rig.model.accesses).toEqual([]);
  setCommand(file, Command.MEMORY);
  rig.model.onRead = (_bar, offset) => {
    if (offset === 8) setCommand(file, 0);
    return 0;
  };
  expect(errnoFrom(() => bar.read(0, new Uint8Array(32)))).toBe('EIO');
  expect(rig.model.accesses).toEqual(['r4 0+0x0', 'r4 0+0x4', 'r4 0+0x8']);
});

it('S2-06 I/O BARs are read and written whatever the memory bit says, in accesses of at most 4 bytes, and cannot be mapped', () => {
  const rig = new DeviceRig(mixed);
  const file = rig.open();
  const ports = file.region(1);
  setCommand(file, Command.IO);
  ports.write(0, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
  expect(rig.model.accesses).toEqual(['w4 1+0x0=0x4030201', 'w4 1+0x4=0x8070605']);
  expect(ports.read32(4)).toBe(0x08070605);
  expect(ports.read64(0)).toBe(0x0807_0605_0403_0201n);
  expect(errnoFrom(() => ports.map())).toBe('EINVAL');
  setCommand(file, 0);
  expect(ports.read32(4)).toBe(0xffff_ffff);
});

it('S2-35 only memory BARs can be mapped', () => {
  const file = new DeviceRig(mixed).open();
  const outcomes = [0, 1, 2, 3, 5, RegionIndex.ROM, RegionIndex.CONFIG].map((i) => errnoFrom(() => file.region(i).map()));
  expect(outcomes).toEqual(['none', 'EINVAL', 'none', 'EINVAL', 'EINVAL', 'EINVAL', 'EINVAL']);
});

it('B.8 ROM: read-only, ones after the image, gated like a memory BAR', () => {
  const file = new DeviceRig(mixed).open();
  const rom = file.region(RegionIndex.ROM);
  expect(rom.info).toEqual({ index: 6, flags: READ, size: 2048 });
  const into = new Uint8Array(8);
  expect(rom.read(0, into)).toBe(8);
  expect([...into]).toEqual([0x55, 0xaa, 1, 2, 3, 0xff, 0xff, 0xff]);
  expect(rom.read(2040, new Uint8Array(16))).toBe(8);
  expect(rom.read32(100)).toBe(0xffff_ffff);
  expect(errnoFrom(() => rom.write(0, into))).toBe('EINVAL');
  expect(errnoFrom(() => rom.read(2048, into))).toBe('EINVAL');
  setCommand(file, 0);
  expect(errnoFrom(() => rom.read(0, into))).toBe('EIO');
});

it('B.8 ROM: an image without the signature is no region, as in Linux', () => {
  const file = new DeviceRig({ ...plain, rom: Uint8Array.of(1, 2, 3) }).open();
  expect(file.region(RegionIndex.ROM).info).toEqual({ index: 6, flags: 0, size: 0 });
});

it('B.8 config: EFAULT past the end, all or nothing', () => {
  const file = new DeviceRig(plain).open();
  const config = file.region(RegionIndex.CONFIG);
  expect(errnoFrom(() => config.read(0x100, new Uint8Array(4)))).toBe('EFAULT');
  expect(errnoFrom(() => config.read(0xfc, new Uint8Array(8)))).toBe('EFAULT');
  expect(errnoFrom(() => config.write(4096, new Uint8Array(4)))).toBe('EFAULT');
  expect(config.read(1, new Uint8Array(3))).toBe(3);
  expect(config.read(0x3d, new Uint8Array(5))).toBe(5);
  expect(config.read32(Config.VENDOR_ID)).toBe(0x11e8_1234);
  expect(config.read64(Config.VENDOR_ID) & 0xffffn).toBe(0x1234n);
});

it('S2-07 the MSI-X table: reads give ones, writes are dropped, the count is full', () => {
  const rig = new DeviceRig(withMsix);
  const bar = rig.open().region(0);
  const { msix: table } = rig.fn.host;
  const into = new Uint8Array(16);
  expect(bar.read(0x20, into)).toBe(16);
  expect([...into]).toEqual(new Array(16).fill(0xff));
  expect(bar.write(0x20, new Uint8Array(16).fill(0x5a))).toBe(16);
  bar.write32(0x20, 0x5a5a5a5a);
  expect(bar.read32(0x20)).toBe(0xffff_ffff);
  expect(table!.read(0, 0x20, 4)).toBe(0);
  expect(rig.model.accesses).toEqual([]);
});

it('S2-07 pending bits are readable', () => {
  const rig = new DeviceRig(withMsix);
  rig.fn.host.msix!.setPending(3);
  rig.fn.host.msix!.clearPending(3);
  const file = rig.open();
  rig.fn.host.msix!.setPending(3);
  expect(file.region(0).read32(0x800)).toBe(8);
});

it.each([4096, 16384, 65536])('S2-34 hiding is exact to the byte with pages of %i', (pageSize) => {
  const rig = new DeviceRig({ ...withMsix, bars: [{ index: 0, size: 0x20000, type: 'mem32' }] }, { pageSize });
  const bar = rig.open().region(0);
  rig.model.onRead = () => 0;
  const into = new Uint8Array(0xc0);
  expect(bar.read(0, into)).toBe(0xc0);
  const hidden = [...into].map((byte, i) => (byte === 0xff ? i : -1)).filter((i) => i >= 0);
  expect([hidden[0], hidden.at(-1), hidden.length]).toEqual([0x20, 0x20 + 8 * 16 - 1, 128]);
  expect(rig.model.accesses.map((a) => a.split(' ')[1])).not.toContain('0+0x20');
  expect(rig.model.accesses.at(-1)).toBe('r4 0+0xbc');
  rig.model.accesses.length = 0;
  bar.write(0x1e, new Uint8Array(0x86));
  expect(rig.model.accesses).toEqual(['w2 0+0x1e=0x0', 'w4 0+0xa0=0x0']);
  expect(bar.read32(0x1c)).toBe(0);
  expect(bar.read32(0xa0)).toBe(0);
});

it('S2-34 an unaligned access over the edge of the table reaches what is beside it', () => {
  const rig = new DeviceRig(withMsix);
  const bar = rig.open().region(0);
  bar.write32(0x1c, 0x1122_3344);
  expect(bar.read32(0x1e)).toBe(0xffff_1122);
});

it('B.8 read/write: plain memory is copied, and bytes written by one way are read by all', () => {
  const rig = new DeviceRig(mixed);
  const file = rig.open();
  const bar = file.region(2);
  const data = Uint8Array.from({ length: 1000 }, (_, i) => i & 0xff);
  expect(bar.write(3, data)).toBe(1000);
  const back = new Uint8Array(1000);
  expect(bar.read(3, back)).toBe(1000);
  expect(back).toEqual(data);
  expect(bar.read32(3)).toBe(0x03020100);
  expect(bar.read16(4)).toBe(0x0201);
  expect(rig.model.host.barMemory(2).windows[0]![4]).toBe(1);
  expect(rig.model.accesses).toEqual([]);
  expect(errnoFrom(() => rig.model.host.barMemory(0))).toBe('EINVAL');
});

it('B.8 read/write: a model that throws reads as ones and is logged once in a while', () => {
  const rig = new DeviceRig(plain);
  const bar = rig.open().region(0);
  rig.model.onRead = () => {
    throw new Error('bug of the model');
  };
  rig.model.onWrite = rig.model.onRead;
  for (let i = 0; i < 1000; i++) {
    expect(bar.read32(0)).toBe(0xffff_ffff);
    expect(bar.read16(0)).toBe(0xffff);
    bar.write32(0, 1);
  }
  expect(rig.logged.filter((line) => line.includes('bug of the model'))).toHaveLength(2);
  expect(rig.fn.host.modelErrors).toBe(3000);
});

it('B.8 read/write: registers take values of their width only', () => {
  const rig = new DeviceRig(plain);
  const bar = rig.open().region(0);
  for (const bad of [-1, 256, 1.5, Number.NaN]) expect(errnoFrom(() => bar.write8(0, bad))).toBe('EINVAL');
  for (const bad of [-1, 65536, 1.5, Number.NaN]) expect(errnoFrom(() => bar.write16(0, bad))).toBe('EINVAL');
  for (const bad of [-1, 2 ** 32, 1.5, Number.NaN, 2 ** 53]) expect(errnoFrom(() => bar.write32(0, bad))).toBe('EINVAL');
  for (const bad of [-1n, 2n ** 64n]) expect(errnoFrom(() => bar.write64(0, bad))).toBe('EINVAL');
  expect(rig.model.accesses).toEqual([]);
});

it('S2-21 offsets that are none are EINVAL, in every region and form, and reach no model', () => {
  const rig = new DeviceRig(mixed);
  const file = rig.open();
  const accesses = rig.model.accesses.length;
  const offsets = [Number.NaN, -1, 0.5, 4.25, Number.POSITIVE_INFINITY, 2 ** 53, -(2 ** 53), 2 ** 60];
  for (const index of [0, 1, 2, 4, 6, 7]) {
    const region = file.region(index);
    for (const offset of offsets) {
      const outcomes = [
        () => region.read(offset, new Uint8Array(4)),
        () => region.read8(offset),
        () => region.read16(offset),
        () => region.read32(offset),
        () => region.read64(offset),
        () => region.write(offset, new Uint8Array(4)),
        () => region.write32(offset, 1),
        () => region.write64(offset, 1n),
        () => region.map(offset),
        () => region.map(0, offset),
      ].map(errnoFrom);
      expect(new Set(outcomes), `region ${index} offset ${offset}`).toEqual(new Set(['EINVAL']));
    }
    expect(errnoFrom(() => region.read(0, 'text' as unknown as Uint8Array))).toBe('EFAULT');
  }
  expect(rig.model.accesses.length).toBe(accesses);
});

it('B.8 read/write: an access of a register that would run past the end changes nothing', () => {
  const rig = new DeviceRig(plain);
  const bar = rig.open().region(0);
  for (const act of [() => bar.read32(0xffffe), () => bar.write32(0xffffe, 1), () => bar.read64(0xffffc), () => bar.read32(0x100000)]) {
    expect(errnoFrom(act)).toBe('EINVAL');
  }
  expect(rig.model.accesses).toEqual([]);
});

it('B.8 read/write: any mix of widths and offsets reads what a plain array would', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ offset: fc.nat(0x1f), count: fc.nat(0x20), seed: fc.nat(255), by: fc.constantFrom(1, 2, 4, 8, 0) }), {
        maxLength: 30,
      }),
      (acts) => {
        const rig = new DeviceRig({ ...plain, bars: [{ index: 0, size: 0x20, type: 'mem32' }] });
        const bar = rig.open().region(0);
        const mirror = new Uint8Array(0x20);
        const view = new DataView(mirror.buffer);
        for (const { offset, count, seed, by } of acts) {
          const fits = offset + by <= 0x20;
          if (by === 0) {
            const data = Uint8Array.from({ length: count }, (_, i) => (seed + i) & 0xff);
            const n = bar.write(offset, data);
            expect(n).toBe(Math.min(count, 0x20 - offset));
            mirror.set(data.subarray(0, n), offset);
          } else if (fits && by === 8) {
            bar.write64(offset, BigInt(seed) << 28n);
            view.setBigUint64(offset, BigInt(seed) << 28n, true);
          } else if (fits) {
            for (let i = 0; i < by; i++) mirror[offset + i] = i === 0 ? seed : 0;
            if (by === 1) bar.write8(offset, seed);
            else if (by === 2) bar.write16(offset, seed);
            else bar.write32(offset, seed);
          }
          const back = new Uint8Array(0x20);
          bar.read(0, back);
          expect(back).toEqual(mirror);
          if (fits && by === 8) expect(bar.read64(offset)).toBe(view.getBigUint64(offset, true));
          if (fits && by === 4) expect(bar.read32(offset)).toBe(view.getUint32(offset, true));
          if (fits && by === 2) expect(bar.read16(offset)).toBe(view.getUint16(offset, true));
        }
      },
    ),
    { numRuns: 200 },
  );
});

it('B.8 config: D3hot through PMCSR closes the gate, D0 opens it again', () => {
  const rig = new DeviceRig({ ...plain, capabilities: [pm()] });
  const file = rig.open();
  const config = file.region(7);
  const control = rig.fn.config.findCapability(1) + 4;
  config.write16(control, 3);
  expect(errnoFrom(() => file.region(0).read32(0))).toBe('EIO');
  expect(config.read16(control) & 3).toBe(3);
  config.write16(control, 0);
  expect(file.region(0).read32(0)).toBe(0);
  expect(rig.model.powers).toEqual(['D3hot', 'D0', 'D3hot', 'D0']);
});
