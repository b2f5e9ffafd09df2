/** Regions of a device of the kernel's VFIO: through the file, and mapped. */
import { afterEach, describe, expect, it } from 'vitest';
import { KernelRig, type RigRegion } from '../../tests/kit/kernel-rig.ts';
import { BusError } from '../abi/bus-error.ts';
import type { VfioEvent } from '../abi/event.ts';
import { RegionFlags } from '../abi/vfio.ts';
import { Cleanup } from '../base/cleanup.ts';
import { KernelFile } from '../sys/kernel-file.ts';
import { KernelRegion } from './region.ts';

const { READ, WRITE, MMAP, CAPS } = RegionFlags;
const undo = new Cleanup();
afterEach(() => undo[Symbol.dispose]());

function rig(regions: Readonly<Record<number, RigRegion>>): KernelRig {
  return undo.use(new KernelRig(regions));
}

describe('the kernel describes a region', () => {
  it('B.8 BAR info: in one call, also with capabilities', () => {
    const device = rig({
      0: {
        size: 0x4000,
        sparse: [
          [0, 0x1000],
          [0x2000, 0x2000],
        ],
        msixMappable: true,
      },
    });
    expect(KernelRegion.open(device.port, 0).info).toEqual({
      index: 0,
      flags: READ | WRITE | MMAP | CAPS,
      size: 0x4000,
      sparseAreas: [
        { offset: 0, size: 0x1000 },
        { offset: 0x2000, size: 0x2000 },
      ],
      msixMappable: true,
    });
    expect(device.calls).toBe(1);
  });

  it('B.8 BAR info: again with more room where the chain is long', () => {
    const sparse = Array.from({ length: 20 }, (_, i) => [i * 0x2000, 0x1000] as const);
    const device = rig({ 0: { size: 0x40000, sparse } });
    expect(KernelRegion.open(device.port, 0).info.sparseAreas).toHaveLength(20);
    expect(device.calls).toBe(2);
  });

  it('B.8 BAR info: one area that is everything is none', () => {
    const device = rig({ 0: { size: 0x2000, sparse: [[0, 0x2000]] } });
    expect(KernelRegion.open(device.port, 0).info).toEqual({ index: 0, flags: READ | WRITE | MMAP, size: 0x2000 });
  });

  it('S2-11 a region that is not there keeps the errno of the kernel', () => {
    const device = rig({});
    expect(() => KernelRegion.open(device.port, 9)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });
});

describe('through the file', () => {
  it('B.8 read/write: at the place that the kernel names, cut at the end', () => {
    const device = rig({ 2: { size: 0x1000 } });
    const region = KernelRegion.open(device.port, 2);
    region.write32(0x10, 0x8765_4321);
    region.write16(0x14, 0xa9cb);
    region.write8(0x16, 0xed);
    region.write64(0x18, 0xf000_0000_0000_0001n);
    expect(device.bytes(2, 0x10, 16)).toEqual([0x21, 0x43, 0x65, 0x87, 0xcb, 0xa9, 0xed, 0, 1, 0, 0, 0, 0, 0, 0, 0xf0]);
    expect([region.read8(0x10), region.read16(0x14), region.read32(0x10), region.read64(0x18)]).toEqual([
      0x21,
      0xa9cb,
      0x8765_4321,
      0xf000_0000_0000_0001n,
    ]);
    expect(region.read(0xffe, new Uint8Array(8))).toBe(2);
    expect(() => region.read32(0x1000)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('B.8 read/write: an errno names device, region, place and remedy, and the device hears of it', () => {
    // Nothing is mapped at the first addresses of a process, so that its memory answers EIO there.
    const device = undo.use(new KernelRig({ 0: { size: 0x1000 } }, KernelFile.open('/proc/self/mem')));
    const region = KernelRegion.open(device.port, 0);
    for (const [act, word] of [
      [() => region.read32(4), 'read'],
      [() => region.write32(4, 1), 'write'],
    ] as const) {
      expect(act).toThrow(
        expect.objectContaining({
          code: 'EIO',
          message: `0000:03:00.0 BAR 0: the kernel refuses to ${word} 4 bytes at 0x4`,
          fix: 'Turn memory decoding on (the bit MEMORY of COMMAND), and wake the device (D0).',
        }),
      );
    }
    expect(device.failures).toEqual([-5, -5]);
  });

  it('B.8 read/write: a transfer that the file ends is short', () => {
    const device = rig({ 3: { size: 0x2000 } });
    const region = KernelRegion.open(device.port, 3);
    device.resize(3 * 2 ** 20 + 0x1000);
    expect(region.read(0xff0, new Uint8Array(0x20))).toBe(0x10);
    expect(region.read(0x1800, new Uint8Array(4))).toBe(0);
  });

  it('B.8 ROM: what is read-only is not written', () => {
    const device = rig({ 6: { size: 0x1000, flags: READ } });
    const region = KernelRegion.open(device.port, 6);
    expect(() => region.write32(0, 1)).toThrow(expect.objectContaining({ code: 'EINVAL', message: '0000:03:00.0 ROM is read-only' }));
  });

  it('a device that is closed answers ENODEV', () => {
    const device = rig({ 0: { size: 0x1000 } });
    const region = KernelRegion.open(device.port, 0);
    device.closed = true;
    expect(() => region.read32(0)).toThrow(expect.objectContaining({ code: 'ENODEV' }));
    expect(() => region.map()).toThrow(expect.objectContaining({ code: 'ENODEV' }));
  });
});

describe('mapped', () => {
  it('B.8 mmap: loads and stores of every width, at the place that the kernel names', () => {
    const device = rig({ 1: { size: 0x3000 } });
    using mapping = KernelRegion.open(device.port, 1).map(0x1000);
    mapping.write32(0, 0x8765_4321);
    mapping.write16(4, 0xa9cb);
    mapping.write8(6, 0xed);
    mapping.write64(8, 0xf000_0000_0000_0001n);
    expect(device.bytes(1, 0x1000, 16)).toEqual([0x21, 0x43, 0x65, 0x87, 0xcb, 0xa9, 0xed, 0, 1, 0, 0, 0, 0, 0, 0, 0xf0]);
    expect([mapping.read8(0), mapping.read16(4), mapping.read32(0), mapping.read64(8)]).toEqual([
      0x21,
      0xa9cb,
      0x8765_4321,
      0xf000_0000_0000_0001n,
    ]);
    expect([mapping.size, mapping.memory]).toEqual([0x2000, null]);
  });

  it('B.8 mmap: only what the kernel lets map', () => {
    const device = rig({ 0: { size: 0x4000, sparse: [[0x2000, 0x1000]] }, 7: { size: 0x1000, flags: READ | WRITE } });
    const region = KernelRegion.open(device.port, 0);
    using part = region.map(0x2000, 0x1000);
    expect(part.size).toBe(0x1000);
    expect(() => region.map()).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => KernelRegion.open(device.port, 7).map()).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('B.8 zap: a mapping that the kernel has revoked is a BusError, and answers again later', () => {
    const device = rig({ 1: { size: 0x1000 } });
    using mapping = KernelRegion.open(device.port, 1).map();
    device.resize(4096);
    const accesses = [
      () => mapping.read8(0),
      () => mapping.read16(0),
      () => mapping.read32(0),
      () => mapping.read64(0),
      () => mapping.write8(0, 1),
      () => mapping.write16(0, 1),
      () => mapping.write32(0, 1),
      () => mapping.write64(0, 1n),
    ];
    for (const access of accesses) {
      expect(access).toThrow(BusError);
      expect(access).toThrow(/^0000:03:00\.0 BAR 1: the register at 0x0 does not answer: memory decoding is off/);
    }
    device.resize(2 ** 24);
    mapping.write32(0, 5);
    expect(mapping.read32(0)).toBe(5);
  });

  it('S2-41 a mapping of a device that is gone is a BusError with ENODEV', () => {
    const device = rig({ 1: { size: 0x1000 } });
    using mapping = KernelRegion.open(device.port, 1).map();
    device.resize(4096);
    device.gone = true;
    expect(() => mapping.read32(0)).toThrow(BusError);
    expect(() => mapping.read32(0)).toThrow(
      expect.objectContaining({ code: 'ENODEV', message: '0000:03:00.0 BAR 1: the register at 0x0 does not answer: the device is gone' }),
    );
  });

  it('B.8 mmap: misaligned accesses are split as a processor splits them', () => {
    const device = rig({ 1: { size: 0x1000 } });
    using mapping = KernelRegion.open(device.port, 1).map();
    device.fill(1, 0, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect([mapping.read32(1), mapping.read16(3), mapping.read64(1)]).toEqual([0x0504_0302, 0x0504, 0x0908_0706_0504_0302n]);
  });

  it('S2-37 a mapping keeps the device until it is disposed, and answers meanwhile', () => {
    const device = rig({ 1: { size: 0x1000 } });
    const mapping = KernelRegion.open(device.port, 1).map();
    expect(device.mappings.size).toBe(1);
    device.closed = true;
    mapping.write32(0, 5);
    expect(mapping.read32(0)).toBe(5);
    mapping[Symbol.dispose]();
    expect(device.mappings.size).toBe(0);
    expect(() => mapping.read32(0)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
  });
});

describe('events', () => {
  const accesses = (events: readonly VfioEvent[]) =>
    events.map((event) => {
      if (event.kind === 'mapping') return `${event.op} ${event.region} ${event.offset} ${event.size}`;
      if (event.kind !== 'access') return event.kind;
      const { op, region, offset, size, value, verdict, errno } = event;
      return `${op} ${region} ${offset} ${size} ${String(value)} ${verdict}${errno === undefined ? '' : ` ${errno}`}`;
    });

  it('B.8 read/write: an access of a register with its value, of more bytes without', () => {
    const device = rig({ 0: { size: 0x1000 } });
    const region = KernelRegion.open(device.port, 0);
    using reader = device.stream.read();
    region.write32(8, 7);
    region.read16(8);
    region.read(0, new Uint8Array(16));
    expect(() => region.read32(0x1000)).toThrow();
    expect(accesses([...reader.take()])).toEqual([
      'write 0 8 4 7 device',
      'read 0 8 2 7 device',
      'read 0 0 16 undefined device',
      'read 0 4096 4 undefined refused EINVAL',
    ]);
  });

  it('B.8 mmap: loads and stores of mapped registers, with the place in the region', () => {
    const device = rig({ 0: { size: 0x2000 } });
    const region = KernelRegion.open(device.port, 0);
    using reader = device.stream.read();
    const mapping = region.map(0x1000);
    mapping.write32(8, 7);
    mapping.read64(8);
    device.resize(4096);
    expect(() => mapping.read8(1)).toThrow(BusError);
    mapping[Symbol.dispose]();
    expect(() => mapping.read8(1)).toThrow();
    expect(accesses([...reader.take()])).toEqual([
      'map 0 4096 4096',
      'write 0 4104 4 7 device',
      'read 0 4104 8 7 device',
      'read 0 4097 1 undefined refused EIO',
      'unmap 0 4096 4096',
      'read 0 4097 1 undefined refused EFAULT',
    ]);
  });
});
