/**
 * A mapped part of a BAR as memory that the DMA of other devices reaches (peer-to-peer). A
 * container maps it by its address in this process, and an address space of iommufd by a dma-buf.
 *
 * @see linux/drivers/vfio/vfio_iommu_type1.c, follow_fault_pfn();
 *   linux/drivers/iommu/iommufd/io_pagetable.c, iopt_map_file_pages()
 */
import { VfioError } from '../base/errno.ts';
import { RegisterMemory } from '../device/register-memory.ts';
import type { KernelFile } from '../sys/kernel-file.ts';
import type { MappedRegisters } from '../sys/mapped-registers.ts';
import type { KernelPort } from './device-port.ts';
import { exportDmaBuf, type KernelDmaBuf } from './dma-buf.ts';

/** The part of the BAR. */
export interface BarPlace {
  readonly region: number;
  /** Bytes. */
  readonly offset: number;
}

export class BarMemory extends RegisterMemory {
  /** Where it begins in this process. */
  readonly address: bigint;
  readonly #registers: MappedRegisters;
  readonly #port: KernelPort;
  readonly #place: BarPlace;
  #buffer: KernelDmaBuf | null = null;

  /**
   * Takes `registers` over, whose mapping keeps the device open in the kernel while other devices
   * have it mapped.
   */
  constructor(registers: MappedRegisters, port: KernelPort, place: BarPlace) {
    super({
      size: registers.size,
      read8: (offset) => registers.load8(offset),
      read32: (offset) => registers.load32(offset),
      write8: (offset, value) => registers.store8(offset, value),
      write32: (offset, value) => registers.store32(offset, value),
    });
    this.address = registers.address;
    this.#registers = registers;
    this.#port = port;
    this.#place = place;
  }

  /**
   * The dma-buf of these bytes.
   *
   * @throws VfioError ENOTTY in a kernel without; and as `DmaBufRequest`
   */
  get buffer(): KernelFile {
    const { region, offset } = this.#place;
    const range = { offset: BigInt(offset), length: BigInt(this.size) };
    try {
      this.#buffer ??= exportDmaBuf(this.#port, { region, ranges: [range] }, () => true);
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'ENOTTY') throw error;
      throw new VfioError('ENOTTY', `${this.#port.name}: this kernel gives no dma-buf of a BAR, by which an iommufd reaches the BAR`, {
        fix: 'Open the devices by their groups (via: group), or use Linux 6.19 or newer.',
        cause: error,
      });
    }
    return this.#buffer.file;
  }

  protected override released(): void {
    this.#buffer?.[Symbol.dispose]();
    this.#registers[Symbol.dispose]();
  }
}
