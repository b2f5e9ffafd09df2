/**
 * The package's front door.
 *
 *     import { registers, u32 } from 'vfio-ts';        // to name registers, once for both
 *     import { bar, device } from 'vfio-ts';           // to write a device
 *     import { open } from 'vfio-ts';                  // to write a driver
 */

export { BusError } from './abi/bus-error.ts';
export type {
  Device,
  DeviceEvent,
  DeviceInfo,
  DmaSpace,
  FeatureRequest,
  InterruptSink,
  InterruptSource,
  IrqInfo,
  MigrationStream,
  PrecopyInfo,
  Region,
  RegionInfo,
  RegionMapping,
  SetIrqs,
} from './abi/device.ts';
export {
  type DeviceHost,
  Dma,
  DmaFault,
  type ErrorKind,
  type Model,
  type ModelBulk,
  type ModelMigration,
  type Width,
} from './abi/device-host.ts';
export { Access, type DirectMemory, type Memory } from './abi/memory.ts';
export { DeviceFlags, Feature, IrqIndex, IrqInfoFlags, MigrationFlags, MigrationState, RegionFlags, RegionIndex } from './abi/vfio.ts';
export { type OpenOptions, open } from './api/open.ts';
export { type BitAccess, bit, bits } from './base/bit-fields.ts';
export { type Clock, ManualClock, SystemClock } from './base/clock.ts';
export { type ErrnoName, VfioError } from './base/errno.ts';
export type { Logger } from './base/log.ts';
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
} from './base/registers.ts';
export { EduDriver, type EduDriverOptions } from './drivers/edu/edu-driver.ts';
export type { AllocOptions, DmaBuffer } from './drivers/kit/dma.ts';
export { type AttachOptions, DriverDevice } from './drivers/kit/driver-device.ts';
export type { Interrupts, WaitOptions } from './drivers/kit/interrupts.ts';
export { bitmapBytes, type LoggedRange, Migration, type MigrationStateName } from './drivers/kit/migration.ts';
export type { CommandRequest, GetFeatureOptions, LogOptions, SetFeatureOptions } from './drivers/nvme/admin.ts';
export type { ControllerInfo } from './drivers/nvme/controller-info.ts';
export { NvmeError } from './drivers/nvme/errors.ts';
export type { NvmeEvent } from './drivers/nvme/events.ts';
export type { IoQueue } from './drivers/nvme/io-queue.ts';
export type { BlockRange, NvmeNamespace, WriteOptions } from './drivers/nvme/namespace.ts';
export { type FormatOptions, NvmeDriver, type NvmeDriverOptions } from './drivers/nvme/nvme-driver.ts';
export { BenchControl, BenchOp, bench } from './models/bench/bench.ts';
export { type EduOptions, edu } from './models/edu/edu.ts';
export { type BarOptions, bar, type MemoryBar, memory, type RegisterBar } from './models/kit/bar.ts';
export { type ConfigRegisters, configRegisters } from './models/kit/config-registers.ts';
export { type Bars, type Dev, type DeviceSpec, device, type KitDevice } from './models/kit/device.ts';
export type { Instance } from './models/kit/instance.ts';
export { DeviceReset } from './models/kit/life.ts';
export type { Behaviour, Behaviours } from './models/kit/register.ts';
export { serial } from './models/kit/serial.ts';
export { TestHost } from './models/kit/test-host.ts';
export { type ModelFactory, models } from './models/registry.ts';
export * as capabilities from './pci/capabilities.ts';
export type { BarDeclaration, Capability, DeviceModel, PciDeclaration, SriovDeclaration, VirtualFunctionModel } from './pci/declaration.ts';
export * as extendedCapabilities from './pci/extended-capabilities.ts';
