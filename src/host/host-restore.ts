/** Give functions back: drivers, overrides and virtual functions as before the first bind. */
import { type Culprit, VfioError } from '../base/errno.ts';
import type { HostChanges } from '../sys/host-changes.ts';
import type { HostFiles } from '../sys/host-files.ts';
import { bindSteps, type FunctionBind, loadingSteps, verifyBinds, virtualFunctionSteps } from './bind-plan.ts';
import type { BindingRecord, BindingRecords } from './binding-records.ts';
import { type FunctionState, functionFolder, functionState, PCI } from './function-state.ts';
import { lossesOf } from './host-bind.ts';
import { type HostStep, transact } from './host-step.ts';
import { nodeUsers } from './node-users.ts';
import { type StakeOptions, stakesOf } from './stakes.ts';

export type RestoreTarget =
  | { readonly kind: 'all' }
  | { readonly kind: 'function'; readonly bdf: string }
  | { readonly kind: 'group'; readonly group: number };

export interface RestorePlan {
  readonly binds: readonly FunctionBind[];
  readonly steps: readonly HostStep[];
  /** Records that the restore ends. */
  readonly ended: readonly BindingRecord[];
  /** Functions without a record, which the kernel chooses a driver for. */
  readonly offered: readonly FunctionState[];
  /** Functions of records that are not there any more. */
  readonly gone: readonly string[];
  /** Losses, as of a bind: functions may have got other users since. Not empty: only with force. */
  readonly losses: readonly Culprit[];
}

/**
 * @param persisted functions with files of `vfio bind --persist`: for one without a record, the
 * kernel chooses the driver
 * @throws VfioError ENOENT where there is neither
 */
export function planRestore(
  files: HostFiles,
  records: BindingRecords,
  target: RestoreTarget,
  persisted: readonly string[] = [],
  options: StakeOptions = {},
): RestorePlan {
  const all = records.read();
  const unrecorded = persisted.filter((bdf) => files.exists(functionFolder(bdf)) && !all.some((record) => record.bdf === bdf));
  const wanted = recordsOf(files, all, target);
  if (wanted.length === 0 && unrecorded.length === 0 && target.kind !== 'all') throw notGiven(target, records.path);
  const present = wanted.filter((record) => {
    if (!files.exists(functionFolder(record.bdf))) return false;
    const { vendor, device } = functionState(files, record.bdf);
    return record.id === `${vendor}:${device}`;
  });
  const binds = present.map((record): FunctionBind => {
    return { fn: functionState(files, record.bdf), to: record.driver, override: record.driverOverride };
  });
  const drivers = new Set(binds.flatMap(({ fn, to }) => (to === null || to === fn.driver ? [] : [to])));
  const users = nodeUsers(files);
  const stakes = stakesOf(files, options);
  const moving = [
    ...binds.filter(({ fn, to }) => fn.driver !== to).map(({ fn }) => fn),
    ...unrecorded.map((bdf) => functionState(files, bdf)),
  ].filter(({ driver }) => driver !== null);
  return {
    binds,
    steps: [
      ...[...drivers].flatMap((driver) => loadingSteps(files, driver)),
      ...binds.flatMap(bindSteps),
      ...present.flatMap((record) => {
        const fn = functionState(files, record.bdf);
        return fn.driver === record.driver && fn.numVfs === record.numVfs ? [] : virtualFunctionSteps(fn, record.numVfs);
      }),
      ...unrecorded.flatMap((bdf) => chosenByKernel(functionState(files, bdf))),
    ],
    ended: wanted,
    offered: unrecorded.map((bdf) => functionState(files, bdf)),
    gone: wanted.filter((record) => !present.includes(record)).map(({ bdf }) => bdf),
    losses: moving.flatMap((fn) => lossesOf(fn, stakes.get(fn.bdf) ?? [], users.get(fn.bdf) ?? [])),
  };
}

/** The kernel offers a function without an override to all drivers that know its ids. */
function chosenByKernel(fn: FunctionState): readonly HostStep[] {
  const probe: HostStep = {
    purpose: `offer ${fn.bdf} to the drivers of the kernel`,
    change: { kind: 'write', path: `${PCI}/drivers_probe`, value: fn.bdf },
    undo: [],
  };
  return [...bindSteps({ fn, to: null, override: null }), probe];
}

function recordsOf(files: HostFiles, all: readonly BindingRecord[], target: RestoreTarget): readonly BindingRecord[] {
  if (target.kind === 'all') return all;
  // A group was bound as one, and is given back as one.
  const group = target.kind === 'group' ? target.group : functionState(files, target.bdf).group;
  const isOfGroup = (bdf: string) => group !== null && functionState(files, bdf).group === group;
  const isNamed = ({ bdf }: BindingRecord) => target.kind === 'function' && bdf === target.bdf;
  const found = all.filter((record) => isNamed(record) || isOfGroup(record.bdf));
  return target.kind === 'group' || found.some(isNamed) ? found : [];
}

function notGiven(target: Exclude<RestoreTarget, { readonly kind: 'all' }>, path: string): VfioError {
  if (target.kind === 'group') {
    return new VfioError('ENOENT', `vfio bind has given no function of group ${target.group} away in this boot (${path})`, {
      fix: 'vfio restore --all gives back all that vfio bind has given away.',
    });
  }
  return new VfioError('ENOENT', `vfio bind has not given ${target.bdf} away in this boot (${path})`, {
    fix: `Name the driver that it has to have: vfio bind ${target.bdf} --driver DRIVER.`,
  });
}

/** @throws VfioError EBUSY while the computer or processes use the functions */
export function checkRestoreLosses({ losses }: RestorePlan, force: boolean): void {
  if (force || losses.length === 0) return;
  throw new VfioError('EBUSY', `${losses[0]!.bdf} is in use`, {
    culprits: losses,
    fix: '--force takes it away all the same; the lines above are the losses.',
  });
}

export interface RestoreResult {
  readonly changed: readonly { readonly bdf: string; readonly from: string | null; readonly to: string | null }[];
  /** Functions of records that are not there any more. */
  readonly gone: readonly string[];
}

/** Carry the plan out, and end the records. */
export function carryOutRestore(files: HostFiles, host: HostChanges, records: BindingRecords, plan: RestorePlan): RestoreResult {
  if (plan.steps.length > 0) {
    transact(host, plan.steps, () => {
      verifyBinds(files, plan.binds);
      for (const { fn, override } of plan.binds) {
        if (functionState(files, fn.bdf).driverOverride === override) continue;
        throw new VfioError('EBUSY', `${fn.bdf} still has a driver override`);
      }
    });
  }
  records.write(records.read().filter((record) => !plan.ended.some(({ bdf }) => bdf === record.bdf)));
  return {
    changed: [
      ...plan.binds
        .filter(({ fn, to, override }) => fn.driver !== to || fn.driverOverride !== override)
        .map(({ fn, to }) => ({ bdf: fn.bdf, from: fn.driver, to })),
      ...plan.offered.map(({ bdf, driver }) => ({ bdf, from: driver, to: functionState(files, bdf).driver })),
    ],
    gone: plan.gone,
  };
}
