/**
 * A region through the device file: pread and pwrite, and accesses of a register's width. Every
 * `Device` makes its regions of this class, and adds the transport: `readBytes` and `writeBytes`. A
 * transport that can carry a register without a buffer overrides `readRegister` and its like too.
 */
import type { Region, RegionInfo, RegionMapping } from '../abi/device.ts';
import type { Width } from '../abi/device-host.ts';
import { RegionIndex } from '../abi/vfio.ts';
import { checkU64, hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import { checkRegisterValue, fitsWidth, load, store } from './register-value.ts';

/** `BAR 0`, `config space` */
export function regionName(index: number): string {
  if (index < RegionIndex.ROM) return `BAR ${index}`;
  return index === RegionIndex.ROM ? 'ROM' : index === RegionIndex.CONFIG ? 'config space' : `region ${index}`;
}

const nothing = new Uint8Array(0);

function offsetOf(offset: number): number {
  return Number.isSafeInteger(offset) ? offset : 0;
}

export abstract class FileWindow implements Region {
  readonly info: RegionInfo;
  /** Buffers for accesses of a register's width, by width, and whether one is in use. */
  readonly #scratch = [1, 2, 4, 8].map((width) => new Uint8Array(width));
  #scratchBusy = false;
  /** Upper half of a 64-bit access. */
  #high = 0;

  constructor(info: RegionInfo) {
    this.info = info;
  }

  /** The name of the device, for messages. */
  protected abstract get deviceName(): string;
  /** @throws VfioError ENODEV once the device is closed or gone */
  protected abstract checkOpen(): void;
  /**
   * `offset` is an integer from 0 on, `into` is not empty.
   *
   * @returns bytes read   @throws VfioError as `Region.read`
   */
  protected abstract readBytes(offset: number, into: Uint8Array): number;
  /** As `readBytes`, for a write. */
  protected abstract writeBytes(offset: number, from: Uint8Array): number;

  /**
   * An access fails with `error`: for subclasses that emit events. `from`: null for a read. An
   * offset or a buffer that is none is 0, or empty.
   */
  protected refused(_offset: number, _size: number, _from: Uint8Array | null, _error: unknown): void {}

  read(offset: number, into: Uint8Array): number {
    try {
      this.#checkTransfer(into);
      if (into.length === 0) return 0;
      this.#checkOffset(offset);
      return this.readBytes(offset, into);
    } catch (error) {
      this.refused(offsetOf(offset), into instanceof Uint8Array ? into.length : 0, null, error);
      throw error;
    }
  }

  write(offset: number, from: Uint8Array): number {
    try {
      this.#checkTransfer(from);
      if (from.length === 0) return 0;
      this.#checkOffset(offset);
      return this.writeBytes(offset, from);
    } catch (error) {
      const bytes = from instanceof Uint8Array ? from : nothing;
      this.refused(offsetOf(offset), bytes.length, bytes, error);
      throw error;
    }
  }

  map(_offset?: number, _size?: number): RegionMapping {
    this.checkOpen();
    throw new VfioError('EINVAL', `${this.name} cannot be mapped`, { fix: 'Use read and write.' });
  }

  read8(offset: number): number {
    return this.readRegister(offset, 1);
  }

  read16(offset: number): number {
    return this.readRegister(offset, 2);
  }

  read32(offset: number): number {
    return this.readRegister(offset, 4);
  }

  read64(offset: number): bigint {
    return this.readLong(offset);
  }

  write8(offset: number, value: number): void {
    this.#checkValue(1, value);
    this.writeRegister(offset, 1, value);
  }

  write16(offset: number, value: number): void {
    this.#checkValue(2, value);
    this.writeRegister(offset, 2, value);
  }

  write32(offset: number, value: number): void {
    this.#checkValue(4, value);
    this.writeRegister(offset, 4, value);
  }

  write64(offset: number, value: bigint): void {
    checkU64(value, 'value');
    this.writeLong(offset, value);
  }

  /** One access of a register's width by way of `read`, which splits what is misaligned. */
  protected readRegister(offset: number, width: Width): number {
    return this.#through(width, offset, null);
  }

  /** `value` fits. */
  protected writeRegister(offset: number, width: Width, value: number): void {
    this.#through(width, offset, value);
  }

  protected readLong(offset: number): bigint {
    const low = this.#through(8, offset, null);
    return BigInt(low) | (BigInt(this.#high) << 32n);
  }

  protected writeLong(offset: number, value: bigint): void {
    this.#high = Number(value >> 32n);
    this.#through(8, offset, Number(value & 0xffff_ffffn));
  }

  #through(width: 1 | 2 | 4 | 8, offset: number, value: number | null): number {
    const { size } = this.info;
    const whole = typeof offset === 'number' && (offset >= size || offset + width <= size || this.info.index === RegionIndex.CONFIG);
    const busy = this.#scratchBusy;
    const bytes = busy ? new Uint8Array(width) : this.#scratch[width === 8 ? 3 : width >> 1]!;
    this.#scratchBusy = true;
    try {
      if (value !== null) {
        store(bytes, 0, width === 8 ? 4 : width, value);
        if (width === 8) store(bytes, 4, 4, this.#high);
      }
      if (!whole) this.#refuse(offset, bytes, value === null);
      if (value === null) {
        this.read(offset, bytes);
        if (width === 8) this.#high = load(bytes, 4, 4);
        return load(bytes, 0, width === 8 ? 4 : width);
      }
      this.write(offset, bytes);
      return 0;
    } finally {
      this.#scratchBusy = busy;
    }
  }

  /** A register that is inside in part only, or at an offset that is no number. */
  #refuse(offset: number, bytes: Uint8Array, read: boolean): never {
    try {
      this.checkOpen();
      this.#checkOffset(offset);
      throw this.pastEnd(offset, bytes.length);
    } catch (error) {
      this.refused(offsetOf(offset), bytes.length, read ? null : bytes, error);
      throw error;
    }
  }

  /** For messages: `0000:00:04.0 BAR 0`. */
  get name(): string {
    return `${this.deviceName} ${regionName(this.info.index)}`;
  }

  /** EFAULT past the end of config space, as Linux answers there and nowhere else. */
  protected pastEnd(offset: number, count: number): VfioError {
    const code = this.info.index === RegionIndex.CONFIG ? 'EFAULT' : 'EINVAL';
    return new VfioError(code, `${this.name}: ${count} bytes at ${hex(offset)} reach past its ${hex(this.info.size)} bytes`);
  }

  /**
   * Bytes of `count` at `offset` that are inside.
   *
   * @throws VfioError EINVAL when none is; EFAULT in config space, when one is not
   */
  protected clip(offset: number, count: number): number {
    const { size, index } = this.info;
    if (offset + count <= size) return count;
    if (offset < size && index !== RegionIndex.CONFIG) return size - offset;
    throw this.pastEnd(offset, count);
  }

  /** An access of a register's width is inside whole. @throws VfioError EINVAL; EFAULT as `clip` */
  protected checkInside(offset: number, width: number): void {
    this.#checkOffset(offset);
    if (offset + width > this.info.size) throw this.pastEnd(offset, width);
  }

  #checkTransfer(buffer: Uint8Array): void {
    this.checkOpen();
    if (!(buffer instanceof Uint8Array)) throw new VfioError('EFAULT', 'the buffer is not a Uint8Array');
  }

  #checkOffset(offset: number): void {
    if (!Number.isSafeInteger(offset) || offset < 0) throw new VfioError('EINVAL', `${this.name}: offset is ${String(offset)}`);
  }

  /** A device that is closed says so first. */
  #checkValue(width: Width, value: number): void {
    if (fitsWidth(width, value)) return;
    this.checkOpen();
    checkRegisterValue(width, value);
  }
}
