/**
 * The system calls that programs may make on files of VFIO: which of them the filter stops, and how
 * each is served. One row for each.
 */
import { Errno, VfioError } from '../base/errno.ts';
import type { OpenFile } from '../ioctl/file-table.ts';
import { ioctlOf, preadOf, pwriteOf, readOf, writeOf } from '../ioctl/system-calls.ts';
import type { OwnedFd } from '../sys/owned-fd.ts';
import type { CallName } from './call-numbers.ts';
import type { ArgumentTest, FilterRow } from './filter.ts';
import { creat, open, openat, openat2 } from './open-calls.ts';
import { RealBuffer } from './real-memory.ts';
import type { RealProcess } from './real-process.ts';
import { PROCEED, type Served } from './served.ts';
import { AT_EMPTY_PATH, fstat, newfstatat, statx } from './stat-calls.ts';
import { fileText, ioctlText, plainText } from './trace/call-text.ts';
import { requestOf } from './trace/requests.ts';

interface Row {
  readonly call: CallName;
  /**
   * The filter's tests.
   * @param first descriptors of VFIO files have numbers from here on
   * @param region0 the size of the largest region 0
   */
  readonly when: (first: number, region0: number) => FilterRow['when'];
  /** @returns the result, -errno, or PROCEED */
  readonly serve: (served: Served) => number;
}

/** linux/fs.h: no call transfers more. */
const MAX_RW_COUNT = 0x7fff_f000;
/** Longer transfers are made in pieces of so many bytes. */
const PIECE = 2 ** 20;
/** linux/uio.h, UIO_MAXIOV */
const VECTORS_MAX = 1024;
const ESPIPE = -29;
/** VFIO and iommufd use the type ';' (linux/vfio.h, linux/iommufd.h). */
const VFIO_TYPE = 0x3b00;
const REGION_1 = 2 ** 40;
/** linux/fcntl.h */
const AT_FDCWD = -100;
/** asm-generic/mman-common.h. MAP_SHARED_VALIDATE is shared, too. */
const MapFlags = { SHARED: 1, ANONYMOUS: 0x20 } as const;

const always = (): FilterRow['when'] => [[]];
/**
 * The launcher's own call, which begins the program while the supervisor waits for it, has -1 there
 * (native/launch.c).
 */
const ofDirectory = (): FilterRow['when'] => [
  [{ argument: 0, mask: 0x8000_0000, equals: 0 }],
  [{ argument: 0, mask: 0xffff_ffff, equals: AT_FDCWD >>> 0 }],
];
const ofHighDescriptor = (first: number): FilterRow['when'] => [[{ argument: 0, atLeast32: first }]];
/** With a descriptor in place of a path. */
const ofEmptyPath =
  (flags: number) =>
  (first: number): FilterRow['when'] => [
    [
      { argument: flags, mask: AT_EMPTY_PATH, equals: AT_EMPTY_PATH },
      { argument: 0, atLeast32: first },
    ],
  ];
/** Region 1 and up; region 0, which begins at offset 0 as in Linux; and any of our own numbers. */
const atOffset = (first: number, region0: number): FilterRow['when'] => {
  const low: ArgumentTest[][] = region0 > 0 ? [[{ argument: 3, below: region0 }]] : [];
  return [[{ argument: 3, atLeast: REGION_1 }], ...low, [{ argument: 0, atLeast32: first }]];
};

/** As `atOffset`, of a file; private mappings of low offsets are made all the time. */
const ofFile = (first: number, region0: number): FilterRow['when'] => {
  const mapped: ArgumentTest = { argument: 3, mask: MapFlags.ANONYMOUS, equals: 0 };
  const low: ArgumentTest[][] =
    region0 > 0 ? [[mapped, { argument: 3, mask: MapFlags.SHARED, equals: MapFlags.SHARED }, { argument: 5, below: region0 }]] : [];
  return [[mapped, { argument: 5, atLeast: REGION_1 }], ...low, [mapped, { argument: 4, atLeast32: first }]];
};

function ioctl(served: Served): number {
  const { calls } = served;
  const file = served.file(calls.int(0));
  if (file === null) return PROCEED;
  const { caller } = served;
  const argument = calls.argument(2);
  const request = calls.unsigned(1);
  const text = served.traced ? ioctlText(calls.int(0), file, request, caller.memory, argument) : null;
  served.begin(requestOf(file.body.kind, request).name, text);
  served.bars.settle();
  return ioctlOf(file, request, caller, new RealBuffer(caller.memory, argument), argument);
}

type Direction = 'read' | 'write';

/** One transfer between the program's memory and a file; `position` null: the file's own. */
function transfer(
  file: OpenFile,
  caller: RealProcess,
  direction: Direction,
  address: number,
  count: number,
  position: number | null,
): number {
  let done = 0;
  const all = Math.min(count, MAX_RW_COUNT);
  do {
    const size = Math.min(all - done, PIECE);
    const at = position === null ? null : position + done;
    let moved: number;
    try {
      moved = direction === 'read' ? readPiece(file, caller, address + done, size, at) : writePiece(file, caller, address + done, size, at);
    } catch (error) {
      if (done > 0 && error instanceof VfioError) return done;
      throw error;
    }
    done += moved;
    if (moved < size) break;
  } while (done < all);
  return done;
}

function readPiece(file: OpenFile, { memory }: RealProcess, address: number, size: number, position: number | null): number {
  const bytes = new Uint8Array(size);
  const got = position === null ? readOf(file, bytes, size) : preadOf(file, bytes, position, size);
  if (got > 0 && memory.writeUpTo(address, bytes, got) < got) throw new VfioError('EFAULT', 'the memory to read into is not mapped');
  return got;
}

function writePiece(file: OpenFile, { memory }: RealProcess, address: number, size: number, position: number | null): number {
  const bytes = new Uint8Array(size);
  const mapped = size === 0 ? 0 : memory.readUpTo(address, bytes);
  const from = mapped === 0 && size > 0 ? 0 : bytes.subarray(0, mapped);
  return position === null ? writeOf(file, from, size) : pwriteOf(file, from, position, size);
}

/** A longer transfer of a file of sysfs is cut: bytes. */
const VALUE_MAX = 65536;

/** A transfer of a file of sysfs: the file alone has offsets, and a write may wait. */
function transferValue(
  served: Served,
  file: OpenFile,
  direction: Direction,
  address: number,
  count: number,
  position: number | null,
): number {
  const { body } = file;
  if (body.kind !== 'attribute') throw new VfioError('EINVAL', 'no file of sysfs');
  const { memory } = served.caller;
  const bytes = new Uint8Array(Math.min(count, VALUE_MAX));
  const at = position ?? file.position;
  const moved = (n: number): number => {
    if (position === null) file.position += n;
    return n;
  };
  if (direction === 'read') {
    file.checkReadable();
    const got = body.attribute.read(at, bytes);
    if (got > 0 && memory.writeUpTo(address, bytes, got) < got) throw new VfioError('EFAULT', 'the memory to read into is not mapped');
    return moved(got);
  }
  file.checkWritable();
  if (memory.readUpTo(address, bytes) < bytes.length) throw new VfioError('EFAULT', 'the memory to write from is not mapped');
  const taken = body.attribute.write(at, bytes);
  return typeof taken === 'number' ? moved(taken) : served.later(taken.then(moved));
}

/** Regions of a device file begin at multiples of 2^40. */
const regionOffset = (offset: number): string => {
  const region = Math.floor(offset / REGION_1);
  return `${region === 0 ? '' : `${region}<<40+`}0x${(offset % REGION_1).toString(16)}`;
};

function beginTransfer(served: Served, file: OpenFile, direction: Direction, offset: number | null): void {
  const { calls } = served;
  const args = () => [fileText(calls.int(0), file), String(calls.argument(2)), ...(offset === null ? [] : [regionOffset(offset)])];
  served.begin(direction, served.traced ? plainText(args().join(', ')) : null);
}

/** read, write, pread64, pwrite64 */
const plain = (direction: Direction, positioned: boolean) => (served: Served) => {
  const { calls } = served;
  const file = served.file(calls.int(0));
  if (file === null) return PROCEED;
  beginTransfer(served, file, direction, positioned ? calls.argument(3) : null);
  if (file.body.kind === 'attribute') {
    return transferValue(served, file, direction, calls.argument(1), calls.argument(2), positioned ? calls.argument(3) : null);
  }
  return transfer(file, served.caller, direction, calls.argument(1), calls.argument(2), positioned ? calls.argument(3) : null);
};

/** readv, writev and their like: one transfer after the other, as for files without vectors. */
const vectored = (direction: Direction, positioned: boolean) => (served: Served) => {
  const { calls } = served;
  const file = served.file(calls.int(0));
  if (file === null) return PROCEED;
  const { caller } = served;
  beginTransfer(served, file, direction, positioned ? calls.argument(3) : null);
  const count = calls.argument(2);
  if (count > VECTORS_MAX) throw new VfioError('EINVAL', `${count} vectors`);
  const vectors = new DataView(caller.memory.copyIn(calls.argument(1), count * 16).buffer);
  // preadv2 and pwritev2: -1 is the file's own position.
  const own = !positioned || (calls.unsigned(3) === 0xffff_ffff && calls.argument(3) > 2 ** 63);
  let done = 0;
  for (let i = 0; i < count; i++) {
    const address = Number(vectors.getBigUint64(16 * i, true));
    const size = Number(vectors.getBigUint64(16 * i + 8, true));
    if (size === 0) continue;
    let moved: number;
    try {
      const at = own ? null : calls.argument(3) + done;
      if (file.body.kind === 'attribute') return transferValue(served, file, direction, address, size, at);
      moved = transfer(file, caller, direction, address, size, at);
    } catch (error) {
      if (done > 0 && error instanceof VfioError) return done;
      throw error;
    }
    done += moved;
    if (moved < size) break;
  }
  return done;
};

/** linux/fs.h */
const Seek = { SET: 0, CURRENT: 1, END: 2 } as const;

/** No file of VFIO has a position to seek (linux/drivers/vfio has no llseek); those of sysfs do. */
function lseek(served: Served): number {
  const { calls } = served;
  const file = served.file(calls.int(0));
  if (file === null) return PROCEED;
  if (file.body.kind !== 'attribute') return ESPIPE;
  const offset = calls.argument(1);
  const from = { [Seek.SET]: 0, [Seek.CURRENT]: file.position, [Seek.END]: file.body.attribute.content.length }[calls.unsigned(2)];
  const to = (from ?? Number.NaN) + (offset < 2 ** 63 ? offset : offset - 2 ** 64);
  if (!(to >= 0)) throw new VfioError('EINVAL', `lseek to ${to}`);
  file.position = to;
  return to;
}

/** Programs of x86-64 map in such units. */
const PAGE = 4096;

const protText = (prot: number): string =>
  ['PROT_READ', 'PROT_WRITE', 'PROT_EXEC'].filter((_, bit) => (prot & (1 << bit)) !== 0).join('|') || 'PROT_NONE';

/** Linux maps the file that stands in for the device's, once the engine agrees. */
function mmap(served: Served): number {
  const { calls, bars } = served;
  const { thread } = calls;
  const [address, length, prot, flags, fd, position] = [
    calls.argument(0),
    calls.argument(1),
    calls.unsigned(2),
    calls.unsigned(3),
    calls.int(4),
    calls.argument(5),
  ];
  const file = served.file(fd);
  // Linux refuses a length of 0 and a position within a page.
  if (file === null || (flags & MapFlags.ANONYMOUS) !== 0 || length === 0 || position % PAGE !== 0) return PROCEED;
  if (bars.isInjecting(thread)) return PROCEED;
  const shared = (flags & MapFlags.SHARED) !== 0;
  if (served.traced) {
    const how = `${protText(prot)}, ${shared ? 'MAP_SHARED' : 'MAP_PRIVATE'}`;
    served.begin('mmap', plainText(`${length}, ${how}, ${fileText(fd, file)}, ${regionOffset(position)}`));
  } else served.begin('mmap', null);
  const request = {
    thread,
    pid: served.caller.pid,
    address,
    size: Math.ceil(length / PAGE) * PAGE,
    prot,
    flags,
    shared,
    fd,
    position,
    addDescriptor: (lent: OwnedFd) => calls.addDescriptor(lent, -1, true),
  };
  return bars.map(request, file) ? PROCEED : -Errno.ENOMEM;
}

/** Mappings for DMA do not lead into the memory of the next program. */
function execve(served: Served): number {
  served.executes();
  return PROCEED;
}

export const serving: readonly Row[] = [
  { call: 'ioctl', when: () => [[{ argument: 1, mask: 0xffffff00, equals: VFIO_TYPE }]], serve: ioctl },
  { call: 'pread64', when: atOffset, serve: plain('read', true) },
  { call: 'pwrite64', when: atOffset, serve: plain('write', true) },
  { call: 'read', when: ofHighDescriptor, serve: plain('read', false) },
  { call: 'write', when: ofHighDescriptor, serve: plain('write', false) },
  { call: 'readv', when: ofHighDescriptor, serve: vectored('read', false) },
  { call: 'writev', when: ofHighDescriptor, serve: vectored('write', false) },
  { call: 'preadv', when: atOffset, serve: vectored('read', true) },
  { call: 'pwritev', when: atOffset, serve: vectored('write', true) },
  { call: 'preadv2', when: atOffset, serve: vectored('read', true) },
  { call: 'pwritev2', when: atOffset, serve: vectored('write', true) },
  { call: 'lseek', when: ofHighDescriptor, serve: lseek },
  { call: 'mmap', when: ofFile, serve: mmap },
  { call: 'openat', when: always, serve: openat },
  { call: 'open', when: always, serve: open },
  { call: 'creat', when: always, serve: creat },
  { call: 'openat2', when: always, serve: openat2 },
  { call: 'fstat', when: ofHighDescriptor, serve: fstat },
  { call: 'newfstatat', when: ofEmptyPath(3), serve: newfstatat },
  { call: 'statx', when: ofEmptyPath(2), serve: statx },
  { call: 'execve', when: always, serve: execve },
  { call: 'execveat', when: ofDirectory, serve: execve },
];

/** The rows of the filter. */
export function filterRows(firstDescriptor: number, region0: number): FilterRow[] {
  return serving.map(({ call, when }) => ({ call, when: when(firstDescriptor, region0) }));
}
