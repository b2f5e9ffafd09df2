/**
 * The DMA space of one open device: its view of the container or address space that it shares with
 * others.
 */
import type { DirtyTracking, DmaSpace, IovaRange } from '../abi/device.ts';
import type { DirectMemory } from '../abi/memory.ts';
import { VfioError } from '../base/errno.ts';
import { anyU64, type MapRequest, mapDetails } from '../device/dma-requests.ts';
import type { EventSource } from '../events/source.ts';
import { HUGE_PAGE_BYTES, MemfdMemory } from '../sys/memfd.ts';
import type { KernelSpace, Requester } from './kernel-space.ts';

export class KernelDmaSpace implements DmaSpace, Disposable {
  /** The mappings, which all devices in the container share. */
  readonly shared: KernelSpace;
  readonly #source: EventSource;
  readonly #requester: Requester;
  #closed = false;

  /** @param source of the device, where requests are reported */
  constructor(shared: KernelSpace, source: EventSource) {
    this.shared = shared;
    this.#source = source;
    this.#requester = {
      device: source.name,
      map: `${source.name}: ${shared.backend.mapName}`,
      unmap: `${source.name}: ${shared.backend.unmapName}`,
      warn: (about, text) => source.note('warn', about, `${source.name}: ${text}`),
    };
  }

  #checkOpen(): void {
    if (this.#closed) throw new VfioError('ENODEV', `${this.#source.name} is closed`);
  }

  get pageSizes(): bigint {
    this.#checkOpen();
    return this.shared.pageSizes;
  }

  get ranges(): readonly IovaRange[] {
    this.#checkOpen();
    return this.shared.ranges;
  }

  get available(): number {
    this.#checkOpen();
    return this.shared.available;
  }

  /**
   * In huge pages where they can be had.
   *
   * @throws VfioError EINVAL for a size that is not positive; ENOMEM when there is not that much
   */
  allocate(size: number): DirectMemory {
    this.#checkOpen();
    if (!Number.isSafeInteger(size) || size <= 0) throw new VfioError('EINVAL', `cannot allocate ${String(size)} bytes`);
    const small = Number(this.shared.page);
    // Without an IOMMU only the bytes of one page lie together.
    const page = this.shared.pin !== undefined && size > small ? HUGE_PAGE_BYTES : small;
    return MemfdMemory.allocateHuge(Math.ceil(size / page) * page);
  }

  map(request: MapRequest): void {
    if (!this.#source.on) this.#map(request);
    else this.#source.attempt('dma-map', mapDetails(request, 'direct'), () => this.#map(request));
  }

  #map(request: MapRequest): void {
    this.#checkOpen();
    this.shared.map(request, this.#requester);
  }

  /** Undefined where an IOMMU translates. */
  get pin(): DmaSpace['pin'] {
    const { pin } = this.shared;
    return pin === undefined ? undefined : (request) => this.#pin(request, pin);
  }

  #pin(request: Omit<MapRequest, 'iova'>, pin: NonNullable<KernelSpace['pin']>): bigint {
    const act = () => {
      this.#checkOpen();
      return pin(request, this.#requester);
    };
    if (!this.#source.on) return act();
    return this.#source.attempt('dma-map', mapDetails({ ...request, iova: 0n }, 'direct'), act, (iova) => ({ iova }));
  }

  unmap(iova: bigint, size: bigint): bigint {
    return this.#seenUnmap(iova, size, () => this.shared.unmap(iova, size, this.#requester));
  }

  unmapAll(): bigint {
    return this.#seenUnmap(0n, 0n, () => this.shared.unmapAll());
  }

  #seenUnmap(iova: bigint, size: bigint, act: () => bigint): bigint {
    const open = () => {
      this.#checkOpen();
      return act();
    };
    if (!this.#source.on) return open();
    return this.#source.attempt('dma-unmap', { iova: anyU64(iova), size: anyU64(size) }, open, (done) => ({ size: done }));
  }

  get dirty(): DirtyTracking | undefined {
    this.#checkOpen();
    return this.shared.dirty(this.#requester);
  }

  /** The device is closed: requests fail. Mappings stay while another device shares them. */
  [Symbol.dispose](): void {
    this.#closed = true;
  }
}
