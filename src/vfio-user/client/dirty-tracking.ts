/**
 * The pages of the client's memory that the device has written (VFIO_IOMMU_DIRTY_PAGES), by a
 * message that the specification had once and our server still has. For a server without it there
 * is DMA logging (features 6 to 8).
 */
import type { DirtyTracking } from '../../abi/device.ts';
import { DirtyFlags, DmaUnmapFlags } from '../../abi/vfio.ts';
import { HEADER_BYTES } from '../../abi/vfio-user.ts';
import { VfioError } from '../../base/errno.ts';
import { checkDirtyRange, checkNotCut } from '../../device/dma-requests.ts';
import { Command, DirtyBitmap, DirtyPages, DirtyRange, DmaUnmap } from '../messages.ts';
import type { ClientConnection } from './connection.ts';
import type { MappedMemory } from './mapped-memory.ts';

const GET_BYTES = DirtyPages.structSize + DirtyRange.structSize;
const UNMAP_BYTES = DmaUnmap.structSize + DirtyBitmap.structSize;

export interface DirtyOptions {
  readonly connection: ClientConnection;
  readonly memory: MappedMemory;
  /** The smallest page. */
  readonly page: bigint;
  /** Bytes of data in one message of the server. */
  readonly maxBytes: number;
  /** @throws VfioError ENODEV when the device is closed */
  readonly checkOpen: () => void;
}

export class ClientDirtyTracking implements DirtyTracking {
  readonly #options: DirtyOptions;
  #on = false;

  constructor(options: DirtyOptions) {
    this.#options = options;
  }

  /** Whether the server has the message: to stop tracking that is off changes nothing. */
  static isKnown(connection: ClientConnection): boolean {
    return sendFlags(connection, DirtyFlags.STOP) === 0;
  }

  start(): void {
    this.#switch(DirtyFlags.START, true);
  }

  stop(): void {
    this.#switch(DirtyFlags.STOP, false);
  }

  #switch(flags: number, on: boolean): void {
    const { connection, checkOpen } = this.#options;
    checkOpen();
    const errno = sendFlags(connection, flags);
    if (errno !== 0) throw connection.failure(errno, 'DIRTY_PAGES');
    this.#on = on;
  }

  report(iova: bigint, size: bigint, pageSize: bigint, into: Uint8Array): void {
    const { first, last } = this.#check('DIRTY_PAGES', iova, size, pageSize, into);
    checkNotCut('DIRTY_PAGES', first, last, this.#options.memory);
    // The server wants whole mappings, and a bitmap that fits a message.
    this.#each(first, last, (from, to) => {
      this.#one(
        from,
        to,
        (fixed, bytes) => {
          const { connection } = this.#options;
          const { out } = connection;
          DirtyPages.encode(out, HEADER_BYTES, { argsz: fixed + bytes, flags: DirtyFlags.GET_BITMAP });
          const range = { iova: BigInt(from) << 12n, size: BigInt(to + 1 - from) << 12n, pgsize: pageSize, bitmap_size: BigInt(bytes) };
          DirtyRange.encode(out, HEADER_BYTES + DirtyPages.structSize, range);
          return connection.request(Command.DIRTY_PAGES, fixed);
        },
        { fixed: GET_BYTES, command: Command.DIRTY_PAGES, pageSize, first, into },
      );
    });
  }

  unmap(iova: bigint, size: bigint, pageSize: bigint, into: Uint8Array): bigint {
    const { first, last } = this.#check('DMA_UNMAP', iova, size, pageSize, into);
    const { memory, connection } = this.#options;
    checkNotCut('DMA_UNMAP', first, last, memory);
    let pages = 0;
    this.#each(first, last, (from, to) => {
      this.#one(
        from,
        to,
        (fixed, bytes) => {
          const { out } = connection;
          const range = { address: BigInt(from) << 12n, size: BigInt(to + 1 - from) << 12n };
          DmaUnmap.encode(out, HEADER_BYTES, { argsz: fixed + bytes, flags: DmaUnmapFlags.GET_DIRTY_BITMAP, ...range });
          DirtyBitmap.encode(out, HEADER_BYTES + DmaUnmap.structSize, { pgsize: pageSize, size: BigInt(bytes) });
          return connection.request(Command.DMA_UNMAP, fixed);
        },
        { fixed: UNMAP_BYTES, command: Command.DMA_UNMAP, pageSize, first, into },
      );
      memory.remove(from);
      pages += to + 1 - from;
    });
    return BigInt(pages) << 12n;
  }

  #check(what: string, iova: bigint, size: bigint, pageSize: bigint, into: Uint8Array): { readonly first: number; readonly last: number } {
    const { checkOpen, page } = this.#options;
    checkOpen();
    const range = checkDirtyRange(what, { iova, size, pageSize, into }, page);
    if (!this.#on) throw new VfioError('EINVAL', 'dirty tracking is off', { fix: 'Start it.' });
    return range;
  }

  /** The mappings in a range, in order. */
  #each(first: number, last: number, act: (from: number, to: number) => void): void {
    const { memory } = this.#options;
    for (let at = memory.next(first); at !== null && at.first <= last; at = memory.next(at.last + 1)) act(at.first, at.last);
  }

  /** Asks for one mapping's bits, and puts them where they belong. */
  #one(
    from: number,
    to: number,
    send: (fixed: number, bytes: number) => number,
    { fixed, command, pageSize, first, into }: { fixed: number; command: Command; pageSize: bigint; first: number; into: Uint8Array },
  ): void {
    const { connection, maxBytes } = this.#options;
    const unit = Number(pageSize) / 4096;
    const bits = (to + 1 - from) / unit;
    const bytes = Math.ceil(bits / 64) * 8;
    if (bytes > maxBytes - fixed) {
      throw new VfioError(
        'EINVAL',
        `the bitmap of a mapping of ${bits} pages takes ${bytes} bytes; a message carries ${maxBytes - fixed}`,
        {
          fix: 'Map memory in smaller pieces, or use DMA logging.',
        },
      );
    }
    const errno = send(fixed, bytes);
    if (errno !== 0) throw connection.failure(errno, 'the dirty bitmap');
    const { replyBytes, replyAt, replySize } = connection;
    if (replySize < fixed + bytes) throw connection.badReply(command, `${replySize} bytes`);
    const start = (from - first) / unit;
    for (let bit = 0; bit < bits; bit++) {
      if ((replyBytes[replyAt + fixed + (bit >>> 3)]! & (1 << (bit & 7))) === 0) continue;
      into[(start + bit) >>> 3]! |= 1 << ((start + bit) & 7);
    }
  }
}

function sendFlags(connection: ClientConnection, flags: number): number {
  DirtyPages.encode(connection.out, HEADER_BYTES, { argsz: DirtyPages.structSize, flags });
  return connection.request(Command.DIRTY_PAGES, DirtyPages.structSize);
}
