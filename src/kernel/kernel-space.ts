/**
 * The mappings of a container or of an address space: those of all devices of this process that
 * share it. Each device has a view of it (dma-space.ts). The last device closes it.
 */
import type { DirtyTracking, IovaRange } from '../abi/device.ts';
import { type DirectMemory, WINDOW_BYTES } from '../abi/memory.ts';
import { bitmapBytes } from '../abi/vfio.ts';
import { hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import type { CheckedMap } from '../device/dma-requests.ts';
import { checkDirtyRange, checkFree, checkMap, checkMemory, checkNotCut, checkUnmap, type MapRequest } from '../device/dma-requests.ts';
import { type MappingPages, MappingTable } from '../device/mapping-table.ts';
import { addressOf } from '../sys/kernel-file.ts';
import { BarMemory } from './bar-memory.ts';
import type { DmaAbilities, DmaBackend } from './dma-backend.ts';
import { MappingLimits, type Warn } from './limits.ts';

/** The device that makes a request, in words. */
export interface Requester {
  readonly device: string;
  /** `0000:03:00.0: VFIO_IOMMU_MAP_DMA` */
  readonly map: string;
  readonly unmap: string;
  /** Takes a line when a limit is near. */
  readonly warn: Warn;
}

const LAST_PAGE = 2 ** 52 - 1;

export class KernelSpace implements Disposable {
  readonly backend: DmaBackend;
  readonly #mappings = new MappingTable();
  readonly #limits: MappingLimits;
  #abilities: DmaAbilities | null = null;
  /** Mappings of the kernel: one that spans windows of memory is several. */
  #entries = 0;
  #users = 0;
  #closed = false;
  #dirtyOn = false;

  /** @param backend closed with the last user */
  constructor(backend: DmaBackend) {
    this.backend = backend;
    this.#limits = new MappingLimits(backend);
  }

  /** Devices that use it. */
  get users(): number {
    return this.#users;
  }

  /**
   * One more device has joined: the ranges may be others.
   * @throws VfioError ENODEV when the last device has left
   */
  get(): this {
    if (this.#closed) throw new VfioError('ENODEV', 'the device to share memory with is closed');
    this.#users++;
    this.#abilities = null;
    return this;
  }

  /** A device is closed. The last one ends the mappings, then frees their memory. */
  put(): void {
    if (--this.#users > 0) return;
    this[Symbol.dispose]();
  }

  /** Closes the container or the iommufd. Idempotent. */
  [Symbol.dispose](): void {
    this.#closed = true;
    this.backend[Symbol.dispose]();
    this.#mappings.clear();
    this.#entries = 0;
  }

  get #known(): DmaAbilities {
    this.#abilities ??= this.backend.abilities();
    return this.#abilities;
  }

  get pageSizes(): bigint {
    return this.#known.pageSizes;
  }

  get ranges(): readonly IovaRange[] {
    return this.#known.ranges;
  }

  get available(): number {
    return this.backend.available(this.#entries);
  }

  /** The smallest page. */
  get page(): bigint {
    return this.pageSizes & -this.pageSizes;
  }

  /** @throws VfioError as `DmaSpace.map` */
  map(request: MapRequest, { device, map: what, warn }: Requester): void {
    const checked = checkMap(what, request, this.page);
    checkFree(what, checked, this.#mappings);
    checkRanges(what, checked, this.ranges);
    checkMemory(checked);
    const { memory, first, last, offset, access } = checked;
    if (memory instanceof BarMemory) {
      this.#mapBar(device, checked, memory);
      this.#mappings.add(first, last, memory, offset, access);
      return;
    }
    if (memory.kind !== 'direct') {
      throw new VfioError('EOPNOTSUPP', `${what}: the kernel maps memory of this process; this memory answers by messages`, {
        fix: 'Use memory of dma.alloc(), or of dma.space.allocate().',
      });
    }
    this.#limits.before(checked.bytes, this.#entries, warn);
    this.#mapWindows(device, checked, memory);
    this.#mappings.add(first, last, memory, offset, access);
  }

  /** A BAR is one mapping of the kernel, and no memory that is locked. */
  #mapBar(device: string, { iova, offset, bytes, access }: CheckedMap, bar: BarMemory): void {
    const { backend } = this;
    const on = `${device}: ${hex(bytes)} bytes of a BAR at ${hex(iova)}`;
    const [start, size] = [BigInt(offset), BigInt(bytes)];
    if (backend.mapBuffer !== undefined) backend.mapBuffer(bar.buffer, { iova, start, size, access }, on);
    else {
      const result = backend.map(iova, bar.address + start, size, access);
      if (result < 0) throw backend.mapFailure(result, on);
    }
    this.#entries++;
  }

  /** All windows, or none. */
  #mapWindows(device: string, { iova, offset, bytes, access }: CheckedMap, memory: DirectMemory): void {
    let done = 0;
    while (done < bytes) {
      const at = offset + done;
      const start = at % WINDOW_BYTES;
      const size = Math.min(WINDOW_BYTES - start, bytes - done);
      const address = addressOf(memory.windows[Math.floor(at / WINDOW_BYTES)]!) + BigInt(start);
      const result = this.backend.map(iova + BigInt(done), address, BigInt(size), access);
      if (result < 0) {
        if (done > 0) this.backend.unmap(iova, BigInt(done));
        this.#entries -= piecesOf(offset, done);
        throw this.#failure(device, result, address, { iova, bytes });
      }
      this.#entries++;
      done += size;
    }
    this.#limits.mapped(bytes);
  }

  #failure(device: string, result: number, address: bigint, { iova, bytes }: { readonly iova: bigint; readonly bytes: number }): VfioError {
    const { backend } = this;
    const on = `${device}: ${hex(bytes)} bytes at ${hex(iova)}`;
    if ((address & (this.page - 1n)) !== 0n) {
      const fix = 'Use memory of dma.alloc(), which begins at a page.';
      return backend.mapFailure(result, `${on}, from memory at ${hex(address)}, which does not begin at a page`, fix);
    }
    const limit = this.#limits.reason(result, bytes, this.#entries);
    return limit === null ? backend.mapFailure(result, on) : backend.mapFailure(result, `${on}: ${limit.why}`, limit.fix);
  }

  /** Undefined: an IOMMU translates, and the driver chooses addresses. See `DmaSpace.pin`. */
  readonly pin?: (request: Omit<MapRequest, 'iova'>, requester: Requester) => bigint;

  /** @throws VfioError as `DmaSpace.unmap` */
  unmap(iova: bigint, size: bigint, { unmap: what }: Requester): bigint {
    const { first, last } = checkUnmap(what, iova, size, this.page);
    checkNotCut(what, first, last, this.#mappings);
    return this.#unmapRange(first, last);
  }

  unmapAll(): bigint {
    if (this.#mappings.size === 0) return 0n;
    const done = this.backend.unmapAll();
    if (done === null) return this.#unmapRange(0, LAST_PAGE);
    for (let at = this.#mappings.next(0); at !== null; at = this.#mappings.next(0)) this.#forget(at);
    return done;
  }

  /** Unmap whole mappings: one request for all of them. */
  #unmapRange(first: number, last: number): bigint {
    const found: MappingPages[] = [];
    for (let at = this.#mappings.next(first); at !== null && at.first <= last; at = this.#mappings.next(at.last + 1)) found.push(at);
    if (found.length === 0) return 0n;
    const bytes = this.backend.unmap(addressOfPage(found[0]!.first), bytesOf({ first: found[0]!.first, last: found.at(-1)!.last }));
    for (const at of found) this.#forget(at);
    return bytes;
  }

  #forget(at: MappingPages): void {
    const bytes = Number(bytesOf(at));
    const { memory, offset } = this.#mappings.entryAt(at.first)!;
    const isBar = memory instanceof BarMemory;
    this.#entries -= isBar ? 1 : piecesOf(offset, bytes);
    if (!isBar) this.#limits.unmapped(bytes);
    this.#mappings.remove(at.first);
  }

  /** Undefined where the IOMMU keeps no log. */
  dirty(requester: Requester): DirtyTracking | undefined {
    const log = this.backend.dirty;
    if (log === null) return undefined;
    return {
      start: () => {
        log.start();
        this.#dirtyOn = true;
      },
      stop: () => {
        log.stop();
        this.#dirtyOn = false;
      },
      report: (iova, size, pageSize, into) => {
        this.#eachDirty(requester, { iova, size, pageSize, into }, (first, bytes, bits) => {
          log.report(first, bytes, pageSize, bits);
          return 0n;
        });
      },
      unmap: (iova, size, pageSize, into) =>
        this.#eachDirty(requester, { iova, size, pageSize, into }, (first, bytes, bits) => log.unmap(first, bytes, pageSize, bits), true),
    };
  }

  /** Ask for each mapping of the kernel in a range, and put its bits where they belong. */
  #eachDirty(
    { map, unmap }: Requester,
    request: { readonly iova: bigint; readonly size: bigint; readonly pageSize: bigint; readonly into: Uint8Array },
    ask: (iova: bigint, size: bigint, bits: Uint8Array) => bigint,
    unmaps = false,
  ): bigint {
    const what = unmaps ? unmap : map.replace(this.backend.mapName, 'the report of dirty pages');
    const { first, last } = checkDirtyRange(what, request, this.page);
    if (!this.#dirtyOn) throw new VfioError('EINVAL', 'dirty tracking is off', { fix: 'Start it.' });
    checkNotCut(what, first, last, this.#mappings);
    let unmapped = 0n;
    for (let at = this.#mappings.next(first); at !== null && at.first <= last; ) {
      for (const piece of this.#pieces(at)) {
        const bits = new Uint8Array(bitmapBytes(piece.size, request.pageSize));
        unmapped += ask(piece.iova, piece.size, bits);
        orBits(request.into, Number((piece.iova - request.iova) / request.pageSize), bits);
      }
      const { last: end } = at;
      if (unmaps) this.#forget(at);
      at = this.#mappings.next(end + 1);
    }
    return unmapped;
  }

  /** The mappings of the kernel that one mapping consists of. */
  *#pieces(at: MappingPages): Generator<{ readonly iova: bigint; readonly size: bigint }> {
    const { memory, offset } = this.#mappings.entryAt(at.first)!;
    const bytes = Number(bytesOf(at));
    for (let done = 0; done < bytes; ) {
      const size = memory instanceof BarMemory ? bytes : Math.min(WINDOW_BYTES - ((offset + done) % WINDOW_BYTES), bytes - done);
      yield { iova: addressOfPage(at.first) + BigInt(done), size: BigInt(size) };
      done += size;
    }
  }
}

/** Windows that `bytes` from `offset` on lie in. */
function piecesOf(offset: number, bytes: number): number {
  return bytes === 0 ? 0 : Math.floor((offset + bytes - 1) / WINDOW_BYTES) - Math.floor(offset / WINDOW_BYTES) + 1;
}

const addressOfPage = (page: number): bigint => BigInt(page) << 12n;
const bytesOf = ({ first, last }: MappingPages): bigint => BigInt(last + 1 - first) << 12n;

/** Sets in `into`, from bit `start` on, the bits that are set in `bits`. */
function orBits(into: Uint8Array, start: number, bits: Uint8Array): void {
  for (let i = 0; i < bits.length; i++) {
    const byte = bits[i]!;
    if (byte === 0) continue;
    for (let bit = 0; bit < 8; bit++) {
      if ((byte & (1 << bit)) === 0) continue;
      const to = start + 8 * i + bit;
      into[to >>> 3]! |= 1 << (to & 7);
    }
  }
}

/** @throws VfioError EINVAL unless the request lies in one of the ranges */
function checkRanges(what: string, { iova, bytes }: CheckedMap, ranges: readonly IovaRange[]): void {
  const last = iova + BigInt(bytes) - 1n;
  if (ranges.some((range) => iova >= range.first && last <= range.last)) return;
  const usable = ranges.map((range) => `${hex(range.first)}-${hex(range.last)}`).join(', ');
  throw new VfioError('EINVAL', `${what}: ${hex(iova)}+${hex(bytes)} is not inside one of the usable IOVA ranges: ${usable}`);
}
