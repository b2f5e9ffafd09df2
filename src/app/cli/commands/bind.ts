import { readFileSync, writeFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { type Document, isMap, isSeq, parseDocument, type Scalar, type YAMLMap, type YAMLSeq } from 'yaml';
import { VfioError } from '../../../base/errno.ts';
import type { Machine } from '../../../engine/machine/machine.ts';
import type { PciBus, PciFunction } from '../../../engine/machine/pci-function.ts';
import { loadMachine } from '../../machine.ts';
import { bdf } from '../arguments.ts';
import { groupLines } from '../machine-tree.ts';
import type { CommandContext } from '../main.ts';

interface BindOptions {
  readonly machine: string;
  readonly group?: boolean;
  readonly write?: boolean;
}

/** The machine a command works on: `--machine FILE`, or the environment. */
export const machineOption = () => new Option('-m, --machine <file>', 'the machine that the address is in').env('VFIO_MACHINE');

export function bindCommand({ terminal }: CommandContext): Command {
  return new Command('bind')
    .description('bind a device, or with --group all of its group, to a driver; tell what it takes, and with --write keep it')
    .argument('<bdf>', 'the device', bdf)
    .argument('[driver]', 'the driver; none to unbind', 'vfio-pci')
    .addOption(machineOption().makeOptionMandatory())
    .option('-g, --group', 'do what the whole group needs so that a user can have it')
    .option('-w, --write', 'write the new drivers into the machine file')
    .addHelpText(
      'after',
      `
Nothing is written without --write: the command tells what it would do and whether it would work.

Examples:
  vfio bind 01:00.0 --group -m examples/machines/desktop.yaml
  vfio bind 01:00.0 none -m my-machine.yaml --write`,
    )
    .action(async (at: string, driver: string, options: BindOptions, command: Command) => {
      if (options.group === true && driver !== 'vfio-pci') {
        command.error(`error: --group gives each device the driver that it needs: leave out '${driver}'`);
      }
      using machine = loadMachine(options.machine);
      const fn = machine.function(at);
      const before = new Map([...machine.functions].map(([of, f]) => [of, f.driver]));
      if (options.group === true) {
        if (fn.group === null) machine.bind(fn.bdf, driver);
        else machine.bindGroup(fn.group.id);
      } else {
        if (fn.driver !== null && fn.driver !== driver) await machine.unbind(fn.bdf);
        if (driver !== 'none') machine.bind(fn.bdf, driver);
      }
      const changed = [...machine.functions.values()].filter((f) => f.driver !== before.get(f.bdf));
      for (const f of changed) terminal.out(`${f.bdf}  ${f.name}: ${before.get(f.bdf) ?? 'no driver'} -> ${f.driver ?? 'no driver'}`);
      if (changed.length === 0) terminal.out('nothing to do');
      if (fn.group !== null) for (const line of groupLines(fn.group, terminal)) terminal.out(line);
      if (options.write === true) writeDrivers(options.machine, machine, changed);
      else if (changed.length > 0) terminal.err(`(not written; --write keeps it in ${options.machine})`);
    });
}

/** Set `driver:` of the functions in the machine file. Only these words change: layout and comments are the author's. */
function writeDrivers(file: string, machine: Machine, changed: readonly PciFunction[]): void {
  let text = readFileSync(file, 'utf8');
  for (const fn of changed) {
    // Read anew each time: an edit moves what comes after it. As text, as machine-file.ts reads it: 060000 and 00.0 are no numbers.
    const node = nodeOf(parseDocument(text, { schema: 'failsafe' }), machine, fn, file);
    const driver = fn.driver ?? 'none';
    const now = node.get('driver', true) as Scalar | undefined;
    const at = node.get('at', true) as Scalar;
    const lineStart = text.lastIndexOf('\n', at.range![0]) + 1;
    const indent = ' '.repeat(text.slice(lineStart).search(/at\b|['"]at\b/));
    const [from, to, put] =
      now?.range != null
        ? [now.range[0], now.range[1], driver]
        : [at.range![1], at.range![1], node.flow === true ? `, driver: ${driver}` : `\n${indent}driver: ${driver}`];
    text = text.slice(0, from) + put + text.slice(to);
  }
  writeFileSync(file, text);
}

/** The declaration of `fn`: down the buses from the root, by device and function number. */
function nodeOf(document: Document, machine: Machine, fn: PciFunction, file: string): YAMLMap {
  const path: PciFunction[] = [];
  for (let at: PciFunction | null = fn; at !== null; at = at.parent) path.unshift(at);
  let devices = document.get('devices') as YAMLSeq | undefined;
  let node: YAMLMap | undefined;
  for (const step of path) {
    node = isSeq(devices) ? (devices.items.find((item) => isMap(item) && names(item, step, step.bus)) as YAMLMap | undefined) : undefined;
    devices = node?.get('devices') as YAMLSeq | undefined;
  }
  if (node === undefined) throw new VfioError('ENOENT', `${fn.bdf} of ${machine.name} has no entry of its own in ${file}`);
  return node;
}

function names(item: YAMLMap, fn: PciFunction, bus: PciBus): boolean {
  const at = String(item.get('at'));
  const [device, func] = at.slice(at.lastIndexOf(':') + 1).split('.');
  return Number.parseInt(device!, 16) === fn.devfn >> 3 && Number.parseInt(func ?? '0', 16) === (fn.devfn & 7) && fn.bus === bus;
}
