/**
 * Parts of a BAR as a dma-buf of the kernel (Linux 6.19 and newer): other devices reach the BAR's
 * bytes through it, this process does not.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_dmabuf.c, vfio_pci_core_feature_dma_buf()
 */
import type { DmaBuf, DmaBufRequest } from '../abi/device.ts';
import { Feature, FeatureFlags } from '../abi/vfio.ts';
import { DmaBufRange, FeatureDmaBuf } from '../abi/vfio-structs.ts';
import { checkU64 } from '../base/check.ts';
import { viewOf } from '../base/data-view.ts';
import { VfioError } from '../base/errno.ts';
import { regionName } from '../device/file-window.ts';
import type { KernelFile } from '../sys/kernel-file.ts';
import { callFailure, DeviceCall, type KernelCall } from './calls.ts';
import type { KernelPort } from './device-port.ts';
import { featureCall, requestBytes } from './features.ts';

const O_RDWR = 2;
const O_CLOEXEC = 0o2000000;

const remedies: NonNullable<KernelCall['remedies']> = {
  EINVAL: 'Name at least one range, of whole pages inside of the BAR.',
  ENODEV: 'Name a BAR: other regions are no memory of the device.',
  EOPNOTSUPP: 'Name a BAR of memory that the device has, or use a kernel with CONFIG_VFIO_PCI_DMABUF.',
  ENOTTY: 'Use a kernel with CONFIG_VFIO_PCI_DMABUF.',
};

/** A `DmaBuf` of the kernel. Disposing it closes the descriptor. */
export class KernelDmaBuf implements DmaBuf {
  readonly size: number;
  /** None: the memory is the device's, and no `Memory` of this process shows it. */
  readonly segments = [];
  /** The dma-buf, for calls that take one (IOMMU_IOAS_MAP_FILE, drivers of other devices). */
  readonly file: KernelFile;
  readonly #answers: () => boolean;

  /** @param answers whether the device answers to its BARs now */
  constructor(file: KernelFile, size: number, answers: () => boolean) {
    this.file = file;
    this.size = size;
    this.#answers = answers;
  }

  get revoked(): boolean {
    return !this.#answers();
  }

  /** Closes the descriptor. Idempotent. */
  [Symbol.dispose](): void {
    this.file[Symbol.dispose]();
  }
}

/**
 * @param answers as `KernelDmaBuf`
 * @throws VfioError as `DmaBufRequest` says; ENOTTY for a kernel without
 */
export function exportDmaBuf(port: KernelPort, request: DmaBufRequest, answers: () => boolean): KernelDmaBuf {
  const { region, ranges } = request;
  if (!Number.isInteger(region) || region < 0 || region > 0xffff_ffff)
    throw new VfioError('ENODEV', `${port.name}: DMA_BUF is for BARs; region ${String(region)} is none`);
  const data = new Uint8Array(FeatureDmaBuf.structSize + ranges.length * DmaBufRange.structSize);
  const view = viewOf(data);
  FeatureDmaBuf.encode(view, 0, { region_index: region, open_flags: O_RDWR | O_CLOEXEC, flags: 0, nr_ranges: ranges.length });
  let size = 0;
  for (const [i, { offset, length }] of ranges.entries()) {
    checkU64(offset, 'the offset of a range');
    checkU64(length, 'the length of a range');
    DmaBufRange.encode(view, FeatureDmaBuf.structSize + i * DmaBufRange.structSize, { offset, length });
    size += Number(length);
  }
  const ask = () => {
    const bytes = requestBytes(Feature.DMA_BUF, FeatureFlags.GET, data);
    const made = port.file.ioctlFile(DeviceCall.FEATURE.request, bytes, `a dma-buf of ${port.name} ${regionName(region)}`);
    if (typeof made !== 'number') return made;
    port.failed(made);
    throw callFailure(made, { ...featureCall(Feature.DMA_BUF), remedies }, port.name);
  };
  const { source } = port;
  const file = source.on ? source.attempt('feature', { name: 'DMA_BUF', op: 'get' }, ask) : ask();
  return new KernelDmaBuf(file, size, answers);
}
