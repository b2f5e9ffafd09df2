/**
 * Views of memory that a device has taken lately, by address: what an IOTLB is for hardware. A
 * device reaches the same few buffers again and again, and making a view costs more than all checks
 * together.
 *
 * One entry for each hash of a page.
 */
import type { Access } from '../abi/memory.ts';

/** A power of two. */
const ENTRIES = 256;
const PAGE = 4096;

/** The addresses of a cache that has kept nothing yet. */
const NONE = new Float64Array(ENTRIES).fill(-1);

export class ViewCache {
  /** `NONE` until the first view is kept: most functions of a large machine never do DMA. */
  #iovas = NONE;
  /** Size and access in one number. */
  #kinds = NONE;
  #views: (Uint8Array | null)[] = [];
  #used = false;

  /** The view of [iova, iova + size) with that access; null when it is not here. */
  find(iova: number, size: number, access: Access): Uint8Array | null {
    const at = slotOf(iova);
    return this.#iovas[at] === iova && this.#kinds[at] === size * 4 + access ? this.#views[at]! : null;
  }

  keep(iova: number, size: number, access: Access, view: Uint8Array): void {
    if (this.#iovas === NONE) {
      this.#iovas = new Float64Array(ENTRIES).fill(-1);
      this.#kinds = new Float64Array(ENTRIES);
      this.#views = new Array<Uint8Array | null>(ENTRIES).fill(null);
    }
    const at = slotOf(iova);
    this.#iovas[at] = iova;
    this.#kinds[at] = size * 4 + access;
    this.#views[at] = view;
    this.#used = true;
  }

  /** Forget all views, which would keep memory that is unmapped. */
  expire(): void {
    if (!this.#used) return;
    this.#used = false;
    this.#iovas.fill(-1);
    this.#views.fill(null);
  }
}

function slotOf(iova: number): number {
  // Modulo 2^32, then the lowest bits: a division with remainder of doubles would be a call.
  return ((iova / PAGE) >>> 0) & (ENTRIES - 1);
}
