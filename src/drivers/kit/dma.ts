/**
 * Memory for the device: `using buffer = dev.dma.alloc(4096)` gives bytes here and an IOVA there.
 */

import type { DmaSpace } from '../../abi/device.ts';
import { Access, type DirectMemory, WINDOW_BYTES } from '../../abi/memory.ts';
import { hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { INSPECT } from '../../base/inspect.ts';

/** Where a DMA buffer lies, and how the device may reach it. */
export interface AllocOptions {
  /** The accesses that the device may make. Default: reads and writes. */
  readonly access?: Access;
  /**
   * Address bits that the device can drive: the whole buffer lies below 2^addressBits. Default: 64.
   */
  readonly addressBits?: number;
  /** IOVA of the buffer. Default: the first free range. */
  readonly iova?: bigint;
}

/** Memory that the device reaches at `iova`. Dispose unmaps it first, then frees the memory. */
export class DmaBuffer implements Disposable {
  readonly iova: bigint;
  /** The requested size; the mapping has whole pages. */
  readonly size: number;
  readonly bytes: Uint8Array;
  readonly memory: DirectMemory;
  /** Offset of the buffer in the memory. */
  readonly offset: number;
  readonly #release: () => void;

  constructor(iova: bigint, size: number, memory: DirectMemory, release: () => void, offset = 0) {
    this.iova = iova;
    this.size = size;
    this.memory = memory;
    this.offset = offset;
    const start = offset % WINDOW_BYTES;
    this.bytes = memory.windows[Math.floor(offset / WINDOW_BYTES)]!.subarray(start, start + size);
    this.#release = release;
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    return `DmaBuffer of ${this.size} bytes at IOVA ${hex(this.iova)}`;
  }

  /** Unmaps the buffer and frees its memory. Idempotent. */
  [Symbol.dispose](): void {
    this.#release();
  }
}

/** The lowest IOVA that is allocated. A device that gets address 0 by mistake faults. */
const FLOOR = 0x10_0000n;

/**
 * Larger buffers begin at a multiple of this, so that an IOMMU that has such pages translates them
 * by fewer entries.
 */
const HUGE_PAGE = 2n ** 21n;

/** The number of ranges to try. Another user of the container may hold some of them. */
const ATTEMPTS = 4096;

interface Held {
  readonly first: bigint;
  readonly last: bigint;
}

/** The DMA side of a driver's device. The driver chooses the IOVAs, as VFIO has it (S2-03). */
export class DriverDma implements Disposable {
  /** One for each device that shares the buffers; the first is in use. */
  readonly #spaces: DmaSpace[];
  readonly #buffers = new Set<DmaBuffer>();
  /** Ranges in use, in order of addresses. */
  readonly #held: Held[] = [];
  #closed = false;

  constructor(space: DmaSpace) {
    this.#spaces = [space];
  }

  /** The container's own interface. */
  get space(): DmaSpace {
    return this.#spaces[0]!;
  }

  /** One more device shares the buffers: `space` is its view of the container. */
  join(space: DmaSpace): void {
    this.#spaces.push(space);
  }

  /** A device is about to be closed. The last one disposes of every buffer. */
  leave(space: DmaSpace): void {
    const at = this.#spaces.indexOf(space);
    if (this.#spaces.length === 1) this[Symbol.dispose]();
    else if (at >= 0) this.#spaces.splice(at, 1);
  }

  /**
   * Zeroed memory, mapped for the device.
   *
   * @throws VfioError ENODEV once the device is closed; EINVAL size 0 or above 4 GiB; ENOSPC when
   *   no place is left below `addressBits`; and what `DmaSpace.map` throws
   */
  alloc(size: number, options: AllocOptions = {}): DmaBuffer {
    if (this.#closed) throw new VfioError('ENODEV', 'no DMA buffer can be had: the device is closed');
    if (!Number.isSafeInteger(size) || size <= 0 || size > WINDOW_BYTES) {
      throw new VfioError('EINVAL', `a DMA buffer of ${String(size)} bytes; it must have from 1 to ${WINDOW_BYTES}`);
    }
    const bits = options.addressBits ?? 64;
    if (!Number.isInteger(bits) || bits < 1 || bits > 64)
      throw new VfioError('EINVAL', `addressBits is ${String(bits)}; it must be from 1 to 64`);
    const memory = this.space.allocate(size);
    try {
      const held = this.#place(memory, options.access ?? Access.READ_WRITE, (1n << BigInt(bits)) - 1n, options.iova);
      const buffer: DmaBuffer = new DmaBuffer(held.first, size, memory, () => this.#free(buffer, held));
      this.#buffers.add(buffer);
      return buffer;
    } catch (error) {
      memory[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Memory that is mapped already, because it came with the device, as a buffer like those of
   * `alloc`.
   *
   * @param mapping whole pages within one window of the memory
   */
  adopt({ iova, size, memory, offset }: { iova: bigint; size: number; memory: DirectMemory; offset: number }): DmaBuffer {
    const held = { first: iova, last: iova + BigInt(size) - 1n };
    const release = (): void => {
      if (this.#forget(buffer, held)) this.#unmap(held);
    };
    const buffer: DmaBuffer = new DmaBuffer(iova, size, memory, release, offset);
    this.#hold(held);
    this.#buffers.add(buffer);
    return buffer;
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    return `DriverDma with ${this.buffers} buffers`;
  }

  /**
   * Whether `buffer` belongs to this device and is not disposed yet. Only then does the device
   * reach it at its IOVA.
   */
  owns(buffer: DmaBuffer): boolean {
    return this.#buffers.has(buffer);
  }

  /** Number of buffers that are not disposed yet. */
  get buffers(): number {
    return this.#buffers.size;
  }

  /** Disposes of every buffer. Idempotent. */
  [Symbol.dispose](): void {
    this.#closed = true;
    for (const buffer of [...this.#buffers]) buffer[Symbol.dispose]();
  }

  #place(memory: DirectMemory, access: Access, limit: bigint, fixed: bigint | undefined): Held {
    const size = BigInt(memory.size);
    if (this.space.pin !== undefined && fixed === undefined) return this.#pin(memory, access, limit);
    let from = fixed ?? FLOOR;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const first = fixed ?? this.#firstFit(from, size, limit);
      if (first === null) break;
      try {
        this.space.map({ iova: first, memory, access });
      } catch (error) {
        // Another user of the container has a mapping there.
        if (fixed !== undefined || !(error instanceof VfioError) || error.code !== 'EEXIST') throw error;
        from = first + size;
        continue;
      }
      const held = { first, last: first + size - 1n };
      this.#hold(held);
      return held;
    }
    throw new VfioError('ENOSPC', `no free IOVA range of ${hex(size)} bytes up to ${hex(limit)}`, {
      fix: 'Free buffers, or ask for a smaller one.',
    });
  }

  /** Without an IOMMU the memory's own address is the only one. */
  #pin(memory: DirectMemory, access: Access, limit: bigint): Held {
    const first = this.space.pin!({ memory, access });
    const held = { first, last: first + BigInt(memory.size) - 1n };
    if (held.last > limit) {
      this.#unmap(held);
      throw new VfioError('ENOSPC', `the memory is at ${hex(first)}, which the device cannot reach: it can up to ${hex(limit)}`, {
        fix: 'No IOMMU can put it elsewhere. Ask again, or use a computer with an IOMMU.',
      });
    }
    this.#hold(held);
    return held;
  }

  /** The first address from `from` on with `size` free bytes, all at or below `limit`. */
  #firstFit(from: bigint, size: bigint, limit: bigint): bigint | null {
    const granule = this.space.pageSizes & -this.space.pageSizes;
    const huge = size >= HUGE_PAGE && granule < HUGE_PAGE ? this.#firstAligned(from, size, limit, HUGE_PAGE) : null;
    return huge ?? this.#firstAligned(from, size, limit, granule);
  }

  #firstAligned(from: bigint, size: bigint, limit: bigint, granule: bigint): bigint | null {
    const align = (address: bigint) => ((address + granule - 1n) / granule) * granule;
    for (const range of this.space.ranges) {
      let first = align(range.first > from ? range.first : from);
      for (const { first: usedFirst, last: usedLast } of this.#held) {
        if (first + size - 1n < usedFirst) break;
        if (first <= usedLast) first = align(usedLast + 1n);
      }
      const last = first + size - 1n;
      if (last <= range.last && last <= limit) return first;
    }
    return null;
  }

  #hold(held: Held): void {
    const at = this.#held.findIndex((h) => h.first > held.first);
    this.#held.splice(at === -1 ? this.#held.length : at, 0, held);
  }

  /** @returns false when the buffer was forgotten before */
  #forget(buffer: DmaBuffer, held: Held): boolean {
    if (!this.#buffers.delete(buffer)) return false;
    this.#held.splice(this.#held.indexOf(held), 1);
    return true;
  }

  #free(buffer: DmaBuffer, held: Held): void {
    if (!this.#forget(buffer, held)) return;
    this.#unmap(held);
    buffer.memory[Symbol.dispose]();
  }

  #unmap({ first, last }: Held): void {
    try {
      this.space.unmap(first, last - first + 1n);
    } catch (error) {
      // The device is gone, and so are its mappings.
      if (!(error instanceof VfioError)) throw error;
    }
  }
}
