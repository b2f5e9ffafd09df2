/**
 * The DMA mappings of one client, on the device's DMA space, and its tracking of dirty pages. The
 * mappings are remembered, because the protocol differs from a DMA space: an unmap of nothing is an
 * error, and a mapping that is made again as it stands is not.
 */
import type { Device } from '../../abi/device.ts';
import type { Access } from '../../abi/memory.ts';
import { DirtyFlags, DmaUnmapFlags } from '../../abi/vfio.ts';
import { hex, U64_MAX } from '../../base/check.ts';
import type { Clock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import { IntervalMap } from '../../base/interval-map.ts';
import { resized, Slots } from '../../base/slots.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import { PeerFiles } from '../../sys/peer-files.ts';
import { type DirtyPagesRequest, type DmaMapRequest, type DmaUnmapRequest, UserDmaMapFlags } from '../messages.ts';
import type { DmaCommands } from './dma-commands.ts';
import { RemoteRanges } from './remote-memory.ts';

const SAFE_MAX = BigInt(Number.MAX_SAFE_INTEGER);
const PAGE = 4096;
const PAGE_BITS = 12n;
const PAGE_MASK = 4095n;
const ACCESS = UserDmaMapFlags.READ | UserDmaMapFlags.WRITE;
/** In place of a file's number: memory that came with the device and not from a client. */
const ADOPTED = -1;
const NEEDS_FD = UserDmaMapFlags.MMAP | UserDmaMapFlags.FILE_IO;

export interface DmaMappingLimits {
  readonly maxMappings: number;
  /** Address space that files of the client may take here. */
  readonly maxFileBytes: number;
  readonly anyFile: boolean;
  readonly maxSparseBytes: number;
}

export class DmaMappings implements Disposable {
  readonly #device: Device;
  readonly #limits: DmaMappingLimits;
  readonly #files: PeerFiles;
  readonly #remote: RemoteRanges;
  /** Pages of 4096 bytes to slots; by slot, what else a mapping is. */
  readonly #index = new IntervalMap();
  readonly #slots = new Slots();
  #flags = new Uint8Array(Slots.initialCapacity);
  /** 0 = reached by messages. */
  #file = new Float64Array(Slots.initialCapacity);
  #offset = new Float64Array(Slots.initialCapacity);
  #tracking = false;

  constructor(device: Device, commands: DmaCommands, limits: DmaMappingLimits, clock: Clock) {
    this.#device = device;
    this.#limits = limits;
    this.#files = new PeerFiles(limits.maxFileBytes, { ...limits, clock });
    this.#remote = new RemoteRanges(commands);
  }

  /** Mappings now. */
  get size(): number {
    return this.#index.size;
  }

  /**
   * @param fds one at most; the caller closes it if it is still open afterwards
   * @throws VfioError EINVAL no access, MMAP or FILE_IO without a descriptor; EOVERFLOW past 2^64;
   *   EEXIST over another mapping; ENOSPC over the limits; what mapping the file throws; what the
   *   DMA space throws
   */
  map(request: DmaMapRequest, fds: readonly OwnedFd[]): void {
    const { flags, address, size } = request;
    if ((flags & NEEDS_FD) !== 0 && fds.length === 0) throw new VfioError('EINVAL', 'DMA_MAP: MMAP and FILE_IO need a descriptor');
    if ((flags & ACCESS) === 0) throw new VfioError('EINVAL', 'DMA_MAP: neither READ nor WRITE');
    checkRange('DMA_MAP', address, size);
    if (size > SAFE_MAX || (fds.length > 0 && request.offset > SAFE_MAX)) {
      throw new VfioError('EINVAL', `DMA_MAP: ${hex(size)} bytes at offset ${hex(request.offset)} are more than a file holds`);
    }
    if (((address | size) & PAGE_MASK) !== 0n)
      throw new VfioError('EINVAL', `DMA_MAP: ${hex(address)}+${hex(size)} is not made of whole pages`);
    const first = Number(address >> PAGE_BITS);
    const last = first + Number(size) / PAGE - 1;
    if (this.#index.overlaps(first, last)) {
      this.#mapAgain(request, first, last, fds[0]);
      return;
    }
    if (this.#index.size >= this.#limits.maxMappings) {
      throw new VfioError('ENOSPC', `DMA_MAP: the client has ${this.#index.size} mappings, the most it may have`);
    }
    if (fds.length === 0) this.#mapRemote(request, first, last);
    else this.#mapFile(request, first, last, fds[0]!);
  }

  /**
   * Memory that came with the device is mapped there already, and counts as this client's from now
   * on. The device has checked it for overlaps.
   */
  adopt(mappings: readonly { readonly iova: bigint; readonly size: number; readonly access: Access }[]): void {
    for (const { iova, size, access } of mappings) {
      const first = Number(iova >> PAGE_BITS);
      this.#remember(first, first + size / PAGE - 1, access, ADOPTED, 0);
    }
  }

  #mapRemote({ flags, address, size }: DmaMapRequest, first: number, last: number): void {
    const { memory, offset, owned } = this.#remote.range(address, Number(size));
    try {
      this.#device.dma.map({ iova: address, memory, offset, size: Number(size), access: (flags & ACCESS) as Access });
    } finally {
      if (owned) memory[Symbol.dispose]();
    }
    this.#remember(first, last, flags, 0, 0);
  }

  #mapFile({ flags, address, size, offset }: DmaMapRequest, first: number, last: number, fd: OwnedFd): void {
    const access = (flags & ACCESS) as Access;
    try {
      const range = this.#files.range(fd, Number(offset), Number(size), access);
      this.#device.dma.map({ iova: address, memory: range.memory, offset: range.offset, size: Number(size), access });
      this.#remember(first, last, flags, range.file, Number(offset));
    } finally {
      this.#files.settle();
    }
  }

  /** Accepts a mapping that exists already. @throws VfioError EEXIST for any other overlap */
  #mapAgain({ flags, address, size, offset }: DmaMapRequest, first: number, last: number, fd: OwnedFd | undefined): void {
    const slot = this.#index.find(first);
    if (slot >= 0 && this.#index.foundFirst === first && this.#index.foundLast === last && this.#flags[slot] === flags) {
      const file = this.#file[slot];
      if (fd === undefined ? file === 0 : file !== 0 && this.#offset[slot] === Number(offset) && file === this.#files.identify(fd)) return;
    }
    throw new VfioError('EEXIST', `DMA_MAP: ${hex(address)}+${hex(size)} overlaps a mapping of this client`, { fix: 'Unmap that first.' });
  }

  /**
   * The mapping, or all mappings, that lie in the range. The protocol speaks of one; QEMU unmaps
   * whole ranges when a guest takes a device out of a domain of its IOMMU, and at every restart of
   * the guest, whatever is mapped there: a mapping that stayed would let the device reach memory
   * that the guest uses otherwise by then, and would stand in the way of the next mapping.
   * @returns the bitmap, where the request asks for one
   * @throws VfioError ENOENT when nothing is mapped there, or it would cut a mapping in two;
   *   EOPNOTSUPP a bitmap where pages are not tracked; what the DMA space throws
   */
  unmap(request: DmaUnmapRequest): Uint8Array | undefined {
    if ((request.flags & DmaUnmapFlags.ALL) !== 0) {
      this.unmapAll();
      return undefined;
    }
    const { address, size, bitmap } = request;
    checkRange('DMA_UNMAP', address, size);
    const first = Number(address >> PAGE_BITS);
    const last = Number((address + size - 1n) >> PAGE_BITS);
    if (((address | size) & PAGE_MASK) !== 0n || !this.#holdsWhole(first, last)) {
      throw new VfioError('ENOENT', `DMA_UNMAP: ${hex(address)}+${hex(size)} is no mapping, nor are there whole ones in it`);
    }
    const dirty = bitmap === undefined ? undefined : this.#unmapDirty(request, bitmap);
    this.#unmapWithin(first, last, dirty !== undefined);
    return dirty;
  }

  /** Whether there are mappings in [first, last], and none that goes beyond. */
  #holdsWhole(first: number, last: number): boolean {
    const index = this.#index;
    if (!index.overlaps(first, last) || index.foundFirst < first) return false;
    return index.find(last) < 0 || index.foundLast === last;
  }

  #unmapDirty({ address, size }: DmaUnmapRequest, bitmap: { readonly pgsize: bigint; readonly size: bigint }): Uint8Array {
    const dirty = this.#device.dma.dirty;
    if (dirty === undefined) throw new VfioError('EOPNOTSUPP', 'DMA_UNMAP: the device does not track which pages it has written');
    const into = new Uint8Array(Number(bitmap.size));
    dirty.unmap(address, size, bitmap.pgsize, into);
    return into;
  }

  /** Every mapping of this client; those of others in the same DMA space stay. */
  unmapAll(): void {
    this.#unmapWithin(0, Number.MAX_SAFE_INTEGER, false);
  }

  /** @param isUnmapped the DMA space has done its part */
  #unmapWithin(from: number, to: number, isUnmapped: boolean): void {
    const index = this.#index;
    const { dma } = this.#device;
    // Neighbours go together: memory that was mapped in many small pieces is unmapped in few steps.
    for (let slot = index.seek(from); slot >= 0 && index.foundFirst <= to; ) {
      const first = index.foundFirst;
      let end = first;
      while (slot >= 0 && index.foundFirst === end && end <= to) {
        end = index.foundLast + 1;
        this.#slots.give(slot);
        index.remove(index.foundFirst);
        slot = index.seek(end);
      }
      if (!isUnmapped) dma.unmap(BigInt(first) << PAGE_BITS, BigInt(end - first) << PAGE_BITS);
    }
    this.#resize();
    this.#files.unused();
  }

  /**
   * @returns the bitmap, where the request asks for one
   * @throws VfioError EOPNOTSUPP where pages are not tracked; what the DMA space throws
   */
  dirtyPages(request: DirtyPagesRequest): Uint8Array | undefined {
    const { dirty } = this.#device.dma;
    if (dirty === undefined) throw new VfioError('EOPNOTSUPP', 'DIRTY_PAGES: the device does not track which pages it has written');
    if (request.range === undefined) {
      const start = request.flags === DirtyFlags.START;
      if (start) dirty.start();
      else dirty.stop();
      this.#tracking = start;
      return undefined;
    }
    const { iova, size, pgsize, bitmapSize } = request.range;
    const into = new Uint8Array(Number(bitmapSize));
    dirty.report(iova, size, pgsize, into);
    return into;
  }

  /** Unmaps everything, also when the device is gone. Idempotent. */
  [Symbol.dispose](): void {
    try {
      if (this.#tracking) this.#device.dma.dirty?.stop();
      this.unmapAll();
    } catch {
      // The device is gone, and its mappings with it.
    }
    this.#index.clear();
    this.#files[Symbol.dispose]();
    this.#remote[Symbol.dispose]();
  }

  #remember(first: number, last: number, flags: number, file: number, offset: number): void {
    const slot = this.#slots.take();
    this.#resize();
    this.#flags[slot] = flags;
    this.#file[slot] = file;
    this.#offset[slot] = offset;
    this.#index.insert(first, last, slot);
  }

  #resize(): void {
    const { capacity } = this.#slots;
    if (capacity === this.#flags.length) return;
    this.#flags = resized(this.#flags, capacity);
    this.#file = resized(this.#file, capacity);
    this.#offset = resized(this.#offset, capacity);
  }
}

function checkRange(what: string, address: bigint, size: bigint): void {
  if (size === 0n) throw new VfioError('EINVAL', `${what}: size is 0`);
  if (address + size - 1n > U64_MAX)
    throw new VfioError('EOVERFLOW', `${what}: ${hex(address)}+${hex(size)} goes past the last 64-bit address`);
}
