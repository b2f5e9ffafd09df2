/** A machine file made into a machine with the models that ship. */
import { Machine, type MachineOptions } from '../engine/machine.ts';
import { models } from '../models/registry.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import { readMachineFile } from './machine-file.ts';

/** @throws VfioError ENOENT, EINVAL with file, line and column */
export function loadMachine(file: string, options: Partial<MachineOptions> = {}): Machine {
  return new Machine(readMachineFile(file), { allocate: MemfdMemory.allocate, models, ...options });
}
