/** `vfio restore`: give back what `vfio bind` has given away. */

import type { BindingRecords } from '../../host/binding-records.ts';
import { functionStates } from '../../host/function-state.ts';
import { persistedPaths } from '../../host/host-persist.ts';
import { carryOutRestore, checkRestoreLosses, planRestore, type RestoreTarget } from '../../host/host-restore.ts';
import { changeCommand } from '../../host/host-step.ts';
import type { HostFiles } from '../../sys/host-files.ts';
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
  const { files, host, records, stakes } = access;
  const named = options.persist === true ? namedBy(target, files, records) : [];
  const paths = named.flatMap((at) => persistedPaths(files, at));
  const persisted = named.filter((at) => persistedPaths(files, at).length > 0);
  if (dryRun) {
    const plan = planRestore(files, records, target, persisted, stakes);
    checkRestoreLosses(plan, force);
    const commands = [...paths.map((path) => `rm ${path}`), ...plan.steps.map(({ change }) => changeCommand(change))];
    if (options.json === true) json(terminal, 'vfio-ts/restore/1', { dryRun, changed: [], gone: plan.gone, files: [], commands });
    else for (const line of commands) terminal.out(line);
    return;
  }
  checkAdministrator(access, 'restore');
  using _lock = host.lock(`${records.path}.lock`);
  const plan = planRestore(files, records, target, persisted, stakes);
  checkRestoreLosses(plan, force);
  for (const path of paths) host.remove(path);
  const result = carryOutRestore(files, host, records, plan);
  if (options.json === true) {
    json(terminal, 'vfio-ts/restore/1', { dryRun, ...result, files: paths, commands: [] });
    return;
  }
  for (const { bdf: at, from, to } of result.changed) terminal.out(`${at}  ${from ?? 'no driver'} -> ${to ?? 'no driver'}`);
  for (const path of paths) terminal.out(`${path}  removed`);
  for (const { bdf: at, why } of plan.losses) terminal.err(`lost: ${at}: ${why}`);
  for (const at of result.gone) terminal.err(`${at} is not there any more, or another card is`);
  if (result.changed.length + result.gone.length + paths.length === 0) terminal.err('(nothing to restore)');
}

/** Functions that may have files of `--persist`. */
function namedBy(target: RestoreTarget, files: HostFiles, records: BindingRecords): readonly string[] {
  if (target.kind === 'all') return records.read().map(({ bdf }) => bdf);
  const all = functionStates(files);
  const group = target.kind === 'group' ? target.group : (all.find(({ bdf }) => bdf === target.bdf)?.group ?? null);
  const members = all.filter((fn) => group !== null && fn.group === group).map(({ bdf }) => bdf);
  return target.kind === 'function' && !members.includes(target.bdf) ? [...members, target.bdf] : members;
}

function targetOf({ group, all = false }: RestoreOptions, bdf: string | undefined): RestoreTarget | null {
  const targets: RestoreTarget[] = [
    ...(all ? [{ kind: 'all' } as const] : []),
    ...(group === undefined ? [] : [{ kind: 'group', group } as const]),
    ...(bdf === undefined ? [] : [{ kind: 'function', bdf } as const]),
  ];
  return targets.length === 1 ? targets[0]! : null;
}
