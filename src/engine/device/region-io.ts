/**
 * Regions as pread and pwrite see them: what all of them have in common, and those that are not BARs.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_core.c, vfio_pci_rw(); vfio_pci_rdwr.c, vfio_pci_bar_rw()
 */
import type { Region, RegionInfo, RegionMapping } from '../../abi/device.ts';
import type { Width } from '../../abi/device-host.ts';
import { RegionIndex } from '../../abi/vfio.ts';
import { checkU64, hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { RegionDevice, RegionFile } from './region-ports.ts';
import type { VirtualConfig } from './virtual-config.ts';

export abstract class FileRegion implements Region {
  readonly info: RegionInfo;
  protected readonly file: RegionFile;
  protected readonly device: RegionDevice;
  protected readonly vconfig: VirtualConfig;
  /** For accesses of a register's width that go through `read` and `write`: by width, and whether they are in use. */
  readonly #scratch = [1, 2, 4, 8].map((width) => new Uint8Array(width));
  #scratchBusy = false;

  constructor(file: RegionFile, info: RegionInfo) {
    this.file = file;
    this.device = file.device;
    this.vconfig = file.device.openState.vconfig;
    this.info = info;
  }

  /** The device is awake, `offset` is an integer from 0 on, `into` is not empty. */
  protected abstract readBytes(offset: number, into: Uint8Array): number;
  protected abstract writeBytes(offset: number, from: Uint8Array): number;

  read(offset: number, into: Uint8Array): number {
    this.file.checkLive();
    checkBuffer(into);
    if (into.length === 0) return 0;
    this.#checkOffset(offset);
    this.device.power.wake();
    try {
      return this.readBytes(offset, into);
    } finally {
      this.device.settle();
    }
  }

  write(offset: number, from: Uint8Array): number {
    this.file.checkLive();
    checkBuffer(from);
    if (from.length === 0) return 0;
    this.#checkOffset(offset);
    this.device.power.wake();
    try {
      return this.writeBytes(offset, from);
    } finally {
      this.device.settle();
    }
  }

  map(_offset?: number, _size?: number): RegionMapping {
    this.file.checkLive();
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
    const low = this.#through(8, offset, null);
    return BigInt(low) | (BigInt(this.#high) << 32n);
  }

  write8(offset: number, value: number): void {
    this.writeRegister(offset, 1, value);
  }

  write16(offset: number, value: number): void {
    this.writeRegister(offset, 2, value);
  }

  write32(offset: number, value: number): void {
    this.writeRegister(offset, 4, value);
  }

  write64(offset: number, value: bigint): void {
    checkU64(value, 'value');
    this.#high = Number(value >> 32n);
    this.#through(8, offset, Number(value & 0xffff_ffffn));
  }

  /** One access of a register's width by way of `read`: what is misaligned is split there, what the gate refuses is refused there. */
  protected readRegister(offset: number, width: Width): number {
    return this.#through(width, offset, null);
  }

  protected writeRegister(offset: number, width: Width, value: number): void {
    checkRegisterValue(width, value);
    this.#through(width, offset, value);
  }

  /** Upper half of a 64-bit access. */
  #high = 0;

  #through(width: 1 | 2 | 4 | 8, offset: number, value: number | null): number {
    const { size } = this.info;
    if (typeof offset !== 'number') {
      this.file.checkLive();
      this.#checkOffset(offset);
    }
    if (offset < size && offset + width > size && this.info.index !== RegionIndex.CONFIG) {
      this.file.checkLive();
      throw new VfioError('EINVAL', `${this.name}: ${width} bytes at ${hex(offset)} reach past its ${hex(size)} bytes`);
    }
    const busy = this.#scratchBusy;
    const bytes = busy ? new Uint8Array(width) : this.#scratch[width === 8 ? 3 : width >> 1]!;
    this.#scratchBusy = true;
    try {
      if (value === null) {
        this.read(offset, bytes);
        if (width === 8) this.#high = load(bytes, 4, 4);
        return load(bytes, 0, width === 8 ? 4 : width);
      }
      store(bytes, 0, width === 8 ? 4 : width, value);
      if (width === 8) store(bytes, 4, 4, this.#high);
      this.write(offset, bytes);
      return 0;
    } finally {
      this.#scratchBusy = busy;
    }
  }

  /** For messages: `0000:00:04.0 BAR 0`. */
  get name(): string {
    return `${this.device.bdf} ${regionName(this.info.index)}`;
  }

  protected pastEnd(offset: number): VfioError {
    return new VfioError('EINVAL', `${this.name}: offset ${hex(offset)} is past its ${hex(this.info.size)} bytes`);
  }

  #checkOffset(offset: number): void {
    if (!Number.isSafeInteger(offset) || offset < 0) throw new VfioError('EINVAL', `${this.name}: offset is ${String(offset)}`);
  }
}

/** Config space, virtualized: EFAULT past the end, as Linux answers there and nowhere else. */
export class ConfigRegion extends FileRegion {
  protected readBytes(offset: number, into: Uint8Array): number {
    return this.vconfig.read(offset, into);
  }

  protected writeBytes(offset: number, from: Uint8Array): number {
    return this.vconfig.write(offset, from);
  }
}

/** The expansion ROM: read-only; what the BAR is larger than the image reads as ones. */
export class RomRegion extends FileRegion {
  protected readBytes(offset: number, into: Uint8Array): number {
    const { size } = this.info;
    if (offset >= size) throw this.pastEnd(offset);
    const rom = this.device.fn.declaration.rom!;
    const count = Math.min(into.length, size - offset);
    if (this.device.standing || (offset < rom.length && !this.vconfig.memoryEnabled)) throw this.device.closedGate(this.name);
    into.set(rom.subarray(offset, offset + count));
    into.fill(0xff, Math.max(0, Math.min(rom.length - offset, count)), count);
    return count;
  }

  protected writeBytes(): number {
    throw new VfioError('EINVAL', `${this.name} is read-only`);
  }
}

/** A region the device does not have: size 0, so that every offset is past its end. */
export class AbsentRegion extends FileRegion {
  protected readBytes(offset: number): number {
    throw this.pastEnd(offset);
  }

  protected writeBytes(offset: number): number {
    throw this.pastEnd(offset);
  }
}

function regionName(index: number): string {
  if (index < RegionIndex.ROM) return `BAR ${index}`;
  return index === RegionIndex.ROM ? 'ROM' : index === RegionIndex.CONFIG ? 'config space' : `region ${index}`;
}

export function checkBuffer(buffer: Uint8Array): void {
  if (!(buffer instanceof Uint8Array)) throw new VfioError('EFAULT', 'the buffer is not a Uint8Array');
}

/** @throws VfioError EINVAL when `value` is no unsigned integer of `width` bytes */
export function checkRegisterValue(width: Width, value: number): void {
  const fits = typeof value !== 'number' ? -1 : width === 4 ? value >>> 0 : width === 2 ? value & 0xffff : value & 0xff;
  if (fits !== value) throw new VfioError('EINVAL', `value ${String(value)} does not fit ${width} bytes`);
}

/** Little-endian. */
export function load(bytes: Uint8Array, at: number, width: Width): number {
  if (width === 1) return bytes[at]!;
  if (width === 2) return bytes[at]! | (bytes[at + 1]! << 8);
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

export function store(bytes: Uint8Array, at: number, width: Width, value: number): void {
  bytes[at] = value & 0xff;
  if (width === 1) return;
  bytes[at + 1] = (value >>> 8) & 0xff;
  if (width === 2) return;
  bytes[at + 2] = (value >>> 16) & 0xff;
  bytes[at + 3] = value >>> 24;
}
