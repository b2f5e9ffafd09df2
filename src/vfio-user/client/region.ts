/**
 * A region of a device at the end of a connection. An access of a register's width is one message there and one back, built and read in place.
 *
 * What the kernel's device file answers without asking the device (offsets past the end, sizes) is answered here.
 */
import type { Region, RegionInfo, RegionMapping } from '../../abi/device.ts';
import { RegionFlags, RegionIndex } from '../../abi/vfio.ts';
import { checkU64, hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { ClientConnection } from './connection.ts';
import { type ClientMapping, MemoryMapping, MessageMapping } from './mapping.ts';
import type { MemoryGate } from './memory-gate.ts';
import { type ClientRegionIo, OUT_DATA, regionName } from './region-io.ts';
import type { RegionMemory } from './region-memory.ts';

const PAGE = 4096;

/** What a region needs of its device. */
export interface RegionOwner {
  /** @throws VfioError ENODEV when the device is closed or gone */
  checkOpen(): void;
  readonly closed: boolean;
  readonly gate: MemoryGate;
  /** A mapping keeps the connection open after the device is closed, until `dropped`. */
  held(mapping: ClientMapping): void;
  dropped(mapping: ClientMapping): void;
}

export class ClientRegion implements Region {
  readonly info: RegionInfo;
  readonly #owner: RegionOwner;
  readonly #io: ClientRegionIo;
  readonly #connection: ClientConnection;
  readonly #memory: RegionMemory | null;
  readonly #size: number;

  /** @param memory  where it is mapped, when the server gave a descriptor for it */
  constructor(owner: RegionOwner, io: ClientRegionIo, info: RegionInfo, memory: RegionMemory | null) {
    this.info = info;
    this.#owner = owner;
    this.#io = io;
    this.#connection = io.connection;
    this.#memory = memory;
    this.#size = info.size;
  }

  read8(offset: number): number {
    this.#load(offset, 1);
    return this.#connection.reply.getUint8(this.#io.loaded);
  }

  read16(offset: number): number {
    this.#load(offset, 2);
    return this.#connection.reply.getUint16(this.#io.loaded, true);
  }

  read32(offset: number): number {
    this.#load(offset, 4);
    return this.#connection.reply.getUint32(this.#io.loaded, true);
  }

  read64(offset: number): bigint {
    this.#load(offset, 8);
    return this.#connection.reply.getBigUint64(this.#io.loaded, true);
  }

  write8(offset: number, value: number): void {
    if ((value & 0xff) !== value) throw this.#tooWide(1, value);
    this.#check(offset, 1);
    this.#connection.out.setUint8(OUT_DATA, value);
    this.#store(offset, 1);
  }

  write16(offset: number, value: number): void {
    if ((value & 0xffff) !== value) throw this.#tooWide(2, value);
    this.#check(offset, 2);
    this.#connection.out.setUint16(OUT_DATA, value, true);
    this.#store(offset, 2);
  }

  write32(offset: number, value: number): void {
    if (value >>> 0 !== value) throw this.#tooWide(4, value);
    this.#check(offset, 4);
    this.#connection.out.setUint32(OUT_DATA, value, true);
    this.#store(offset, 4);
  }

  write64(offset: number, value: bigint): void {
    checkU64(value, 'value');
    this.#check(offset, 8);
    this.#connection.out.setBigUint64(OUT_DATA, value, true);
    this.#store(offset, 8);
  }

  read(offset: number, into: Uint8Array): number {
    const count = this.#clip(offset, into);
    if (count === 0) return 0;
    return this.#io.read(offset, count === into.length ? into : into.subarray(0, count));
  }

  write(offset: number, from: Uint8Array): number {
    const count = this.#clip(offset, from);
    if (count === 0) return 0;
    if ((this.info.flags & RegionFlags.WRITE) === 0) throw new VfioError('EINVAL', `${this.#name} is read-only`);
    return this.#io.write(offset, count === from.length ? from : from.subarray(0, count));
  }

  map(offset = 0, size = this.#size - offset): RegionMapping {
    this.#owner.checkOpen();
    const whole = Math.ceil(this.#size / PAGE) * PAGE;
    if ((this.info.flags & RegionFlags.MMAP) === 0) {
      throw new VfioError('EINVAL', `${this.#name} cannot be mapped`, { fix: 'Use read and write.' });
    }
    if (!Number.isSafeInteger(offset) || offset < 0 || offset % PAGE !== 0) {
      throw new VfioError('EINVAL', `${this.#name}: map offset ${String(offset)} is not a multiple of ${PAGE}`);
    }
    const length = Math.ceil(size / PAGE) * PAGE;
    if (!Number.isSafeInteger(size) || size <= 0 || offset + length > whole) {
      throw new VfioError('EINVAL', `${this.#name}: cannot map ${String(size)} bytes at ${hex(offset)} of ${hex(whole)}`);
    }
    const { sparseAreas } = this.info;
    if (sparseAreas !== undefined && !sparseAreas.some((area) => offset >= area.offset && offset + length <= area.offset + area.size)) {
      throw new VfioError('EINVAL', `${this.#name}: ${hex(size)} bytes at ${hex(offset)} are not inside an area that can be mapped`, {
        fix: 'Map one of the areas that its info names, or use read and write.',
      });
    }
    const part = this.#memory?.part(offset, length) ?? null;
    const common = { owner: this.#owner, io: this.#io, offset, size: length, backed: Math.min(length, this.#size - offset) };
    const mapping = part === null ? new MessageMapping(common) : new MemoryMapping(common, part.memory, part.offset);
    this.#owner.held(mapping);
    return mapping;
  }

  #load(offset: number, width: number): void {
    this.#check(offset, width);
    const errno = this.#io.load(offset, width);
    if (errno !== 0) throw this.#io.failure(errno, 'reading', offset, width);
  }

  #store(offset: number, width: number): void {
    const errno = this.#io.store(offset, width);
    if (errno !== 0) throw this.#io.failure(errno, 'writing', offset, width);
  }

  #check(offset: number, width: number): void {
    this.#owner.checkOpen();
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + width > this.#size) throw this.#pastEnd(offset, width);
  }

  /** Bytes of `buffer` that lie inside the region. */
  #clip(offset: number, buffer: Uint8Array): number {
    this.#owner.checkOpen();
    if (!(buffer instanceof Uint8Array)) throw new VfioError('EFAULT', 'the buffer is not a Uint8Array');
    const { length } = buffer;
    if (length === 0) return 0;
    if (Number.isSafeInteger(offset) && offset >= 0) {
      if (offset + length <= this.#size) return length;
      if (offset < this.#size && this.info.index !== RegionIndex.CONFIG) return this.#size - offset;
    }
    throw this.#pastEnd(offset, length);
  }

  /** EFAULT past the end of config space, as Linux answers there and nowhere else. */
  #pastEnd(offset: number, count: number): VfioError {
    if (!Number.isSafeInteger(offset) || offset < 0) return new VfioError('EINVAL', `${this.#name}: offset is ${String(offset)}`);
    const code = this.info.index === RegionIndex.CONFIG ? 'EFAULT' : 'EINVAL';
    return new VfioError(code, `${this.#name}: ${count} bytes at ${hex(offset)} reach past its ${hex(this.#size)} bytes`);
  }

  #tooWide(width: number, value: number): VfioError {
    // A file that is closed says so first.
    this.#owner.checkOpen();
    return new VfioError('EINVAL', `value ${String(value)} does not fit ${width} bytes`);
  }

  get #name(): string {
    return `${this.#connection.name} ${regionName(this.info.index)}`;
  }
}
