/**
 * The door to writing devices: the kit, the contract between a model and its host, capabilities, a
 * host for tests, and the models that come with the package.
 *
 *     import { bar, device, reg, TestHost } from 'vfio-ts/device';
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
export { BenchControl, BenchOp, bench } from '../models/bench/bench.ts';
export { type EduOptions, edu } from '../models/edu/edu.ts';
export { bar, memory } from '../models/kit/bar.ts';
export { type Dev, type DeviceSpec, device } from '../models/kit/device.ts';
export { DeviceReset } from '../models/kit/life.ts';
export { reg } from '../models/kit/register.ts';
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
