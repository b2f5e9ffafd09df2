/**
 * A mapped region: loads and stores of a register's width. Every `Device` makes its mappings of
 * this class, and adds the way to the registers: `load`, `store`, and the reasons for which the
 * device does not answer now.
 *
 * An aligned access inside the region of a device that answers is a few comparisons, then the
 * subclass. Every other access goes the slow way: the mapping splits misaligned accesses as a
 * processor does, and an access that a C program gets SIGSEGV for is EFAULT.
 */
import type { RegionMapping } from '../abi/device.ts';
import type { Width } from '../abi/device-host.ts';
import { checkU64, hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import { checkRegisterValue, fitsWidth } from './register-value.ts';

export abstract class MappedWindow implements RegionMapping {
  /** Bytes, whole pages. */
  readonly size: number;
  abstract readonly memory: RegionMapping['memory'];
  /** Bytes of the mapping that the region has; in the rest of the last page nothing answers. */
  protected readonly backed: number;
  #mapped = true;

  constructor(size: number, backed: number) {
    this.size = size;
    this.backed = backed;
  }

  /** For messages: `0000:00:04.0 BAR 0`. */
  protected abstract get name(): string;
  /** Whether the user has closed the device; for messages. */
  protected abstract get closed(): boolean;
  /** Whether an access may go straight to `load` and `store`. False: `fault` knows the reason. */
  protected abstract answers(): boolean;
  /**
   * An access goes the slow way. It is inside the mapping.
   *
   * @throws BusError where a C program gets SIGBUS
   */
  protected abstract fault(offset: number, width: number): void;
  /**
   * An access fails with `error`: for subclasses that emit events. `value`: null for a read. An
   * offset that is none is 0.
   */
  protected refused(_offset: number, _width: Width | 8, _value: number | null, _error: unknown): void {}
  /** An access behind the region's end: reads give ones. `value`: null for a read. */
  protected beyond(_offset: number, _width: Width, _value: number | null): void {}
  /** Aligned, and inside the region. */
  protected abstract load(offset: number, width: Width): number;
  protected abstract load64(offset: number): bigint;
  protected abstract store(offset: number, width: Width, value: number): void;
  protected abstract store64(offset: number, value: bigint): void;
  /** The mapping was disposed, once. */
  protected abstract release(): void;

  #straight(offset: number, width: number): boolean {
    return (
      this.#mapped &&
      typeof offset === 'number' &&
      offset >>> 0 === offset &&
      (offset & (width - 1)) === 0 &&
      offset + width <= this.backed &&
      this.answers()
    );
  }

  read8(offset: number): number {
    return this.#straight(offset, 1) ? this.load(offset, 1) : this.#slowRead(offset, 1);
  }

  read16(offset: number): number {
    return this.#straight(offset, 2) ? this.load(offset, 2) : this.#slowRead(offset, 2);
  }

  read32(offset: number): number {
    return this.#straight(offset, 4) ? this.load(offset, 4) : this.#slowRead(offset, 4);
  }

  read64(offset: number): bigint {
    if (this.#straight(offset, 8)) return this.load64(offset);
    this.#check(offset, 8, null);
    const low = this.#slowRead(offset, 4);
    return BigInt(low) | (BigInt(this.#slowRead(offset + 4, 4)) << 32n);
  }

  write8(offset: number, value: number): void {
    if (fitsWidth(1, value) && this.#straight(offset, 1)) this.store(offset, 1, value);
    else this.#slowWrite(offset, 1, value);
  }

  write16(offset: number, value: number): void {
    if (fitsWidth(2, value) && this.#straight(offset, 2)) this.store(offset, 2, value);
    else this.#slowWrite(offset, 2, value);
  }

  write32(offset: number, value: number): void {
    if (fitsWidth(4, value) && this.#straight(offset, 4)) this.store(offset, 4, value);
    else this.#slowWrite(offset, 4, value);
  }

  write64(offset: number, value: bigint): void {
    checkU64(value, 'value');
    if (this.#straight(offset, 8)) {
      this.store64(offset, value);
      return;
    }
    this.#check(offset, 8, Number(value));
    this.#slowWrite(offset, 4, Number(value & 0xffff_ffffn));
    this.#slowWrite(offset + 4, 4, Number(value >> 32n));
  }

  /** Behind the region's end, in its last page, reads give ones and writes are dropped. */
  #slowRead(offset: number, width: Width): number {
    this.#check(offset, width, null);
    if (offset % width === 0) {
      if (offset + width <= this.backed) return this.load(offset, width);
      this.beyond(offset, width, null);
      return width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
    }
    let value = 0;
    for (let i = 0; i < width; i++) value |= this.#slowRead(offset + i, 1) << (8 * i);
    return value >>> 0;
  }

  #slowWrite(offset: number, width: Width, value: number): void {
    checkRegisterValue(width, value);
    this.#check(offset, width, value);
    if (offset % width === 0) {
      if (offset + width <= this.backed) this.store(offset, width, value);
      else this.beyond(offset, width, value);
      return;
    }
    for (let i = 0; i < width; i++) this.#slowWrite(offset + i, 1, (value >>> (8 * i)) & 0xff);
  }

  /**
   * @throws VfioError EFAULT outside of the mapping, where a C program gets SIGSEGV; BusError of
   * `fault`
   */
  #check(offset: number, width: Width | 8, value: number | null): void {
    try {
      if (!this.#mapped)
        throw new VfioError('EFAULT', this.closed ? `${this.name}: the device is closed` : `the mapping of ${this.name} was disposed`);
      if (!Number.isSafeInteger(offset) || offset < 0 || offset + width > this.size) {
        throw new VfioError('EFAULT', `${String(offset)} is outside of the mapping of ${this.name} (${hex(this.size)} bytes)`);
      }
      this.fault(offset, width);
    } catch (error) {
      this.refused(Number.isSafeInteger(offset) ? offset : 0, width, value, error);
      throw error;
    }
  }

  [Symbol.dispose](): void {
    if (!this.#mapped) return;
    this.#mapped = false;
    this.release();
  }
}
