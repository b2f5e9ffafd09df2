/**
 * The door to writing drivers: `open` and the kit, VFIO's own interface of a device below it, live
 * migration, and the driver of edu as an example.
 *
 *     import { open, registers, u32 } from 'vfio-ts/driver';
 *
 * @module
 */
export { BusError } from '../abi/bus-error.ts';
export type {
  Device,
  DeviceEvent,
  DeviceInfo,
  DmaBuf,
  DmaBufRequest,
  DmaBufSegment,
  DmaLogging,
  DmaLogReport,
  DmaRange,
  DmaSpace,
  FeatureRequest,
  InterruptSink,
  InterruptSource,
  IrqInfo,
  LowPower,
  MigrationControl,
  MigrationStream,
  PrecopyInfo,
  Region,
  RegionInfo,
  RegionMapping,
  SetIrqs,
  SleepNotice,
} from '../abi/device.ts';
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
export { type ErrnoName, VfioError } from '../base/errno.ts';
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
export type { AllocOptions, DmaBuffer } from '../drivers/kit/dma.ts';
export { type AttachOptions, DriverDevice } from '../drivers/kit/driver-device.ts';
export type { Interrupts, WaitOptions } from '../drivers/kit/interrupts.ts';
export { type LoggedRange, Migration, type MigrationStateName } from '../drivers/kit/migration.ts';
