/**
 * The package's door to whole machines: `import { loadMachine, KernelDoor } from 'vfio-ts/machine'`. A device or a driver alone needs none of this
 * and comes from 'vfio-ts'.
 */
import { dirname, resolve } from 'node:path';
import { VfioError } from '../base/errno.ts';
import { Machine, type MachineOptions } from '../engine/machine/machine.ts';
import type { MachineSpec } from '../engine/machine/machine-spec.ts';
import type { ModelFactory } from '../models/registry.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import { modelsWithImages } from './disk-image.ts';
import { importFile } from './import-file.ts';
import { readMachineFile } from './machine-file.ts';
import { factoryIn, modelFilesOf } from './model-file.ts';
import { shellQuoted } from './shell-quoted.ts';

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
 * The machine in a file, with the models that ship and memory that other processes can share. For one that names models in files of its own there is
 * `importMachine`.
 *
 * @throws VfioError ENOENT; EINVAL with file, line and column for what is no machine file; what `new Machine` throws for what is no machine
 */
export function loadMachine(file: string, options: Partial<MachineOptions> = {}): Machine {
  const spec = readMachineFile(file);
  const [code] = modelFilesOf(spec);
  if (code !== undefined && options.models?.[code] === undefined) {
    throw new VfioError('EINVAL', `${file} names a model in a file, ${code}, which takes time to load`, {
      fix: "Use 'await importMachine(file)' in place of loadMachine(file).",
    });
  }
  return machineOf(file, spec, options);
}

/**
 * The same, also for a machine that names models in files: their names are relative to the machine
 * file, and their code is run.
 *
 * @throws VfioError (rejects) as `loadMachine`, and errors of loading a file
 */
export async function importMachine(file: string, options: Partial<MachineOptions> = {}): Promise<Machine> {
  const spec = readMachineFile(file);
  const models: Record<string, ModelFactory> = {};
  for (const code of modelFilesOf(spec)) {
    const path = resolve(dirname(file), code);
    models[code] = factoryIn(await importFile(path), path);
  }
  return machineOf(file, spec, { ...options, models: { ...modelsWithImages, ...models, ...options.models } });
}

function machineOf(file: string, spec: MachineSpec, options: Partial<MachineOptions>): Machine {
  const bindCommand = (bdf: string, driver: string) => `vfio bind ${bdf} ${driver} -m ${shellQuoted(file)}`;
  return new Machine(spec, { allocate: MemfdMemory.allocate, models: modelsWithImages, bindCommand, ...options });
}
