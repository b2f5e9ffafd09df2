/** The driver on a network card that has an address. */
import { VfioError } from '../../base/errno.ts';
import type { PortOptions } from '../../drivers/82576/options.ts';
import { PhysicalPort } from '../../drivers/82576/physical-port.ts';
import type { Port } from '../../drivers/82576/port.ts';
import { startPort } from '../../drivers/82576/start-port.ts';
import { type DeviceAccess, openThrough } from '../device-access.ts';

/** How long a link may take: autonegotiation of copper takes some seconds (802.3, 28.3.2). */
export const LINK_MS = 10_000;

/**
 * A port at `address`; closing it closes the device.
 *
 * @throws VfioError ENXIO for another kind of device; what `open` and `startPort` throw
 */
export async function openPort(address: string, options: PortOptions & DeviceAccess): Promise<Port> {
  const { token, events, via, unsafeNoIommu, onRequest, ...ofDriver } = options;
  return await startPort(await openThrough(address, { token, events, via, unsafeNoIommu, onRequest }), ofDriver);
}

/** The same, of a physical function. @throws VfioError ENXIO for a virtual function */
export async function openPhysicalPort(address: string, options: PortOptions & DeviceAccess): Promise<PhysicalPort> {
  const port = await openPort(address, options);
  if (port instanceof PhysicalPort) return port;
  port[Symbol.dispose]();
  throw new VfioError('ENXIO', `${address} is a virtual function, which shares nothing`, { fix: 'Name its physical function.' });
}
