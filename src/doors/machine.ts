/**
 * The door to whole machines: topology and groups, containers and DMA, the ioctl door, processes,
 * programs and a whole Linux on a machine, mediators, and references on virtual machines. A device
 * or a driver alone needs none of this.
 *
 *     import { KernelDoor, loadMachine } from 'vfio-ts/machine';
 *
 * @module vfio-ts/machine
 */

export type * from '../abi/event.ts';
export {
  type Accepted,
  type AddedRegion,
  type IrqHooks,
  type MediatedDevice,
  type MediatedPhysical,
  type Mediator,
  PASS_THROUGH,
  type PassThrough,
  type RegionHooks,
} from '../abi/mediator.ts';
export type { DirectMemory, Memory, MemoryAllocator } from '../abi/memory.ts';
export { DirtyFlags, DmaMapFlags, DmaUnmapFlags, Extension, RegionFlags, RegionIndex } from '../abi/vfio.ts';
export { type BarAccess, type ExecOptions, execOn } from '../api/exec.ts';
export { importMediators } from '../api/import-mediator.ts';
export { type LinuxOptions, linuxOn } from '../api/linux.ts';
export { importMachine, loadMachine } from '../api/machine.ts';
export { parseMachine, readMachineFile } from '../api/machine-file.ts';
export { type Culprit, type ErrnoName, VfioError, type VfioErrorOptions } from '../base/errno.ts';
export type { DeviceFile } from '../engine/device/device-file.ts';
export type { Container } from '../engine/dma/container.ts';
export { estimateMemlock, type MemlockEstimateOptions } from '../engine/dma/locked-memory.ts';
export { Process, type ProcessOptions } from '../engine/dma/process.ts';
export type { DirtyRange, IommuInfo, MapDma, MapMemory, MappingInfo, UnmapDma } from '../engine/dma/type1-requests.ts';
export { FaultPlan } from '../engine/fault-plan.ts';
export type { Iommufd } from '../engine/iommufd/iommufd.ts';
export type { IommufdDevice } from '../engine/iommufd/iommufd-device.ts';
export type {
  HwInfo,
  HwptAllocRequest,
  HwptDirtyRequest,
  IoasCopyRequest,
  IoasMapRequest,
} from '../engine/iommufd/requests.ts';
export { type LinuxVersion, linuxVersions } from '../engine/linux-version.ts';
export type { BindPlan } from '../engine/machine/bind-plan.ts';
export type { BindRequest, CdevFile } from '../engine/machine/cdev-file.ts';
export type { Blocker, Explanation, GroupMember, Remedies } from '../engine/machine/explain.ts';
export type { GroupFile } from '../engine/machine/group-file.ts';
export { Machine, type MachineOptions } from '../engine/machine/machine.ts';
export type { MachineEvent } from '../engine/machine/machine-events.ts';
export type {
  FunctionKind,
  FunctionSpec,
  Grouping,
  GroupSpec,
  HostDriverSpec,
  IommuKind,
  IommuSpec,
  LinkSpec,
  MachineSpec,
  ModelReference,
  ReservedWindow,
  SriovSpec,
} from '../engine/machine/machine-spec.ts';
export { type MediatorRegistration, Mediators } from '../engine/mediation/mediators.ts';
export { defaultParams, type EngineParams, type ParamName, type ParamState, type ParamValue } from '../engine/params.ts';
export { SyntheticVm } from '../engine/vm/synthetic-vm.ts';
export { type VfioFile, VfioFileSet, type VfioFileSetOptions } from '../engine/vm/vfio-file-set.ts';
export { type VmFile, VmProvider } from '../engine/vm/vm-provider.ts';
export { EventStream, type EventStreamOptions } from '../events/stream.ts';
export type { GroupDifference } from '../host/group-differences.ts';
export { Host, type HostOptions } from '../host/host.ts';
export type {
  HostAcs,
  HostFunction,
  HostGroup,
  HostPicture,
  HostResource,
  HostSource,
  HostSriov,
} from '../host/host-picture.ts';
export { readHost, readThisHost } from '../host/read-host.ts';
export { KernelDoor, type KernelDoorOptions } from '../ioctl/kernel-door.ts';
export type { UserMemory } from '../ioctl/system-calls.ts';
export type { PollRequest, UserProcess } from '../ioctl/user-process.ts';
export { type EduMoverOptions, eduMover } from '../mediators/edu-mover.ts';
export { type RegisterRecord, type RegisterRecorderOptions, registerRecorder } from '../mediators/register-recorder.ts';
export { EventFd } from '../sys/eventfd.ts';
export { FakeEventFd, HeapMemory } from '../sys/fake.ts';
export { KvmVm } from '../sys/kvm-vm.ts';
export { MemfdMemory } from '../sys/memfd.ts';
