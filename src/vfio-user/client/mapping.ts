/**
 * The mappings of a client: of memory that the server shares, where a load is a load; or of
 * registers, where a load is a message. Either way an access throws `BusError` where a C program
 * gets SIGBUS: the device does not answer now.
 */
import { BusError } from '../../abi/bus-error.ts';
import type { Width } from '../../abi/device-host.ts';
import type { DirectMemory } from '../../abi/memory.ts';
import { NUM_REGIONS } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { regionName } from '../../device/file-window.ts';
import { MappedWindow } from '../../device/mapped-window.ts';
import { MemoryWindows } from '../../device/memory-windows.ts';
import type { MemoryGate } from './memory-gate.ts';
import { type ClientRegionIo, OUT_DATA } from './region-io.ts';

/** The device of a region. */
export interface RegionOwner {
  /** @throws VfioError ENODEV when the device is closed or gone */
  checkOpen(): void;
  readonly closed: boolean;
  readonly gate: MemoryGate;
  /** A mapping keeps the connection open after the device is closed, until `dropped`. */
  held(mapping: ClientMapping): void;
  dropped(mapping: ClientMapping): void;
}

export interface MappingPlace {
  readonly owner: RegionOwner;
  readonly io: ClientRegionIo;
  /** Where it starts in the region. */
  readonly offset: number;
  /** Bytes, whole pages. */
  readonly size: number;
  /** Bytes of these that are the region's. */
  readonly backed: number;
}

export abstract class ClientMapping extends MappedWindow {
  protected readonly place: MappingPlace;

  constructor(place: MappingPlace) {
    super(place.size, place.backed);
    this.place = place;
    this.#emit('map');
  }

  #emit(op: 'map' | 'unmap'): void {
    const { io, offset, size } = this.place;
    const { source } = io.connection.messages;
    if (source.on) source.emit('mapping', { op, region: io.index, offset, size });
  }

  /** `load` and `store` find out. */
  protected answers(): boolean {
    return true;
  }

  protected fault(): void {}

  protected override refused(offset: number, width: Width | 8, value: number | null, error: unknown): void {
    this.place.io.refused(value !== null, this.place.offset + offset, width, error);
  }

  protected get name(): string {
    return `${this.place.io.connection.name} ${regionName(this.place.io.index)}`;
  }

  protected get closed(): boolean {
    return this.place.owner.closed;
  }

  protected release(): void {
    this.#emit('unmap');
    this.place.owner.dropped(this);
  }
}

/** Registers: each access is a message. */
export class MessageMapping extends ClientMapping {
  readonly memory = null;

  protected load(offset: number, width: Width): number {
    this.#transfer(offset, width, false);
    return this.place.io.loadedRegister(width);
  }

  protected load64(offset: number): bigint {
    this.#transfer(offset, 8, false);
    return this.place.io.connection.reply.getBigUint64(this.place.io.loaded, true);
  }

  protected store(offset: number, width: Width, value: number): void {
    this.place.io.putRegister(width, value);
    this.#transfer(offset, width, true);
  }

  protected store64(offset: number, value: bigint): void {
    this.place.io.connection.out.setBigUint64(OUT_DATA, value, true);
    this.#transfer(offset, 8, true);
  }

  /** Whatever is wrong, an access through a mapping can only fault. */
  #transfer(offset: number, width: number, write: boolean): void {
    const { io, owner } = this.place;
    // The message would wake the device, which an access through a mapping must not.
    const at = this.place.offset + offset;
    if (owner.gate.lowPower) {
      const error = new BusError(`${this.name}: the device is in low power`);
      io.refused(write, at, width, error);
      throw error;
    }
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
  readonly #windows: MemoryWindows;

  /** @param start  where the mapping starts in `memory`, a multiple of the page size */
  constructor(place: MappingPlace, memory: DirectMemory, start: number) {
    super(place);
    this.memory = { memory: memory.get(), offset: start };
    this.#start = start;
    this.#windows = new MemoryWindows(memory);
  }

  protected load(offset: number, width: Width): number {
    this.#gate();
    return this.#windows.load(this.#start + offset, width);
  }

  protected load64(offset: number): bigint {
    this.#gate();
    return this.#windows.load64(this.#start + offset);
  }

  protected store(offset: number, width: Width, value: number): void {
    this.#gate();
    this.#windows.store(this.#start + offset, width, value);
  }

  protected store64(offset: number, value: bigint): void {
    this.#gate();
    this.#windows.store64(this.#start + offset, value);
  }

  protected override release(): void {
    this.memory.memory.put();
    super.release();
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
