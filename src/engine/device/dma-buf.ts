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
import type { DmaBuf, DmaBufRequest, DmaBufSegment, RegionInfo } from '../../abi/device.ts';
import { RegionFlags, RegionIndex } from '../../abi/vfio.ts';
import { checkU64, hex, U64_MAX } from '../../base/check.ts';
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

/** @throws VfioError as `DmaBufRequest` says */
export function exportDmaBuf(device: ExportingDevice, request: DmaBufRequest): DmaBuf {
  const { bdf, host } = device;
  const { region: index } = request;
  if (index >= RegionIndex.ROM) throw new VfioError('ENODEV', `${bdf}: DMA_BUF is for BARs; region ${index} is none`);
  const asked = request.ranges;
  if (asked.length === 0) throw new VfioError('EINVAL', `${bdf}: DMA_BUF needs at least one range`);
  const bar = host.bar(index);
  if (bar === undefined) throw new VfioError('ENODEV', `${bdf}: DMA_BUF: there is no BAR ${index}`);
  const size = BigInt(bar.size);
  const page = BigInt(device.ctx.pageSize);
  const ranges: { readonly offset: number; readonly size: number }[] = [];
  for (const { offset, length } of asked) {
    checkU64(offset, `${bdf}: DMA_BUF: the offset of a range`);
    checkU64(length, `${bdf}: DMA_BUF: the length of a range`);
    if (length === 0n || offset % page !== 0n || length % page !== 0n) {
      throw new VfioError('EINVAL', `${bdf}: DMA_BUF range ${hex(offset)}+${hex(length)} is not made of whole pages`);
    }
    if (offset + length - 1n > U64_MAX) throw new VfioError('EOVERFLOW', `${bdf}: DMA_BUF range ${hex(offset)}+${hex(length)} passes 2^64`);
    if (offset + length > size)
      throw new VfioError('EINVAL', `${bdf}: DMA_BUF range ${hex(offset)}+${hex(length)} passes the end of BAR ${index}`);
    ranges.push({ offset: Number(offset), size: Number(length) });
  }
  const shared = host.msix?.bar === index || host.msix?.pbaBar === index;
  if (bar.backing !== 'memory' || shared) {
    throw new VfioError('EOPNOTSUPP', `${bdf}: BAR ${index} holds registers, which no other device can be given as memory`, {
      fix: "Only BARs declared with backing: 'memory' can be a DMA buffer.",
    });
  }
  const info = device.regionInfo(index);
  if ((info.flags & RegionFlags.MMAP) === 0) {
    throw new VfioError('EOPNOTSUPP', `${bdf}: BAR ${index} cannot be mapped: its mediator handles each access`);
  }
  for (const range of ranges) {
    if (insideArea(info, range.offset, range.size)) continue;
    throw new VfioError('EINVAL', `${bdf}: DMA_BUF range ${hex(range.offset)}+${hex(range.size)} is not inside an area that can be mapped`);
  }
  const memory = host.barMemory(index);
  return new BarDmaBuf(
    device,
    ranges.map((range) => ({ memory: memory.get(), ...range })),
  );
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
