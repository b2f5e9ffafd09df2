/**
 * A region of a device at the end of a connection. An access of a register's width is one message
 * there and one back, built and read in place.
 *
 * The client answers what the kernel's device file answers without asking the device: offsets past
 * the end, sizes.
 */
import type { RegionInfo, RegionMapping } from '../../abi/device.ts';
import type { Width } from '../../abi/device-host.ts';
import { RegionFlags } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { FileWindow } from '../../device/file-window.ts';
import { checkMapRange } from '../../device/map-range.ts';
import { MemoryMapping, MessageMapping, type RegionOwner } from './mapping.ts';
import { type ClientRegionIo, OUT_DATA } from './region-io.ts';
import type { RegionMemory } from './region-memory.ts';

const PAGE = 4096;

export class ClientRegion extends FileWindow {
  readonly #owner: RegionOwner;
  readonly #io: ClientRegionIo;
  readonly #memory: RegionMemory | null;

  /** @param memory the region's memory, when the server gave a descriptor for it */
  constructor(owner: RegionOwner, io: ClientRegionIo, info: RegionInfo, memory: RegionMemory | null) {
    super(info);
    this.#owner = owner;
    this.#io = io;
    this.#memory = memory;
  }

  protected get deviceName(): string {
    return this.#io.connection.name;
  }

  protected checkOpen(): void {
    this.#owner.checkOpen();
  }

  protected override readRegister(offset: number, width: Width): number {
    this.#load(offset, width);
    return this.#io.loadedRegister(width);
  }

  protected override readLong(offset: number): bigint {
    this.#load(offset, 8);
    return this.#io.connection.reply.getBigUint64(this.#io.loaded, true);
  }

  protected override writeRegister(offset: number, width: Width, value: number): void {
    this.#check(offset, width, true);
    this.#io.putRegister(width, value);
    this.#store(offset, width);
  }

  protected override writeLong(offset: number, value: bigint): void {
    this.#check(offset, 8, true);
    this.#io.connection.out.setBigUint64(OUT_DATA, value, true);
    this.#store(offset, 8);
  }

  protected readBytes(offset: number, into: Uint8Array): number {
    const count = this.clip(offset, into.length);
    return this.#io.read(offset, count === into.length ? into : into.subarray(0, count));
  }

  protected writeBytes(offset: number, from: Uint8Array): number {
    const count = this.clip(offset, from.length);
    if ((this.info.flags & RegionFlags.WRITE) === 0) throw new VfioError('EINVAL', `${this.name} is read-only`);
    return this.#io.write(offset, count === from.length ? from : from.subarray(0, count));
  }

  override map(offset = 0, size?: number): RegionMapping {
    this.checkOpen();
    const length = checkMapRange(this.name, this.info, offset, size, PAGE);
    const part = this.#memory?.part(offset, length) ?? null;
    const place = { owner: this.#owner, io: this.#io, offset, size: length, backed: Math.min(length, this.info.size - offset) };
    const mapping = part === null ? new MessageMapping(place) : new MemoryMapping(place, part.memory, part.offset);
    this.#owner.held(mapping);
    return mapping;
  }

  #load(offset: number, width: number): void {
    this.#check(offset, width, false);
    const errno = this.#io.load(offset, width);
    if (errno !== 0) throw this.#io.failure(errno, 'reading', offset, width);
  }

  #store(offset: number, width: number): void {
    const errno = this.#io.store(offset, width);
    if (errno !== 0) throw this.#io.failure(errno, 'writing', offset, width);
  }

  #check(offset: number, width: number, write: boolean): void {
    try {
      this.#owner.checkOpen();
      this.checkInside(offset, width);
    } catch (error) {
      this.#io.refused(write, offset, width, error);
      throw error;
    }
  }

  protected override refused(offset: number, size: number, from: Uint8Array | null, error: unknown): void {
    this.#io.refused(from !== null, offset, size ?? 0, error);
  }

  /** Bytes that the server shares, or none. */
  isMemory(offset: number): boolean {
    return this.#memory?.covers(offset) === true;
  }
}
