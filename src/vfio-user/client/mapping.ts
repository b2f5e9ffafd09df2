/**
 * A mapped region: of memory that the server shares, and then a load is a load; or of registers, and then it is a message that looks like one. Either
 * way an access throws `BusError` where a C program gets SIGBUS: the device does not answer now.
 */
import { BusError } from '../../abi/bus-error.ts';
import type { RegionMapping } from '../../abi/device.ts';
import { type DirectMemory, WINDOW_BYTES } from '../../abi/memory.ts';
import { NUM_REGIONS } from '../../abi/vfio.ts';
import { checkU64, hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { RegionOwner } from './region.ts';
import { type ClientRegionIo, OUT_DATA, regionName } from './region-io.ts';

type Width = 1 | 2 | 4;

export interface MappingPlace {
  readonly owner: RegionOwner;
  readonly io: ClientRegionIo;
  /** Where it starts in the region. */
  readonly offset: number;
  /** Bytes, whole pages. */
  readonly size: number;
  /** Of these, how many are the region's: nothing answers in the rest of the last page. */
  readonly backed: number;
}

export abstract class ClientMapping implements RegionMapping {
  readonly size: number;
  abstract readonly memory: { readonly memory: DirectMemory; readonly offset: number } | null;
  protected readonly place: MappingPlace;
  protected readonly backed: number;
  #mapped = true;

  constructor(place: MappingPlace) {
    this.place = place;
    this.size = place.size;
    this.backed = place.backed;
  }

  /** Aligned, and inside the region. */
  protected abstract load(offset: number, width: Width): number;
  protected abstract load64(offset: number): bigint;
  protected abstract store(offset: number, width: Width, value: number): void;
  protected abstract store64(offset: number, value: bigint): void;
  protected abstract release(): void;

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
    this.#check(offset, 8);
    return BigInt(this.#slowRead(offset, 4)) | (BigInt(this.#slowRead(offset + 4, 4)) << 32n);
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
    if (this.#straight(offset, 8)) {
      this.store64(offset, value);
      return;
    }
    this.#check(offset, 8);
    this.#slowWrite(offset, 4, Number(value & 0xffff_ffffn));
    this.#slowWrite(offset + 4, 4, Number(value >> 32n));
  }

  #write(offset: number, width: Width, value: number): void {
    const fits = width === 4 ? value >>> 0 : width === 2 ? value & 0xffff : value & 0xff;
    if (fits !== value) throw new VfioError('EINVAL', `value ${String(value)} does not fit ${width} bytes`);
    if (this.#straight(offset, width)) this.store(offset, width, value);
    else this.#slowWrite(offset, width, value);
  }

  #straight(offset: number, width: number): boolean {
    return this.#mapped && offset >= 0 && offset % width === 0 && offset + width <= this.backed;
  }

  /** Misaligned accesses are split as a processor splits them; where the last page has no region nothing answers. */
  #slowRead(offset: number, width: Width): number {
    this.#check(offset, width);
    if (offset % width === 0) {
      if (offset + width <= this.backed) return this.load(offset, width);
      return width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
    }
    let value = 0;
    for (let i = 0; i < width; i++) value |= this.#slowRead(offset + i, 1) << (8 * i);
    return value >>> 0;
  }

  #slowWrite(offset: number, width: Width, value: number): void {
    this.#check(offset, width);
    if (offset % width === 0) {
      if (offset + width <= this.backed) this.store(offset, width, value);
      return;
    }
    for (let i = 0; i < width; i++) this.#slowWrite(offset + i, 1, (value >>> (8 * i)) & 0xff);
  }

  /** @throws VfioError EFAULT outside of the mapping, where a C program gets SIGSEGV */
  #check(offset: number, width: number): void {
    if (!this.#mapped)
      throw new VfioError(
        'EFAULT',
        this.place.owner.closed ? `${this.name}: the device is closed` : `the mapping of ${this.name} was disposed`,
      );
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + width > this.size) {
      throw new VfioError('EFAULT', `${String(offset)} is outside of the mapping of ${this.name} (${hex(this.size)} bytes)`);
    }
  }

  protected get name(): string {
    return `${this.place.io.connection.name} ${regionName(this.place.io.index)}`;
  }

  [Symbol.dispose](): void {
    if (!this.#mapped) return;
    this.#mapped = false;
    this.release();
    this.place.owner.dropped(this);
  }
}

/** Registers: each access is a message. */
export class MessageMapping extends ClientMapping {
  readonly memory = null;

  protected load(offset: number, width: Width): number {
    this.#transfer(offset, width, false);
    const { io } = this.place;
    const { reply } = io.connection;
    return width === 4 ? reply.getUint32(io.loaded, true) : width === 2 ? reply.getUint16(io.loaded, true) : reply.getUint8(io.loaded);
  }

  protected load64(offset: number): bigint {
    this.#transfer(offset, 8, false);
    return this.place.io.connection.reply.getBigUint64(this.place.io.loaded, true);
  }

  protected store(offset: number, width: Width, value: number): void {
    const { out } = this.place.io.connection;
    if (width === 4) out.setUint32(OUT_DATA, value, true);
    else if (width === 2) out.setUint16(OUT_DATA, value, true);
    else out.setUint8(OUT_DATA, value);
    this.#transfer(offset, width, true);
  }

  protected store64(offset: number, value: bigint): void {
    this.place.io.connection.out.setBigUint64(OUT_DATA, value, true);
    this.#transfer(offset, 8, true);
  }

  protected release(): void {}

  /** Whatever is wrong, an access through a mapping can only fault. */
  #transfer(offset: number, width: number, write: boolean): void {
    const { io, owner } = this.place;
    // The message would wake the device, which an access through a mapping must not.
    if (owner.gate.lowPower) throw new BusError(`${this.name}: the device is in low power`);
    const at = this.place.offset + offset;
    let errno: number;
    try {
      errno = write ? io.store(at, width) : io.load(at, width);
    } catch (error) {
      if (error instanceof VfioError) throw new BusError(error.message, error.code, { cause: error });
      throw error;
    }
    if (errno !== 0) throw new BusError(io.failure(errno, write ? 'writing' : 'reading', at, width).message);
  }
}

/** Memory that the server shares: loads and stores, as long as the device would answer them. */
export class MemoryMapping extends ClientMapping {
  readonly memory: { readonly memory: DirectMemory; readonly offset: number };
  readonly #start: number;
  /** The same windows by width: typed arrays, because a DataView's accesses can tear. */
  readonly #bytes: readonly Uint8Array[];
  readonly #halves: readonly Uint16Array[];
  readonly #words: readonly Uint32Array[];
  readonly #longs: readonly BigUint64Array[];

  /** @param start  where the mapping starts in `memory`, a multiple of the page size */
  constructor(place: MappingPlace, memory: DirectMemory, start: number) {
    super(place);
    this.memory = { memory: memory.get(), offset: start };
    this.#start = start;
    const { windows } = memory;
    this.#bytes = windows;
    this.#halves = windows.map((w) => new Uint16Array(w.buffer, w.byteOffset, w.length >>> 1));
    this.#words = windows.map((w) => new Uint32Array(w.buffer, w.byteOffset, Math.floor(w.length / 4)));
    this.#longs = windows.map((w) => new BigUint64Array(w.buffer, w.byteOffset, Math.floor(w.length / 8)));
  }

  protected load(offset: number, width: Width): number {
    this.#gate();
    const at = this.#start + offset;
    const window = at < WINDOW_BYTES ? 0 : Math.floor(at / WINDOW_BYTES);
    const within = at - window * WINDOW_BYTES;
    if (width === 4) return this.#words[window]![within / 4]!;
    return width === 2 ? this.#halves[window]![within / 2]! : this.#bytes[window]![within]!;
  }

  protected load64(offset: number): bigint {
    this.#gate();
    const at = this.#start + offset;
    return this.#longs[Math.floor(at / WINDOW_BYTES)]![(at % WINDOW_BYTES) / 8]!;
  }

  protected store(offset: number, width: Width, value: number): void {
    this.#gate();
    const at = this.#start + offset;
    const window = at < WINDOW_BYTES ? 0 : Math.floor(at / WINDOW_BYTES);
    const within = at - window * WINDOW_BYTES;
    if (width === 4) this.#words[window]![within / 4] = value;
    else if (width === 2) this.#halves[window]![within / 2] = value;
    else this.#bytes[window]![within] = value;
  }

  protected store64(offset: number, value: bigint): void {
    this.#gate();
    const at = this.#start + offset;
    this.#longs[Math.floor(at / WINDOW_BYTES)]![(at % WINDOW_BYTES) / 8] = value;
  }

  protected release(): void {
    this.memory.memory.put();
  }

  #gate(): void {
    const { io, owner } = this.place;
    if (io.connection.lost !== null) throw new BusError(io.connection.lostError().message, 'ENODEV');
    // A device-specific region is no BAR: no bit of COMMAND gates it.
    if (io.index >= NUM_REGIONS) return;
    let open: boolean;
    try {
      ({ open } = owner.gate);
    } catch (error) {
      if (error instanceof VfioError) throw new BusError(error.message, error.code, { cause: error });
      throw error;
    }
    if (!open) throw new BusError(`${this.name}: memory decoding is off, or the device sleeps`);
  }
}
