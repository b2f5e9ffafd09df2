/**
 * Device-specific regions (index 9 and up): no BARs, so no decoding bit of COMMAND gates them. A
 * region is plain memory, or registers that reach the model.
 *
 * @see linux/include/uapi/linux/vfio.h, VFIO_REGION_INFO_CAP_TYPE;
 * drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_register_dev_region()
 */
import { BusError } from '../../abi/bus-error.ts';
import type { RegionInfo, RegionMapping } from '../../abi/device.ts';
import type { Width } from '../../abi/device-host.ts';
import { type DirectMemory, WINDOW_BYTES } from '../../abi/memory.ts';
import { RegionFlags } from '../../abi/vfio.ts';
import { checkU64, hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { checkMapRange } from './map-range.ts';
import { checkRegisterValue, FileRegion, load, store } from './region-io.ts';
import type { RegionFile } from './region-ports.ts';

const { READ, WRITE } = RegionFlags;

abstract class DeviceRegion extends FileRegion {
  /** @returns bytes of `wanted` at `offset` that are inside   @throws VfioError EINVAL past the end, or against the flags */
  protected clip(offset: number, wanted: number, flag: number): number {
    const { size, flags } = this.info;
    if ((flags & flag) === 0) throw new VfioError('EINVAL', `${this.name} is ${flag === WRITE ? 'read' : 'write'}-only`);
    if (offset >= size) throw this.pastEnd(offset);
    return Math.min(wanted, size - offset);
  }
}

/** Every access reaches the model, naturally aligned. */
export class RegisterRegion extends DeviceRegion {
  protected readBytes(offset: number, into: Uint8Array): number {
    return this.#split(offset, this.clip(offset, into.length, READ), (at, width, done) =>
      store(into, done, width, this.device.host.read(this.info.index, at, width)),
    );
  }

  protected writeBytes(offset: number, from: Uint8Array): number {
    return this.#split(offset, this.clip(offset, from.length, WRITE), (at, width, done) =>
      this.device.host.write(this.info.index, at, width, load(from, done, width)),
    );
  }

  #split(offset: number, count: number, access: (at: number, width: Width, done: number) => void): number {
    for (let done = 0; done < count; ) {
      const at = offset + done;
      const left = count - done;
      const width = left >= 4 && at % 4 === 0 ? 4 : left >= 2 && at % 2 === 0 ? 2 : 1;
      this.file.checkLive();
      if (this.device.standing || this.device.fn.config.sleeping) throw this.device.closedGate(this.name);
      access(at, width, done);
      done += width;
    }
    return count;
  }
}

/** Plain memory: a model's, or a mediator's. */
export class MemoryRegion extends DeviceRegion {
  readonly #memory: DirectMemory;

  constructor(file: RegionFile, info: RegionInfo, memory: DirectMemory) {
    super(file, info);
    this.#memory = memory;
  }

  protected readBytes(offset: number, into: Uint8Array): number {
    const count = this.clip(offset, into.length, READ);
    eachPiece(this.#memory, offset, count, (piece, done) => into.set(piece, done));
    return count;
  }

  protected writeBytes(offset: number, from: Uint8Array): number {
    const count = this.clip(offset, from.length, WRITE);
    eachPiece(this.#memory, offset, count, (piece, done) => piece.set(from.subarray(done, done + piece.length)));
    return count;
  }

  override map(offset = 0, size?: number): RegionMapping {
    this.file.checkLive();
    const length = checkMapRange(this.name, this.info, offset, size, this.device.ctx.pageSize);
    return new RegionMemoryMapping(this.file, this.name, this.#memory, offset, length, Math.min(length, this.info.size - offset));
  }
}

/** [offset, offset + count) of `memory` as the bytes themselves, window by window. */
function eachPiece(memory: DirectMemory, offset: number, count: number, use: (piece: Uint8Array, done: number) => void): void {
  for (let done = 0; done < count; ) {
    const within = (offset + done) % WINDOW_BYTES;
    const window = memory.windows[Math.floor((offset + done) / WINDOW_BYTES)]!;
    const piece = window.subarray(within, Math.min(window.length, within + count - done));
    use(piece, done);
    done += piece.length;
  }
}

/** Loads and stores of memory: `BusError` once the device is gone, and behind the region's end in its last page. */
class RegionMemoryMapping implements RegionMapping {
  readonly size: number;
  readonly memory: { readonly memory: DirectMemory; readonly offset: number };
  readonly #file: RegionFile;
  readonly #name: string;
  readonly #backed: number;
  readonly #bytes = new Uint8Array(8);
  #mapped = true;

  constructor(file: RegionFile, name: string, memory: DirectMemory, offset: number, size: number, backed: number) {
    this.size = size;
    this.memory = { memory: memory.get(), offset };
    this.#file = file;
    this.#name = name;
    this.#backed = backed;
    file.mapped(this);
  }

  read8(offset: number): number {
    return this.#read(offset, 1);
  }

  read16(offset: number): number {
    return this.#read(offset, 2);
  }

  read32(offset: number): number {
    return this.#read(offset, 4);
  }

  read64(offset: number): bigint {
    this.#load(offset, 8);
    return BigInt(load(this.#bytes, 0, 4)) | (BigInt(load(this.#bytes, 4, 4)) << 32n);
  }

  write8(offset: number, value: number): void {
    this.#write(offset, 1, value);
  }

  write16(offset: number, value: number): void {
    this.#write(offset, 2, value);
  }

  write32(offset: number, value: number): void {
    this.#write(offset, 4, value);
  }

  write64(offset: number, value: bigint): void {
    checkU64(value, 'value');
    store(this.#bytes, 0, 4, Number(value & 0xffff_ffffn));
    store(this.#bytes, 4, 4, Number(value >> 32n));
    this.#store(offset, 8);
  }

  #read(offset: number, width: Width): number {
    this.#load(offset, width);
    return load(this.#bytes, 0, width);
  }

  #write(offset: number, width: Width, value: number): void {
    checkRegisterValue(width, value);
    store(this.#bytes, 0, width, value);
    this.#store(offset, width);
  }

  #load(offset: number, width: number): void {
    this.#check(offset, width);
    eachPiece(this.memory.memory, this.memory.offset + offset, width, (piece, done) => this.#bytes.set(piece, done));
  }

  #store(offset: number, width: number): void {
    this.#check(offset, width);
    eachPiece(this.memory.memory, this.memory.offset + offset, width, (piece, done) =>
      piece.set(this.#bytes.subarray(done, done + piece.length)),
    );
  }

  #check(offset: number, width: number): void {
    if (!this.#mapped) throw new VfioError('EFAULT', `the mapping of ${this.#name} was disposed`);
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + width > this.size) {
      throw new VfioError('EFAULT', `${String(offset)} is outside of the mapping of ${this.#name} (${hex(this.size)} bytes)`);
    }
    if (this.#file.device.gone !== null) throw new BusError(`${this.#name}: the device is gone`);
    if (offset + width > this.#backed) throw new BusError(`${this.#name}: ${hex(offset)} is past the region's end`);
  }

  [Symbol.dispose](): void {
    if (!this.#mapped) return;
    this.#mapped = false;
    this.memory.memory.put();
    this.#file.unmapped(this);
  }
}
