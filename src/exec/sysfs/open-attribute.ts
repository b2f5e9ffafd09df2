/**
 * A file of sysfs that a program has open: the content that it found at open, and its writes.
 *
 * @see linux/fs/kernfs/file.c, kernfs_fop_open(), kernfs_fop_write_iter()
 */
import { VfioError } from '../../base/errno.ts';
import type { Attribute, Stored } from './attribute.ts';

/** A value longer than a page is cut. */
const PAGE = 4096;
/** Bytes of `config` that every process may read: linux/drivers/pci/pci-sysfs.c */
const PUBLIC_CONFIG = 64;

export class OpenAttribute {
  readonly path: string;
  /** The bytes to read, as they were at open; empty for a file that is only written. */
  readonly content: Uint8Array;
  readonly #attribute: Attribute;
  readonly #limit: number;
  readonly #settle: () => void;
  readonly #failed: (error: unknown) => void;

  /**
   * @param privileged the process may do what root may
   * @param settle brings the files of the machine up to date
   * @param failed gets the error of a write that has returned already
   */
  constructor(path: string, attribute: Attribute, privileged: boolean, settle: () => void, failed: (error: unknown) => void) {
    this.path = path;
    this.#attribute = attribute;
    this.#settle = settle;
    this.#failed = failed;
    this.#limit = privileged ? Number.POSITIVE_INFINITY : PUBLIC_CONFIG;
    this.content = this.#content();
  }

  #content(): Uint8Array {
    const shown = this.#attribute.show?.() ?? '';
    if (typeof shown === 'string') return Buffer.from(shown, 'latin1');
    return this.#attribute.binary === undefined ? shown : shown.subarray(0, this.#limit);
  }

  get isBinary(): boolean {
    return this.#attribute.binary !== undefined;
  }

  /** Fill `into` from `offset` on. @returns the count of bytes, 0 at the end @throws VfioError */
  read(offset: number, into: Uint8Array): number {
    const { binary } = this.#attribute;
    if (binary !== undefined) return binary.read(offset, into.subarray(0, Math.max(this.#limit - offset, 0)));
    const part = this.content.subarray(offset, offset + into.length);
    into.set(part);
    return part.length;
  }

  /**
   * One write(2). A value is written whole, up to its first NUL, as the kernel's functions read it
   * (driver_set_override() names Python's "\0"); the offset counts for `config` alone.
   *
   * @returns the count of bytes that were taken; a promise where the write waits
   * @throws VfioError (or rejects) the errno of the write
   */
  write(offset: number, bytes: Uint8Array): number | Promise<number> {
    const { binary, store } = this.#attribute;
    if (binary !== undefined) return binary.write(offset, bytes);
    if (store === null) throw new VfioError('EIO', `${this.path} cannot be written`);
    const value = bytes.subarray(0, PAGE);
    const text = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('latin1');
    let stored: Stored;
    try {
      stored = store(text.replace(/\0.*$/s, '').replace(/\n$/, ''));
    } finally {
      this.#settle();
    }
    if (stored === undefined) return bytes.length;
    return stored.then(
      () => this.#done(bytes.length),
      (error: unknown) => {
        this.#settle();
        throw error;
      },
    );
  }

  /**
   * Bytes that a process has written through a descriptor of its own choice, as a shell does for
   * `echo 1 > FILE`: a value for each line.
   */
  writeUnseen(offset: number, bytes: Uint8Array): void {
    const { binary } = this.#attribute;
    if (binary !== undefined) {
      binary.write(offset, bytes);
      return;
    }
    // An empty line is a value, too: `echo > driver_override` removes the override.
    const lines = Buffer.from(bytes).toString('latin1').replace(/\n$/, '').split('\n');
    for (const line of lines) {
      try {
        const done = this.write(0, Buffer.from(line, 'latin1'));
        if (typeof done !== 'number') done.catch(this.#failed);
      } catch (error) {
        this.#failed(error);
      }
    }
  }

  #done(count: number): number {
    this.#settle();
    return count;
  }
}
