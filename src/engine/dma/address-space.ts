/**
 * A process's address space: the memory at each virtual address, and the access that the process
 * has there. It plays the part of mmap and of the page tables in a kernel; MAP_DMA resolves a vaddr
 * here.
 */
import { Access, type Memory, type MemoryAllocator } from '../../abi/memory.ts';
import { checkU64, hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { IntervalMap } from '../../base/interval-map.ts';
import { Slots } from '../../base/slots.ts';

/**
 * Addresses are tracked in units of 4096 bytes, whatever the page size: every page size is a
 * multiple.
 */
const UNIT = 4096;
/**
 * The address of the first mapping for which the caller names none; and the end of a process's
 * addresses (47 bits).
 */
const FIRST_UNIT = 0x7f00_0000_0000 / UNIT;
const END_UNIT = 2 ** 47 / UNIT;

/** 1: readable, 2: writable, 3: both; 0: PROT_NONE. The bits are those of `Access`. */
export type Protection = 0 | Access;

export interface Segment {
  readonly memory: Memory;
  /** Bytes from the memory's start. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
  /** False for PFN mappings (device BARs): they are not pages, so a pin locks none (S2-46). */
  readonly counted: boolean;
}

interface Vma {
  readonly memory: Memory;
  readonly offset: number;
  readonly protection: Protection;
  readonly counted: boolean;
}

export interface MapOptions {
  /** The process's access there. Default: reading and writing. */
  readonly prot?: Protection;
  /** The address, page-aligned. Default: the next free place. */
  readonly at?: bigint;
  /** First byte of the memory, a multiple of the page size. Default: 0. */
  readonly offset?: number;
  /** Bytes, rounded up to whole pages. Default: to the memory's end. */
  readonly size?: number;
  /** False for a device's BAR. */
  readonly counted?: boolean;
}

export class AddressSpace {
  readonly #pageSize: number;
  readonly #allocate: MemoryAllocator | null;
  readonly #index = new IntervalMap();
  readonly #slots = new Slots();
  readonly #vmas: (Vma | undefined)[] = [];
  #nextUnit = FIRST_UNIT;
  #closed = false;

  constructor(pageSize: number, allocate: MemoryAllocator | null) {
    this.#pageSize = pageSize;
    this.#allocate = allocate;
  }

  /** Areas mapped now. */
  get size(): number {
    return this.#index.size;
  }

  /**
   * Map `memory`; returns its address. A reference on the memory is held until it is unmapped.
   *
   * @throws VfioError EINVAL misaligned or not inside the memory; EEXIST when `at` overlaps an
   * area; ENOMEM when no address is left; ESRCH once the process has exited
   */
  map(memory: Memory, options: MapOptions = {}): bigint {
    if (this.#closed) throw new VfioError('ESRCH', 'the process has exited');
    const offset = options.offset ?? 0;
    const bytes = options.size ?? memory.size - offset;
    const size = Math.ceil(bytes / this.#pageSize) * this.#pageSize;
    if (!Number.isSafeInteger(offset) || offset < 0 || offset % this.#pageSize !== 0) {
      throw new VfioError('EINVAL', `mmap: offset ${offset} is not a multiple of the page size ${this.#pageSize}`);
    }
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || size > memory.size - offset) {
      throw new VfioError(
        'EINVAL',
        `mmap: ${bytes} bytes (whole pages: ${size}) at ${offset} do not lie inside a memory of ${memory.size} bytes`,
      );
    }
    const prot = options.prot ?? Access.READ_WRITE;
    if (prot !== 0 && prot !== Access.READ && prot !== Access.WRITE && prot !== Access.READ_WRITE) {
      throw new VfioError('EINVAL', `mmap: protection ${String(prot)} is not from 0 to 3`);
    }
    let first: number;
    if (options.at !== undefined) {
      const at = checkU64(options.at, 'address');
      if (at % BigInt(this.#pageSize) !== 0n) throw new VfioError('EINVAL', `mmap: address ${hex(at)} is not page-aligned`);
      first = Number(at / BigInt(UNIT));
    } else first = this.#nextFree(size / UNIT);
    const last = first + size / UNIT - 1;
    if (last >= END_UNIT) throw new VfioError('ENOMEM', `mmap: ${size} bytes do not fit below the 47-bit end of the address space`);
    if (this.#index.overlaps(first, last)) throw new VfioError('EEXIST', `mmap: something is mapped at ${hex(first * UNIT)} already`);
    memory.get();
    const slot = this.#slots.take();
    this.#vmas[slot] = { memory, offset, protection: prot, counted: options.counted ?? true };
    this.#index.insert(first, last, slot);
    // One page stays free behind each area, so that an access past its end faults and does not
    // reach the neighbour.
    if (first >= FIRST_UNIT) this.#nextUnit = Math.max(this.#nextUnit, last + 1 + this.#pageSize / UNIT);
    return BigInt(first) * BigInt(UNIT);
  }

  /**
   * Fresh zeroed memory, as mmap(MAP_ANONYMOUS).
   *
   * @param at the address, page-aligned. Default: the next free place
   * @throws VfioError ENOMEM when this process was made without an allocator; as `map`
   */
  anonymous(size: number, prot: Protection = Access.READ_WRITE, at?: bigint): bigint {
    if (!Number.isSafeInteger(size) || size <= 0) throw new VfioError('EINVAL', `mmap: size is ${size}`);
    if (this.#closed) throw new VfioError('ESRCH', 'the process has exited');
    if (size > END_UNIT * UNIT) throw new VfioError('ENOMEM', `mmap: ${size} bytes are more than an address space holds`);
    if (this.#allocate === null) throw new VfioError('ENOMEM', 'mmap: this process was made without an allocator for anonymous memory');
    // The address space's own reference keeps the memory.
    using memory = this.#allocate(Math.ceil(size / this.#pageSize) * this.#pageSize);
    return this.map(memory, { prot, size, ...(at === undefined ? {} : { at }) });
  }

  /**
   * Unmap the area that starts at `vaddr`. DMA mappings of the area stay: they hold its memory.
   *
   * @throws VfioError EINVAL when no area starts there
   */
  unmap(vaddr: bigint): void {
    const at = checkU64(vaddr, 'address');
    const slot = at % BigInt(UNIT) === 0n ? this.#index.remove(Number(at / BigInt(UNIT))) : -1;
    if (slot < 0) throw new VfioError('EINVAL', `munmap: no area starts at ${hex(at)}`);
    const { memory } = this.#vmas[slot]!;
    this.#vmas[slot] = undefined;
    this.#slots.give(slot);
    memory.put();
  }

  /**
   * The memory behind [vaddr, vaddr+size), in order; neighbouring pieces of one memory are joined.
   *
   * @param access the access that the process must have; 0: none
   * @throws VfioError EFAULT when part of it is not mapped, or mapped without that access: a
   * read-only page cannot be given to a device that writes (S2-53)
   * @see linux/mm/gup.c: FOLL_WRITE only when the device may write
   */
  resolve(vaddr: bigint, size: bigint, access: Protection): Segment[] {
    const from = checkU64(vaddr, 'vaddr');
    const end = from + checkU64(size, 'size');
    if (size === 0n) throw new VfioError('EINVAL', 'a range of no bytes');
    if (end > BigInt(END_UNIT * UNIT))
      throw new VfioError('EFAULT', `vaddr ${hex(from)}+${hex(size)} is outside the process's address space`);
    const segments: { memory: Memory; offset: number; size: number; counted: boolean }[] = [];
    const stop = Number(end);
    for (let at = Number(from); at < stop; ) {
      const slot = this.#index.find(Math.floor(at / UNIT));
      if (slot < 0) {
        throw new VfioError('EFAULT', `nothing is mapped at vaddr ${hex(at)} in the process`, {
          fix: 'Map memory there first, or pass the address of memory that is mapped.',
        });
      }
      const vma = this.#vmas[slot]!;
      if ((vma.protection & access) !== access) {
        const may = ['not accessible', 'read-only', 'write-only'][vma.protection]!;
        throw new VfioError('EFAULT', `memory at vaddr ${hex(at)} is ${may} for the process, so a device cannot have more`, {
          fix: 'Map the memory with the access the device needs, or ask for less in the DMA mapping.',
        });
      }
      const first = this.#index.foundFirst * UNIT;
      const next = Math.min((this.#index.foundLast + 1) * UNIT, stop);
      const offset = vma.offset + (at - first);
      const before = segments.at(-1);
      if (
        before !== undefined &&
        before.memory === vma.memory &&
        before.counted === vma.counted &&
        before.offset + before.size === offset
      ) {
        before.size += next - at;
      } else segments.push({ memory: vma.memory, offset, size: next - at, counted: vma.counted });
      at = next;
    }
    return segments;
  }

  /** Called when the process exits: every area goes. */
  clear(): void {
    this.#closed = true;
    for (let slot = this.#index.seek(0); slot >= 0; slot = this.#index.seek(0)) {
      this.#index.remove(this.#index.foundFirst);
      const { memory } = this.#vmas[slot]!;
      this.#vmas[slot] = undefined;
      this.#slots.give(slot);
      memory.put();
    }
  }

  #nextFree(units: number): number {
    let first = this.#nextUnit;
    while (this.#index.overlaps(first, first + units - 1)) first = this.#index.foundLast + 1 + this.#pageSize / UNIT;
    return first;
  }
}
