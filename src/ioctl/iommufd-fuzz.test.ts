/**
 * Random requests on iommufds and device files. The door returns errnos and never throws. When the
 * process exits nothing is left: no memory, no owner, no domain, no bug in the log.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { IommufdCommand } from '../abi/iommufd.ts';
import type { DirectMemory } from '../abi/memory.ts';
import { ContainerIoctl, DeviceIoctl, GroupIoctl, REGION_OFFSET_STEP } from '../abi/vfio.ts';
import { ManualClock } from '../base/clock.ts';
import { errnoName } from '../base/errno.ts';
import { Process } from '../engine/dma/process.ts';
import { Machine } from '../engine/machine/machine.ts';
import { edu } from '../models/edu/edu.ts';
import { HeapMemory } from '../sys/fake.ts';
import { KernelDoor } from './kernel-door.ts';
import { MapFlags, Prot } from './posix.ts';
import { cString } from './user-buffer.ts';
import type { UserProcess } from './user-process.ts';

const BDF = '0000:00:04.0';
const CONFIG = 7 * REGION_OFFSET_STEP;
/** Where a simulated process has its first mapping. */
const VADDR = 0x7f00_0000_0000n;
const UID = 1000;

const iommufdRequests = Object.values(IommufdCommand).map((number) => 0x3b00 + number);

/** Numbers of objects, sizes, flags, descriptors. */
const word = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 0, max: 9 }) },
  { weight: 3, arbitrary: fc.constantFrom(12, 16, 24, 32, 40, 48, 64) },
  { weight: 1, arbitrary: fc.constantFrom(0xffff_ffff, 0x8000_0000, 4096, 1 << 20) },
);
/** Addresses and lengths. */
const long = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 20 }).map((page) => 0x10_0000n + BigInt(page) * 4096n) },
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 12 }).map((page) => BigInt(page) * 4096n) },
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 16 }).map((page) => VADDR + BigInt(page) * 4096n) },
  { weight: 1, arbitrary: fc.constantFrom(2n ** 64n - 1n, 2n ** 64n - 4096n, 2n ** 48n, 2n ** 62n, 2n ** 63n, 16n, 0xfee0_0000n) },
);
/** A structure: its size, some words, then longs. */
const structure = fc
  .tuple(
    fc.constantFrom(8, 12, 16, 24, 32, 40, 48),
    fc.array(word, { minLength: 3, maxLength: 7 }),
    fc.array(long, { minLength: 3, maxLength: 5 }),
  )
  .map(([size, words, longs]) => {
    const head = words.length % 2 === 0 ? words.slice(1) : words;
    const bytes = new Uint8Array(Math.max(64, 4 + head.length * 4 + longs.length * 8));
    new Uint32Array(bytes.buffer).set([size, ...head]);
    new BigUint64Array(bytes.buffer).set(longs, (1 + head.length) / 2);
    return bytes.subarray(0, size > 40 ? size : 64);
  });

type Call = (user: UserProcess) => unknown;

const ioctl = (fds: readonly number[], requests: readonly number[], weight: number) => ({
  weight,
  arbitrary: fc.tuple(fc.constantFrom(...fds), fc.constantFrom(...requests), structure).map(
    ([fd, request, bytes]): Call =>
      (user) =>
        user.ioctl(fd, request, bytes.slice()),
  ),
});

/** IOAS_MAP, UNMAP and COPY that may be right. */
const mappings = fc
  .tuple(
    fc.constantFrom(3, 5),
    fc.integer({ min: 1, max: 4 }),
    fc.integer({ min: 1, max: 7 }),
    fc.nat(15),
    fc.nat(20),
    fc.integer({ min: 1, max: 4 }),
    fc.nat(2),
  )
  .map(([fd, ioas, flags, page, at, pages, kind]): Call => {
    const bytes = new Uint8Array(40);
    const [iova, length, vaddr] = [0x10_0000n + BigInt(at) * 4096n, BigInt(pages) * 4096n, VADDR + BigInt(page) * 4096n];
    const longs = new BigUint64Array(bytes.buffer);
    if (kind === 0) new Uint32Array(bytes.buffer).set([24, ioas]);
    else new Uint32Array(bytes.buffer).set([40, flags, ioas, kind === 1 ? 0 : 2]);
    longs.set(kind === 0 ? [iova, length] : kind === 1 ? [vaddr, length, iova] : [length, iova, 0x10_0000n], kind === 0 ? 1 : 2);
    const request = [IommufdCommand.IOAS_UNMAP, IommufdCommand.IOAS_MAP, IommufdCommand.IOAS_COPY][kind]!;
    return (user) => user.ioctl(fd, 0x3b00 + request, bytes.slice());
  });

/** BIND, ATTACH and DETACH that may be right. */
const attachments = fc.tuple(fc.constantFrom(4, 6), fc.constantFrom(3, 5), fc.integer({ min: 1, max: 6 }), fc.nat(3), fc.nat(1)).map(
  ([fd, iommufd, pt, kind, pasid]): Call =>
    (user) => {
      const words = [
        [24, 0, iommufd, 0, 0, 0],
        [16, pasid, pt, 5],
        [12, pasid, 5],
        [12, 0, pt],
      ][kind]!;
      const request = [
        DeviceIoctl.BIND_IOMMUFD,
        DeviceIoctl.ATTACH_IOMMUFD_PT,
        DeviceIoctl.DETACH_IOMMUFD_PT,
        DeviceIoctl.ATTACH_IOMMUFD_PT,
      ][kind]!;
      return user.ioctl(fd, request, new Uint8Array(new Uint32Array(words).buffer));
    },
);

const other = (call: Call) => ({ weight: 1, arbitrary: fc.constant(call) });

const call: fc.Arbitrary<Call> = fc.oneof(
  { weight: 10, arbitrary: mappings },
  { weight: 8, arbitrary: attachments },
  ioctl([3, 5], iommufdRequests, 16),
  ioctl([3, 5], Object.values(ContainerIoctl), 4),
  ioctl([4, 6], Object.values(DeviceIoctl), 3),
  {
    weight: 1,
    arbitrary: fc.constantFrom(3, 4, 5, 6, 7, 8).map(
      (fd): Call =>
        (user) =>
          user.close(fd),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom('/dev/iommu', '/dev/vfio/devices/vfio0', '/dev/vfio/0').map(
      (path): Call =>
        (user) =>
          user.open(path),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.constantFrom(7, 8), fc.constantFrom(3, 5)).map(
      ([group, iommufd]): Call =>
        (user) =>
          user.ioctl(group, GroupIoctl.SET_CONTAINER, new Uint8Array(new Int32Array([iommufd]).buffer)),
    ),
  },
  other((user) => user.ioctl(7, GroupIoctl.GET_DEVICE_FD, cString(BDF))),
  other((user) => user.ioctl(7, GroupIoctl.UNSET_CONTAINER, 0)),
  other((user) => user.pwrite(4, new Uint8Array([6, 0]), CONFIG + 4)),
  other((user) => user.mmap(4096, Prot.READ | Prot.WRITE, MapFlags.SHARED, 4, 0)),
  other((user) => user.munmap(Number(VADDR), 16 * 4096)),
  other((user) => user.memfd(16 * 4096)),
  other((user) => user.dup(4)),
);

function run(calls: readonly Call[]): void {
  const errors: string[] = [];
  const memories: DirectMemory[] = [];
  const allocate = (size: number) => {
    const memory = HeapMemory.allocate(size);
    memories.push(memory);
    return memory;
  };
  const machine = new Machine(
    { iommu: { dirtyTracking: true, pasidBits: 20 }, devices: [{ at: '04.0', model: edu(), driver: 'vfio-pci' }] },
    {
      allocate: HeapMemory.allocate,
      clock: new ManualClock(),
      nodeOwner: UID,
      log: { log: (level, line) => void (level === 'error' && errors.push(line)) },
    },
  );
  const user = new KernelDoor(machine).process(new Process({ pid: 7, uid: UID, memlockLimit: 8 * 4096, allocate }));
  for (const path of ['/dev/iommu', '/dev/vfio/devices/vfio0', '/dev/iommu', '/dev/vfio/devices/vfio0']) user.open(path);
  user.mmap(16 * 4096, Prot.READ | Prot.WRITE, MapFlags.PRIVATE | MapFlags.ANONYMOUS);
  // Object 1 is the device, 2 and 3 are address spaces.
  user.ioctl(4, DeviceIoctl.BIND_IOMMUFD, new Uint8Array(new Uint32Array([24, 0, 3, 0, 0, 0]).buffer));
  for (const fd of [3, 3, 5, 5]) user.ioctl(fd, 0x3b00 + IommufdCommand.IOAS_ALLOC, new Uint8Array(new Uint32Array([12, 0, 0]).buffer));
  for (const one of calls) {
    const answer = one(user);
    if (!Number.isInteger(answer) || ((answer as number) < 0 && errnoName(answer as number) === undefined))
      throw new Error(`answered ${String(answer)}`);
  }
  user.exit();
  const { group, vfio } = machine.function(BDF);
  const left = {
    bugs: errors,
    memories: memories.filter(({ references }) => references > 0).length,
    group: [group!.owner, group!.domain, group!.file, group!.cdevs],
    open: vfio!.openCount,
    inUse: vfio!.inUse,
    locked: machine.lockedThroughIommufds(UID),
  };
  machine[Symbol.dispose]();
  expect(left).toEqual({ bugs: [], memories: 0, group: [null, null, null, 0], open: 0, inUse: false, locked: 0 });
}

it('S2-21 iommufd: any sequence of requests gives errnos, and leaves nothing behind', () => {
  fc.assert(
    fc.property(fc.array(call, { maxLength: 80, size: 'max' }), (calls) => run(calls)),
    { numRuns: Number(process.env.FUZZ_RUNS ?? 200) },
  );
});
