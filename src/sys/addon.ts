/**
 * The C addon: one function per system call. Each returns the result of the call or -errno. The
 * addon is loaded on first use, so that a program without descriptors works without it. Only this
 * room calls it.
 */
import { createRequire } from 'node:module';
import { errnoName, VfioError } from '../base/errno.ts';
import { addonFile } from './addon-file.ts';
import { moduleUrl } from './package-files.ts';
import type { RegisterCalls } from './register-calls.ts';
import { SystemError } from './system-error.ts';
import type { TraceCalls } from './trace-calls.ts';

/**
 * Numbers of asm-generic/fcntl.h, asm-generic/socket.h, linux/memfd.h and poll(2): the same on
 * x86-64 and arm64.
 */
export const Sys = {
  EFD_CLOEXEC: 0o2000000,
  EFD_NONBLOCK: 0o4000,
  O_NONBLOCK: 0o4000,
  F_SETFD: 2,
  FD_CLOEXEC: 1,
  F_GETFL: 3,
  F_SETFL: 4,
  F_DUPFD_CLOEXEC: 1030,
  F_ADD_SEALS: 1033,
  F_GET_SEALS: 1034,
  F_SEAL_SEAL: 1,
  F_SEAL_SHRINK: 2,
  F_SEAL_GROW: 4,
  MFD_CLOEXEC: 1,
  MFD_ALLOW_SEALING: 2,
  MFD_HUGETLB: 4,
  /** linux/memfd.h: 21 << MFD_HUGE_SHIFT. */
  MFD_HUGE_2MB: 0x5400_0000,
  MFD_NOEXEC_SEAL: 8,
  POLLIN: 1,
  POLLOUT: 4,
  MADV_HUGEPAGE: 14,
  /** Stores stay in this process. */
  MMAP_PRIVATE: 1,
  /** The addon replaces pages that the file loses by zeroed ones; the process goes on. */
  MMAP_GUARDED: 2,
  AF_UNIX: 1,
  AF_INET: 2,
  AF_INET6: 10,
  IPPROTO_TCP: 6,
  TCP_NODELAY: 1,
  SOL_SOCKET: 1,
  SO_REUSEADDR: 2,
  SO_ERROR: 4,
  SOCK_STREAM: 1,
  SOCK_DGRAM: 2,
  SO_TYPE: 3,
  SO_ACCEPTCONN: 30,
  SO_DOMAIN: 39,
  SO_PEERPIDFD: 77,
  SHUT_WR: 1,
  S_IFCHR: 0o020000,
  LOCK_EX: 2,
  LOCK_NB: 4,
  F_OFD_GETLK: 36,
  F_OFD_SETLK: 37,
  F_RDLCK: 0,
  F_WRLCK: 1,
  F_UNLCK: 2,
  SEEK_END: 2,
  SEEK_DATA: 3,
  SEEK_HOLE: 4,
  /** preadv2(2): return what is there rather than wait. */
  RWF_NOWAIT: 8,
  /** Most parts of preadAll. */
  PARTS_MAX: 256,
  /** Kinds of operations of fileSubmit. */
  FILE_READ: 0,
  FILE_WRITE: 1,
  FILE_WRITE_DURABLE: 2,
  FILE_SYNC: 3,
  FILE_ZERO: 4,
  FILE_DISCARD: 5,
  FILE_APPEND: 6,
  /** In a result of fileReap: the write reached the page cache, and the disk did not keep it. */
  FILE_SYNC_FAILED: 0x10000,
  /** Events of watchStart: libuv's. */
  READABLE: 1,
  WRITABLE: 2,
  /** SCM_MAX_FD: the most descriptors of one message. */
  MESSAGE_FDS_MAX: 253,
  /** linux/sched.h: namespaces of `launch`. */
  CLONE_NEWNS: 0x20000,
  CLONE_NEWUSER: 0x10000000,
  /** linux/seccomp.h */
  NOTIF_CONTINUE: 1,
  NOTIF_SYNC_WAKE_UP: 1,
  /** linux/fs.h, PROCMAP_QUERY_VMA_ */
  VMA_READABLE: 1,
  VMA_WRITABLE: 2,
  VMA_SHARED: 8,
  /** sys/inotify.h */
  IN_CLOEXEC_NONBLOCK: 0o2004000,
  IN_MODIFY: 2,
  IN_CLOSE_WRITE: 8,
  IN_CLOSE_NOWRITE: 0x10,
  /** unistd.h: bytes of a page, of `sysconf`. */
  SC_PAGESIZE: 30,
  /** siginfo.h: the reason of `pidfdWait` of a program that called exit. */
  CLD_EXITED: 1,
} as const;

export interface Addon extends TraceCalls, RegisterCalls {
  close(fd: number): number;
  /**
   * When this thread ends, `fd` is closed, unless `close`, `closeForeign` or `closeSocket` has
   * closed it.
   */
  own(fd: number): number;
  /** `fd` stays open when this thread ends. */
  disown(fd: number): number;
  /**
   * Close a descriptor that a peer has sent: at once where `cannotWait`, else in a closing process,
   * so that this thread does not wait.
   */
  closeForeign(fd: number): number;
  /**
   * 1 for memory (memfd, tmpfs, hugetlbfs) and eventfds, 0 for a file that its file system or its
   * peer can delay. Never waits.
   */
  cannotWait(fd: number): number;
  /**
   * The number of peers' descriptors that closing processes are closing; 0 when it is less than
   * `least`.
   */
  closing(least: number): number;
  /**
   * Close a connected socket of which no other process has a descriptor. Descriptors that the peer
   * sent and this process did not receive are closed as by `closeForeign`.
   */
  closeSocket(fd: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  /** A request whose argument is a number. */
  ioctl(fd: number, request: number, argument: number): number;
  /**
   * The revents; 0 after `timeoutMs`; -1 waits for ever. Blocks this thread.
   *
   * @param spins look again and again before the thread sleeps, while that pays (native/spin.c).
   *   Default: false.
   */
  poll(fd: number, events: number, timeoutMs: number, spins?: boolean): number;
  /** Which of two has input: 1, 2 or 3; 0 after `timeoutMs`. Blocks this thread. */
  pollEither(fd: number, other: number, timeoutMs: number, spins?: boolean): number;
  eventfd(initial: number, flags: number): number;
  /** Never waits. */
  eventfdRead(fd: number): bigint | number;
  /**
   * Adds one. Never waits when `shared` is 1, which is for a counter whose open file other
   * processes have, too. A full counter becomes 2^64-1 then.
   */
  eventfdSignal(fd: number, shared: number): number;
  preadv2(fd: number, bytes: Uint8Array, start: number, offset: number, flags: number): number;
  /** preadv2 into the first `count` of `parts`, at most Sys.PARTS_MAX, one after the other. */
  preadAll(fd: number, parts: readonly (Uint8Array | null)[], count: number, offset: number, flags: number): number;
  pwritev2(fd: number, bytes: Uint8Array, start: number, offset: number, flags: number): number;
  mknod(path: string, mode: number, device: number): number;
  lseek(fd: number, offset: number, whence: number): number;
  /**
   * F_OFD_SETLK or F_OFD_GETLK of bytes. `into` gets the lock's type and pid as the kernel leaves
   * them; the pid of an open file's lock is -1.
   */
  fcntlLock(fd: number, command: number, type: number, start: number, length: number, into: Int32Array): number;
  /**
   * Makes threads for the operations of a file, at most `threads`, each when it is needed. Returns
   * an id. The addon signals `eventFd` when the first of several operations has ended.
   */
  fileOpen(fd: number, eventFd: number, threads: number): number;
  /**
   * Hands the first `count` of `slots` to the threads and returns how many they took. Numbers 3·i
   * to 3·i + 2 of `table` describe slot i: kind, offset, size. Its bytes are `buffers[i]`, which
   * must stay as they are until `fileReap` reports the slot.
   */
  fileSubmit(id: number, slots: Int32Array, count: number, table: Float64Array, buffers: readonly (Uint8Array | null)[]): number;
  /**
   * Writes pairs of slot and result of ended operations, and returns how many. Waits up to
   * `timeoutMs` for the first when an operation is under way. Blocks this thread.
   *
   * @param spins first look for one that ends within microseconds, while that pays (native/spin.c)
   */
  fileReap(id: number, into: Int32Array, timeoutMs: number, spins?: boolean): number;
  /**
   * Waits for the operations that threads have begun, and drops the others. The caller closes the
   * descriptors.
   */
  fileClose(id: number): number;
  /**
   * As fileClose, without waiting: 1 when a thread is at work. The caller then keeps its buffers
   * and the descriptors as they are.
   */
  fileAbandon(id: number): number;
  /** Bytes that a file holds. Never asks a server of the file. */
  allocated(fd: number): number;
  memfdCreate(name: string, flags: number): number;
  ftruncate(fd: number, length: number): number;
  /**
   * A writable mapping of at most 4 GiB, of a file whose pages have `page` bytes. `how` is a sum of
   * MMAP_; `limit` bounds the number of guarded mappings.
   */
  mmap(fd: number, offset: number, length: number, page: number, how: number, limit: number): ArrayBuffer | number;
  /** How often the addon put memory in place of pages that the file no longer had. */
  mappingFaults(buffer: ArrayBuffer): number;
  /** All of a mapping; `buffer` is one that `mmap` gave. */
  madvise(buffer: ArrayBuffer, advice: number): number;
  /** Detaches, then unmaps. */
  munmap(buffer: ArrayBuffer): number;
  socketpair(numbers: Int32Array): number;
  socket(domain: number, type: number): number;
  bind(fd: number, path: string): number;
  connect(fd: number, path: string): number;
  /** To a socket of the abstract namespace (unix(7)); `name` without the NUL. */
  connectAbstract(fd: number, name: string): number;
  /** `address` in figures, of IPv4 or IPv6. */
  bindInet(fd: number, address: string, port: number): number;
  /** As `bindInet`. EINPROGRESS: the descriptor is writable when the connection is made. */
  connectInet(fd: number, address: string, port: number): number;
  setsockopt(fd: number, level: number, option: number, value: number): number;
  listen(fd: number, backlog: number): number;
  accept(fd: number): number;
  getsockopt(fd: number, option: number): number;
  /** pid, uid, gid into `into`. */
  peerCredentials(fd: number, into: Int32Array): number;
  flock(fd: number, operation: number): number;
  shutdown(fd: number, how: number): number;
  read(fd: number, bytes: Uint8Array, start: number, end: number): number;
  write(fd: number, bytes: Uint8Array, start: number, end: number): number;
  /** The first `count` of `numbers` go with the first byte. Does not block, raises no signal. */
  sendmsg(fd: number, bytes: Uint8Array, start: number, end: number, numbers: Int32Array, count: number): number;
  /**
   * When descriptors came, `numbers` holds their count and then each; otherwise it stays as it was.
   * Does not block. EPROTO when some were lost.
   */
  recvmsg(fd: number, bytes: Uint8Array, start: number, end: number, numbers: Int32Array): number;
  /**
   * The event loop calls `callback` while `fd` is READABLE (at once again when it returned true) or
   * WRITABLE, until `watchStop`, which must come before the descriptor is closed. Sets O_NONBLOCK.
   * EPERM for files, which are always ready.
   *
   * @param spins as in `poll`, between two calls
   */
  watchStart(fd: number, event: number, callback: () => unknown, spins?: boolean): number;
  watchStop(fd: number, event: number): number;
  watchRef(fd: number, keepAlive: boolean): number;
  /**
   * Within the callback of `fd`: 1 when another descriptor or the event loop waits for this thread,
   * or when that is not known; else 0.
   */
  watchOthers(fd: number): number;
  /**
   * Compares `count` pages of 4096 bytes at byte `at` of `memory` with the hashes from number
   * `first` on (16 bytes each). Sets the bit of each page that differs in `bitmap` and returns how
   * many differ. `first` is a multiple of 8. `key`: 4112 random bytes. Blocks this thread; several
   * work.
   */
  pagesScan(memory: Uint8Array, at: number, hashes: Uint8Array, first: number, count: number, key: Uint8Array, bitmap: Uint8Array): number;
  /**
   * Copies such pages to the beginning of `into` and notes the hashes of the copies; the hash of a
   * page of zeroes is 0. Returns how many are not all zeroes.
   */
  pagesTake(memory: Uint8Array, at: number, hashes: Uint8Array, first: number, count: number, key: Uint8Array, into: Uint8Array): number;
  /**
   * CRC32C of bytes [from, to), after others whose sum is `sum`; -EOPNOTSUPP on a processor without
   * an instruction for it.
   */
  crc32c(bytes: Uint8Array, from: number, to: number, sum: number): number;
  /**
   * Starts the program at `path` behind a seccomp filter (8 bytes each instruction) that notifies a
   * listener. `steps` are preparations of six words each (native/launch.c), `flags` a sum of
   * CLONE_NEW. `into` gets pid, pidfd, listener, and the number of the preparation that failed: -1
   * for the clone, and after the steps no_new_privs, the filter, execve. Blocks this thread until
   * execve.
   */
  launch(
    path: string,
    argv: readonly string[],
    envp: readonly string[],
    steps: readonly string[],
    filter: Uint8Array,
    flags: number,
    into: Int32Array,
  ): number;
  /**
   * A notification into 80 bytes (struct seccomp_notif): 0, or 1 when there also is something to
   * read from descriptor `news`. -EAGAIN when there is none; -ENOENT when its process died; -EPIPE
   * when no process has the filter any more. Never waits.
   */
  notifReceive(listener: number, news: number, notification: Uint8Array): number;
  /** The end of the call: `value`, or the negative errno `error`. -ENOENT when its process died. */
  notifSend(listener: number, notification: Uint8Array, value: number, error: number, flags: number): number;
  /**
   * A copy of descriptor `fd` for the process, at number `at`, or the lowest free one for -1; its
   * number. With `sends` 1 the number is also the result of the call, which ends.
   */
  notifAddFd(listener: number, notification: Uint8Array, fd: number, at: number, flags: number): number;
  /** 0 while the process waits for the answer, else -ENOENT. */
  notifSetFlags(listener: number, flags: number): number;
  pidfdOpen(pid: number): number;
  /** A descriptor of ours for the open file behind `fd` of the process. */
  pidfdGetfd(pidfd: number, fd: number): number;
  pidfdSignal(pidfd: number, signal: number): number;
  /** 1 when our child has ended, with the reason and its status or signal in `into`; else 0. */
  pidfdWait(pidfd: number, into: Int32Array): number;
  /** Bytes [start, end) from `address` of the process; how many were copied. */
  processRead(pid: number, address: number, bytes: Uint8Array, start: number, end: number): number;
  processWrite(pid: number, address: number, bytes: Uint8Array, start: number, end: number): number;
  /**
   * The file behind descriptor `fd` of a process whose /proc/PID/fd is `directory`: `into` gets the
   * device's major and minor number, the inode's lower and upper half, and the mode. Asks no server
   * of the file.
   */
  statDescriptor(directory: number, fd: number, into: Uint32Array): number;
  /**
   * Into `into`: the lower and upper half of the effective capabilities, RLIMIT_MEMLOCK and
   * RLIMIT_NOFILE; no limit is -1.
   */
  processLimits(pid: number, into: Float64Array): number;
  /**
   * The area of address space that holds `address`, or the next one, of the process whose
   * /proc/PID/maps is `maps`. `into` gets its first address, the one behind it, its flags (VMA_),
   * its place in its file, the file's major and minor number, and the inode's lower and upper half.
   * -ENOENT when there is none; -ENOTTY before Linux 6.11; -ESRCH when the process has ended or
   * executes another program.
   */
  mapQuery(maps: number, address: number, into: Float64Array): number;
  /**
   * A request whose argument is the address of `bytes`. The caller vouches that the kernel accesses
   * no more than these bytes.
   */
  ioctlBytes(fd: number, request: number, bytes: Uint8Array): number;
  pread(fd: number, bytes: Uint8Array, offset: number): number;
  pwrite(fd: number, bytes: Uint8Array, offset: number): number;
  /** The address of the first byte in this process; 0 for no bytes. */
  addressOf(bytes: Uint8Array): number;
  sysconf(name: number): number;
  inotifyInit(flags: number): number;
  inotifyAdd(fd: number, path: string, mask: number): number;
  inotifyRemove(fd: number, watch: number): number;
}

let loaded: Addon | undefined;

/**
 * The addon, loaded on first use.
 *
 * @throws VfioError ENOSYS when it cannot be found, built or loaded, with the reason
 */
export function addon(): Addon {
  loaded ??= load();
  return loaded;
}

function load(): Addon {
  const file = addonFile();
  try {
    return createRequire(moduleUrl)(file) as Addon;
  } catch (cause) {
    throw new VfioError('ENOSYS', `the C addon ${file} cannot be loaded: ${String(cause)}`, {
      cause,
      fix: 'Run "node native/build.js" in the package and act on its message.',
    });
  }
}

/** `result` when it is not an error; else the errno as a `VfioError` that says what was tried. */
export function checked(result: number, what: string): number {
  if (result < 0) throw sysError(result, what);
  return result;
}

/**
 * The error for a negative result. An errno that our table does not name becomes EIO, with the
 * number in the sentence.
 */
export function sysError(result: number, what: string): VfioError {
  const name = errnoName(result);
  return name === undefined ? new SystemError('EIO', `${what}: errno ${-result}`) : new SystemError(name, `${what}: ${name}`);
}
