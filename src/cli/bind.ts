/** `vfio bind`: of this computer, or the plan of a bind in a machine file, which --write keeps. */
import type { CommandContext } from './command.ts';
import type { HostBindOptions } from './host/bind.ts';
import { groupLines } from './machine-tree.ts';

interface BindOptions extends HostBindOptions {
  readonly machine?: string;
  /** True: all binds that the group needs. A number, or an address that stands in its place. */
  readonly group?: true | number | string;
  readonly driver?: string;
  readonly write?: boolean;
}

/** Options that belong to one of the two. */
const ofThisComputer = ['alone', 'dryRun', 'persist', 'early', 'force', 'state', 'sysfs', 'json'] as const;

export async function bind(context: CommandContext, options: BindOptions, bdf?: string, word?: string): Promise<undefined> {
  const { usage } = context;
  const at = typeof options.group === 'string' ? options.group : bdf;
  const group = typeof options.group === 'string' ? true : options.group;
  if (word !== undefined && options.driver !== undefined && word !== options.driver)
    usage(`two drivers are given: ${word} and ${options.driver}`);
  const driver = options.driver ?? word ?? 'vfio-pci';
  if (options.machine === undefined) {
    if (options.write === true) usage('--write is for a machine file: add --machine FILE');
    const { bindOnHost } = await import('./host/bind.ts');
    if (typeof group === 'number') {
      if (at !== undefined) usage(`give ${at} or --group ${group}, not both`);
      return bindOnHost(context, options, { kind: 'group', group }, driver);
    }
    if (at === undefined) return usage('give the address of a device, or --group with the number of a group');
    return bindOnHost(context, options, { kind: 'function', bdf: at, alone: options.alone === true }, driver);
  }
  const foreign = ofThisComputer.find((name) => options[name] !== undefined);
  if (foreign !== undefined) usage(`--${foreign === 'dryRun' ? 'dry-run' : foreign} is for this computer, not for a machine file`);
  if (at === undefined) return usage('give the address of a device of the machine');
  if (typeof group === 'number') usage('a machine file has no numbers of groups before it runs: leave out the number');
  await bindInMachine(context, options.machine, { ...options, group: group === true }, at, driver);
}

interface MachineBindOptions {
  readonly group: boolean;
  readonly write?: boolean;
}

async function bindInMachine(
  { terminal, usage }: CommandContext,
  file: string,
  options: MachineBindOptions,
  at: string,
  driver: string,
): Promise<void> {
  if (options.group && driver !== 'vfio-pci') {
    usage(`--group gives each device the driver that it needs: leave out '${driver}'`);
  }
  const { importMachine } = await import('../api/machine.ts');
  using machine = await importMachine(file);
  const fn = machine.function(at);
  const before = new Map([...machine.functions].map(([of, f]) => [of, f.driver]));
  if (options.group) {
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
    writeDrivers(file, machine, declared);
    for (const f of changed)
      if (f.physical !== null) terminal.err(`(${f.bdf} is a virtual function: the file has no place for its driver)`);
  } else if (changed.length > 0) terminal.err(`(not written; --write keeps it in ${file})`);
}
