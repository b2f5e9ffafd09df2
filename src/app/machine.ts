/**
 * The package's door to whole machines: `import { loadMachine, KernelDoor } from 'vfio-ts/machine'`. A device or a driver alone needs none of this
 * and comes from 'vfio-ts'.
 */
import { Machine, type MachineOptions } from '../engine/machine/machine.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import { modelsWithImages } from './disk-image.ts';
import { readMachineFile } from './machine-file.ts';

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
export type { DirectMemory } from '../abi/memory.ts';
export { DirtyFlags, DmaMapFlags, DmaUnmapFlags, Extension, RegionFlags, RegionIndex } from '../abi/vfio.ts';
export type { DeviceFile } from '../engine/device/device-file.ts';
export type { Container } from '../engine/dma/container.ts';
export { estimateMemlock } from '../engine/dma/locked-memory.ts';
export { Process } from '../engine/dma/process.ts';
export { FaultPlan } from '../engine/fault-plan.ts';
export type { Explanation } from '../engine/machine/explain.ts';
export type { GroupFile } from '../engine/machine/group-file.ts';
export type { FunctionSpec, MachineSpec } from '../engine/machine/machine-spec.ts';
export { type MediatorRegistration, Mediators } from '../engine/mediation/mediators.ts';
export { defaultParams, type EngineParams, type ParamState, type ParamValue } from '../engine/params.ts';
export { SyntheticVm } from '../engine/vm/synthetic-vm.ts';
export { type VfioFile, VfioFileSet } from '../engine/vm/vfio-file-set.ts';
export { type VmFile, VmProvider } from '../engine/vm/vm-provider.ts';
export { KernelDoor } from '../ioctl/kernel-door.ts';
export type { UserProcess } from '../ioctl/user-process.ts';
export { eduMover } from '../mediators/edu-mover.ts';
export { type RegisterRecord, registerRecorder } from '../mediators/register-recorder.ts';
export { EventFd } from '../sys/eventfd.ts';
export { FakeEventFd, HeapMemory } from '../sys/fake.ts';
export { KvmVm } from '../sys/kvm-vm.ts';
export { importMediators } from './import-mediator.ts';
export { parseMachine, readMachineFile } from './machine-file.ts';
export { administerMachine, MachineServer, type MachineServerOptions } from './machine-server.ts';
export type { Endpoint } from './migrate/endpoints.ts';
export type { Figures } from './migrate/figures.ts';
export { type MoveOptions, moveDevice } from './migrate/move.ts';
export { DeviceServer, type ServeOptions, serve } from './serve.ts';
export { Machine, type MachineOptions, MemfdMemory };

/**
 * The machine in a file, with the models that ship and memory that other processes can share.
 *
 * @throws VfioError ENOENT; EINVAL with file, line and column for what is no machine file; what `new Machine` throws for what is no machine
 */
export function loadMachine(file: string, options: Partial<MachineOptions> = {}): Machine {
  return new Machine(readMachineFile(file), { allocate: MemfdMemory.allocate, models: modelsWithImages, ...options });
}
