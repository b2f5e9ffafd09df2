/**
 * The DMA space of a device at the end of a connection. The client refuses what the kernel would
 * refuse, with the same errno and in the same order, before it asks the server. Memory with a
 * descriptor goes to the server as that descriptor, and the server reaches it without a copy. The
 * server asks for other memory by messages.
 *
 * The protocol has no IOVA ranges: all addresses count as usable, and a server that reserves some
 * answers EINVAL to a mapping there.
 */
import type { DirtyTracking, DmaSpace, IovaRange } from '../../abi/device.ts';
import type { EventDetails } from '../../abi/event.ts';
import { Access, type DirectMemory, type Memory } from '../../abi/memory.ts';
import { DmaUnmapFlags } from '../../abi/vfio.ts';
import { HEADER_BYTES } from '../../abi/vfio-user.ts';
import { checkIndex, checkU64, hex, U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { MemfdMemory } from '../../sys/memfd.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import { Command, DmaMap, DmaUnmap } from '../messages.ts';
import type { ClientConnection } from './connection.ts';
import { ClientDirtyTracking } from './dirty-tracking.ts';
import type { MappedMemory } from './mapped-memory.ts';

const LAST_PAGE = 2 ** 52 - 1;
const everywhere: readonly IovaRange[] = [{ first: 0n, last: U64_MAX }];

type MapRequest = Parameters<DmaSpace['map']>[0];

/** A number of a caller that may be none. */
const u64 = (value: unknown): bigint => (typeof value === 'bigint' ? BigInt.asUintN(64, value) : 0n);

/** @param shared the server gets the memory itself */
function mapDetails({ iova, memory, offset = 0, size, access }: MapRequest, shared: boolean): EventDetails<'dma-map'> {
  const bytes = size ?? (memory?.size ?? 0) - offset;
  return {
    iova: u64(iova),
    size: Number.isSafeInteger(bytes) && bytes > 0 ? BigInt(bytes) : 0n,
    access: access === Access.READ ? 'read' : access === Access.WRITE ? 'write' : 'read, write',
    memory: shared ? 'direct' : 'remote',
  };
}

export interface DmaLimits {
  /** Page sizes that the server takes; bits below 4096 do not count. */
  readonly pageSizes: bigint;
  readonly maxMaps: number;
  /** Bytes of data in one message of the server. */
  readonly maxBytes: number;
}

export class ClientDmaSpace implements DmaSpace {
  readonly pageSizes: bigint;
  readonly ranges = everywhere;
  readonly #connection: ClientConnection;
  readonly #memory: MappedMemory;
  readonly #maxMaps: number;
  readonly #page: bigint;
  /** @throws VfioError ENODEV when the device is closed */
  readonly #checkOpen: () => void;
  readonly #maxBytes: number;
  /** Null until the first use: the server is asked then. */
  #dirty: { readonly tracking: ClientDirtyTracking | undefined } | null = null;

  constructor(connection: ClientConnection, memory: MappedMemory, limits: DmaLimits, checkOpen: () => void) {
    this.#connection = connection;
    this.#memory = memory;
    this.#maxMaps = limits.maxMaps;
    this.#maxBytes = limits.maxBytes;
    this.#checkOpen = checkOpen;
    const pages = limits.pageSizes & ~4095n;
    this.pageSizes = pages === 0n ? 4096n : pages;
    this.#page = this.pageSizes & -this.pageSizes;
  }

  /** Undefined for a server that does not track pages, which is asked once. */
  get dirty(): DirtyTracking | undefined {
    this.#checkOpen();
    this.#dirty ??= { tracking: ClientDirtyTracking.isKnown(this.#connection) ? this.#makeTracking() : undefined };
    return this.#dirty.tracking;
  }

  #makeTracking(): ClientDirtyTracking {
    return new ClientDirtyTracking({
      connection: this.#connection,
      memory: this.#memory,
      page: this.#page,
      maxBytes: this.#maxBytes,
      checkOpen: this.#checkOpen,
      checkNotCut: (what, first, last) => this.#checkNotCut(what, first, last),
    });
  }

  get available(): number {
    return Math.max(0, this.#maxMaps - this.#memory.size);
  }

  /**
   * @throws VfioError EINVAL for a size that is not positive; ENOMEM when there is not that much
   */
  allocate(size: number): DirectMemory {
    if (!Number.isSafeInteger(size) || size <= 0) throw new VfioError('EINVAL', `cannot allocate ${String(size)} bytes`);
    const page = Number(this.#page);
    return MemfdMemory.allocate(Math.ceil(size / page) * page);
  }

  map(request: MapRequest): void {
    const { source } = this.#connection.messages;
    if (!source.on) this.#map(request);
    else source.attempt('dma-map', mapDetails(request, this.#shares(request.memory)), () => this.#map(request));
  }

  #shares(memory: Memory): boolean {
    return this.#connection.carriesFds && memory instanceof MemfdMemory;
  }

  #map(request: MapRequest): void {
    this.#checkOpen();
    const { memory } = request;
    const iova = checkU64(request.iova, 'iova');
    const offset = checkIndex(request.offset ?? 0, Number.MAX_SAFE_INTEGER, 'offset');
    const bytes = checkIndex(request.size ?? memory.size - offset, Number.MAX_SAFE_INTEGER, 'size');
    const access = request.access ?? Access.READ_WRITE;
    if (access !== Access.READ && access !== Access.WRITE && access !== Access.READ_WRITE) {
      throw new VfioError('EINVAL', `access ${String(access)} is neither READ, WRITE nor both`);
    }
    const size = BigInt(bytes);
    if (size === 0n) throw new VfioError('EINVAL', 'DMA_MAP: size is 0');
    this.#checkEnd('DMA_MAP', iova, size);
    this.#checkAligned('DMA_MAP', 'iova', iova);
    this.#checkAligned('DMA_MAP', 'size', size);
    this.#checkAligned('DMA_MAP', 'offset', BigInt(offset));
    const first = Number(iova >> 12n);
    const last = first + bytes / 4096 - 1;
    if (this.#memory.overlaps(first, last)) {
      throw new VfioError('EEXIST', `DMA_MAP: ${hex(iova)}+${hex(size)} overlaps another mapping`, { fix: 'Unmap it first.' });
    }
    if (this.available === 0) {
      throw new VfioError('ENOSPC', `${this.#connection.name} takes ${this.#maxMaps} DMA mappings at most, and has that many`, {
        fix: 'Map larger pieces, or unmap what is not used.',
      });
    }
    if (memory.references === 0) throw new VfioError('EFAULT', 'the memory to map has been disposed');
    if (bytes > memory.size - offset) {
      throw new VfioError('EFAULT', `bytes ${offset} to ${offset + bytes} do not lie inside a memory of ${memory.size} bytes`);
    }
    // The server may access the memory before it answers DMA_MAP.
    this.#memory.add(first, last, memory, offset, access);
    try {
      this.#send(iova, size, memory, offset, access);
    } catch (error) {
      this.#memory.remove(first);
      throw error;
    }
  }

  #send(iova: bigint, size: bigint, memory: Memory, offset: number, access: Access): void {
    const shared = this.#shares(memory) ? (memory as MemfdMemory) : null;
    using fd = shared === null ? null : shared.duplicateFd();
    const fds: OwnedFd[] = fd === null ? [] : [fd];
    const { out } = this.#connection;
    DmaMap.argsz.set(out, HEADER_BYTES, DmaMap.structSize);
    DmaMap.flags.set(out, HEADER_BYTES, access);
    DmaMap.offset.set(out, HEADER_BYTES, shared === null ? 0n : BigInt(shared.fileOffset + offset));
    DmaMap.address.set(out, HEADER_BYTES, iova);
    DmaMap.size.set(out, HEADER_BYTES, size);
    const errno = this.#connection.request(Command.DMA_MAP, DmaMap.structSize, fds);
    if (errno !== 0) throw this.#connection.failure(errno, `DMA_MAP of ${hex(iova)}+${hex(size)}`);
  }

  unmap(iova: bigint, size: bigint): bigint {
    return this.#seenUnmap(iova, size, () => this.#unmap(iova, size));
  }

  /** @param size what was asked for, where the result is not known */
  #seenUnmap(iova: bigint, size: bigint, act: () => bigint): bigint {
    const { source } = this.#connection.messages;
    return source.on ? source.attempt('dma-unmap', { iova: u64(iova), size: u64(size) }, act, (done) => ({ size: done })) : act();
  }

  #unmap(iova: bigint, size: bigint): bigint {
    this.#checkOpen();
    checkU64(iova, 'iova');
    checkU64(size, 'size');
    this.#checkAligned('DMA_UNMAP', 'iova', iova);
    if (size === 0n) throw new VfioError('EINVAL', 'DMA_UNMAP: size is 0');
    this.#checkAligned('DMA_UNMAP', 'size', size);
    this.#checkEnd('DMA_UNMAP', iova, size);
    const first = Number(iova >> 12n);
    const last = Number((iova + size - 1n) >> 12n);
    this.#checkNotCut('DMA_UNMAP', first, last);
    return this.#unmapRange(first, last);
  }

  /** The protocol unmaps whole mappings, one at a time. */
  #unmapRange(first: number, last: number): bigint {
    let pages = 0;
    for (let mapping = this.#memory.next(first); mapping !== null && mapping.first <= last; mapping = this.#memory.next(mapping.last + 1)) {
      const count = mapping.last + 1 - mapping.first;
      const errno = this.#sendUnmap(0, BigInt(mapping.first) << 12n, BigInt(count) << 12n);
      if (errno !== 0) throw this.#connection.failure(errno, `DMA_UNMAP of ${hex(BigInt(mapping.first) << 12n)}`);
      this.#memory.remove(mapping.first);
      pages += count;
    }
    return BigInt(pages) << 12n;
  }

  unmapAll(): bigint {
    return this.#seenUnmap(0n, 0n, () => this.#unmapAll());
  }

  #unmapAll(): bigint {
    this.#checkOpen();
    if (this.#memory.size === 0) return 0n;
    // Not all servers know it.
    if (this.#sendUnmap(DmaUnmapFlags.ALL, 0n, 0n) !== 0) return this.#unmapRange(0, LAST_PAGE);
    let pages = 0;
    for (let mapping = this.#memory.next(0); mapping !== null; mapping = this.#memory.next(mapping.last + 1)) {
      pages += mapping.last + 1 - mapping.first;
    }
    this.#memory.clear();
    return BigInt(pages) << 12n;
  }

  #sendUnmap(flags: number, iova: bigint, size: bigint): number {
    const { out } = this.#connection;
    DmaUnmap.argsz.set(out, HEADER_BYTES, DmaUnmap.structSize);
    DmaUnmap.flags.set(out, HEADER_BYTES, flags);
    DmaUnmap.address.set(out, HEADER_BYTES, iova);
    DmaUnmap.size.set(out, HEADER_BYTES, size);
    return this.#connection.request(Command.DMA_UNMAP, DmaUnmap.structSize);
  }

  #checkEnd(what: string, iova: bigint, size: bigint): void {
    if (iova + size - 1n > U64_MAX)
      throw new VfioError('EOVERFLOW', `${what}: ${hex(iova)}+${hex(size)} goes past the last 64-bit address`);
  }

  #checkAligned(what: string, name: string, value: bigint): void {
    if (value % this.#page === 0n) return;
    throw new VfioError('EINVAL', `${what}: ${name} ${hex(value)} is not a multiple of the smallest page, ${this.#page} bytes`);
  }

  /** Neither end of the range may lie inside a mapping. */
  #checkNotCut(what: string, first: number, last: number): void {
    const at = this.#memory.at(first);
    const end = this.#memory.at(last);
    if ((at === null || at.first === first) && (end === null || end.last === last)) return;
    throw new VfioError('EINVAL', `${what} would cut the mapping at ${hex(BigInt((at ?? end)!.first) << 12n)} in two`, {
      fix: 'Name whole mappings; a mapping cannot be unmapped in part.',
    });
  }
}
