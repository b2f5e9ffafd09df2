/** `vfio restore`: give back what `vfio bind` has given away. */
import { carryOutRestore, checkUsers, planRestore, type RestoreTarget } from '../../host/host-restore.ts';
import { changeCommand } from '../../host/host-step.ts';
import type { CommandContext } from '../command.ts';
import { json } from '../terminal.ts';
import { checkAdministrator, type HostOptions, hostAccess } from './host-options.ts';

interface RestoreOptions extends HostOptions {
  readonly group?: number;
  readonly all?: boolean;
  readonly persist?: boolean;
  readonly dryRun?: boolean;
  readonly force?: boolean;
  readonly json?: boolean;
}

export async function restore({ terminal, usage }: CommandContext, options: RestoreOptions, bdf: string | undefined): Promise<undefined> {
  const { dryRun = false, force = false } = options;
  const target = targetOf(options, bdf);
  if (target === null) return usage('give the address of a device, --group NUMBER, or --all: one of them');
  const access = hostAccess(options, !dryRun);
  const { files, host, records } = access;
  if (dryRun) {
    const plan = planRestore(files, records, target);
    checkUsers(plan, force);
    const commands = plan.steps.map(({ change }) => changeCommand(change));
    if (options.json === true) json(terminal, 'vfio-ts/restore/1', { dryRun, changed: [], gone: plan.gone, commands });
    else for (const line of commands) terminal.out(line);
    return;
  }
  checkAdministrator(access, 'restore');
  using _lock = host.lock(`${records.path}.lock`);
  const plan = planRestore(files, records, target);
  checkUsers(plan, force);
  const result = carryOutRestore(files, host, records, plan);
  if (options.json === true) {
    json(terminal, 'vfio-ts/restore/1', { dryRun, ...result, commands: [] });
    return;
  }
  for (const { bdf: at, from, to } of result.changed) terminal.out(`${at}  ${from ?? 'no driver'} -> ${to ?? 'no driver'}`);
  for (const at of result.gone) terminal.err(`${at} is not there any more, or another card is`);
  if (result.changed.length + result.gone.length === 0) terminal.err('(nothing to restore)');
}

function targetOf({ group, all = false }: RestoreOptions, bdf: string | undefined): RestoreTarget | null {
  const targets: RestoreTarget[] = [
    ...(all ? [{ kind: 'all' } as const] : []),
    ...(group === undefined ? [] : [{ kind: 'group', group } as const]),
    ...(bdf === undefined ? [] : [{ kind: 'function', bdf } as const]),
  ];
  return targets.length === 1 ? targets[0]! : null;
}
