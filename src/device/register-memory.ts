/**
 * Mapped registers as memory that devices reach: peer-to-peer DMA. QEMU maps the BARs of all its
 * devices for the DMA of all others.
 *
 * @see linux/drivers/vfio/vfio_iommu_type1.c, follow_fault_pfn()
 */
import type { RegisterAccess } from '../abi/device.ts';
import type { CopiedAtOnce, RemoteMemory } from '../abi/memory.ts';
import { Counted } from '../base/counted.ts';
import { VfioError } from '../base/errno.ts';

const WORD = 4;

/** The part of a mapping that an access needs. */
export interface MappedBytes extends Pick<RegisterAccess, 'read8' | 'read32' | 'write8' | 'write32'> {
  readonly size: number;
}

/** Offsets count from the mapping's start. */
export class RegisterMemory extends Counted implements RemoteMemory {
  readonly kind = 'remote';
  readonly takesAtOnce = true;
  readonly size: number;
  readonly atOnce: CopiedAtOnce;
  readonly #mapping: MappedBytes;
  /** An access is under way. One that it leads to is refused: a device writes to itself. */
  #busy = false;

  constructor(mapping: MappedBytes) {
    super('the registers');
    this.#mapping = mapping;
    this.size = mapping.size;
    this.atOnce = {
      read: (offset, into, at, size) => this.#access(offset, size, (from, count) => this.#load(from, count, into, at + from - offset)),
      write: (offset, from, at, size) => this.#access(offset, size, (to, count) => this.#store(to, count, from, at + to - offset)),
    };
  }

  async read(offset: number, into: Uint8Array, _requester?: string, lands?: () => boolean): Promise<void> {
    if (lands !== undefined && !lands()) return;
    if (!this.atOnce.read(offset, into, 0, into.length)) throw this.#silent(offset);
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    if (!this.atOnce.write(offset, from, 0, from.length)) throw this.#silent(offset);
  }

  /** Whole aligned words, and bytes before and behind them, as the byte enables of PCI allow. */
  #access(offset: number, size: number, each: (at: number, count: 1 | 4) => void): boolean {
    if (this.#busy) return false;
    this.#busy = true;
    try {
      const end = offset + size;
      for (let at = offset; at < end; ) {
        const count = at % WORD === 0 && end - at >= WORD ? WORD : 1;
        each(at, count);
        at += count;
      }
      return true;
    } catch (error) {
      // The device does not decode memory now, sleeps, or is closed.
      if (error instanceof VfioError) return false;
      throw error;
    } finally {
      this.#busy = false;
    }
  }

  #load(offset: number, count: 1 | 4, into: Uint8Array, at: number): void {
    const value = count === 1 ? this.#mapping.read8(offset) : this.#mapping.read32(offset);
    for (let i = 0; i < count; i++) into[at + i] = value >>> (8 * i);
  }

  #store(offset: number, count: 1 | 4, from: Uint8Array, at: number): void {
    if (count === 1) this.#mapping.write8(offset, from[at]!);
    else this.#mapping.write32(offset, (from[at]! | (from[at + 1]! << 8) | (from[at + 2]! << 16) | (from[at + 3]! << 24)) >>> 0);
  }

  #silent(offset: number): VfioError {
    return new VfioError('EFAULT', `the registers at byte ${offset} of a mapping do not answer`);
  }
}
