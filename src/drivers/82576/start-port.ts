/** The right driver for a device: physical or virtual function. */
import { I82576_DEVICE, I82576_VF_DEVICE, INTEL_VENDOR } from '../../abi/82576.ts';
import { VfioError } from '../../base/errno.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import type { PortOptions } from './options.ts';
import { PhysicalPort } from './physical-port.ts';
import { VirtualPort } from './virtual-port.ts';

const ids = (device: number) => `${INTEL_VENDOR.toString(16)}:${device.toString(16)}`;
/** `vendor:device` of the functions that the driver is for, as in the `match` of `open`. */
export const PORT_IDS: readonly string[] = [ids(I82576_DEVICE), ids(I82576_VF_DEVICE)];

/**
 * Start the driver of a port, physical or virtual. The device is closed with the driver, and when
 * this fails.
 *
 *     await using port = await startPort(await open('sim:82576'));
 *     for await (const frame of port.frames()) console.log(frame.bytes);
 *
 * @throws VfioError ENXIO for another device; and what `PhysicalPort.start` and `VirtualPort.start`
 *   throw
 */
export async function startPort(dev: DriverDevice, options: PortOptions = {}): Promise<PhysicalPort | VirtualPort> {
  if (dev.ids === ids(I82576_DEVICE)) return PhysicalPort.start(dev, options);
  if (dev.ids === ids(I82576_VF_DEVICE)) return VirtualPort.start(dev, options);
  const { name, ids: own } = dev;
  dev.close();
  throw new VfioError('ENXIO', `${name} is ${own}, and this driver is for ${PORT_IDS.join(' and ')}`, {
    fix: 'Give the address of an 82576, or of one of its virtual functions.',
  });
}
