/**
 * The memory of a region that the server lets its client map: a descriptor, and which parts of the
 * region are in it.
 */

import type { MappableArea } from '../../abi/device.ts';
import type { DirectMemory } from '../../abi/memory.ts';
import { VfioError } from '../../base/errno.ts';
import { MemfdMemory } from '../../sys/memfd.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';

export interface RegionPart {
  readonly memory: DirectMemory;
  /** Where in it the part starts. */
  readonly offset: number;
}

export class RegionMemory implements Disposable {
  readonly #fd: OwnedFd;
  /** Where in the descriptor the region starts. */
  readonly #start: bigint;
  readonly #areas: readonly MappableArea[];
  /** By area; null when it cannot be mapped. */
  readonly #mapped = new Map<MappableArea, MemfdMemory | null>();

  /** Takes `fd` over. */
  constructor(fd: OwnedFd, start: bigint, areas: readonly MappableArea[]) {
    this.#fd = fd;
    this.#start = start;
    this.#areas = areas;
  }

  /**
   * Bytes [offset, offset + size) of the region, null when they are not all in one area, or the
   * descriptor cannot be mapped.
   */
  part(offset: number, size: number): RegionPart | null {
    const area = this.#areas.find((a) => offset >= a.offset && offset + size <= a.offset + a.size);
    if (area === undefined) return null;
    let memory = this.#mapped.get(area);
    if (memory === undefined) {
      memory = this.#map(area);
      this.#mapped.set(area, memory);
    }
    return memory === null ? null : { memory, offset: offset - area.offset };
  }

  /** Whether a byte of the region is in it. */
  covers(offset: number): boolean {
    return this.#areas.some((area) => offset >= area.offset && offset < area.offset + area.size);
  }

  #map(area: MappableArea): MemfdMemory | null {
    const start = this.#start + BigInt(area.offset);
    if (start > BigInt(Number.MAX_SAFE_INTEGER)) return null;
    try {
      return MemfdMemory.fromFd(this.#fd.duplicate(), Number(start), area.size);
    } catch (error) {
      // The descriptor is no memory, or has less of it than the server says. Messages reach the
      // region as well.
      if (error instanceof VfioError) return null;
      throw error;
    }
  }

  /** Mappings that still exist keep their memory. Idempotent. */
  [Symbol.dispose](): void {
    for (const memory of this.#mapped.values()) memory?.[Symbol.dispose]();
    this.#mapped.clear();
    this.#fd[Symbol.dispose]();
  }
}
