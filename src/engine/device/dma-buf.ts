/**
 * VFIO_DEVICE_FEATURE_DMA_BUF: ranges of a BAR as a buffer that other devices and processes can
 * reach (peer-to-peer).
 *
 * Only a BAR that is plain memory can be one: registers are code, without memory behind them. Linux
 * refuses a BAR that it cannot export with EOPNOTSUPP, and so does the engine.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_dmabuf.c, vfio_pci_core_feature_dma_buf();
 * include/uapi/linux/vfio.h
 */
import type { DmaBuf, DmaBufSegment, FeatureRequest, RegionInfo } from '../../abi/device.ts';
import { RegionFlags, RegionIndex } from '../../abi/vfio.ts';
import { hex, U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { insideArea } from '../../device/map-range.ts';
import type { FunctionHost } from '../../hardware/function-host.ts';

/** The device that exports a BAR; `VfioPciDevice` is one. */
export interface ExportingDevice {
  readonly bdf: string;
  readonly host: FunctionHost;
  readonly ctx: { readonly pageSize: number };
  /** Identifies the time from a first open to the last close. */
  readonly openState: object;
  isOpen(state: object): boolean;
  regionInfo(index: number): RegionInfo;
  /** The reason why a load from a mapping faults now; null when it does not. */
  mappingFault(): string | null;
}

/** struct vfio_device_feature_dma_buf: four u32, then nr_ranges times two u64. */
const HEADER_SIZE = 16;
const RANGE_SIZE = 16;

/**
 * @throws VfioError EINVAL no ranges, flags, ranges that are empty, not of whole pages or past the
 * end; EFAULT data that ends before its ranges; ENODEV not a BAR; EOVERFLOW past 2^64; EOPNOTSUPP a
 * BAR that is not memory
 */
export function exportDmaBuf(device: ExportingDevice, { data, onDmaBuf }: FeatureRequest): number {
  const { bdf, host } = device;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const index = view.getUint32(0, true);
  const count = view.getUint32(12, true);
  if (count === 0 || view.getUint32(8, true) !== 0) {
    throw new VfioError('EINVAL', `${bdf}: DMA_BUF needs at least one range, and has no flags`);
  }
  if (index >= RegionIndex.ROM) throw new VfioError('ENODEV', `${bdf}: DMA_BUF is for BARs; region ${index} is none`);
  if (HEADER_SIZE + count * RANGE_SIZE > data.length) {
    throw new VfioError(
      'EFAULT',
      `${bdf}: DMA_BUF: ${count} ranges need ${count * RANGE_SIZE} bytes, ${data.length - HEADER_SIZE} were given`,
    );
  }
  const bar = host.bar(index);
  const size = BigInt(bar?.size ?? 0);
  const page = BigInt(device.ctx.pageSize);
  const ranges: { readonly offset: number; readonly size: number }[] = [];
  for (let i = 0; i < count; i++) {
    const offset = view.getBigUint64(HEADER_SIZE + i * RANGE_SIZE, true);
    const length = view.getBigUint64(HEADER_SIZE + i * RANGE_SIZE + 8, true);
    if (length === 0n || offset % page !== 0n || length % page !== 0n) {
      throw new VfioError('EINVAL', `${bdf}: DMA_BUF range ${hex(offset)}+${hex(length)} is not made of whole pages`);
    }
    if (offset + length - 1n > U64_MAX) throw new VfioError('EOVERFLOW', `${bdf}: DMA_BUF range ${hex(offset)}+${hex(length)} passes 2^64`);
    if (offset + length > size)
      throw new VfioError('EINVAL', `${bdf}: DMA_BUF range ${hex(offset)}+${hex(length)} passes the end of BAR ${index}`);
    ranges.push({ offset: Number(offset), size: Number(length) });
  }
  const shared = host.msix?.bar === index || host.msix?.pbaBar === index;
  if (bar?.backing !== 'memory' || shared) {
    throw new VfioError('EOPNOTSUPP', `${bdf}: BAR ${index} holds registers, which no other device can be given as memory`, {
      fix: "Only BARs declared with backing: 'memory' can be a DMA buffer.",
    });
  }
  const info = device.regionInfo(index);
  if ((info.flags & RegionFlags.MMAP) === 0) {
    throw new VfioError('EOPNOTSUPP', `${bdf}: BAR ${index} cannot be mapped: its mediator wants to see each access`);
  }
  for (const range of ranges) {
    if (insideArea(info, range.offset, range.size)) continue;
    throw new VfioError('EINVAL', `${bdf}: DMA_BUF range ${hex(range.offset)}+${hex(range.size)} is not inside an area that can be mapped`);
  }
  if (onDmaBuf === undefined) throw new VfioError('EINVAL', `${bdf}: DMA_BUF makes a buffer, and the caller does not take it (onDmaBuf)`);
  const memory = host.barMemory(index);
  onDmaBuf(
    new BarDmaBuf(
      device,
      ranges.map((range) => ({ memory: memory.get(), ...range })),
    ),
  );
  return 0;
}

class BarDmaBuf implements DmaBuf {
  readonly segments: readonly DmaBufSegment[];
  readonly size: number;
  readonly #device: ExportingDevice;
  /** The open that the buffer belongs to: the buffer does not come back with the next open. */
  readonly #open: object;
  #disposed = false;

  constructor(device: ExportingDevice, segments: readonly DmaBufSegment[]) {
    this.#device = device;
    this.#open = device.openState;
    this.segments = segments;
    this.size = segments.reduce((sum, segment) => sum + segment.size, 0);
  }

  get revoked(): boolean {
    return this.#disposed || !this.#device.isOpen(this.#open) || this.#device.mappingFault() !== null;
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const { memory } of this.segments) memory.put();
  }
}
