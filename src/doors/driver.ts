/**
 * The door to writing drivers: `open` and the kit, VFIO's own interface of a device below it, live
 * migration, and the driver of edu as an example.
 *
 *     import { open, registers, u32 } from 'vfio-ts/driver';
 *
 * @module vfio-ts/driver
 */
export { BusError } from '../abi/bus-error.ts';
export type {
  Device,
  DeviceEvent,
  DeviceEventKind,
  DeviceInfo,
  DirtyTracking,
  DmaBuf,
  DmaBufRequest,
  DmaBufSegment,
  DmaLogging,
  DmaLogReport,
  DmaRange,
  DmaSpace,
  Doorbell,
  FeatureRequest,
  HotResetDependent,
  InterruptSink,
  InterruptSource,
  IovaRange,
  IrqInfo,
  LowPower,
  MappableArea,
  MappingMemory,
  MigrationControl,
  MigrationStream,
  PrecopyInfo,
  Region,
  RegionInfo,
  RegionMapping,
  SetIrqs,
  SleepNotice,
} from '../abi/device.ts';
export type * from '../abi/event.ts';
export type { DirectMemory, Memory } from '../abi/memory.ts';
export {
  bitmapBytes,
  DeviceFlags,
  Feature,
  IrqIndex,
  IrqInfoFlags,
  MigrationFlags,
  MigrationState,
  RegionFlags,
  RegionIndex,
} from '../abi/vfio.ts';
export { type OpenOptions, open } from '../api/open.ts';
export type { DriverContext, DriverMain } from '../api/run-driver.ts';
export { type BitAccess, bit, bits } from '../base/bit-fields.ts';
export { type Clock, ManualClock, SystemClock } from '../base/clock.ts';
export type { RegisterMapOptions } from '../base/driver-view.ts';
export { type Culprit, type ErrnoName, VfioError, type VfioErrorOptions } from '../base/errno.ts';
export type { RegisterAccess } from '../base/register-access.ts';
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
export { EduDriver, type EduDriverOptions } from '../drivers/edu/edu-driver.ts';
export type { ConfigView } from '../drivers/kit/config-view.ts';
export type { AllocOptions, DmaBuffer, DriverDma } from '../drivers/kit/dma.ts';
export { type AttachOptions, DriverDevice, type IrqSource, type UntilOptions } from '../drivers/kit/driver-device.ts';
export type { Interrupts, WaitOptions } from '../drivers/kit/interrupts.ts';
export { type LoggedRange, Migration, type MigrationStateName } from '../drivers/kit/migration.ts';
export type { WaitEvents } from '../drivers/kit/wait-events.ts';
export { EventStream, type EventStreamOptions } from '../events/stream.ts';
export { KernelDevice, type KernelDeviceOptions } from '../kernel/device.ts';
export type { KernelAddress, OpenedVia } from '../kernel/opened.ts';
