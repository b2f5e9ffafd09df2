/**
 * The door to writing devices: the kit, the contract between a model and its host, capabilities, a
 * host for tests, and the models that come with the package.
 *
 *     import { bar, device, registers, TestHost, u32 } from 'vfio-ts/device';
 *
 * @module vfio-ts/device
 */

export type { Doorbell } from '../abi/device.ts';
export {
  type DeviceHost,
  Dma,
  DmaFault,
  DmaPlace,
  type DmaPort,
  type ErrorKind,
  type Iova,
  type IrqPort,
  type Model,
  type ModelBulk,
  type ModelMigration,
  type ModelPeerToPeer,
  type Width,
} from '../abi/device-host.ts';
export type * from '../abi/event.ts';
export { Access, type DirectMemory, type Memory } from '../abi/memory.ts';
export { type BitAccess, bit, bits } from '../base/bit-fields.ts';
export { type Clock, ManualClock, SystemClock } from '../base/clock.ts';
export type { RegisterMapOptions } from '../base/driver-view.ts';
export { type Culprit, type ErrnoName, VfioError, type VfioErrorOptions } from '../base/errno.ts';
export type { Logger, LogLevel } from '../base/log.ts';
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
export { EventStream, type EventStreamOptions } from '../events/stream.ts';
export { BenchControl, BenchOp, bench } from '../models/bench/bench.ts';
export { type EduOptions, edu } from '../models/edu/edu.ts';
export { endpointTest } from '../models/endpoint-test/endpoint-test.ts';
export { type BarOptions, type BarPlacement, type BarSize, bar, type MemoryBar, memory, type RegisterBar } from '../models/kit/bar.ts';
export type { CommandFields, CommandFieldType, CommandsSpec, CommandValues, RunningCommand } from '../models/kit/commands.ts';
export { type ConfigRegisters, configRegisters } from '../models/kit/config-registers.ts';
export { device, type KitDevice } from '../models/kit/device.ts';
export type { Bars, Dev, DeviceMigration, DeviceSpec, MsixPlacement, RegionSpec } from '../models/kit/device-spec.ts';
export type { Instance } from '../models/kit/instance.ts';
export { DeviceReset } from '../models/kit/life.ts';
export type { Behaviour, Behaviours } from '../models/kit/register.ts';
export { type IrqEvent, TestHost, type TestHostOptions } from '../models/kit/test-host.ts';
export { type ModelFactory, type ModelOptions, models } from '../models/registry.ts';
export { type VirtioRngOptions, virtioRng } from '../models/virtio-rng/virtio-rng.ts';
/** Builders of PCI capabilities, which `device()` takes: `capabilities.vpd(image)`. */
export * as capabilities from '../pci/capabilities.ts';
export type {
  BarDeclaration,
  Capability,
  ConfigRegister,
  DeviceModel,
  PciDeclaration,
  RegionDeclaration,
  SriovDeclaration,
  VirtualFunctionModel,
} from '../pci/declaration.ts';
/** Builders of PCI Express extended capabilities, which `device()` takes. */
export * as extendedCapabilities from '../pci/extended-capabilities.ts';
