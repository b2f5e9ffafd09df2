/**
 * A process that makes calls to this one: its memory, and the files behind its descriptors.
 *
 * @see process_vm_readv(2), pidfd_getfd(2), proc(5)
 */
import { openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { Errno, VfioError } from '../base/errno.ts';
import { type Addon, addon, checked } from './addon.ts';
import { OwnedFd } from './owned-fd.ts';

/** A process that is closed to its own user. */
const UNDUMPABLE =
  'The program may have made itself undumpable (PR_SET_DUMPABLE), or the kernel forbids ptrace (kernel.yama.ptrace_scope); run vfio exec as root.';

/** The files of a thread, by descriptor. */
export class ThreadFiles implements Disposable {
  readonly #directory: OwnedFd;
  readonly #sys: Addon = addon();
  /** Device's major and minor number, inode's lower and upper half, mode. */
  readonly #found = new Uint32Array(5);
  readonly #path: string;

  private constructor(directory: OwnedFd, path: string) {
    this.#directory = directory;
    this.#path = path;
  }

  /** @throws VfioError ESRCH when there is no such thread; EPERM when it is closed to this user */
  static of(thread: number | 'self'): ThreadFiles {
    const path = `/proc/${thread}/fd`;
    try {
      return new ThreadFiles(OwnedFd.own(openSync(path, 'r'), path), path);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'EACCES') {
        throw new VfioError('EPERM', `the files of thread ${thread} are closed to this process`, { fix: UNDUMPABLE, cause });
      }
      throw new VfioError('ESRCH', `there is no thread ${thread}`, { cause });
    }
  }

  /**
   * Look at a descriptor: `isFile` and `inode` are about it afterwards.
   * @returns false when it is not open, or the thread has ended
   */
  look(fd: number): boolean {
    return fd >= 0 && this.#sys.statDescriptor(this.#directory.number, fd, this.#found) === 0;
  }

  /** Whether the descriptor looked at last is a file of that device. */
  isOn(major: number, minor: number): boolean {
    return this.#found[0] === major && this.#found[1] === minor;
  }

  /** The descriptors that are open; none when the thread has ended. */
  numbers(): number[] {
    try {
      return readdirSync(this.#path).map(Number);
    } catch {
      return [];
    }
  }

  /**
   * The kernel's name of the file behind `fd`: `anon_inode:[eventfd]`, `/memfd:name (deleted)`, or
   * a path. Empty when it is not open.
   */
  describe(fd: number): string {
    try {
      return readlinkSync(`${this.#path}/${fd}`);
    } catch {
      return '';
    }
  }

  /** Its device: major and minor number. */
  get device(): [number, number] {
    return [this.#found[0]!, this.#found[1]!];
  }

  /** Its inode, exactly below 2^53. */
  get inode(): number {
    return this.#found[2]! + this.#found[3]! * 2 ** 32;
  }

  [Symbol.dispose](): void {
    this.#directory[Symbol.dispose]();
  }
}

/**
 * Copy from the memory of a process, up to the first byte that it has not.
 * @returns how many bytes of [start, end) were copied
 */
export function readFrom(pid: number, address: number, into: Uint8Array, start = 0, end = into.length): number {
  return transferred(addon().processRead(pid, address, into, start, end), pid);
}

/** Copy into the memory of a process; as `readFrom`. */
export function writeTo(pid: number, address: number, from: Uint8Array, start = 0, end = from.length): number {
  return transferred(addon().processWrite(pid, address, from, start, end), pid);
}

function transferred(result: number, pid: number): number {
  if (result >= 0) return result;
  if (result === -Errno.EFAULT) return 0;
  if (result === -Errno.ESRCH) throw new VfioError('ESRCH', `process ${pid} has ended`);
  if (result === -Errno.EPERM) {
    throw new VfioError('EPERM', `the memory of process ${pid} is closed to this process`, { fix: UNDUMPABLE });
  }
  return checked(result, `the memory of process ${pid}`);
}

/**
 * The absolute path behind a descriptor of a thread, or of its working directory, in the thread's
 * own mounts. No file system is asked. Null when it has none.
 */
export function directoryOf(thread: number, fd: number | 'cwd'): string | null {
  try {
    const path = readlinkSync(fd === 'cwd' ? `/proc/${thread}/cwd` : `/proc/${thread}/fd/${fd}`);
    return path.startsWith('/') ? path : null;
  } catch {
    return null;
  }
}

/** The process (thread group) of a thread. @throws VfioError ESRCH */
export function processOfThread(thread: number): number {
  try {
    return Number(/^Tgid:\t(\d+)/m.exec(readFileSync(`/proc/${thread}/status`, 'latin1'))![1]);
  } catch (cause) {
    throw new VfioError('ESRCH', `there is no thread ${thread}`, { cause });
  }
}
