/**
 * Opens of programs: of the nodes of VFIO and iommufd, and of the machine's files in sysfs. All
 * other opens are Linux's.
 */
import { VfioError } from '../base/errno.ts';
import { describeFile } from '../ioctl/caller.ts';
import { OpenFile } from '../ioctl/file-table.ts';
import { OpenFlags } from '../ioctl/posix.ts';
import { directoryOf, readFrom } from '../sys/other-process.ts';
import { plainPath } from '../sys/program-files.ts';
import { PROCEED, type Served } from './served.ts';
import { plainText } from './trace/call-text.ts';

const PATH_MAX = 4096;
const path = Buffer.alloc(PATH_MAX);

/** As `readFrom`; 0 for a program that is closed to this user. */
function readUpTo(thread: number, address: number, into: Uint8Array, size: number): number {
  try {
    return readFrom(thread, address, into, 0, size);
  } catch (error) {
    if (error instanceof VfioError && error.code === 'EPERM') return 0;
    throw error;
  }
}

/** The path at an address of the caller; null: not readable, and so the open is Linux's. */
function pathAt(thread: number, address: number): string | null {
  for (const size of [256, PATH_MAX]) {
    const got = readUpTo(thread, address, path, size);
    const end = path.indexOf(0);
    if (end >= 0 && end < got) return path.toString('latin1', 0, end);
    if (got < size) return null;
  }
  return null;
}

/** Nodes that the kernel's door has. */
const NODES = /^\/dev\/(vfio\/|iommu$)/;

/** linux/fcntl.h: x86-64 and arm64 differ in the last two. */
const Flag = {
  CREAT: 0o100,
  EXCL: 0o200,
  PATH: 0o10000000,
  ...(process.arch === 'arm64' ? { DIRECTORY: 0o40000, NOFOLLOW: 0o100000 } : { DIRECTORY: 0o200000, NOFOLLOW: 0o400000 }),
};
const AT_FDCWD = -100;

/** The path that the program means, from the root; null: it means none that is ours. */
function wholePath(thread: number, directory: number, given: string): string | null {
  if (given === '') return null;
  if (given.startsWith('/')) return given;
  const from = directoryOf(thread, directory === AT_FDCWD ? 'cwd' : directory);
  return from === null ? null : `${from}/${given}`;
}

/** proc(5): a file by the descriptor that a process has of it. */
const BY_DESCRIPTOR = /^(?:\/proc\/(?:self|thread-self|(\d+))(?:\/task\/\d+)?|\/dev)\/fd\/(\d+)$/;

/**
 * Linux opens no device file anew by a descriptor of it. Nor may its stand-in be opened, since the
 * first close of any open file of the stand-in counts as the last.
 *
 * @see linux/fs/libfs.c, no_open(), of anonymous inodes
 */
function checkNotByDescriptor(served: Served, whole: string): void {
  const [, process, fd] = BY_DESCRIPTOR.exec(whole) ?? [];
  if (fd === undefined) return;
  const file = served.fileOf(process === undefined ? served.calls.thread : Number(process), Number(fd));
  if (file !== null && file.body.kind !== 'attribute') throw new VfioError('ENXIO', `${whole} is ${describeFile(file)}, which has no path`);
}

const accessNames = ['O_RDONLY', 'O_WRONLY', 'O_RDWR', 'O_ACCMODE'] as const;

function beginOpen(served: Served, path: string, access: number): void {
  served.begin('open', served.traced ? plainText(`"${path}", ${accessNames[access]}`) : null);
}

function openPath(served: Served, directory: number, address: number, flags: number): number {
  const { calls, kernel, tree } = served;
  const given = pathAt(calls.thread, address);
  if (given === null || (flags & (Flag.PATH | Flag.DIRECTORY)) !== 0) return PROCEED;
  const whole = wholePath(calls.thread, directory, given);
  if (whole === null) return PROCEED;
  if (whole.startsWith('/proc/') || whole.startsWith('/dev/fd/')) checkNotByDescriptor(served, whole);
  const found = tree?.lookup(whole, (flags & Flag.NOFOLLOW) === 0) ?? null;
  const access = flags & OpenFlags.O_ACCMODE;
  const closeOnExec = (flags & OpenFlags.O_CLOEXEC) !== 0;
  // Linux answers an O_CREAT that must not find the file, and reads what is only bytes.
  if (found !== null && (flags & Flag.CREAT) !== 0 && (flags & Flag.EXCL) !== 0) return PROCEED;
  if (found?.kind === 'attribute') {
    if (found.attribute.constant === true && access === OpenFlags.O_RDONLY) return PROCEED;
    const { caller } = served;
    beginOpen(served, found.path, access);
    const file = new OpenFile({ kind: 'attribute', attribute: tree!.openAttribute(found, flags, caller.process) });
    file.access = access;
    return caller.open(file, access, closeOnExec);
  }
  if (found === null && (flags & Flag.CREAT) !== 0 && tree?.refusesNew(whole) === true) {
    throw new VfioError('EACCES', `${whole.slice(0, 128)} is not there, and no files are made in its directory`);
  }
  const node = found?.path ?? plainPath(whole);
  if (!NODES.test(node)) return PROCEED;
  const { caller } = served;
  beginOpen(served, node, access);
  served.bars.settle();
  return caller.open(kernel.openPath(node, caller.process, access), access, closeOnExec);
}

export const open = (served: Served): number => openPath(served, AT_FDCWD, served.calls.argument(0), served.calls.unsigned(1));
export const creat = (served: Served): number => openPath(served, AT_FDCWD, served.calls.argument(0), OpenFlags.O_WRONLY | Flag.CREAT);

function openAt(served: Served, flags: number): number {
  return openPath(served, served.calls.int(0), served.calls.argument(1), flags);
}

export const openat = (served: Served): number => openAt(served, served.calls.unsigned(2));

/** struct open_how begins with the flags, 64 bits. */
export function openat2(served: Served): number {
  const how = new Uint8Array(8);
  const { calls } = served;
  if (readUpTo(calls.thread, calls.argument(2), how, 8) < 8) return PROCEED;
  return openAt(served, new DataView(how.buffer).getUint32(0, true));
}
