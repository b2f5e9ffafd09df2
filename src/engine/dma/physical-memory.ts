/**
 * The machine's physical addresses, as devices without an IOMMU use them (no-IOMMU mode). Memory
 * that a process has locked for a device gets an address here for as long as it is locked; the same
 * page has another address for each time that it is locked.
 *
 * @see linux/drivers/vfio/group.c, vfio_noiommu_group_alloc()
 */
import { Access, type Memory } from '../../abi/memory.ts';
import { VfioError } from '../../base/errno.ts';
import { IOMMU_UNIT, IommuDomain, LAST_PFN } from '../../hardware/iommu-domain.ts';

/** Below are the addresses of firmware: 1 MiB. */
const FIRST_PFN = 0x100;

/** A run of pages, by page numbers. */
interface Run {
  readonly first: number;
  readonly last: number;
}

export class PhysicalMemory {
  /** All memory that has an address: what a device without an IOMMU reaches. */
  readonly domain = new IommuDomain({
    unit: this,
    coherent: true,
    enforcesCoherency: true,
    pageSizes: BigInt(IOMMU_UNIT),
  });
  /** In order of their addresses. */
  readonly #runs: Run[] = [];

  /**
   * Give memory the lowest free address.
   *
   * @param offset first byte of the memory, a multiple of 4096
   * @returns the first page number
   * @throws VfioError ENOMEM when no run of that length is free
   */
  place(memory: Memory, offset: number, pages: number): number {
    let first = FIRST_PFN;
    let at = 0;
    for (; at < this.#runs.length && this.#runs[at]!.first < first + pages; at++) first = this.#runs[at]!.last + 1;
    const last = first + pages - 1;
    if (last > LAST_PFN) throw new VfioError('ENOMEM', `the machine has no ${pages} physical pages in one piece`);
    this.domain.map(first, last, memory, offset, Access.READ_WRITE);
    this.#runs.splice(at, 0, { first, last });
    return first;
  }

  /** Take the address of a whole `place` away. */
  remove(first: number): void {
    const at = this.#runs.findIndex((run) => run.first === first);
    const [run] = this.#runs.splice(at, 1);
    this.domain.unmap(run!.first, run!.last);
  }
}
