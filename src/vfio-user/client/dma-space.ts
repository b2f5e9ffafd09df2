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
import type { Access, DirectMemory, Memory } from '../../abi/memory.ts';
import { DmaUnmapFlags } from '../../abi/vfio.ts';
import { HEADER_BYTES } from '../../abi/vfio-user.ts';
import { hex, U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import {
  anyU64,
  checkFree,
  checkMap,
  checkMemory,
  checkNotCut,
  checkUnmap,
  type MapRequest,
  mapDetails,
} from '../../device/dma-requests.ts';
import { MemfdMemory } from '../../sys/memfd.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import { Command, DmaMap, DmaUnmap } from '../messages.ts';
import type { ClientConnection } from './connection.ts';
import { ClientDirtyTracking } from './dirty-tracking.ts';
import type { MappedMemory } from './mapped-memory.ts';

const LAST_PAGE = 2 ** 52 - 1;
const everywhere: readonly IovaRange[] = [{ first: 0n, last: U64_MAX }];

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
    else source.attempt('dma-map', mapDetails(request, this.#shares(request.memory) ? 'direct' : 'remote'), () => this.#map(request));
  }

  #shares(memory: Memory): boolean {
    return this.#connection.carriesFds && memory instanceof MemfdMemory;
  }

  #map(request: MapRequest): void {
    this.#checkOpen();
    const checked = checkMap('DMA_MAP', request, this.#page);
    const { iova, memory, offset, access, first, last } = checked;
    checkFree('DMA_MAP', checked, this.#memory);
    if (this.available === 0) {
      throw new VfioError('ENOSPC', `${this.#connection.name} takes ${this.#maxMaps} DMA mappings at most, and has that many`, {
        fix: 'Map larger pieces, or unmap what is not used.',
      });
    }
    checkMemory(checked);
    // The server may access the memory before it answers DMA_MAP.
    this.#memory.add(first, last, memory, offset, access);
    try {
      this.#send(iova, BigInt(checked.bytes), memory, offset, access);
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
    return source.on ? source.attempt('dma-unmap', { iova: anyU64(iova), size: anyU64(size) }, act, (done) => ({ size: done })) : act();
  }

  #unmap(iova: bigint, size: bigint): bigint {
    this.#checkOpen();
    const { first, last } = checkUnmap('DMA_UNMAP', iova, size, this.#page);
    checkNotCut('DMA_UNMAP', first, last, this.#memory);
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
}
