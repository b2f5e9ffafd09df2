/** Data straight between a storage and the host's memory: one copy, no buffer. */
import type { DeviceHost } from '../../abi/device-host.ts';
import { Access } from '../../abi/memory.ts';
import { WOULD_BLOCK } from '../../abi/storage.ts';
import type { Namespace } from './namespace.ts';
import type { Pieces } from './pieces.ts';

/**
 * A result beside those of a storage (0, -errno, WOULD_BLOCK): some of the memory is not directly
 * mapped, a block is not contiguous, or a reader of events asks for the bytes.
 */
export const NO_VIEW = 2;

export class DirectCopy {
  readonly #host: Pick<DeviceHost, 'dma' | 'events'>;
  readonly #views: (Uint8Array | null)[] = [];

  constructor(host: Pick<DeviceHost, 'dma' | 'events'>) {
    this.#host = host;
  }

  /**
   * Copy between the storage at `offset` and all of `pieces`: 0, -errno, WOULD_BLOCK, or NO_VIEW.
   * Nothing is written unless all pieces are mapped.
   */
  copy(namespace: Namespace, offset: number, pieces: Pieces, toHost: boolean): number {
    const { queue } = namespace;
    const { dma, events } = this.#host;
    if (events.data) return NO_VIEW;
    if (!toHost && queue.writesWait === true) return WOULD_BLOCK;
    const access = toHost ? Access.WRITE : Access.READ;
    if (pieces.count === 1 && !pieces.isBucket(0)) {
      const view = dma.view(pieces.iova(0), pieces.size(0), access);
      if (view === null) return NO_VIEW;
      return toHost ? queue.tryRead(offset, view) : queue.tryWrite(offset, view);
    }
    // A block in two pieces would be two operations of the storage, and could be torn.
    if (!pieces.allMultiplesOf(namespace.blockSize)) return NO_VIEW;
    const views = this.#views;
    let hasBucket = false;
    for (let i = 0; i < pieces.count; i++) {
      const bucket = pieces.isBucket(i);
      hasBucket ||= bucket;
      const view = bucket ? null : dma.view(pieces.iova(i), pieces.size(i), access);
      if (view === null && !bucket) return NO_VIEW;
      views[i] = view;
    }
    if (toHost && !hasBucket && queue.tryReadParts !== undefined) {
      const read = queue.tryReadParts(offset, views, pieces.count);
      views.fill(null, 0, pieces.count);
      return read;
    }
    let result = 0;
    for (let i = 0, at = offset; i < pieces.count; i++) {
      const view = views[i]!;
      // Drop the views, so that they do not keep memory alive that the driver unmaps.
      views[i] = null;
      if (view !== null && result === 0) result = toHost ? queue.tryRead(at, view) : queue.tryWrite(at, view);
      at += pieces.size(i);
    }
    return result;
  }
}
