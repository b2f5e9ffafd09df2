/** Bind functions of this computer to a driver, as one transaction that can be undone. */
import { type Culprit, VfioError } from '../base/errno.ts';
import type { HostChanges } from '../sys/host-changes.ts';
import type { HostFiles } from '../sys/host-files.ts';
import { bindSteps, checkCanBind, type FunctionBind, loadingSteps, membersToBind, NO_DRIVER, verifyBinds } from './bind-plan.ts';
import { type BindingRecords, recordOf } from './binding-records.ts';
import { type FunctionState, functionState, functionStates, groupNode, groupsOf } from './function-state.ts';
import { type HostStep, transact } from './host-step.ts';
import { isVfioNode, type NodeUser, nodeUsers, userText } from './node-users.ts';
import { type Stake, type StakeOptions, stakesOf, stakesSentence } from './stakes.ts';

/** The functions that a command names. */
export type BindTarget =
  | { readonly kind: 'function'; readonly bdf: string; readonly alone: boolean }
  | { readonly kind: 'group'; readonly group: number };

export interface BindPlan {
  readonly driver: string;
  readonly group: number | null;
  /** All functions that have to have the driver, also those that have it. */
  readonly members: readonly FunctionState[];
  /** Functions that change, with the driver that they have to have. */
  readonly binds: readonly FunctionBind[];
  readonly steps: readonly HostStep[];
  /** Members of the group that stay as they are. */
  readonly left: readonly FunctionState[];
  /** Losses that the computer has by it. Not empty: only with force. */
  readonly losses: readonly Culprit[];
  /** Remarks, which do not refuse. */
  readonly remarks: readonly Stake[];
}

/** The group of a target; a function without one alone. @throws VfioError ENODEV, EINVAL */
export function targetFunctions(files: HostFiles, target: BindTarget, driver: string): readonly FunctionState[] {
  const all = functionStates(files);
  if (target.kind === 'group') {
    const members = groupsOf(all).get(target.group);
    if (members !== undefined) return members;
    throw new VfioError('ENODEV', `this computer has no group ${target.group}`, { fix: 'vfio ls --groups prints the groups.' });
  }
  checkCanBind(files, target.bdf, driver);
  const fn = functionState(files, target.bdf);
  return fn.group === null ? [fn] : groupsOf(all).get(fn.group)!;
}

/** An IOMMU is missing: vfio-pci refuses then. */
function checkIommu(files: HostFiles, { bdf, group }: FunctionState): void {
  if (group !== null || files.text('/sys/module/vfio/parameters/enable_unsafe_noiommu_mode')?.trim() === 'Y') return;
  throw new VfioError('EINVAL', `${bdf} has no IOMMU group, and vfio-pci takes no device without one`, {
    fix: 'Enable the IOMMU in the firmware (VT-d, AMD-Vi) and in the kernel (intel_iommu=on), then boot again: vfio doctor says what is missing.',
  });
}

/** The steps, and everything that speaks against them. Changes nothing. */
export function planBind(files: HostFiles, target: BindTarget, driver: string, options: StakeOptions = {}): BindPlan {
  const functions = targetFunctions(files, target, driver);
  // A function that is named itself moves, also where it is a host bridge without a driver.
  const isNamed = ({ bdf }: FunctionState) => target.kind === 'function' && bdf === target.bdf;
  const together = target.kind === 'function' && target.alone ? [] : membersToBind(functions);
  const members = functions.filter((fn) => together.includes(fn) || isNamed(fn));
  const to = driver === NO_DRIVER ? null : driver;
  if (driver === 'vfio-pci') for (const fn of members) checkIommu(files, fn);
  const binds = members
    .map((fn): FunctionBind => ({ fn, to, override: driver }))
    .filter(({ fn }) => fn.driver !== to || fn.driverOverride !== driver);
  // Without a driver, too: the firmware's display shows the console through its memory.
  const moving = binds.filter(({ fn }) => fn.driver !== to).map(({ fn }) => fn);
  const stakes = stakesOf(files, options);
  const users = nodeUsers(files);
  return {
    driver,
    group: functions[0]?.group ?? null,
    members,
    binds,
    steps: binds.length === 0 ? [] : [...loadingSteps(files, driver), ...binds.flatMap(bindSteps)],
    left: functions.filter((fn) => !members.includes(fn)),
    losses: moving.flatMap((fn) => lossesOf(fn, stakes.get(fn.bdf) ?? [], users.get(fn.bdf) ?? [])),
    remarks: moving.flatMap((fn) => (stakes.get(fn.bdf) ?? []).filter(({ severe }) => !severe)),
  };
}

/** Losses that the computer has when the function loses its driver. */
export function lossesOf(fn: FunctionState, stakes: readonly Stake[], users: readonly NodeUser[]): readonly Culprit[] {
  const { bdf, driver, virtualFunctions } = fn;
  const found: Culprit[] = [];
  const severe = stakes.filter((stake) => stake.severe);
  if (severe.length > 0) {
    found.push({ bdf, driver, why: `the computer needs it: it ${stakesSentence(severe)}`, fix: fixOf(severe[0]!) });
  }
  for (const user of users) {
    const vfio = isVfioNode(user.node);
    found.push({
      bdf,
      driver,
      why: `${userText(user)}, is open${vfio ? '; the kernel waits until it is closed' : ''}`,
      fix: `End process ${user.pid} (${user.program}) first.`,
    });
  }
  if (virtualFunctions.length > 0) {
    found.push({
      bdf,
      driver,
      why: `its ${virtualFunctions.length} virtual functions go with its driver: ${virtualFunctions.join(', ')}`,
      fix: `echo 0 > /sys/bus/pci/devices/${bdf}/sriov_numvfs`,
    });
  }
  return found;
}

const fixes: Readonly<Record<Stake['kind'], string>> = {
  'file-system': 'Unmount its file systems first, or give another disk away.',
  swap: 'swapoff -a',
  route: 'Move the default route to another interface first.',
  session: 'Log in by another interface, or at the console.',
  network: 'Set the interface down first.',
  display: 'Use another display, or a serial console; or accept a computer without a picture: --force.',
  console: 'Use another console.',
  keyboard: 'Plug the keyboard into another controller.',
};
const fixOf = ({ kind }: Stake): string => fixes[kind];

/**
 * @throws VfioError EPERM where the bind takes something away that the computer or a process
 *   needs, with the losses as culprits
 */
export function checkLosses(plan: BindPlan, force: boolean): void {
  if (force || plan.losses.length === 0) return;
  const first = plan.losses[0]!.bdf;
  const what = plan.group === null || plan.binds.length === 1 ? first : `group ${plan.group}`;
  throw new VfioError('EPERM', `${what} is in use by this computer, and is not given to ${plan.driver}`, {
    culprits: plan.losses,
    fix: '--force gives it away all the same; the lines above are the losses.',
  });
}

export interface BindResult {
  readonly driver: string;
  readonly group: number | null;
  readonly changed: readonly { readonly bdf: string; readonly from: string | null; readonly to: string | null }[];
  /** Members of the group that stay as they are. */
  readonly left: readonly { readonly bdf: string; readonly driver: string | null }[];
  /** The group's node and the functions' own, as far as they are there. */
  readonly nodes: readonly string[];
  /** Losses that --force accepted, and remarks. */
  readonly warnings: readonly string[];
}

/** Carry the plan out. The records of `records` undo it. */
export function carryOutBind(files: HostFiles, host: HostChanges, records: BindingRecords, plan: BindPlan): BindResult {
  if (plan.binds.length > 0) {
    const before = records.read();
    records.add(plan.binds.map(({ fn, to }) => recordOf(fn, to)));
    try {
      transact(host, plan.steps, () => verifyBinds(files, plan.binds));
    } catch (error) {
      // An undo that failed leaves a function changed, which vfio restore still can give back.
      const changed = plan.binds.filter(({ fn }) => !isAsBefore(files, fn)).map(({ fn }) => fn.bdf);
      const kept = records.read().filter(({ bdf }) => changed.includes(bdf));
      records.write([...before.filter(({ bdf }) => !changed.includes(bdf)), ...kept]);
      throw error;
    }
  }
  const changed = plan.binds.map(({ fn }) => ({ bdf: fn.bdf, from: fn.driver, to: functionState(files, fn.bdf).driver }));
  const nodes = nodesOf(files, plan);
  return {
    driver: plan.driver,
    group: plan.group,
    changed,
    left: plan.left.map(({ bdf, driver }) => ({ bdf, driver })),
    nodes,
    warnings: warningsOf(plan, nodes),
  };
}

function isAsBefore(files: HostFiles, { bdf, driver, driverOverride, numVfs }: FunctionState): boolean {
  const now = functionState(files, bdf);
  return now.driver === driver && now.driverOverride === driverOverride && now.numVfs === numVfs;
}

function nodesOf(files: HostFiles, { group, binds }: BindPlan): readonly string[] {
  const own = binds.flatMap(({ fn }) => functionState(files, fn.bdf).vfioDevices.map((name) => `/dev/vfio/devices/${name}`));
  return [...(group === null ? [] : [groupNode(files, group)]), ...own].filter((node) => files.exists(node));
}

function warningsOf(plan: BindPlan, nodes: readonly string[]): readonly string[] {
  const found = [...plan.losses.map(({ bdf, why }) => `${bdf}: ${why}`), ...plan.remarks.map(({ bdf, what }) => `${bdf} ${what}`)];
  if (/^vfio|[-_]vfio/.test(plan.driver) && plan.group !== null && nodes.length === 0) {
    found.push(`there is no node /dev/vfio/${plan.group}: in a container, pass /dev/vfio on`);
  }
  for (const { bdf, driver } of plan.left) {
    const isHarmless = driver === null || driver === 'pcieport' || driver === 'pci-stub' || driver.includes('vfio');
    if (!isHarmless) found.push(`${bdf} keeps the driver ${driver}, and the group cannot be opened while it has it`);
  }
  return found;
}
