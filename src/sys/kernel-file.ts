/**
 * A file of one of the kernel's interfaces: /dev/vfio/…, /dev/iommu, a device. Results are those of
 * the system calls, or -errno: the caller knows the meaning of an errno, and its remedy.
 */
import { constants, openSync } from 'node:fs';
import { Errno } from '../base/errno.ts';
import { INSPECT } from '../base/inspect.ts';
import { type Addon, addon, checked, Sys } from './addon.ts';
import type { EventFd } from './eventfd.ts';
import { OwnedFd } from './owned-fd.ts';
import { fromNode } from './system-error.ts';

export class KernelFile implements Disposable {
  /** The name of the file, for messages. */
  readonly path: string;
  readonly fd: OwnedFd;
  readonly #sys: Addon = addon();

  private constructor(fd: OwnedFd, path: string) {
    this.fd = fd;
    this.path = path;
  }

  /**
   * Open `path` for reading and writing. Programs that this process starts do not get it.
   *
   * @throws SystemError the errno of open(2)
   */
  static open(path: string): KernelFile {
    let fd: number;
    try {
      fd = openSync(path, constants.O_RDWR);
    } catch (cause) {
      throw fromNode(cause);
    }
    return new KernelFile(OwnedFd.own(fd, `opening ${path}`), path);
  }

  /** Takes over a descriptor that an ioctl or a message gave. @param path for messages */
  static own(fd: OwnedFd, path: string): KernelFile {
    return new KernelFile(fd, path);
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    return `KernelFile ${this.path}`;
  }

  /**
   * A call that a signal interrupts is made again.
   *
   * @param argument a number, or the bytes of a structure; the kernel must access no more bytes
   * @returns the result, or -errno
   * @throws VfioError EBADF once closed
   */
  ioctl(request: number, argument: number | Uint8Array): number {
    const { number } = this.fd;
    for (;;) {
      const result =
        typeof argument === 'number' ? this.#sys.ioctl(number, request, argument) : this.#sys.ioctlBytes(number, request, argument);
      if (result !== -Errno.EINTR) return result;
    }
  }

  /**
   * As `ioctl`, for a request whose result is a new descriptor (VFIO_GROUP_GET_DEVICE_FD).
   *
   * @param path the name of the new file, for messages
   * @returns the file, or -errno
   */
  ioctlFile(request: number, argument: number | Uint8Array, path: string): KernelFile | number {
    const result = this.ioctl(request, argument);
    return result < 0 ? result : new KernelFile(OwnedFd.own(result, path), path);
  }

  /**
   * @param offset exact up to 2^53, as the place of a region (its index << 40) is
   * @returns bytes read, or -errno
   * @throws VfioError EBADF once closed
   */
  pread(offset: number, into: Uint8Array): number {
    const { number } = this.fd;
    for (;;) {
      const result = this.#sys.pread(number, into, offset);
      if (result !== -Errno.EINTR) return result;
    }
  }

  /** As `pread`; bytes written, or -errno. */
  pwrite(offset: number, from: Uint8Array): number {
    const { number } = this.fd;
    for (;;) {
      const result = this.#sys.pwrite(number, from, offset);
      if (result !== -Errno.EINTR) return result;
    }
  }

  /**
   * For a file that is a stream, as the data of a device that is moved.
   *
   * @returns bytes read, 0 at the end, or -errno: EAGAIN after `setNonBlocking`
   * @throws VfioError EBADF once closed
   */
  read(into: Uint8Array): number {
    const { number } = this.fd;
    for (;;) {
      const result = this.#sys.read(number, into, 0, into.length);
      if (result !== -Errno.EINTR) return result;
    }
  }

  /** As `read`; bytes written, or -errno. */
  write(from: Uint8Array): number {
    const { number } = this.fd;
    for (;;) {
      const result = this.#sys.write(number, from, 0, from.length);
      if (result !== -Errno.EINTR) return result;
    }
  }

  /** From now on `read` and `write` answer EAGAIN where they would wait. */
  setNonBlocking(): void {
    const { number } = this.fd;
    const flags = checked(this.#sys.fcntl(number, Sys.F_GETFL, 0), `the flags of ${this.path}`);
    checked(this.#sys.fcntl(number, Sys.F_SETFL, flags | Sys.O_NONBLOCK), `the flags of ${this.path}`);
  }

  /** Closes the file. Idempotent. */
  [Symbol.dispose](): void {
    this.fd[Symbol.dispose]();
  }
}

/**
 * The address of the first byte in this process, for structures with pointers. The address is good
 * for as long as the caller keeps `bytes` alive.
 *
 * @throws VfioError EINVAL for what is no Uint8Array
 */
export function addressOf(bytes: Uint8Array): bigint {
  return BigInt(checked(addon().addressOf(bytes), 'the address of memory'));
}

/**
 * Numbers of descriptors as structures of VFIO_DEVICE_SET_IRQS have them: 32 bits each, -1 for
 * null. The numbers are good for as long as the descriptors stay open.
 *
 * @throws VfioError EBADF for one that is closed
 */
export function descriptorBytes(fds: readonly (OwnedFd | EventFd | null)[]): Uint8Array {
  const bytes = new Uint8Array(4 * fds.length);
  const view = new DataView(bytes.buffer);
  fds.forEach((fd, i) => void view.setInt32(4 * i, fd === null ? -1 : fd.number, true));
  return bytes;
}
