/**
 * The memory of a device without an IOMMU: the device reaches it at its physical addresses, which
 * the driver cannot choose. Linux 7.3 pins the memory as a mapping of an address space that
 * translates nothing, and gives the address. Older kernels pin nothing.
 *
 * @see linux/drivers/iommu/iommufd/hwpt_noiommu.c, iommufd_ioas_noiommu_get_pa()
 */
import { hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import { checkMap, type MapRequest } from '../device/dma-requests.ts';
import type { DmaBackend } from './dma-backend.ts';
import { KernelIoas } from './ioas.ts';
import { KernelSpace, type Requester } from './kernel-space.ts';

/** Where the numbers of pins begin, which no device uses. */
const FIRST = 0x10_0000n;

interface Pin {
  /** The address in the address space that pins the memory. */
  readonly iova: bigint;
  readonly size: bigint;
}

export class NoIommuSpace extends KernelSpace {
  readonly #ioas: KernelIoas | null;
  /** By physical address. */
  readonly #pins = new Map<bigint, Pin>();
  #next = FIRST;

  constructor(backend: DmaBackend) {
    super(backend);
    this.#ioas = backend instanceof KernelIoas ? backend : null;
  }

  /** @throws VfioError EOPNOTSUPP always */
  override map(_request: MapRequest, { device }: Requester): never {
    throw new VfioError('EOPNOTSUPP', `${device} has no IOMMU, so memory cannot be mapped at an address of the driver's choice`, {
      fix: "Use dma.alloc(size) without an iova: it gives the memory's physical address.",
    });
  }

  /**
   * Pin memory.
   *
   * @returns its physical address
   * @throws VfioError ENOMEM for memory that does not lie in one piece; EEXIST for memory that is
   *   pinned already; EOPNOTSUPP before Linux 7.3; else as `DmaSpace.map`
   */
  override readonly pin = (request: Omit<MapRequest, 'iova'>, requester: Requester): bigint => {
    const { device } = requester;
    if (this.#ioas === null) {
      throw new VfioError('EOPNOTSUPP', `${device} has no IOMMU, and this kernel pins no memory for it and names no physical addresses`, {
        fix: "Use Linux 7.3 or newer, and open the device by its own file (via 'cdev').",
      });
    }
    const iova = this.#next;
    const { bytes } = checkMap(requester.map, { ...request, iova }, this.page);
    const size = BigInt(bytes);
    super.map({ ...request, iova }, requester);
    this.#next = iova + size;
    try {
      const { address, bytes: together } = this.#ioas.physical(iova, size);
      if (together < size) {
        throw new VfioError('ENOMEM', `${device}: only ${hex(together)} of ${hex(size)} bytes of the memory lie together`, {
          fix: 'Ask for one page at a time, or for huge pages (vm.nr_hugepages) and at most 2 MiB.',
        });
      }
      if (this.#pins.has(address)) throw new VfioError('EEXIST', `${device}: the memory at ${hex(address)} is pinned already`);
      this.#pins.set(address, { iova, size });
      return address;
    } catch (error) {
      super.unmap(iova, size, requester);
      throw error;
    }
  };

  /** Unpin what lies in a range of physical addresses. */
  override unmap(address: bigint, size: bigint, requester: Requester): bigint {
    let unpinned = 0n;
    for (const [at, pin] of [...this.#pins]) {
      if (at < address || at + pin.size > address + size) continue;
      unpinned += super.unmap(pin.iova, pin.size, requester);
      this.#pins.delete(at);
    }
    return unpinned;
  }

  override unmapAll(): bigint {
    this.#pins.clear();
    return super.unmapAll();
  }
}

/** The mappings above a container or an address space. */
export function newSpace(backend: DmaBackend, noIommu: boolean): KernelSpace {
  return noIommu ? new NoIommuSpace(backend) : new KernelSpace(backend);
}
