/** `vfio bind` on this computer. */
import { NO_DRIVER } from '../../host/bind-plan.ts';
import { type BindPlan, type BindResult, type BindTarget, carryOutBind, checkLosses, planBind } from '../../host/host-bind.ts';
import { changeCommand } from '../../host/host-step.ts';
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

export function bindOnHost({ terminal }: CommandContext, options: HostBindOptions, target: BindTarget, driver: string): undefined {
  const { force = false, dryRun = false } = options;
  const access = hostAccess(options, !dryRun);
  const { files, host, records, stakes } = access;
  if (dryRun) {
    const plan = planBind(files, target, driver, stakes);
    checkLosses(plan, force);
    printCommands(plan, options, terminal);
    return;
  }
  checkAdministrator(access, 'bind');
  using _lock = host.lock(`${records.path}.lock`);
  const plan = planBind(files, target, driver, stakes);
  checkLosses(plan, force);
  const result = carryOutBind(files, host, records, plan);
  if (options.json === true) json(terminal, 'vfio-ts/bind/1', { dryRun: false, ...result, commands: [] });
  else printResult(result, access, terminal);
}

function printCommands({ driver, group, steps, losses, left }: BindPlan, options: HostBindOptions, terminal: Terminal): void {
  const commands = steps.map(({ change }) => changeCommand(change));
  if (options.json === true) {
    const warnings = losses.map(({ bdf, why }) => `${bdf}: ${why}`);
    const stay = left.map(({ bdf, driver: has }) => ({ bdf, driver: has }));
    json(terminal, 'vfio-ts/bind/1', { dryRun: true, driver, group, changed: [], left: stay, nodes: [], warnings, commands });
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
