/** `vfio ls`: the functions of this computer, who uses each, and whether it can be given away. */
import { checkFunction } from '../../host/function-state.ts';
import { type HostList, hostList, type ListedFunction } from '../../host/host-list.ts';
import { userText } from '../../host/node-users.ts';
import { stakesSentence } from '../../host/stakes.ts';
import type { CommandContext } from '../command.ts';
import { json, type Terminal } from '../terminal.ts';
import { functionNames } from './function-names.ts';
import { hostAccess } from './host-options.ts';

interface LsOptions {
  readonly sysfs?: string;
  readonly json?: boolean;
  readonly groups?: boolean;
}

export async function ls({ terminal }: CommandContext, options: LsOptions, at: string | undefined): Promise<undefined> {
  const { files, stakes } = hostAccess(options, false);
  if (at !== undefined) checkFunction(files, at);
  const nameOf = functionNames();
  const all = hostList(files, stakes);
  const list: HostList = {
    functions: all.functions.filter(({ bdf }) => at === undefined || bdf === at),
    groups: all.groups.filter(({ functions }) => at === undefined || functions.includes(at)),
  };
  if (options.json === true) {
    json(terminal, 'vfio-ts/ls/1', {
      functions: list.functions.map((fn) => ({ ...fn, name: nameOf(fn) })),
      groups: list.groups,
    });
    return;
  }
  if (files.text('/proc/self/mountinfo') === null)
    terminal.err('(without proc/self/mountinfo the command does not know which disks are in use)');
  if (list.functions.length === 0) terminal.err('(no PCI devices)');
  const rows = list.functions.map((fn) => rowOf(fn, nameOf(fn), terminal));
  const columns = aligned(rows);
  const lines = new Map(list.functions.map(({ bdf }, i) => [bdf, columns[i]!]));
  if (options.groups !== true) {
    for (const line of lines.values()) terminal.out(line);
    return;
  }
  for (const { id, node, functions } of list.groups) {
    terminal.out(terminal.paint.bold(`group ${id}  ${node}`));
    for (const bdf of functions) terminal.out(`  ${lines.get(bdf)}`);
  }
  const alone = list.functions.filter(({ group }) => group === null);
  if (alone.length > 0) terminal.out(terminal.paint.bold('no group: no IOMMU isolates these'));
  for (const { bdf } of alone) terminal.out(`  ${lines.get(bdf)}`);
}

/** Columns, each as text and as it is painted. */
type Cell = readonly [text: string, painted?: string];

function rowOf(fn: ListedFunction, name: string, { paint }: Terminal): readonly Cell[] {
  const { bdf, vendor, device, driver, group, numaNode, state } = fn;
  const painter = { needed: paint.red, used: paint.cyan, bridge: paint.dim, 'no-iommu': paint.yellow, free: paint.green }[state];
  const has = driver ?? '-';
  const why = [
    ...(fn.stakes.length === 0 ? [] : [stakesSentence(fn.stakes)]),
    ...(fn.users.length === 0 ? [] : [userText(fn.users[0]!) + (fn.users.length > 1 ? `, and ${fn.users.length - 1} more` : '')]),
    ...(fn.virtualFunctions.length === 0 ? [] : [`${fn.virtualFunctions.length} virtual functions`]),
    ...(fn.physicalFunction === null ? [] : [`virtual function of ${fn.physicalFunction}`]),
  ].join('; ');
  return [
    [bdf],
    [`${vendor}:${device}`],
    [has, driver === 'vfio-pci' ? paint.green(has) : has],
    [group === null ? 'no group' : `group ${group}`],
    [numaNode === null ? '' : `node ${numaNode}`],
    [state, painter(state)],
    [why === '' ? name : `${name}  ${why}`, why === '' ? name : `${name}  ${paint.dim(why)}`],
  ];
}

/** Rows as lines. A column that is empty in all rows is left out. */
function aligned(rows: readonly (readonly Cell[])[]): readonly string[] {
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((row) => row[i]![0].length))) ?? [];
  return rows.map((row) =>
    row
      .flatMap(([text, painted = text], i) =>
        widths[i] === 0 ? [] : [i === row.length - 1 ? painted : painted + ' '.repeat(widths[i]! - text.length)],
      )
      .join('  ')
      .trimEnd(),
  );
}
