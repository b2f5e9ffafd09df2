/** A machine as people draw it: buses as a tree, then the groups that follow from it. */
import type { IsolationGroup } from '../../engine/machine/isolation-group.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import type { PciBus, PciFunction } from '../../engine/machine/pci-function.ts';
import type { Terminal } from './terminal.ts';

const hex4 = (value: number) => value.toString(16).padStart(4, '0');

interface Row {
  readonly prefix: string;
  readonly fn: PciFunction;
}

function rowsOf(bus: PciBus, indent: string): Row[] {
  return bus.functions.flatMap((fn, i) => {
    const last = i === bus.functions.length - 1;
    const behind = fn.secondary === null ? [] : rowsOf(fn.secondary, `${indent}${last ? '   ' : '│  '}`);
    return [{ prefix: `${indent}${last ? '└─ ' : '├─ '}`, fn }, ...behind];
  });
}

/** A function's part in SR-IOV; '' when it has none. */
function sriovText(fn: PciFunction): string {
  if (fn.physical !== null) return `VF ${fn.vfIndex} of ${fn.physical.bdf}`;
  if (fn.sriov === null) return '';
  return `PF, ${fn.sriov.numVfs} of ${fn.sriov.totalVfs} VFs`;
}

/** Who has it open; '' for nobody. */
function ownerText(fn: PciFunction): string {
  const files = fn.vfio?.openCount ?? 0;
  return files === 0 ? '' : `open by ${fn.group?.file?.holder ?? 'a user'}`;
}

/** One line per function: address, ids, name, driver, group, and what it has to do with SR-IOV. */
export function treeLines(machine: Machine, { paint }: Terminal): string[] {
  const roots = [...new Set([...machine.functions.values()].map((fn) => fn.bus).filter((bus) => bus.isRoot))];
  const rows = roots.flatMap((bus) => rowsOf(bus, ''));
  const width = Math.max(...rows.map((r) => r.prefix.length)) + 12;
  const names = Math.max(...rows.map((r) => r.fn.name.length));
  const drivers = Math.max(...rows.map((r) => (r.fn.driver ?? '-').length));
  return rows.map(({ prefix, fn }) => {
    const address = `${paint.dim(prefix)}${fn.bdf}`.padEnd(
      width + paint.dim('').length + paint.dim(prefix).length - prefix.length - paint.dim('').length,
    );
    const ids = `${hex4(fn.declaration.vendor)}:${hex4(fn.declaration.device)}`;
    const driver = (fn.driver ?? '-').padEnd(drivers);
    const group = fn.group === null ? paint.dim('no group') : `group ${fn.group.id}`;
    const more = [sriovText(fn), ownerText(fn)].filter((text) => text !== '').map((text) => `  ${paint.dim(text)}`);
    return `${address}  ${ids}  ${fn.name.padEnd(names)}  ${fn.driver === 'vfio-pci' ? paint.green(driver) : driver}  ${group}${more.join('')}`;
  });
}

/** A paragraph per group: its members, whether a user could have it, and who is in the way. */
export function groupLines(group: IsolationGroup, { paint }: Terminal): string[] {
  const { viable, culprits } = group.viability();
  const state = group.owner !== null ? paint.cyan('owned by a user') : viable ? paint.green('viable') : paint.red('not viable');
  const lines = [`group ${group.id}: ${state}`];
  for (const fn of group.functions) {
    const why = fn.groupedBecause === null ? '' : paint.dim(`  (${fn.groupedBecause})`);
    lines.push(`  ${fn.bdf}  ${fn.name}  ${fn.driver ?? 'no driver'}${why}`);
  }
  for (const c of culprits)
    lines.push(`  ${paint.yellow('in the way:')} ${c.bdf} (${c.driver ?? 'no driver'}): ${c.why}`, `    fix: ${c.fix}`);
  return lines;
}

/** The same for programs. */
export function machineDocument(machine: Machine): object {
  return {
    functions: [...machine.functions.values()].map((fn) => ({
      bdf: fn.bdf,
      name: fn.name,
      vendor: hex4(fn.declaration.vendor),
      device: hex4(fn.declaration.device),
      class: fn.declaration.classCode.toString(16).padStart(6, '0'),
      kind: fn.kind,
      parent: fn.parent?.bdf ?? null,
      driver: fn.driver,
      driverOverride: fn.driverOverride,
      group: fn.group?.id ?? null,
      physicalFunction: fn.physical?.bdf ?? null,
      sriov: fn.sriov === null ? null : { totalVfs: fn.sriov.totalVfs, numVfs: fn.sriov.numVfs, vfs: fn.sriov.vfs.map((vf) => vf.bdf) },
      open: (fn.vfio?.openCount ?? 0) > 0,
    })),
    groups: [...machine.groups.values()].map((group) => {
      const { viable, culprits } = group.viability();
      return {
        id: group.id,
        functions: group.functions.map((fn) => fn.bdf),
        isolation: group.isolation,
        owned: group.owner !== null,
        viable,
        culprits,
      };
    }),
  };
}
