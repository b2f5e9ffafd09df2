/**
 * The last argument of an ioctl, as the kernel sees it: a number, or an address in the caller's
 * memory.
 *
 * Behind the door of simulated processes a `Uint8Array` stands for the memory that a pointer points
 * to; the bytes behind its end are not mapped. A number is an immediate where the request takes
 * one, and a bad pointer where the request takes a pointer. Bytes are copied in before they are
 * checked, so a caller that changes them meanwhile changes nothing.
 */
import { VfioError } from '../base/errno.ts';

export type IoctlArgument = number | bigint | Uint8Array;

const decoder = new TextDecoder('utf-8');

/** `text` with the NUL that ends a C string. */
export function cString(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}

/** The memory that the argument points to. Offsets count from the pointer. */
export interface UserBuffer {
  /** How many bytes lie behind the pointer, counted up to `limit`; 0 behind a bad one. */
  readable(limit: number): number;
  /**
   * A copy of bytes [offset, offset+size).
   *
   * @throws VfioError EFAULT when not all of them are there; nothing is allocated then
   */
  copyIn(offset: number, size: number): Uint8Array<ArrayBuffer>;
  /** The same as a view, for structures. @throws VfioError EFAULT */
  viewIn(offset: number, size: number): DataView<ArrayBuffer>;
  /** @throws VfioError EFAULT when not all of it fits; nothing is written then */
  copyOut(offset: number, bytes: Uint8Array): void;
  /**
   * A NUL-terminated string of at most `limit` bytes, NUL included.
   *
   * @throws VfioError EFAULT when memory ends first; EINVAL when there is no NUL within `limit`
   * @see linux/mm/util.c, strndup_user()
   */
  stringIn(limit: number): string;
}

/** The argument of a simulated process: its memory is the bytes that the caller gives. */
export class ByteBuffer implements UserBuffer {
  readonly #memory: Uint8Array | null;

  constructor(argument: IoctlArgument) {
    this.#memory = argument instanceof Uint8Array ? argument : null;
  }

  readable(limit: number): number {
    return Math.min(this.#memory?.length ?? 0, limit);
  }

  copyIn(offset: number, size: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#range(offset, size, 'read'));
  }

  viewIn(offset: number, size: number): DataView<ArrayBuffer> {
    return new DataView(this.copyIn(offset, size).buffer);
  }

  copyOut(offset: number, bytes: Uint8Array): void {
    this.#range(offset, bytes.length, 'written').set(bytes);
  }

  stringIn(limit: number): string {
    this.#range(0, 0, 'read');
    const mapped = this.#memory!.slice(0, limit);
    const end = mapped.indexOf(0);
    if (end >= 0) return decoder.decode(mapped.subarray(0, end));
    if (mapped.length < limit) throw new VfioError('EFAULT', `the string runs past its ${mapped.length} mapped bytes`);
    throw new VfioError('EINVAL', `the string has no NUL within ${limit} bytes`);
  }

  #range(offset: number, size: number, what: 'read' | 'written'): Uint8Array {
    if (this.#memory === null) throw new VfioError('EFAULT', 'the argument is not an address of mapped memory');
    if (offset + size > this.#memory.length) {
      throw new VfioError('EFAULT', `bytes ${offset} to ${offset + size - 1} cannot be ${what}: only ${this.#memory.length} are mapped`);
    }
    return this.#memory.subarray(offset, offset + size);
  }
}

/** The immediate argument for a value that no request knows, such as a pointer. */
const NO_NUMBER = 0x7fff_ffff;

/** An immediate argument (`unsigned long`). */
export function immediate(argument: IoctlArgument): number {
  if (argument instanceof Uint8Array) return NO_NUMBER;
  const value = Number(argument);
  return Number.isInteger(value) && value >= 0 && value < NO_NUMBER ? value : NO_NUMBER;
}
