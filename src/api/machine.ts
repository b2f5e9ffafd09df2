/**
 * Machines from files, with the models that come with the package and memory that other processes
 * can share.
 */
import { VfioError } from '../base/errno.ts';
import type { Machine, MachineOptions } from '../engine/machine/machine.ts';
import { readMachineFile } from './machine-file.ts';
import { importMachineOf, machineOf } from './machine-of-spec.ts';
import { modelFilesOf } from './model-file.ts';

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
