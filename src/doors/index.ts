/**
 * The common door: the names that devices and drivers usually need. The doors of one subject
 * ('vfio-ts/device', 'vfio-ts/driver', …) have all of their subject; a name that stands at two
 * doors is one and the same.
 *
 *     import { registers, u32 } from 'vfio-ts';        // to name registers, once for both sides
 *     import { bar, device } from 'vfio-ts';           // to write a device
 *     import { open } from 'vfio-ts';                  // to write a driver
 *
 * @module vfio-ts
 */

// For both.
export { BusError } from '../abi/bus-error.ts';
// To write a device.
export type { DeviceHost } from '../abi/device-host.ts';
// To see both work.
export type {
  EventFlow,
  EventKind,
  EventOf,
  EventOptions,
  VfioEvent,
} from '../abi/event.ts';
// To keep what happens.
export { type EventFileOptions, writeEvents } from '../api/event-file.ts';
// To write a driver, and to read back what it did.
export { type OpenOptions, open } from '../api/open.ts';
export { type RecordedEvents, type RecordedOptions, readEvents } from '../api/recorded-events.ts';
export type { DriverContext, DriverMain } from '../api/run-driver.ts';
export { DeviceServer, type ServeAtOptions, type ServeOptions, serve } from '../api/serve.ts';
export { type BitAccess, bit, bits } from '../base/bit-fields.ts';
export { type Clock, ManualClock, SystemClock } from '../base/clock.ts';
export type { RegisterMapOptions } from '../base/driver-view.ts';
export { type ErrnoName, VfioError } from '../base/errno.ts';
export type { Logger } from '../base/log.ts';
export {
  type DriverView,
  type ModelView,
  type Register,
  type Registers,
  registers,
  type SoftwareAccess,
  u8,
  u16,
  u32,
  u64,
} from '../base/registers.ts';
export type { AllocOptions, DmaBuffer } from '../drivers/kit/dma.ts';
export { type AttachOptions, DriverDevice, type UntilOptions } from '../drivers/kit/driver-device.ts';
export type { Interrupts, WaitOptions } from '../drivers/kit/interrupts.ts';
export type { StreamAbout } from '../events/printers/printer.ts';
export { EventStream, type EventStreamOptions } from '../events/stream.ts';
export { type BarOptions, bar, type MemoryBar, memory, type RegisterBar } from '../models/kit/bar.ts';
export { type ConfigRegisters, configRegisters } from '../models/kit/config-registers.ts';
export { device, type KitDevice } from '../models/kit/device.ts';
export type { Bars, Dev, DeviceSpec } from '../models/kit/device-spec.ts';
export type { Instance } from '../models/kit/instance.ts';
export { DeviceReset } from '../models/kit/life.ts';
export type { Behaviour, Behaviours } from '../models/kit/register.ts';
export { TestHost, type TestHostOptions } from '../models/kit/test-host.ts';
/** Builders of PCI capabilities, which `device()` takes: `capabilities.vpd(image)`. */
export * as capabilities from '../pci/capabilities.ts';
export type { DeviceModel } from '../pci/declaration.ts';
/** Builders of PCI Express extended capabilities, which `device()` takes. */
export * as extendedCapabilities from '../pci/extended-capabilities.ts';
