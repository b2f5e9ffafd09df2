/** `vfio bind` on this computer. */
import { NO_DRIVER } from '../../host/bind-plan.ts';
import { functionStates } from '../../host/function-state.ts';
import { type BindPlan, type BindResult, type BindTarget, carryOutBind, checkLosses, planBind } from '../../host/host-bind.ts';
import { earlyCommands, fileCommand, persistentFiles, writePersistent } from '../../host/host-persist.ts';
import { changeCommand } from '../../host/host-step.ts';
import type { HostFiles } from '../../sys/host-files.ts';
import type { CommandContext } from '../command.ts';
import { json, type Terminal } from '../terminal.ts';
import { checkAdministrator, type HostAccess, type HostOptions, hostAccess } from './host-options.ts';

export interface HostBindOptions extends HostOptions {
  readonly alone?: boolean;
  readonly dryRun?: boolean;
  readonly persist?: boolean;
  readonly early?: boolean;
  readonly force?: boolean;
  readonly json?: boolean;
}

export function bindOnHost({ terminal, usage }: CommandContext, options: HostBindOptions, target: BindTarget, driver: string): undefined {
  const { force = false, dryRun = false } = options;
  const access = hostAccess(options, !dryRun && options.early !== true);
  const { files, host, records, stakes } = access;
  if (options.early === true) {
    const { members } = planBind(files, target, driver, stakes);
    const before = new Map(records.read().map((record) => [record.bdf, record.driver]));
    const drivers = members.map((fn) => before.get(fn.bdf) ?? fn.driver);
    for (const line of earlyCommands(files, members, drivers, functionStates(files))) terminal.out(line);
    return;
  }
  if (options.persist === true && driver === NO_DRIVER) usage('--persist needs a driver: none is no driver');
  if (dryRun) {
    const plan = planBind(files, target, driver, stakes);
    checkLosses(plan, force);
    printCommands(plan, files, options, terminal);
    return;
  }
  checkAdministrator(access, 'bind');
  using _lock = host.lock(`${records.path}.lock`);
  const plan = planBind(files, target, driver, stakes);
  checkLosses(plan, force);
  const result = carryOutBind(files, host, records, plan);
  const persistent = options.persist === true ? persistentFiles(files, plan.members, driver) : [];
  writePersistent(host, persistent);
  const paths = persistent.map(({ path }) => path);
  if (options.json === true) {
    json(terminal, 'vfio-ts/bind/1', { dryRun: false, ...result, files: paths, commands: [] });
    return;
  }
  printResult(result, access, terminal);
  for (const path of paths) terminal.out(`${path}: also at the next boots`);
}

function printCommands(plan: BindPlan, files: HostFiles, options: HostBindOptions, terminal: Terminal): void {
  const { driver, group, steps, losses, left, members } = plan;
  const persistent = options.persist === true ? persistentFiles(files, members, driver) : [];
  const commands = [...steps.map(({ change }) => changeCommand(change)), ...persistent.map(fileCommand)];
  if (options.json === true) {
    const warnings = losses.map(({ bdf, why }) => `${bdf}: ${why}`);
    const stay = left.map(({ bdf, driver: has }) => ({ bdf, driver: has }));
    json(terminal, 'vfio-ts/bind/1', { dryRun: true, driver, group, changed: [], left: stay, nodes: [], files: [], warnings, commands });
    return;
  }
  for (const line of commands) terminal.out(line);
  for (const { bdf, why } of losses) terminal.err(`lost: ${bdf}: ${why}`);
  if (commands.length === 0) terminal.err('(nothing to do)');
}

function printResult(result: BindResult, { records }: HostAccess, { out, err, paint }: Terminal): void {
  for (const { bdf, from, to } of result.changed) out(`${bdf}  ${from ?? 'no driver'} -> ${paint.green(to ?? 'no driver')}`);
  for (const { bdf, driver } of result.left) out(paint.dim(`${bdf}  stays with ${driver ?? 'no driver'}`));
  if (result.changed.length === 0) err('(nothing to do)');
  for (const warning of result.warnings) err(`warning: ${warning}`);
  if (result.driver !== NO_DRIVER && result.nodes.length > 0)
    out(`${result.group === null ? 'nodes' : `group ${result.group}`}: ${result.nodes.join(', ')}`);
  if (result.changed.length > 0) err(`(vfio restore ${result.changed[0]!.bdf} undoes it; ${records.path} has the drivers from before)`);
}
