/** Dirty tracking and PASIDs of an IOMMU that has them, as the kernel's mock answered. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { answersOf } from '../../../tests/kit/iommufd.ts';
import { Dma } from '../../abi/device-host.ts';
import { IommuHwptAllocFlags } from '../../abi/iommufd.ts';
import { Command, Config } from '../../abi/pci.ts';
import { RegionIndex } from '../../abi/vfio.ts';
import { ManualClock } from '../../base/clock.ts';
import { edu } from '../../models/edu/edu.ts';
import { HeapMemory } from '../../sys/fake.ts';
import type { CdevFile } from '../machine/cdev-file.ts';
import { Machine } from '../machine/machine.ts';
import type { Iommufd } from './iommufd.ts';

const BDF = '0000:00:04.0';
const PAGE = 4096n;
const BASE = 0x100_0000n;
const FIXED_RW = 7;

let machine: Machine;
let iommufd: Iommufd;
let cdev: CdevFile;
let ioas: number;

beforeEach(() => {
  machine = new Machine(
    { iommu: { dirtyTracking: true, pasidBits: 20 }, devices: [{ at: '04.0', model: edu(), driver: 'vfio-pci' }] },
    { allocate: HeapMemory.allocate, clock: new ManualClock() },
  );
  iommufd = machine.openIommufd();
  cdev = machine.openDevice(BDF);
  cdev.bind({ iommufd: () => iommufd });
  ioas = iommufd.allocIoas();
  cdev.device.region(RegionIndex.CONFIG).write16(Config.COMMAND, Command.MEMORY | Command.MASTER);
});

afterEach(() => machine[Symbol.dispose]());

function map(iova: bigint, pages: bigint): void {
  const vaddr = machine.process.addressSpace.anonymous(Number(pages * PAGE));
  iommufd.map({ ioas, process: machine.process, flags: FIXED_RW, source: { kind: 'address', vaddr }, length: pages * PAGE, iova });
}

const alloc = (flags: number) => iommufd.allocHwpt({ flags, device: 1, pt: ioas, dataType: 0, faultQueue: 0 });

/** The device writes one byte at each page. */
function write(...pages: number[]): void {
  const { dma } = machine.function(BDF).host;
  for (const page of pages) expect(dma.tryWrite(BASE + BigInt(page) * PAGE, new Uint8Array([1]))).toBe(Dma.DONE);
}

/** The bitmap of 64 pages from `iova` on, over what is there already. */
function report(hwpt: number, { iova = BASE, length = 64n * PAGE, pageSize = PAGE, keep = false, before = 0n } = {}): string {
  const bitmap = new BigUint64Array([before, 0n, 0n]);
  const bytes = new Uint8Array(bitmap.buffer);
  const sink = (offset: number, bits: Uint8Array) => {
    for (let i = 0; i < bits.length; i++) bytes[offset + i]! |= bits[i]!;
  };
  iommufd.dirtyBitmap({ hwpt, iova, length, pageSize, sink, keep });
  return `0x${bitmap[0]!.toString(16)}${bitmap[1] === 0n ? '' : ` 0x${bitmap[1]!.toString(16)}`}`;
}

it('B.5 dirty tracking reports each written page once, in bits of any size', () => {
  const hwpt = alloc(IommuHwptAllocFlags.DIRTY_TRACKING);
  map(BASE, 64n);
  cdev.attach(hwpt);
  write(1);
  expect(report(hwpt)).toBe('0x0');
  iommufd.setDirtyTracking(hwpt, true);
  expect(report(hwpt)).toBe('0x0');
  write(0, 1, 4, 5);
  expect([
    report(hwpt, { pageSize: 2048n, keep: true }),
    report(hwpt, { keep: true }),
    report(hwpt, { pageSize: 8192n, keep: true }),
    report(hwpt, { keep: true, before: 1n << 63n }),
    report(hwpt, { iova: BASE + 2n * PAGE, length: 32n * PAGE, keep: true }),
  ]).toEqual(['0xf0f', '0x33', '0x5', '0x8000000000000033', '0xc']);
  expect([report(hwpt, { length: 2n * PAGE }), report(hwpt), report(hwpt)]).toEqual(['0x3', '0x30', '0x0']);
});

it('B.5 dirty tracking drops the bits of what is unmapped, of what was noted before, and behind a hole', () => {
  const hwpt = alloc(IommuHwptAllocFlags.DIRTY_TRACKING);
  map(BASE, 64n);
  map(BASE + 256n * PAGE, 4n);
  cdev.attach(hwpt);
  iommufd.setDirtyTracking(hwpt, true);
  write(3);
  iommufd.setDirtyTracking(hwpt, false);
  iommufd.setDirtyTracking(hwpt, true);
  expect(report(hwpt)).toBe('0x0');
  write(2, 256);
  expect(report(hwpt, { length: 260n * PAGE, pageSize: 8n * PAGE, keep: true })).toBe('0x1');
  iommufd.unmap(ioas, BASE + 256n * PAGE, 4n * PAGE);
  map(BASE + 256n * PAGE, 4n);
  expect(report(hwpt, { iova: BASE + 256n * PAGE, length: 4n * PAGE })).toBe('0x0');
  // A report that is nowhere to be written loses its bits.
  iommufd.dirtyBitmap({ hwpt, iova: BASE, length: 64n * PAGE, pageSize: PAGE, sink: () => {}, keep: false });
  expect(report(hwpt)).toBe('0x0');
});

it('B.5 dirty tracking takes a range as long as the address space', () => {
  const hwpt = alloc(IommuHwptAllocFlags.DIRTY_TRACKING);
  map(BASE, 64n);
  cdev.attach(hwpt);
  iommufd.setDirtyTracking(hwpt, true);
  write(63);
  const pieces: number[] = [];
  iommufd.dirtyBitmap({ hwpt, iova: BASE, length: 2n ** 62n, pageSize: 1n, sink: (offset) => void pieces.push(offset), keep: true });
  expect(pieces).toEqual([63 * 512 - ((63 * 512) % 4096)]);
  expect(
    answersOf({
      'no bytes': () => report(hwpt, { length: 0n }),
      unaligned: () => report(hwpt, { iova: BASE + 16n }),
      'no page size': () => report(hwpt, { pageSize: 0n }),
      'past the end': () => report(hwpt, { iova: 2n ** 64n - PAGE, length: 2n * PAGE }),
      'a domain without': () => report(alloc(0)),
    }),
  ).toEqual({
    'no bytes': 'EINVAL',
    unaligned: 'EINVAL',
    'no page size': 'EINVAL',
    'past the end': 'EOVERFLOW',
    'a domain without': 'EOPNOTSUPP',
  });
});

it('B.5 GET_HW_INFO says what the IOMMU can do', () => {
  expect(iommufd.hwInfo(1)).toMatchObject({ type: 1, capabilities: 9n, pasidBits: 20 });
});

it('B.5 ATTACH of a PASID takes domains that were made for PASIDs, of the device and of the PASID', () => {
  const [plain, pasid] = [alloc(0), alloc(IommuHwptAllocFlags.PASID)];
  cdev.attach(ioas);
  expect(answersOf({ 'the device on another': () => cdev.attach(pasid, 5) })).toEqual({ 'the device on another': 'EINVAL' });
  cdev.attach(pasid);
  expect(
    answersOf({
      'to the ioas': () => cdev.attach(ioas, 5),
      'to one for PASIDs': () => cdev.attach(pasid, 5),
      'replaced by a plain one': () => cdev.attach(plain, 5),
      'replaced by the same': () => cdev.attach(pasid, 5),
      '1<<20': () => cdev.attach(pasid, 2 ** 20),
      'PASID 0': () => cdev.attach(pasid, 0),
      'to 999': () => cdev.attach(999, 7),
      'to a device': () => cdev.attach(1, 8),
      'the device to a plain one': () => cdev.attach(plain),
      'destroy it': () => iommufd.destroy(pasid),
      detach: () => cdev.detach(5),
      'detach again': () => cdev.detach(5),
      'the device to a plain one now': () => cdev.attach(plain),
      'destroy it now': () => iommufd.destroy(pasid),
    }),
  ).toEqual({
    'to the ioas': 'EINVAL',
    'to one for PASIDs': String(pasid),
    'replaced by a plain one': 'EINVAL',
    'replaced by the same': String(pasid),
    '1<<20': 'EINVAL',
    'PASID 0': 'EBUSY',
    'to 999': 'ENOENT',
    'to a device': 'EINVAL',
    'the device to a plain one': 'EINVAL',
    'destroy it': 'EBUSY',
    detach: 'undefined',
    'detach again': 'undefined',
    'the device to a plain one now': String(plain),
    'destroy it now': 'undefined',
  });
});
