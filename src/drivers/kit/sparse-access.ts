/**
 * The registers of a BAR of which only parts can be mapped: an access that lies in a mapped part is
 * a load or store there, and every other one goes through the device's file.
 *
 * A part that is memory, beside registers that are none, goes through the file, too: a model looks
 * at such memory when it likes, and may take other memory at a reset. A driver that wants it maps
 * it.
 */
import type { MappableArea, Region, RegionMapping, RegisterAccess } from '../../abi/device.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';

interface Part extends MappableArea {
  /** The first byte behind the part. */
  readonly end: number;
  readonly mapping: RegionMapping;
}

export class SparseAccess implements RegisterAccess, Disposable {
  readonly #region: Region;
  /** In order of offsets. */
  readonly #parts: readonly Part[];
  readonly #undo: Cleanup;
  /** The part of the last access: a driver stays with one for long. */
  #last: Part;

  private constructor(region: Region, parts: readonly Part[], undo: Cleanup) {
    this.#region = region;
    this.#parts = parts;
    this.#undo = undo;
    this.#last = parts[0]!;
  }

  /**
   * Map the areas of `region`. An area that the device does not let map after all goes through the
   * file.
   *
   * @returns null when nothing can be mapped
   */
  static open(region: Region, areas: readonly MappableArea[]): SparseAccess | null {
    using undo = new Cleanup();
    const parts: Part[] = [];
    for (const { offset, size } of [...areas].sort((a, b) => a.offset - b.offset)) {
      try {
        const mapping = region.map(offset, size);
        if (mapping.memory !== null) {
          mapping[Symbol.dispose]();
          continue;
        }
        undo.use(mapping);
        parts.push({ offset, size, end: Math.min(offset + size, region.info.size), mapping });
      } catch (error) {
        if (!(error instanceof VfioError) || error.code === 'ENODEV') throw error;
      }
    }
    return parts.length === 0 ? null : new SparseAccess(region, parts, undo.move());
  }

  /** The part that has all of the register; null: the file. */
  #at(offset: number, width: number): Part | null {
    const last = this.#last;
    if (offset >= last.offset && offset + width <= last.end) return last;
    for (const part of this.#parts) {
      if (offset >= part.offset && offset + width <= part.end) {
        this.#last = part;
        return part;
      }
    }
    return null;
  }

  read8(offset: number): number {
    const part = this.#at(offset, 1);
    return part === null ? this.#region.read8(offset) : part.mapping.read8(offset - part.offset);
  }

  read16(offset: number): number {
    const part = this.#at(offset, 2);
    return part === null ? this.#region.read16(offset) : part.mapping.read16(offset - part.offset);
  }

  read32(offset: number): number {
    const part = this.#at(offset, 4);
    return part === null ? this.#region.read32(offset) : part.mapping.read32(offset - part.offset);
  }

  read64(offset: number): bigint {
    const part = this.#at(offset, 8);
    return part === null ? this.#region.read64(offset) : part.mapping.read64(offset - part.offset);
  }

  write8(offset: number, value: number): void {
    const part = this.#at(offset, 1);
    if (part === null) this.#region.write8(offset, value);
    else part.mapping.write8(offset - part.offset, value);
  }

  write16(offset: number, value: number): void {
    const part = this.#at(offset, 2);
    if (part === null) this.#region.write16(offset, value);
    else part.mapping.write16(offset - part.offset, value);
  }

  write32(offset: number, value: number): void {
    const part = this.#at(offset, 4);
    if (part === null) this.#region.write32(offset, value);
    else part.mapping.write32(offset - part.offset, value);
  }

  write64(offset: number, value: bigint): void {
    const part = this.#at(offset, 8);
    if (part === null) this.#region.write64(offset, value);
    else part.mapping.write64(offset - part.offset, value);
  }

  /** Unmaps the parts. Idempotent. */
  [Symbol.dispose](): void {
    this.#undo[Symbol.dispose]();
  }
}
