/** The reasons why a function can or cannot be given to a user, and what would change that. */
import type { Culprit } from '../../base/errno.ts';
import type { IommuProperties } from '../dma/iommu-properties.ts';
import { VFIO_PCI } from './binding.ts';
import { isolationQuirkOf } from './hardware-quirks.ts';
import type { FunctionKind, IommuKind } from './machine-spec.ts';
import type { FunctionGroup, PciFunction } from './pci-function.ts';

/** One obstacle; obstacles are in the order in which a user would meet them. */
export interface Blocker {
  /** The call that would fail, and its errno. */
  readonly at: string;
  readonly why: string;
  readonly fix: string;
}

/** One function of an isolation group. */
export interface GroupMember {
  readonly bdf: string;
  readonly name: string;
  readonly kind: FunctionKind;
  readonly driver: string | null;
  /** The reason why the function shares the group; null for the first. */
  readonly because: string | null;
  /** The function keeps the group from being viable. */
  readonly blocks: boolean;
}

/** Whether a user could open a function, and the devices or users in the way. */
export interface Explanation {
  readonly bdf: string;
  readonly name: string;
  readonly id: string;
  readonly kind: FunctionKind;
  readonly driver: string | null;
  readonly driverOverride: string | null;
  readonly iommu: { readonly kind: IommuKind; readonly isolatedMsi: boolean; readonly coherent: boolean };
  readonly group: null | {
    readonly id: number;
    readonly members: readonly GroupMember[];
    readonly isolation: { readonly dma: boolean; readonly msi: boolean; readonly coherent: boolean };
    readonly viable: boolean;
    /** The process that holds the group; null: none does. */
    readonly holder: string | null;
  };
  /** A virtual function's PF; null for others. */
  readonly physicalFunction: string | null;
  /** A physical function's VFs that are enabled; null for others. */
  readonly virtualFunctions: readonly string[] | null;
  /**
   * The VF opens only with the token that the driver of its PF has set; that driver has the token.
   */
  readonly tokenNeeded: boolean;
  /** The functions that keep the group from being viable. */
  readonly culprits: readonly Culprit[];
  readonly blockers: readonly Blocker[];
  /** Facts that decide its group and that its registers do not show: a sentence each. */
  readonly notes: readonly string[];
  /** A user could open it now. */
  readonly usable: boolean;
  /** One sentence. */
  readonly summary: string;
}

/** Remedies of an administrator, in the words of the place where the machine comes from. */
export interface Remedies {
  /** No isolating IOMMU is above the function. */
  readonly iommu: string;
  /** The interrupts of the group are not isolated. */
  readonly unsafeInterrupts: string;
  /** The function has virtual ones, which must go first. */
  disableVirtualFunctions(bdf: string, count: number): string;
}

const inMachineFile: Remedies = {
  iommu: 'use a machine whose IOMMU is of kind full',
  unsafeInterrupts: 'if every user is trusted, allow it in the machine file: `params: { allowUnsafeInterrupts: true }`',
  disableVirtualFunctions: (_, count) => `disable its ${count} virtual functions first (numVfs: 0 in a machine file)`,
};

export function explainFunction(
  fn: PciFunction,
  iommu: IommuProperties,
  allowUnsafeInterrupts: boolean,
  remedies: Remedies = inMachineFile,
): Explanation {
  const { group } = fn;
  const viability = group?.viability() ?? { viable: false, culprits: [] };
  const blockers = findBlockers(fn, iommu, group, viability.culprits, allowUnsafeInterrupts, remedies);
  const where = group === null ? 'has no group' : `is in group ${group.id}`;
  const others = group === null ? 0 : group.functions.length - 1;
  return {
    bdf: fn.bdf,
    name: fn.name,
    id: fn.id,
    kind: fn.kind,
    driver: fn.driver,
    driverOverride: fn.driverOverride,
    iommu: { kind: iommu.kind, isolatedMsi: iommu.isolatedMsi, coherent: iommu.coherent },
    group:
      group === null
        ? null
        : {
            id: group.id,
            members: group.functions.map((f) => ({
              bdf: f.bdf,
              name: f.name,
              kind: f.kind,
              driver: f.driver,
              because: f.groupedBecause,
              blocks: viability.culprits.some((c) => c.bdf === f.bdf),
            })),
            isolation: group.isolation,
            viable: viability.viable,
            holder: group.file?.holder ?? null,
          },
    physicalFunction: fn.physical?.bdf ?? null,
    virtualFunctions: fn.sriov === null ? null : fn.vfs.map((vf) => vf.bdf),
    tokenNeeded: fn.physical === null ? (fn.vfio?.token?.users ?? 0) > 0 : fn.physical.vfio !== null,
    culprits: viability.culprits,
    blockers,
    notes: quirksOf(fn),
    usable: blockers.length === 0,
    summary:
      `${fn.bdf} ${where}${others > 0 ? ` with ${others} other${others === 1 ? '' : 's'}` : ''}; ` +
      (blockers.length === 0
        ? `a user can open it${fn.physical?.vfio == null ? '' : ', with a VF token'}`
        : `a user cannot open it: ${blockers[0]!.why}`),
  };
}

/**
 * The functions from `fn` up to the root that isolate by a quirk alone: without it, Linux would
 * give them, and what is behind them, a larger group.
 */
function quirksOf(fn: PciFunction): string[] {
  const notes: string[] = [];
  for (let at: PciFunction | null = fn; at !== null; at = at.parent) {
    const quirk = isolationQuirkOf(at);
    const needs = at.isMultifunction || at.kind === 'root-port' || at.kind === 'downstream-port' || at.kind === 'conventional';
    if (quirk !== null && needs && !at.acs) {
      notes.push(`${at.bdf} isolates by a quirk of Linux (${quirk}); its registers have no access control (ACS) that says so`);
    }
  }
  return notes;
}

function findBlockers(
  fn: PciFunction,
  iommu: IommuProperties,
  group: FunctionGroup | null,
  culprits: readonly Culprit[],
  allowUnsafeInterrupts: boolean,
  remedies: Remedies,
): Blocker[] {
  const found: Blocker[] = [];
  const bind = 'bind to vfio-pci: EINVAL';
  if (!fn.present) found.push({ at: 'open: ENODEV', why: 'it is being unplugged', fix: 'wait for the new device' });
  if (fn.isBridge) found.push({ at: bind, why: 'it is a bridge', fix: 'open a device behind it; bridges need no driver change' });
  if (group === null) {
    const why = iommu.kind === 'none' ? 'no IOMMU is above it' : 'the IOMMU above it translates but does not isolate';
    found.push({ at: bind, why, fix: remedies.iommu });
  } else if (!iommu.coherent) {
    found.push({ at: bind, why: 'its IOMMU cannot keep DMA coherent with the caches', fix: 'use a machine with a coherent IOMMU' });
  }
  if (fn.unbinding !== null) {
    found.push({ at: 'open: ENODEV', why: 'it is being unbound, and a user still holds it', fix: 'close the device files that are open' });
  } else if (fn.vfio === null && !fn.isBridge && group !== null) {
    const why = fn.driver === null ? 'it is not bound to vfio-pci' : `it is bound to ${fn.driver}, not to vfio-pci`;
    const because = fn.probeError === null ? '' : ` (${fn.probeError.message})`;
    const vfs = fn.driver === null ? 0 : (fn.sriov?.numVfs ?? 0);
    const first = vfs === 0 ? '' : `${remedies.disableVirtualFunctions(fn.bdf, vfs)}; then: `;
    found.push({ at: 'open: ENODEV', why: why + because, fix: first + fn.bindCommand(VFIO_PCI) });
  }
  for (const c of culprits) {
    if (c.bdf === fn.bdf && fn.driver !== null) continue;
    found.push({
      at: 'set container: EPERM',
      why: `${c.bdf}${c.driver === null ? '' : ` (${c.driver})`} is in its group: ${c.why}`,
      fix: c.fix,
    });
  }
  if (group !== null && !iommu.isolatedMsi && !allowUnsafeInterrupts) {
    found.push({
      at: 'attach to a container with an IOMMU: EPERM',
      why: 'message interrupts are not isolated: a device could forge those of another',
      fix: remedies.unsafeInterrupts,
    });
  }
  if (group !== null && group.file !== null) {
    found.push({ at: 'open the group: EBUSY', why: `group ${group.id} is open by ${group.file.holder}`, fix: 'close it there' });
  }
  return found;
}
