import { open } from '../../api/open.ts';
import { VfioError } from '../../base/errno.ts';
import { NvmeDriver, type NvmeDriverOptions } from '../../drivers/nvme/nvme-driver.ts';
import type { EventStream } from '../../events/stream.ts';

export interface NvmeAccess {
  /** VF token of a controller that is a function of an SR-IOV device. */
  readonly token?: string | undefined;
  /** The stream that the device emits into. Default: one of its own. */
  readonly events?: EventStream | undefined;
  /** As `OpenOptions.via`. */
  readonly via?: 'group' | 'cdev' | undefined;
  /** As `OpenOptions.unsafeNoIommu`. */
  readonly unsafeNoIommu?: boolean | undefined;
  /** As `OpenOptions.onRequest`. */
  readonly onRequest?: ((device: string) => void) | undefined;
}

/** The part of a command's options that opens the device. */
export function accessIn({ token, events, via, unsafeNoIommu, onRequest }: NvmeAccess): NvmeAccess {
  return { token, events, via, unsafeNoIommu, onRequest };
}

/**
 * The driver on the NVMe controller at `address`; closing it closes the device.
 *
 * @throws VfioError ENXIO for another kind of device; what `open` and `NvmeDriver.start` throw
 */
export async function openNvme(address: string, options: NvmeDriverOptions & NvmeAccess = {}): Promise<NvmeDriver> {
  const { token, events, via, unsafeNoIommu, onRequest, ...ofDriver } = options;
  const dev = await open(address, {
    token,
    via,
    unsafeNoIommu,
    ...(onRequest === undefined ? {} : { onRequest }),
    ...(events === undefined ? {} : { events }),
  });
  const { classCode } = dev.config;
  if (classCode === NvmeDriver.classCode) return await NvmeDriver.start(dev, ofDriver);
  dev.close();
  const is = classCode.toString(16).padStart(6, '0');
  throw new VfioError('ENXIO', `${address} is no NVMe controller: its class is ${is}, not 010802`);
}
