/**
 * The memory of a device that arrives: files of the destination, which the device's next client
 * gets.
 */
import { WINDOW_BYTES } from '../../abi/memory.ts';
import { VfioError } from '../../base/errno.ts';
import { MEMFD_MAX_BYTES, MemfdMemory } from '../../sys/memfd.ts';
import type { AdoptedMapping } from '../../vfio-user/messages.ts';
import { type ExtentInfo, type Mapping, PAGE, ROWS_MAX } from './wire.ts';

/** The most files: a reply carries 16 descriptors, and other descriptors besides these. */
const FILES_MAX = 8;
/** Room for memory that the client maps during the move. Pages without data take no memory. */
const SPARE_BYTES = 256 * 2 ** 20;

interface Place {
  readonly file: number;
  readonly offset: number;
  readonly pages: number;
}

export class ArrivingMemory implements Disposable {
  readonly files: MemfdMemory[] = [];
  readonly #places: Place[] = [];
  /** The bytes of the last file that extents have taken. */
  #used = 0;

  /**
   * @throws VfioError EPROTO for extents out of order; ENOMEM; EAGAIN when new extents keep coming
   */
  add(extents: readonly ExtentInfo[]): void {
    let total = 0;
    for (const [i, { number, pages }] of extents.entries()) {
      if (number !== this.#places.length + i) throw new VfioError('EPROTO', `extent ${number} comes after ${this.#places.length + i - 1}`);
      total += pages * PAGE;
    }
    if (this.#places.length + extents.length > ROWS_MAX) throw new VfioError('ENOMEM', `more than ${ROWS_MAX} extents`);
    for (const { pages } of extents) {
      const bytes = pages * PAGE;
      let offset = placeFor(this.#used, bytes);
      if (this.files.length === 0 || offset + bytes > this.files.at(-1)!.size) {
        this.#newFile(total);
        offset = 0;
      }
      this.#used = offset + bytes;
      this.#places.push({ file: this.files.length - 1, offset, pages });
      total -= bytes;
    }
  }

  #newFile(bytes: number): void {
    if (this.files.length >= FILES_MAX) {
      throw new VfioError('EAGAIN', 'the client keeps mapping new memory', { fix: 'Try again when the client maps less.' });
    }
    // Twice the size, since no extent crosses the border of a window.
    const size = Math.min(MEMFD_MAX_BYTES, bytes * 2 + SPARE_BYTES);
    if (size < bytes) throw new VfioError('ENOMEM', `${bytes} bytes of memory; a file holds ${MEMFD_MAX_BYTES}`);
    this.files.push(MemfdMemory.allocate(size));
  }

  /** @throws VfioError EPROTO for pages outside of an extent */
  write(extent: number, first: number, count: number, bytes: Uint8Array): void {
    const { window, at } = this.#at(extent, first, count);
    window.set(bytes, at);
  }

  clear(extent: number, first: number, count: number): void {
    const { window, at } = this.#at(extent, first, count);
    window.fill(0, at, at + count * PAGE);
  }

  #at(extent: number, first: number, count: number): { readonly window: Uint8Array; readonly at: number } {
    const place = this.#places[extent];
    if (place === undefined || first + count > place.pages) {
      throw new VfioError('EPROTO', `pages ${first} to ${first + count} of extent ${extent}, which has ${place?.pages ?? 0}`);
    }
    const at = place.offset + first * PAGE;
    return { window: this.files[place.file]!.windows[Math.floor(at / WINDOW_BYTES)]!, at: at % WINDOW_BYTES };
  }

  /**
   * The place of a mapping in the files.
   *
   * @throws VfioError EPROTO for a mapping of memory that did not come
   */
  locate({ iova, size, extent, page, access }: Mapping): AdoptedMapping {
    this.#at(extent, page, size / PAGE);
    const place = this.#places[extent]!;
    return { iova, size, memory: place.file, offset: place.offset + page * PAGE, access };
  }

  [Symbol.dispose](): void {
    for (const file of this.files) file[Symbol.dispose]();
  }
}

/** The first place from `used` on where so many bytes lie in one window. */
function placeFor(used: number, bytes: number): number {
  const room = WINDOW_BYTES - (used % WINDOW_BYTES);
  return bytes <= room || used % WINDOW_BYTES === 0 ? used : used + room;
}
