/**
 * A machine as people draw it: buses as a tree, virtual functions below their physical one, then
 * the groups that follow from it.
 */

import type { FunctionDocument, GroupDocument, MachineDocument } from '../api/machine-document.ts';
import { compareBdf } from '../pci/bdf.ts';
import type { Terminal } from './terminal.ts';

interface Row {
  readonly prefix: string;
  readonly fn: FunctionDocument;
}

/** In order of address; what is below what has no function is at the root. */
function rowsOf(all: readonly FunctionDocument[]): Row[] {
  const below = new Map<string | null, FunctionDocument[]>();
  for (const fn of all) {
    const above = fn.physicalFunction ?? fn.parent;
    const there = below.get(above);
    if (there === undefined) below.set(above, [fn]);
    else there.push(fn);
  }
  const rows: Row[] = [];
  const draw = (above: string | null, indent: string): void => {
    const here = (below.get(above) ?? []).sort((a, b) => compareBdf(a.bdf, b.bdf));
    for (const [i, fn] of here.entries()) {
      const last = i === here.length - 1;
      rows.push({ prefix: `${indent}${last ? '└─ ' : '├─ '}`, fn });
      draw(fn.bdf, `${indent}${last ? '   ' : '│  '}`);
    }
  };
  draw(null, '');
  return rows;
}

/** A function's part in SR-IOV; '' when it has none. */
function sriovText({ physicalFunction, vfIndex, tokenNeeded, sriov }: FunctionDocument): string {
  if (physicalFunction !== null) return `VF ${vfIndex} of ${physicalFunction}${tokenNeeded ? ', opens with its token' : ''}`;
  if (sriov === null) return '';
  const inUse = (sriov.inUse ?? 0) > 0 ? `, ${sriov.inUse} in use` : '';
  return `PF, ${sriov.numVfs} of ${sriov.totalVfs} VFs${inUse}`;
}

/** `DMA faults: not-mapped 17, permission 1`; '' when there is none. */
function countsText(what: string, counts: Readonly<Record<string, number>>): string {
  const each = Object.entries(counts).map(([reason, count]) => `${reason} ${count}`);
  return each.length === 0 ? '' : `${what}: ${each.join(', ')}`;
}

/** Who has a hand in it, and what went wrong. */
function usersText(fn: FunctionDocument): string[] {
  const { openBy, mediator, virtualMachine, refused } = fn;
  return [
    openBy === null ? '' : `open by ${openBy}`,
    mediator === null ? '' : `mediated by ${mediator}`,
    virtualMachine === null ? '' : `for ${virtualMachine}`,
    refused === null ? '' : `refused: ${refused}`,
    countsText('DMA faults', fn.dmaFaults),
    countsText('interrupts dropped', fn.interruptsDropped),
  ];
}

/**
 * One line per function: address, ids, name, driver, group, what it has to do with SR-IOV, and who
 * uses it.
 */
export function treeLines({ functions }: MachineDocument, { paint }: Terminal): string[] {
  const rows = rowsOf(functions);
  const widest = (of: (row: Row) => number) => rows.reduce((most, row) => Math.max(most, of(row)), 0);
  const width = widest((r) => r.prefix.length + r.fn.bdf.length);
  const names = widest((r) => r.fn.name.length);
  const drivers = widest((r) => (r.fn.driver ?? '-').length);
  const groups = widest((r) => groupText(r.fn).length);
  return rows.map(({ prefix, fn }) => {
    const address = `${paint.dim(prefix)}${fn.bdf}${' '.repeat(width - prefix.length - fn.bdf.length)}`;
    const driver = (fn.driver ?? '-').padEnd(drivers);
    const more = [sriovText(fn), ...usersText(fn)].filter((text) => text !== '').join('; ');
    const group = more === '' ? groupText(fn) : groupText(fn).padEnd(groups);
    return [
      address,
      `${fn.vendor}:${fn.device}`,
      fn.name.padEnd(names),
      fn.driver === 'vfio-pci' ? paint.green(driver) : driver,
      fn.group === null ? paint.dim(group) : group,
      ...(more === '' ? [] : [paint.dim(more)]),
    ].join('  ');
  });
}

const groupText = ({ group }: FunctionDocument) => (group === null ? 'no group' : `group ${group}`);

/** A paragraph per group: its members, whether a user could have it, and who is in the way. */
export function groupLines(group: GroupDocument, functions: ReadonlyMap<string, FunctionDocument>, { paint }: Terminal): string[] {
  const { viable, culprits, ownedBy } = group;
  const state = ownedBy !== null ? paint.cyan(`owned by ${ownedBy}`) : viable ? paint.green('viable') : paint.red('not viable');
  const lines = [`group ${group.id}: ${state}`];
  for (const bdf of group.functions) {
    const fn = functions.get(bdf)!;
    const why = fn.groupedBecause === null ? '' : paint.dim(`  (${fn.groupedBecause})`);
    lines.push(`  ${fn.bdf}  ${fn.name}  ${fn.driver ?? 'no driver'}${why}`);
  }
  for (const c of culprits)
    lines.push(`  ${paint.yellow('in the way:')} ${c.bdf} (${c.driver ?? 'no driver'}): ${c.why}`, `    fix: ${c.fix}`);
  return lines;
}

/** Tree and groups. */
export function machineLines(machine: MachineDocument, terminal: Terminal): string[] {
  const functions = new Map(machine.functions.map((fn) => [fn.bdf, fn]));
  return [...treeLines(machine, terminal), ...machine.groups.flatMap((group) => ['', ...groupLines(group, functions, terminal)])];
}
