/** The plan of binds that makes a group viable and its devices usable (S1-15). */
import { Cleanup } from '../../base/cleanup.ts';
import { type Culprit, VfioError } from '../../base/errno.ts';
import { VFIO_PCI } from './binding.ts';
import type { FunctionGroup, PciFunction } from './pci-function.ts';

/** One bind or unbind of a plan. */
export interface BindStep {
  readonly bdf: string;
  readonly from: string | null;
  /** Null: only unbind. */
  readonly to: typeof VFIO_PCI | null;
  /** The driver_override that names another driver, and that the step replaces; null for none. */
  readonly override: string | null;
  /** The group is not viable without this step; other steps make a device usable. */
  readonly needed: boolean;
  readonly command: string;
}

/** The binds of a group: see `Machine.planBind`. */
export interface BindPlan {
  readonly groupId: number;
  readonly steps: readonly BindStep[];
  /** Members that block the group under every driver. */
  readonly impossible: readonly Culprit[];
  /** The group will be viable once the steps are done. */
  readonly viable: boolean;
}

/**
 * The binds that let a user have the group: endpoints to vfio-pci; bridges are only taken from
 * drivers that use DMA. Changes nothing.
 */
export function planGroup(group: FunctionGroup): BindPlan {
  const { culprits } = group.viability();
  const steps: BindStep[] = [];
  for (const fn of group.functions) {
    const blocks = fn.driver !== null && culprits.some((c) => c.bdf === fn.bdf);
    if (fn.isBridge) {
      if (blocks) steps.push({ bdf: fn.bdf, from: fn.driver, to: null, override: null, needed: true, command: fn.bindCommand('none') });
    } else if (blocks || fn.driver === null) {
      const override = fn.driverOverride === VFIO_PCI ? null : fn.driverOverride;
      const command = fn.bindCommand(VFIO_PCI);
      steps.push({ bdf: fn.bdf, from: fn.driver, to: VFIO_PCI, override, needed: blocks, command });
    }
  }
  const impossible = group.functions
    .filter((fn) => fn.reserved.some((w) => w.kind === 'direct'))
    .map((fn) => ({
      bdf: fn.bdf,
      driver: fn.driver,
      why: 'firmware demands identity mappings for it',
      fix: 'use another device: no driver change helps',
    }));
  return { groupId: group.id, steps, impossible, viable: impossible.length === 0 };
}

/** The machine whose functions are bound; `Machine` is one. */
interface PlannedMachine {
  function(bdf: string): PciFunction;
  bind(bdf: string, driver: string): void;
  unbind(bdf: string): Promise<void>;
}

/**
 * Carry out `plan`: all of it, or nothing.
 *
 * @param restore binds `driver` again, which the function had before
 * @throws VfioError EINVAL when no driver change can make the group viable; what `bind` throws
 */
export function carryOut(plan: BindPlan, machine: PlannedMachine, restore: (fn: PciFunction, driver: string) => void): void {
  if (!plan.viable) {
    throw new VfioError('EINVAL', `no driver change makes group ${plan.groupId} viable`, { culprits: plan.impossible });
  }
  using undo = new Cleanup();
  for (const { bdf, from, to, override } of plan.steps) {
    const fn = machine.function(bdf);
    if (from !== null) {
      void machine.unbind(bdf);
      undo.defer(() => restore(fn, from));
    }
    if (to === null) continue;
    if (override !== null) {
      fn.driverOverride = to;
      undo.defer(() => {
        fn.driverOverride = override;
      });
    }
    machine.bind(bdf, to);
    undo.defer(() => void machine.unbind(bdf));
  }
  undo.move();
}
