/**
 * Registers of a device, mapped into this process. Each access is one load or store of exactly its
 * width, in the addon (native/registers.c), and never torn, merged, repeated or left out.
 *
 * No view shows such memory. The code that V8 makes of an access to a typed array is not the
 * contract of any specification: V8 may use two instructions, or none. A DataView's access is
 * sometimes torn. And the SIGBUS of a mapping that the kernel has revoked would end the process.
 */

import { BusError } from '../abi/bus-error.ts';
import type { Access } from '../abi/memory.ts';
import { checkIndex, hex } from '../base/check.ts';
import { Errno, VfioError } from '../base/errno.ts';
import { INSPECT } from '../base/inspect.ts';
import { type Addon, addon, sysError } from './addon.ts';
import type { KernelFile } from './kernel-file.ts';

/** The number of a mapping that is gone. */
const NONE = -1;

export class MappedRegisters implements Disposable {
  /** Bytes. */
  readonly size: number;
  /** Where the mapping begins in this process, as structures with pointers have it. */
  readonly address: bigint;
  readonly #name: string;
  readonly #sys: Addon = addon();
  #mapping: number;

  private constructor(mapping: number, size: number, name: string) {
    this.#mapping = mapping;
    this.size = size;
    this.#name = name;
    this.address = BigInt(this.#sys.registersAddress(mapping));
  }

  /**
   * @param offset where the registers begin in the file: bytes, a multiple of the page size
   * @param size bytes
   * @param access the accesses that the mapping allows; others fail
   * @throws VfioError EINVAL when the file has no such memory; EACCES when it does not allow
   *   `access`; ENODEV when it cannot be mapped; and other codes of mmap(2)
   */
  static map(file: KernelFile, offset: number, size: number, access: Access): MappedRegisters {
    checkIndex(offset, Number.MAX_SAFE_INTEGER, 'the offset');
    checkIndex(size, Number.MAX_SAFE_INTEGER, 'the size');
    const mapping = addon().registersMap(file.fd.number, offset, size, access);
    if (mapping < 0) throw sysError(mapping, `mapping ${hex(size)} bytes at ${hex(offset)} of ${file.path}`);
    return new MappedRegisters(mapping, size, file.path);
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    return `MappedRegisters of ${this.size} bytes of ${this.#name}`;
  }

  /**
   * @param offset bytes, a multiple of the width
   * @throws BusError when the device does not answer; VfioError EINVAL for a misaligned offset;
   *   EFAULT outside of the mapping, and once it is disposed; EACCES where it cannot be read
   */
  load8(offset: number): number {
    const value = this.#sys.load8(this.#mapping, offset);
    return value < 0 ? this.#fail(value, offset, 1) : value;
  }

  /** As `load8`. */
  load16(offset: number): number {
    const value = this.#sys.load16(this.#mapping, offset);
    return value < 0 ? this.#fail(value, offset, 2) : value;
  }

  /** As `load8`. */
  load32(offset: number): number {
    const value = this.#sys.load32(this.#mapping, offset);
    return value < 0 ? this.#fail(value, offset, 4) : value;
  }

  /** As `load8`. */
  load64(offset: number): bigint {
    const value = this.#sys.load64(this.#mapping, offset);
    return typeof value === 'number' ? this.#fail(value, offset, 8) : value;
  }

  /**
   * The device sees all earlier stores to memory before this one.
   *
   * @param value the lower 8 bits are stored
   * @throws as `load8`; VfioError EACCES where the mapping cannot be written
   */
  store8(offset: number, value: number): void {
    const result = this.#sys.store8(this.#mapping, offset, value);
    if (result < 0) this.#fail(result, offset, 1);
  }

  /** As `store8`, with 16 bits. */
  store16(offset: number, value: number): void {
    const result = this.#sys.store16(this.#mapping, offset, value);
    if (result < 0) this.#fail(result, offset, 2);
  }

  /** As `store8`, with 32 bits. */
  store32(offset: number, value: number): void {
    const result = this.#sys.store32(this.#mapping, offset, value);
    if (result < 0) this.#fail(result, offset, 4);
  }

  /** As `store8`. @param value from 0 to 2^64-1 */
  store64(offset: number, value: bigint): void {
    const result = this.#sys.store64(this.#mapping, offset, value);
    if (result < 0) this.#fail(result, offset, 8);
  }

  #fail(result: number, offset: number, width: number): never {
    if (this.#mapping === NONE) throw new VfioError('EFAULT', `the mapping of ${this.#name} was disposed`);
    if (result === -Errno.EFAULT) {
      throw new BusError(`${this.#name}: the mapped registers at ${hex(offset)} do not answer (SIGBUS)`);
    }
    if (result === -Errno.EACCES)
      throw new VfioError('EACCES', `the mapping of ${this.#name} does not allow this access at ${hex(offset)}`);
    if (!(offset >= 0 && offset <= this.size - width)) {
      throw new VfioError('EFAULT', `${String(offset)} is outside of the mapping of ${this.#name} (${hex(this.size)} bytes)`);
    }
    throw new VfioError(
      'EINVAL',
      `${this.#name}: an access of ${width} bytes at ${String(offset)}, or its value, is none that a processor makes`,
    );
  }

  /** Unmaps the registers. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#mapping === NONE) return;
    this.#sys.registersUnmap(this.#mapping);
    this.#mapping = NONE;
  }
}
