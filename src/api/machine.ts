/**
 * Machines from files, with the models that come with the package and memory that other processes
 * can share.
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

/**
 * The machine in a file, with the models that come with the package and memory that other processes
 * can share. A machine file that names models in files needs `importMachine`.
 *
 * @throws VfioError ENOENT; EINVAL with file, line and column for a file that is not a machine
 *   file; the errors of `new Machine`
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
 * As `loadMachine`, also for a machine that names models in files. The names are relative to the
 * machine file, and the call runs the code of these files.
 *
 * @throws VfioError (rejects) as `loadMachine`, and errors of loading a file
 */
export async function importMachine(file: string, options: Partial<MachineOptions> = {}): Promise<Machine> {
  return await importMachineOf(file, readMachineFile(file), options);
}

/** As `importMachine`, of a declaration that was read from `file`. */
export async function importMachineOf(file: string, spec: MachineSpec, options: Partial<MachineOptions> = {}): Promise<Machine> {
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
