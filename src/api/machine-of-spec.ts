/**
 * Machines from declarations that were read from a file. Apart from machine.ts, so that a thread
 * that is given a declaration loads no reader of files.
 */
import { dirname, resolve } from 'node:path';
import { Machine, type MachineOptions } from '../engine/machine/machine.ts';
import type { MachineSpec } from '../engine/machine/machine-spec.ts';
import type { ModelFactory } from '../models/registry.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import { importFile } from './import-file.ts';
import { factoryIn, modelFilesOf } from './model-file.ts';
import { modelsOn } from './models-of-computer.ts';
import { shellQuoted } from './shell-quoted.ts';
import { Wires } from './wires.ts';

/** As `importMachine`, of a declaration that was read from `file`. */
export async function importMachineOf(file: string, spec: MachineSpec, options: Partial<MachineOptions> = {}): Promise<Machine> {
  const models: Record<string, ModelFactory> = {};
  for (const code of modelFilesOf(spec)) {
    const path = resolve(dirname(file), code);
    models[code] = factoryIn(await importFile(path), path);
  }
  return machineOf(file, spec, { ...options, models: { ...modelsOn(wiresOf(options)), ...models, ...options.models } });
}

/** The machine of `spec`, whose models are in the package or in `options`. */
export function machineOf(file: string, spec: MachineSpec, options: Partial<MachineOptions>): Machine {
  const bindCommand = (bdf: string, driver: string) => `vfio bind ${bdf} ${driver} -m ${shellQuoted(file)}`;
  return new Machine(spec, { allocate: MemfdMemory.allocate, models: modelsOn(wiresOf(options)), bindCommand, ...options });
}

/** Wires of one machine, on its clock. */
function wiresOf({ clock, events, log }: Partial<MachineOptions>): Wires {
  const time = clock ?? events?.clock;
  return new Wires({ ...(time === undefined ? {} : { clock: time }), ...(log === undefined ? {} : { log }) });
}
