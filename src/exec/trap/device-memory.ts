/**
 * The memory of a traced process as an instruction sees it: registers of devices where the process
 * has mapped them, and its own memory everywhere else.
 */
import type { RegionMapping } from '../../abi/device.ts';
import { VfioError } from '../../base/errno.ts';
import { type MappedArea, MappedAreas } from '../../sys/mapped-areas.ts';
import type { TraceCalls } from '../../sys/trace.ts';
import type { AddressSpace } from './emulator.ts';

/** A device's file as it is mapped: the registers behind its pages. */
export interface MappedFile {
  /** The registers at byte `position` of the file; null where none are mapped. */
  at(position: number): MappedRegisters | null;
  /** As `Device.heldAnswer`. */
  heldAnswer(): Promise<void> | null;
}

export interface MappedRegisters {
  readonly mapping: RegionMapping;
  /** Where the mapping begins in the file, in bytes. */
  readonly position: number;
}

/** The files of devices. */
export interface MappedFiles {
  /** The file that an area of a process's address space shows; null when it is no device's. */
  find(area: MappedArea): MappedFile | null;
}

const PAGE = 4096;

interface DeviceRange {
  readonly start: number;
  readonly end: number;
  readonly file: MappedFile;
  /** Added to an address, it gives an offset in the mapping. */
  readonly shift: number;
  readonly mapping: RegionMapping;
}

/** An access to an address where the process has no memory, or may not do this. */
export class NoMemory extends Error {
  readonly address: number;

  constructor(address: number) {
    super(`no memory at 0x${address.toString(16)}`);
    this.address = address;
  }
}

export class DeviceMemory implements AddressSpace, Disposable {
  low = 0;
  high = 0;
  /** The address of the latest access. */
  address = 0;
  readonly #pid: number;
  readonly #files: MappedFiles;
  readonly #sys: TraceCalls;
  readonly #bytes = new Uint8Array(8);
  /** The file of the latest access to a device since `begin`. */
  #file: MappedFile | null = null;
  readonly #areas: MappedAreas;
  #ranges: DeviceRange[] = [];
  /** Where the latest access was. */
  #latest: DeviceRange | null = null;

  constructor(pid: number, files: MappedFiles, sys: TraceCalls) {
    this.#pid = pid;
    this.#files = files;
    this.#sys = sys;
    this.#areas = new MappedAreas(pid);
  }

  [Symbol.dispose](): void {
    this.#areas[Symbol.dispose]();
  }

  /** Whether `address` is a device's. */
  has(address: number): boolean {
    if (this.#find(address) !== null) return true;
    if (this.#look(address)) this.#add();
    return this.#find(address) !== null;
  }

  /** The process maps anew: what was seen of its mappings may not be so any more. */
  forget(): void {
    this.#latest = null;
    this.#ranges = [];
  }

  /** Whether the process has a device mapped. */
  get mapsDevices(): boolean {
    for (let at = 0; this.#look(at); at = this.#areas.area.end) {
      if (this.#files.find(this.#areas.area) !== null) return true;
    }
    return false;
  }

  /** @returns false behind the last area, and in a process that has ended */
  #look(address: number): boolean {
    try {
      return this.#areas.find(address);
    } catch (error) {
      if (error instanceof VfioError) return false;
      throw error;
    }
  }

  /**
   * The area that was looked at, where it is a device's. It can have several mappings behind it:
   * Linux joins neighbours.
   */
  #add(): void {
    const { area } = this.#areas;
    const { first, end, offset } = area;
    const file = this.#files.find(area);
    if (file === null) return;
    for (let at = first; at < end; ) {
      const registers = file.at(offset + at - first);
      if (registers === null) {
        at += PAGE;
        continue;
      }
      const { mapping, position } = registers;
      // The address of the mapping's first byte, were the area long enough.
      const origin = first - offset + position;
      const until = Math.min(end, origin + mapping.size);
      this.#ranges.push({ start: at, end: until, file, shift: -origin, mapping });
      at = until;
    }
  }

  #find(address: number): DeviceRange | null {
    const latest = this.#latest;
    if (latest !== null && address >= latest.start && address < latest.end) return latest;
    for (const range of this.#ranges) {
      if (address < range.start || address >= range.end) continue;
      this.#latest = range;
      return range;
    }
    return null;
  }

  /** An instruction begins. */
  begin(): void {
    this.#file = null;
  }

  /** Work that the device accessed since `begin` wants done before the program goes on. */
  heldAnswer(): Promise<void> | null {
    return this.#file?.heldAnswer() ?? null;
  }

  load(address: number, size: number): void {
    const range = this.#rangeOf(address, size);
    this.high = 0;
    if (range === undefined) {
      this.#split(address, size);
      return;
    }
    if (range === null) {
      this.#loadOwn(address, size);
      return;
    }
    const at = address + range.shift;
    if (size === 4) this.low = range.mapping.read32(at);
    else if (size === 1) this.low = range.mapping.read8(at);
    else if (size === 2) this.low = range.mapping.read16(at);
    else {
      const value = range.mapping.read64(at);
      this.low = Number(value & 0xffff_ffffn);
      this.high = Number(value >> 32n);
    }
  }

  store(address: number, size: number, low: number, high: number): void {
    const range = this.#rangeOf(address, size);
    if (range === undefined) {
      for (let i = 0; i < size; i++) this.store(address + i, 1, ((i < 4 ? low : high) >>> (8 * (i % 4))) & 0xff, 0);
      return;
    }
    if (range === null) {
      this.#storeOwn(address, size, low, high);
      return;
    }
    const at = address + range.shift;
    if (size === 4) range.mapping.write32(at, low >>> 0);
    else if (size === 1) range.mapping.write8(at, low & 0xff);
    else if (size === 2) range.mapping.write16(at, low & 0xffff);
    else range.mapping.write64(at, BigInt(low >>> 0) | (BigInt(high >>> 0) << 32n));
  }

  /** Null: the process's own memory; undefined: the bytes lie in several. */
  #rangeOf(address: number, size: number): DeviceRange | null | undefined {
    this.address = address;
    const range = this.#find(address);
    if (range === null) return size > 1 && this.#find(address + size - 1) !== null ? undefined : null;
    this.#file = range.file;
    return address + size <= range.end ? range : undefined;
  }

  #split(address: number, size: number): void {
    let low = 0;
    let high = 0;
    for (let i = 0; i < size; i++) {
      this.load(address + i, 1);
      if (i < 4) low |= this.low << (8 * i);
      else high |= this.low << (8 * (i - 4));
    }
    this.low = low >>> 0;
    this.high = high >>> 0;
  }

  #loadOwn(address: number, size: number): void {
    const bytes = this.#bytes.fill(0);
    if (this.#sys.processRead(this.#pid, address, bytes, 0, size) !== size) throw new NoMemory(address);
    this.low = (bytes[0]! | (bytes[1]! << 8) | (bytes[2]! << 16) | (bytes[3]! << 24)) >>> 0;
    this.high = (bytes[4]! | (bytes[5]! << 8) | (bytes[6]! << 16) | (bytes[7]! << 24)) >>> 0;
  }

  #storeOwn(address: number, size: number, low: number, high: number): void {
    const bytes = this.#bytes;
    for (let i = 0; i < 4; i++) {
      bytes[i] = low >>> (8 * i);
      bytes[4 + i] = high >>> (8 * i);
    }
    if (this.#sys.processWrite(this.#pid, address, bytes, 0, size) !== size) throw new NoMemory(address);
  }
}
