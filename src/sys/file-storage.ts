/**
 * A disk in a file, or on a block device. Reads take at once what the page cache has; threads do
 * everything else.
 */
import { type Storage, type StorageCompleted, type StorageQueue, WOULD_BLOCK } from '../abi/storage.ts';
import { Cleanup } from '../base/cleanup.ts';
import { Errno } from '../base/errno.ts';
import { type Addon, addon, checked, Sys } from './addon.ts';
import { FileWork, type WorkOwner } from './file-work.ts';
import { type ImageFile, type ImageOptions, openImage } from './image-file.ts';

export class FileStorage implements Storage {
  readonly size: number;
  readonly readOnly: boolean;
  readonly volatile: boolean;
  readonly name: string;
  readonly work: FileWork;
  readonly #file: ImageFile;
  readonly #sys: Addon = addon();
  readonly #fd: number;
  /** False once the kernel or the filesystem refuses reads that never wait. */
  #readsNow = true;
  #writesNow = true;
  #disposed = false;

  private constructor(path: string, file: ImageFile, readOnly: boolean) {
    this.name = path;
    this.size = file.size;
    this.readOnly = readOnly;
    this.volatile = !readOnly;
    this.#file = file;
    this.#fd = file.fd.number;
    this.work = new FileWork(file.fd);
  }

  /**
   * The image at `path`, locked: no other process can open it, unless all only read (`readOnly`).
   * The lock keeps QEMU out, and QEMU's keeps us out.
   *
   * @throws VfioError ENOENT when it is missing and not to be made; EBUSY when another process uses
   *   it, with the pid where that can be found; EINVAL when it has another size, is empty, or is no
   *   file; EISDIR, EACCES, EROFS, ENOSPC, EFBIG, ENOLCK
   */
  static open(path: string, options: ImageOptions = {}): FileStorage {
    const file = openImage(path, options);
    using undo = new Cleanup();
    undo.use(file.fd);
    const storage = new FileStorage(path, file, options.readOnly ?? false);
    undo.move();
    return storage;
  }

  allocated(): number {
    if (this.#disposed) return 0;
    if (this.#file.isBlockDevice) return this.size;
    return checked(this.#sys.allocated(this.#fd), `asking how much ${this.name} holds`);
  }

  open(completed: StorageCompleted): StorageQueue {
    return new FileQueue(this, completed);
  }

  /**
   * 0, WOULD_BLOCK or -EINVAL, -EBADF. The queued form reports all other errors: this function
   * never waits to find them.
   */
  readNow(offset: number, into: Uint8Array): number {
    const wrong = this.check(offset, into.length);
    if (wrong !== 0) return wrong;
    for (let done = 0; done < into.length; ) {
      if (!this.#readsNow) return WOULD_BLOCK;
      const count = this.#sys.preadv2(this.#fd, into, done, offset + done, Sys.RWF_NOWAIT);
      if (count === -Errno.EOPNOTSUPP || count === -Errno.ENOSYS) this.#readsNow = false;
      if (count <= 0) return WOULD_BLOCK;
      done += count;
    }
    return 0;
  }

  /** As `readNow`, into the first `count` of `parts`: one call into the kernel, or few. */
  readPartsNow(offset: number, parts: readonly (Uint8Array | null)[], count: number): number {
    let size = 0;
    for (let i = 0; i < count; i++) size += parts[i]!.length;
    const wrong = this.check(offset, size);
    if (wrong !== 0) return wrong;
    if (!this.#readsNow) return WOULD_BLOCK;
    if (count > Sys.PARTS_MAX) return this.#readEach(offset, parts, count);
    const got = this.#sys.preadAll(this.#fd, parts, count, offset, Sys.RWF_NOWAIT);
    if (got === -Errno.EOPNOTSUPP || got === -Errno.ENOSYS) this.#readsNow = false;
    return got === size ? 0 : WOULD_BLOCK;
  }

  #readEach(offset: number, parts: readonly (Uint8Array | null)[], count: number): number {
    for (let i = 0, at = offset; i < count; i++) {
      const result = this.readNow(at, parts[i]!);
      if (result !== 0) return result;
      at += parts[i]!.length;
    }
    return 0;
  }

  /** The kernel or the filesystem refuses writes that never wait. */
  get writesWait(): boolean {
    return !this.#writesNow;
  }

  /** 0, WOULD_BLOCK (then some of it may have been written) or -EINVAL, -EROFS, -EBADF. */
  writeNow(offset: number, from: Uint8Array): number {
    const wrong = this.check(offset, from.length);
    if (wrong !== 0) return wrong;
    if (this.readOnly) return -Errno.EROFS;
    for (let done = 0; done < from.length; ) {
      if (!this.#writesNow) return WOULD_BLOCK;
      const count = this.#sys.pwritev2(this.#fd, from, done, offset + done, Sys.RWF_NOWAIT);
      if (count === -Errno.EOPNOTSUPP || count === -Errno.ENOSYS) this.#writesNow = false;
      if (count <= 0) return WOULD_BLOCK;
      this.work.noteWritten();
      done += count;
    }
    return 0;
  }

  /** 0; -EBADF once disposed, -EINVAL unless [offset, + size) lies within. */
  check(offset: number, size: number): number {
    if (this.#disposed) return -Errno.EBADF;
    const isWithin = offset >= 0 && size >= 0 && offset + size <= this.size;
    return isWithin && Number.isSafeInteger(offset) && Number.isSafeInteger(size) ? 0 : -Errno.EINVAL;
  }

  /**
   * Blocks until every submitted operation has ended, then closes the descriptor, which ends the
   * lock. Idempotent.
   */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.work[Symbol.dispose]();
    this.#file.fd[Symbol.dispose]();
  }
}

class FileQueue implements StorageQueue, WorkOwner {
  pending = 0;
  readonly #storage: FileStorage;
  readonly #completed: StorageCompleted;
  #queued: number[] = [];
  #spare: number[] = [];
  #disposed = false;

  constructor(storage: FileStorage, completed: StorageCompleted) {
    this.#storage = storage;
    this.#completed = completed;
  }

  tryRead(offset: number, into: Uint8Array): number {
    return this.#disposed ? -Errno.EBADF : this.#storage.readNow(offset, into);
  }

  tryReadParts(offset: number, parts: readonly (Uint8Array | null)[], count: number): number {
    return this.#disposed ? -Errno.EBADF : this.#storage.readPartsNow(offset, parts, count);
  }

  get writesWait(): boolean {
    return this.#storage.writesWait;
  }

  tryWrite(offset: number, from: Uint8Array): number {
    return this.#disposed ? -Errno.EBADF : this.#storage.writeNow(offset, from);
  }

  read(offset: number, into: Uint8Array, tag: number): void {
    this.#add(tag, Sys.FILE_READ, offset, into.length, into);
  }

  write(offset: number, from: Uint8Array, tag: number, durable: boolean): void {
    this.#add(tag, durable ? Sys.FILE_WRITE_DURABLE : Sys.FILE_WRITE, offset, from.length, from);
  }

  flush(tag: number): void {
    this.#add(tag, Sys.FILE_SYNC, 0, 0, null);
  }

  zero(offset: number, size: number, tag: number, discard: boolean): void {
    this.#add(tag, discard ? Sys.FILE_DISCARD : Sys.FILE_ZERO, offset, size, null);
  }

  submit(): void {
    if (this.#queued.length === 0) return;
    const slots = this.#queued;
    this.#queued = this.#spare;
    this.#spare = [];
    this.#storage.work.submit(slots);
    slots.length = 0;
    this.#spare = slots;
  }

  drain(): void {
    this.#storage.work.waitUntil(() => this.pending === this.#queued.length);
  }

  ended(tag: number, result: number): void {
    this.pending--;
    if (!this.#disposed) this.#completed(tag, result);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const slot of this.#queued) this.#storage.work.forget(slot);
    this.pending -= this.#queued.length;
    this.#queued.length = 0;
  }

  #add(tag: number, kind: number, offset: number, size: number, bytes: Uint8Array | null): void {
    if (this.#disposed) return;
    let accepted = this.#storage.check(offset, size) || kind;
    if (this.#storage.readOnly && accepted !== Sys.FILE_READ && accepted > 0) accepted = kind === Sys.FILE_SYNC ? kind : -Errno.EROFS;
    this.pending++;
    this.#queued.push(this.#storage.work.add(this, tag, accepted, offset, size, bytes));
  }
}
