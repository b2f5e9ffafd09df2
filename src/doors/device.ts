/**
 * The door to writing devices: the kit, the contract between a model and its host, capabilities, a
 * host for tests, and the models that come with the package.
 *
 *     import { bar, device, registers, TestHost, u32 } from 'vfio-ts/device';
 *
 * @module
 */
export {
  type DeviceHost,
  Dma,
  DmaFault,
  type ErrorKind,
  type Model,
  type ModelBulk,
  type ModelMigration,
  type Width,
} from '../abi/device-host.ts';
export { Access, type DirectMemory, type Memory } from '../abi/memory.ts';
export { type BitAccess, bit, bits } from '../base/bit-fields.ts';
export { type Clock, ManualClock, SystemClock } from '../base/clock.ts';
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
export { BenchControl, BenchOp, bench } from '../models/bench/bench.ts';
export { type EduOptions, edu } from '../models/edu/edu.ts';
export { type BarOptions, bar, type MemoryBar, memory, type RegisterBar } from '../models/kit/bar.ts';
export { type ConfigRegisters, configRegisters } from '../models/kit/config-registers.ts';
export { device, type KitDevice } from '../models/kit/device.ts';
export type { Bars, Dev, DeviceSpec } from '../models/kit/device-spec.ts';
export type { Instance } from '../models/kit/instance.ts';
export { DeviceReset } from '../models/kit/life.ts';
export type { Behaviour, Behaviours } from '../models/kit/register.ts';
export { TestHost } from '../models/kit/test-host.ts';
export { type ModelFactory, models } from '../models/registry.ts';
export * as capabilities from '../pci/capabilities.ts';
export type {
  BarDeclaration,
  Capability,
  DeviceModel,
  PciDeclaration,
  SriovDeclaration,
  VirtualFunctionModel,
} from '../pci/declaration.ts';
export * as extendedCapabilities from '../pci/extended-capabilities.ts';
