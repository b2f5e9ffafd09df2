/** Checks of one device: its driver, its group, its users, its resets. */
import type { Check, DoctorContext, Finding } from './doctor-check.ts';
import { type FunctionState, functionFolder, functionState, groupsOf } from './function-state.ts';
import { nodeUsers, userText } from './node-users.ts';
import { stakesOf, stakesSentence } from './stakes.ts';

/** Drivers that do no DMA of their own, and may stay in a group that a user has. */
const HARMLESS = ['vfio-pci', 'pci-stub', 'pcieport', 'pciback'];
const isHarmless = ({ driver }: FunctionState) => driver === null || HARMLESS.includes(driver) || driver.includes('vfio');

const device = ({ files, bdf }: DoctorContext) => functionState(files, bdf!);
const members = (context: DoctorContext) => {
  const fn = device(context);
  return fn.group === null ? [fn] : groupsOf(context.functions).get(fn.group)!;
};

function driver(context: DoctorContext): Finding {
  const fn = device(context);
  const { bdf, driver: has, isBridge } = fn;
  if (isBridge) return { status: 'warning', what: `${bdf} is a bridge`, why: 'VFIO takes no bridges', fix: 'Name a device behind it.' };
  if (has?.includes('vfio') === true) return { status: 'ok', what: `${bdf} has the driver ${has}` };
  return {
    status: 'problem',
    what: `${bdf} has ${has === null ? 'no driver' : `the driver ${has}`}`,
    why: 'users reach it through vfio-pci',
    fix: `sudo vfio bind ${bdf}`,
  };
}

function group(context: DoctorContext): Finding | null {
  const fn = device(context);
  if (fn.group === null)
    return { status: 'problem', what: `${fn.bdf} is in no group`, why: 'no IOMMU isolates it', fix: 'See the check of the IOMMU above.' };
  const inTheWay = members(context).filter((member) => member.bdf !== fn.bdf && !isHarmless(member));
  if (inTheWay.length === 0) return { status: 'ok', what: `group ${fn.group} can be opened: no driver of the kernel does DMA in it` };
  const [first] = inTheWay;
  return {
    status: 'problem',
    what: `group ${fn.group} is not viable: ${inTheWay.map(({ bdf, driver: has }) => `${bdf} (${has})`).join(', ')}`,
    why: 'a driver of the kernel does DMA in the group',
    fix: `sudo vfio bind ${first!.isBridge ? `${first!.bdf} --driver pcieport` : fn.bdf}`,
  };
}

function needed(context: DoctorContext): Finding {
  const stakes = stakesOf(context.files, context.stakes);
  const found = members(context).flatMap(({ bdf }) => {
    const severe = (stakes.get(bdf) ?? []).filter((stake) => stake.severe);
    return severe.length === 0 ? [] : [`${bdf} ${stakesSentence(severe)}`];
  });
  if (found.length === 0) return { status: 'ok', what: 'the computer does not need it' };
  return {
    status: 'problem',
    what: found.join('; '),
    why: 'the computer does not go on as before without it',
    fix: 'vfio ls prints the devices that are free.',
  };
}

function users(context: DoctorContext): Finding {
  const all = nodeUsers(context.files, context.functions);
  const found = members(context).flatMap(({ bdf }) => all.get(bdf) ?? []);
  if (found.length === 0) return { status: 'ok', what: 'no process has it open' };
  return {
    status: 'warning',
    what: userText(found[0]!),
    why: 'a group has one user at a time',
    fix: `End process ${found[0]!.pid} (${found[0]!.program}).`,
  };
}

function reset({ files, bdf }: DoctorContext): Finding | null {
  const at = functionFolder(bdf!);
  const methods = files.text(`${at}/reset_method`)?.trim();
  if (methods !== undefined && methods !== '') return { status: 'ok', what: `resets: ${methods}` };
  if (methods === undefined && files.exists(`${at}/reset`)) return { status: 'ok', what: 'the device can be reset' };
  return {
    status: 'warning',
    what: 'the device cannot be reset alone',
    why: 'the next user gets it in the state in which the last one left it',
    fix: 'A hot reset of its bus works while one user has all devices of the bus.',
  };
}

function virtualFunctions(context: DoctorContext): Finding | null {
  const fn = device(context);
  if (fn.virtualFunctions.length > 0 && fn.driver === 'vfio-pci') {
    return { status: 'ok', what: `${fn.virtualFunctions.length} virtual functions: they open with the VF token of their physical one` };
  }
  if (fn.physicalFunction === null) return null;
  const physical = functionState(context.files, fn.physicalFunction);
  if (physical.driver !== 'vfio-pci')
    return { status: 'ok', what: `virtual function of ${physical.bdf} (${physical.driver ?? 'no driver'}): no token is needed` };
  return {
    status: 'ok',
    what: `virtual function of ${physical.bdf}, which a user has: it opens with the VF token`,
    fix: '--vf-token-file FILE',
  };
}

export const deviceChecks: readonly Check[] = [
  { id: 'device-driver', title: 'driver', probe: driver },
  { id: 'device-group', title: 'group', probe: group },
  { id: 'device-needed', title: 'use by the computer', probe: needed },
  { id: 'device-users', title: 'users', probe: users },
  { id: 'device-reset', title: 'reset', probe: reset },
  { id: 'device-virtual', title: 'virtual functions', probe: virtualFunctions },
];
