/**
 * fstat(2) of the nodes that a program has open: they are character devices, with the numbers that
 * sysfs shows. QEMU looks whether a device's node is the one that it wants.
 *
 * @see linux/arch/x86/include/uapi/asm/stat.h; include/uapi/asm-generic/stat.h for arm64;
 *   include/uapi/linux/stat.h
 */
import { VfioError } from '../base/errno.ts';
import { struct } from '../base/struct.ts';
import type { OpenFile } from '../ioctl/file-table.ts';
import { readFrom } from '../sys/other-process.ts';
import { type NodeNumber, nodeNumber } from './node-numbers.ts';
import { PROCEED, type Served } from './served.ts';

const times = {
  st_atime: 'u64',
  st_atime_nsec: 'u64',
  st_mtime: 'u64',
  st_mtime_nsec: 'u64',
  st_ctime: 'u64',
  st_ctime_nsec: 'u64',
} as const;

const x64Stat = struct('stat', 144, {
  st_dev: 'u64',
  st_ino: 'u64',
  st_nlink: 'u64',
  st_mode: 'u32',
  st_uid: 'u32',
  st_gid: 'u32',
  reserved: 'u32',
  st_rdev: 'u64',
  st_size: 'u64',
  st_blksize: 'u64',
  st_blocks: 'u64',
  ...times,
  reserved1: 'u64',
  reserved2: 'u64',
  reserved3: 'u64',
});

const arm64Stat = struct('stat', 128, {
  st_dev: 'u64',
  st_ino: 'u64',
  st_mode: 'u32',
  st_nlink: 'u32',
  st_uid: 'u32',
  st_gid: 'u32',
  st_rdev: 'u64',
  reserved: 'u64',
  st_size: 'u64',
  st_blksize: 'u32',
  reserved1: 'u32',
  st_blocks: 'u64',
  ...times,
  reserved2: 'u32',
  reserved3: 'u32',
});

/** The head of struct statx; times, and what comes behind the numbers, stay 0. */
const STATX_BYTES = 256;
const StatxHead = struct('statx', 48, {
  stx_mask: 'u32',
  stx_blksize: 'u32',
  stx_attributes: 'u64',
  stx_nlink: 'u32',
  stx_uid: 'u32',
  stx_gid: 'u32',
  stx_mode: 'u16',
  reserved: 'u16',
  stx_ino: 'u64',
  stx_size: 'u64',
});
const RDEV_MAJOR_AT = 128;
const RDEV_MINOR_AT = 132;
const STATX_BASIC_STATS = 0x7ff;

const S_IFCHR = 0o020000;
const PAGE = 4096;
/** st_dev of a devtmpfs. */
const DEVTMPFS = 5;
export const AT_EMPTY_PATH = 0x1000;

/** linux/kdev_t.h, new_encode_dev() */
const encoded = ({ major, minor }: NodeNumber): bigint => BigInt((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12));

/** Permissions: linux/drivers/vfio/container.c, group.c; linux/drivers/iommu/iommufd/main.c */
const modeOf = (path: string): number => S_IFCHR | (path === '/dev/vfio/vfio' ? 0o666 : path === '/dev/iommu' ? 0o660 : 0o600);

interface Node {
  readonly number: NodeNumber;
  readonly mode: number;
}

function nodeOf(file: OpenFile | null): Node | null {
  const path = file?.path ?? null;
  return path === null ? null : { number: nodeNumber(path), mode: modeOf(path) };
}

/** The program's path is empty: the call is about its descriptor. */
function isEmptyPath({ calls }: Served): boolean {
  const address = calls.argument(1);
  const byte = new Uint8Array(1);
  return address === 0 || (readFrom(calls.thread, address, byte) === 1 && byte[0] === 0);
}

function answer(served: Served, address: number, bytes: Uint8Array): number {
  if (served.caller.memory.writeUpTo(address, bytes, bytes.length) < bytes.length)
    throw new VfioError('EFAULT', 'the stat is not in mapped memory');
  return 0;
}

function stat(served: Served, address: number): number {
  const node = nodeOf(served.file(served.calls.int(0)));
  if (node === null) return PROCEED;
  const owner = { st_uid: process.geteuid!(), st_gid: process.getegid!() };
  const common = { ...owner, st_dev: BigInt(DEVTMPFS), st_ino: encoded(node.number), st_mode: node.mode, st_rdev: encoded(node.number) };
  const view = new DataView(new ArrayBuffer(process.arch === 'arm64' ? arm64Stat.structSize : x64Stat.structSize));
  if (process.arch === 'arm64') arm64Stat.encode(view, 0, { ...common, st_nlink: 1, st_blksize: PAGE });
  else x64Stat.encode(view, 0, { ...common, st_nlink: 1n, st_blksize: BigInt(PAGE) });
  return answer(served, address, new Uint8Array(view.buffer));
}

export const fstat = (served: Served): number => stat(served, served.calls.argument(1));

export const newfstatat = (served: Served): number => (isEmptyPath(served) ? stat(served, served.calls.argument(2)) : PROCEED);

export function statx(served: Served): number {
  const node = isEmptyPath(served) ? nodeOf(served.file(served.calls.int(0))) : null;
  if (node === null) return PROCEED;
  const view = new DataView(new ArrayBuffer(STATX_BYTES));
  StatxHead.encode(view, 0, {
    stx_mask: STATX_BASIC_STATS,
    stx_blksize: PAGE,
    stx_nlink: 1,
    stx_uid: process.geteuid!(),
    stx_gid: process.getegid!(),
    stx_mode: node.mode,
    stx_ino: encoded(node.number),
  });
  view.setUint32(RDEV_MAJOR_AT, node.number.major, true);
  view.setUint32(RDEV_MINOR_AT, node.number.minor, true);
  return answer(served, served.calls.argument(4), new Uint8Array(view.buffer));
}
