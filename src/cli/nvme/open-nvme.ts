import { VfioError } from '../../base/errno.ts';
import { NvmeDriver, type NvmeDriverOptions } from '../../drivers/nvme/nvme-driver.ts';
import { type DeviceAccess, openThrough } from '../device-access.ts';

/**
 * The driver on the NVMe controller at `address`; closing it closes the device.
 *
 * @throws VfioError ENXIO for another kind of device; what `open` and `NvmeDriver.start` throw
 */
export async function openNvme(address: string, options: NvmeDriverOptions & DeviceAccess = {}): Promise<NvmeDriver> {
  const { token, events, via, unsafeNoIommu, onRequest, ...ofDriver } = options;
  const dev = await openThrough(address, { token, events, via, unsafeNoIommu, onRequest });
  const { classCode } = dev.config;
  if (classCode === NvmeDriver.classCode) return await NvmeDriver.start(dev, ofDriver);
  dev.close();
  const is = classCode.toString(16).padStart(6, '0');
  throw new VfioError('ENXIO', `${address} is no NVMe controller: its class is ${is}, not 010802`);
}
