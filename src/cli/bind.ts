/** `vfio bind`: the plan of a bind in a machine file, which --write keeps. */
import type { CommandContext } from './command.ts';
import { groupLines } from './machine-tree.ts';

interface BindOptions {
  readonly machine: string;
  readonly group?: boolean;
  readonly write?: boolean;
}

export async function bind({ terminal, usage }: CommandContext, options: BindOptions, at: string, driver: string): Promise<undefined> {
  if (options.group === true && driver !== 'vfio-pci') {
    usage(`--group gives each device the driver that it needs: leave out '${driver}'`);
  }
  const { importMachine } = await import('../api/machine.ts');
  using machine = await importMachine(options.machine);
  const fn = machine.function(at);
  const before = new Map([...machine.functions].map(([of, f]) => [of, f.driver]));
  if (options.group === true) {
    if (fn.group === null) machine.bind(fn.bdf, driver);
    else machine.bindGroup(fn.group.id);
  } else {
    if (driver !== 'none') machine.drivers.checkKnown(driver);
    if (fn.driver !== null && fn.driver !== driver) await machine.unbind(fn.bdf);
    if (driver !== 'none') machine.bind(fn.bdf, driver);
  }
  const changed = [...machine.functions.values()].filter((f) => f.driver !== before.get(f.bdf));
  for (const f of changed) terminal.out(`${f.bdf}  ${f.name}: ${before.get(f.bdf) ?? 'no driver'} -> ${f.driver ?? 'no driver'}`);
  if (changed.length === 0) terminal.out('nothing to do');
  if (fn.group !== null) {
    const { functionDocument, groupDocument } = await import('../api/machine-document.ts');
    const functions = new Map(fn.group.functions.map((member) => [member.bdf, functionDocument(member)]));
    for (const line of groupLines(groupDocument(fn.group), functions, terminal)) terminal.out(line);
  }
  if (options.write === true) {
    const { writeDrivers } = await import('../api/machine-file-drivers.ts');
    // VFs are not declared one by one: they follow from numVfs of their PF.
    const declared = changed.filter((f) => f.physical === null);
    writeDrivers(options.machine, machine, declared);
    for (const f of changed)
      if (f.physical !== null) terminal.err(`(${f.bdf} is a virtual function: the file has no place for its driver)`);
  } else if (changed.length > 0) terminal.err(`(not written; --write keeps it in ${options.machine})`);
}
