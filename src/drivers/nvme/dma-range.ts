/**
 * The driver's own memory that the controller reaches: queues, lists, bounce buffers. Addresses are
 * plain numbers, below 2^53.
 */
import { VfioError } from '../../base/errno.ts';
import type { DmaBuffer } from '../kit/dma.ts';
import type { DriverDevice } from '../kit/driver-device.ts';

export class DmaRange implements Disposable {
  readonly iova: number;
  readonly bytes: Uint8Array;
  readonly #buffer: DmaBuffer;

  private constructor(buffer: DmaBuffer, offset: number, size: number) {
    this.#buffer = buffer;
    this.iova = Number(buffer.iova) + offset;
    this.bytes = buffer.bytes.subarray(offset, offset + size);
  }

  /**
   * Zeroed memory.
   *
   * @param align a power of two that `iova` is a multiple of: the controller's page may be larger
   * than the IOMMU's
   * @throws VfioError what `DriverDma.alloc` throws
   */
  static alloc(dev: DriverDevice, size: number, align: number): DmaRange {
    const granule = Number(dev.dma.space.pageSizes & -dev.dma.space.pageSizes);
    const buffer = dev.dma.alloc(align > granule ? size + align - granule : size);
    const past = Number(buffer.iova % BigInt(align));
    return new DmaRange(buffer, past === 0 ? 0 : align - past, size);
  }

  /** `size` bytes of the range, from `from` on. Dispose of the part disposes of the whole. */
  part(from: number, size: number): DmaRange {
    return new DmaRange(this.#buffer, this.iova - Number(this.#buffer.iova) + from, size);
  }

  /**
   * The same bytes as dwords. NVMe is little-endian, and so is every processor on which this
   * package runs.
   */
  words(from = 0, count = (this.bytes.length - from) >>> 2): Uint32Array {
    return new Uint32Array(this.bytes.buffer, this.bytes.byteOffset + from, count);
  }

  [Symbol.dispose](): void {
    this.#buffer[Symbol.dispose]();
  }
}

/**
 * A buffer's IOVA as a number.
 * @throws VfioError EINVAL for one at or above 2^53, which only a caller of `dma.alloc` can choose
 */
export function iovaOf(buffer: DmaBuffer): number {
  if (buffer.iova < 2n ** 53n) return Number(buffer.iova);
  throw new VfioError('EINVAL', `the buffer is at IOVA 0x${buffer.iova.toString(16)}; the NVMe driver takes those below 2^53`);
}
