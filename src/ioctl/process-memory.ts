/**
 * The memory of a process as its own loads and stores see it: plain memory of its address space,
 * and mapped BARs, whose registers answer through the device file's gate.
 *
 * Addresses are numbers here: user addresses end at 2^47. A BAR of plain memory is in the address
 * space too, so that it can be a DMA target (peer to peer); it does not count as locked memory.
 */

import { BusError } from '../abi/bus-error.ts';
import type { RegionMapping } from '../abi/device.ts';
import { Access, type Memory, WINDOW_BYTES } from '../abi/memory.ts';
import { VfioError } from '../base/errno.ts';
import type { Protection, Segment } from '../engine/dma/address-space.ts';
import type { Process } from '../engine/dma/process.ts';

export type AccessWidth = 1 | 2 | 4 | 8;

/** The signal that ends a bad load or store. */
export type Signal = 'SIGBUS' | 'SIGSEGV';

export interface UserMemoryWindow {
  readonly bytes: Uint8Array;
  commit(): void;
}

/** Mapped BARs live below the address space's own areas; one page stays free between them. */
const FIRST_BAR_ADDRESS = 0x7e00_0000_0000;
const END_BAR_ADDRESS = 0x7f00_0000_0000;

interface BarArea {
  readonly address: number;
  readonly size: number;
  readonly prot: Protection;
  readonly mapping: RegionMapping;
  /** Processes that have the area: it is one mapping of the device, from `fork` on. */
  readonly holders: { count: number };
}

interface AnonymousArea {
  readonly size: number;
  readonly prot: Protection;
  /** MAP_SHARED: a child sees what the parent writes. */
  readonly shared: boolean;
}

export class ProcessMemory {
  readonly process: Process;
  readonly #bars = new Map<number, BarArea>();
  /** By address. */
  readonly #anonymous = new Map<number, AnonymousArea>();
  #nextBar = FIRST_BAR_ADDRESS;

  constructor(process: Process) {
    this.process = process;
  }

  /** Areas mapped by this class. */
  get areas(): number {
    return this.#bars.size + this.#anonymous.size;
  }

  /** MAP_SHARED of a memfd. @throws VfioError EINVAL past the end of the file */
  mapFile(memory: Memory, offset: number, length: number, prot: Protection): number {
    const address = Number(this.process.addressSpace.map(memory, { prot, offset, size: length }));
    this.#anonymous.set(address, { size: roundUp(length, this.process.pageSize), prot, shared: true });
    return address;
  }

  /** @throws VfioError ENOMEM, EINVAL */
  mapAnonymous(length: number, prot: Protection, shared = false): number {
    const address = Number(this.process.addressSpace.anonymous(length, prot));
    this.#anonymous.set(address, { size: roundUp(length, this.process.pageSize), prot, shared });
    return address;
  }

  /**
   * The memory of a child, at the same addresses: private memory is copied, shared memory and
   * mapped BARs are the same.
   *
   * @throws VfioError ENOMEM
   */
  fork(child: Process): ProcessMemory {
    const copy = new ProcessMemory(child);
    try {
      this.#copyTo(copy);
    } catch (error) {
      copy.clear();
      throw error;
    }
    return copy;
  }

  #copyTo(copy: ProcessMemory): void {
    const { addressSpace } = copy.process;
    copy.#nextBar = this.#nextBar;
    for (const [address, area] of this.#anonymous) {
      const at = BigInt(address);
      const { size, prot, shared } = area;
      const parts = this.process.addressSpace.resolve(at, BigInt(size), 0);
      if (shared) for (const { memory, offset } of parts) addressSpace.map(memory, { at, prot, offset, size });
      else {
        addressSpace.anonymous(size, prot, at);
        const own = [...pieces(addressSpace.resolve(at, BigInt(size), 0))];
        [...pieces(parts)].forEach((bytes, i) => {
          own[i]!.set(bytes);
        });
      }
      copy.#anonymous.set(address, area);
    }
    for (const [address, bar] of this.#bars) {
      bar.holders.count++;
      copy.#bars.set(address, bar);
      copy.#place(address, bar.mapping, bar.prot);
    }
  }

  /**
   * Give a mapped region an address. Takes the mapping: `unmap` disposes it, or this function when
   * it throws.
   *
   * @throws VfioError ENOMEM
   */
  mapRegion(mapping: RegionMapping, prot: Protection): number {
    const page = this.process.pageSize;
    const size = roundUp(mapping.size, page);
    try {
      const address = this.#freeBarAddress(size);
      this.#place(address, mapping, prot);
      this.#bars.set(address, { address, size, prot, mapping, holders: { count: 1 } });
      this.#nextBar = address + size + page;
      return address;
    } catch (error) {
      mapping[Symbol.dispose]();
      throw error;
    }
  }

  /** A BAR of plain memory lies in the address space too. */
  #place(address: number, { memory: behind, size }: RegionMapping, prot: Protection): void {
    if (behind === null) return;
    this.process.addressSpace.map(behind.memory, { at: BigInt(address), prot, offset: behind.offset, size, counted: false });
  }

  /**
   * munmap of a whole area.
   *
   * @throws VfioError EINVAL misaligned, no length, or only part of an area
   */
  unmap(address: number, length: number): void {
    const page = this.process.pageSize;
    if (!Number.isSafeInteger(address) || address < 0 || address % page !== 0 || !Number.isSafeInteger(length) || length <= 0) {
      throw new VfioError('EINVAL', `munmap(${address}, ${length}): both must be positive and the address page-aligned`);
    }
    const bar = this.#bars.get(address);
    const size = bar?.size ?? this.#anonymous.get(address)?.size;
    if (size === undefined) return;
    if (roundUp(length, page) !== size)
      throw new VfioError('EINVAL', `munmap of ${length} of an area's ${size} bytes: only whole areas are unmapped here`);
    this.#drop(address, bar);
  }

  /** The process ends: every mapping goes, newest first. */
  clear(): void {
    for (const address of [...this.#bars.keys(), ...this.#anonymous.keys()].reverse()) this.#drop(address, this.#bars.get(address));
  }

  /** A load instruction. 64 bits give a bigint. */
  load(address: number, width: AccessWidth): number | bigint | Signal {
    const bar = this.#barAt(address, width);
    if (bar !== null) {
      if ((bar.prot & Access.READ) === 0) return 'SIGSEGV';
      const offset = address - bar.address;
      return onTheBus(() => {
        switch (width) {
          case 1:
            return bar.mapping.read8(offset);
          case 2:
            return bar.mapping.read16(offset);
          case 4:
            return bar.mapping.read32(offset);
          case 8:
            return bar.mapping.read64(offset);
        }
      });
    }
    const bytes = onMemory(() => this.copyIn(address, width));
    if (bytes === 'SIGSEGV') return bytes;
    const view = new DataView(bytes.buffer);
    switch (width) {
      case 1:
        return view.getUint8(0);
      case 2:
        return view.getUint16(0, true);
      case 4:
        return view.getUint32(0, true);
      case 8:
        return view.getBigUint64(0, true);
    }
  }

  /** A store instruction: 0, or the signal. */
  store(address: number, width: AccessWidth, value: number | bigint): 0 | Signal {
    const bar = this.#barAt(address, width);
    if (bar !== null) {
      if ((bar.prot & Access.WRITE) === 0) return 'SIGSEGV';
      const offset = address - bar.address;
      return onTheBus(() => {
        switch (width) {
          case 1:
            bar.mapping.write8(offset, Number(value));
            break;
          case 2:
            bar.mapping.write16(offset, Number(value));
            break;
          case 4:
            bar.mapping.write32(offset, Number(value));
            break;
          case 8:
            bar.mapping.write64(offset, BigInt(value));
            break;
        }
        return 0;
      });
    }
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
    return onMemory(() => {
      this.copyOut(address, bytes.subarray(0, width));
      return 0;
    });
  }

  /** copy_from_user of an address. @throws VfioError EFAULT */
  copyIn(address: number | bigint, size: number): Uint8Array<ArrayBuffer> {
    if (size === 0) return new Uint8Array(0);
    const segments = this.#segments(address, size, Access.READ);
    const out = new Uint8Array(size);
    let at = 0;
    for (const piece of pieces(segments)) {
      out.set(piece, at);
      at += piece.length;
    }
    return out;
  }

  /** copy_to_user of an address. @throws VfioError EFAULT */
  copyOut(address: number | bigint, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    let at = 0;
    for (const piece of pieces(this.#segments(address, bytes.length, Access.WRITE))) {
      piece.set(bytes.subarray(at, at + piece.length));
      at += piece.length;
    }
  }

  /**
   * Bytes to read and change in place. Call `commit` afterwards: memory in several pieces is a copy
   * until then.
   *
   * @throws VfioError EFAULT; nothing is allocated unless all of the memory is there
   */
  window(address: bigint, size: number): UserMemoryWindow {
    const parts = size === 0 ? [] : [...pieces(this.#segments(address, size, Access.READ_WRITE))];
    if (parts.length === 1) return { bytes: parts[0]!, commit: () => {} };
    const bytes = new Uint8Array(size);
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    const commit = () => {
      let from = 0;
      for (const part of parts) {
        part.set(bytes.subarray(from, from + part.length));
        from += part.length;
      }
    };
    return { bytes, commit };
  }

  #segments(address: number | bigint, size: number, access: Access): Segment[] {
    if (typeof address === 'number' && (!Number.isSafeInteger(address) || address < 0)) {
      throw new VfioError('EFAULT', `${address} is no address`);
    }
    return this.process.addressSpace.resolve(BigInt(address), BigInt(size), access);
  }

  #barAt(address: number, width: number): BarArea | null {
    for (const bar of this.#bars.values()) {
      if (address >= bar.address && address + width <= bar.address + bar.size) return bar;
    }
    return null;
  }

  #freeBarAddress(size: number): number {
    const page = this.process.pageSize;
    let address = this.#nextBar;
    if (address + size > END_BAR_ADDRESS) {
      // The search has come around once: it takes the first hole that is large enough.
      address = FIRST_BAR_ADDRESS;
      for (const bar of [...this.#bars.values()].sort((a, b) => a.address - b.address)) {
        if (address + size + page <= bar.address) break;
        address = bar.address + bar.size + page;
      }
    }
    if (address + size > END_BAR_ADDRESS) throw new VfioError('ENOMEM', `no room for a mapping of ${size} bytes`);
    return address;
  }

  #drop(address: number, bar: BarArea | undefined): void {
    if (bar === undefined) {
      this.#anonymous.delete(address);
      if (this.process.alive) this.process.addressSpace.unmap(BigInt(address));
      return;
    }
    this.#bars.delete(address);
    if (bar.mapping.memory !== null && this.process.alive) this.process.addressSpace.unmap(BigInt(address));
    if (--bar.holders.count === 0) bar.mapping[Symbol.dispose]();
  }
}

function roundUp(size: number, to: number): number {
  return Math.ceil(size / to) * to;
}

function onTheBus<T>(access: () => T): T | 'SIGBUS' {
  try {
    return access();
  } catch (error) {
    if (error instanceof BusError) return 'SIGBUS';
    throw error;
  }
}

function onMemory<T>(access: () => T): T | 'SIGSEGV' {
  try {
    return access();
  } catch (error) {
    if (error instanceof VfioError && error.code === 'EFAULT') return 'SIGSEGV';
    throw error;
  }
}

/**
 * The bytes of resolved segments, split at the windows of direct memory.
 *
 * @throws VfioError EFAULT for memory that answers only asynchronously
 */
function* pieces(segments: readonly Segment[]): Generator<Uint8Array> {
  for (const { memory, offset, size } of segments) {
    if (memory.kind !== 'direct') throw new VfioError('EFAULT', 'this memory is not mapped here');
    for (let at = offset; at < offset + size; ) {
      const window = memory.windows[Math.floor(at / WINDOW_BYTES)]!;
      const from = at % WINDOW_BYTES;
      const length = Math.min(offset + size - at, window.length - from);
      yield window.subarray(from, from + length);
      at += length;
    }
  }
}
