/** Hardware that comes and goes while the machine runs. */
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import type { EngineContext } from '../context.ts';
import type { Fabric, Placed } from './fabric.ts';
import type { GroupTable } from './group-table.ts';
import type { MachineEvents } from './machine-events.ts';
import type { FunctionSpec } from './machine-spec.ts';
import type { PciFunction } from './pci-function.ts';

export interface HotplugOptions {
  readonly ctx: EngineContext;
  readonly fabric: Fabric;
  readonly groups: GroupTable;
  readonly events: MachineEvents;
  /** Announce functions that are in their groups, and offer them to drivers. */
  added(placed: readonly Placed[]): void;
  unbind(fn: PciFunction): Promise<void>;
}

export class Hotplug {
  readonly #o: HotplugOptions;
  readonly #removals = new Map<PciFunction, Promise<void>>();

  constructor(options: HotplugOptions) {
    this.#o = options;
  }

  /**
   * Plug in a device, with what its declaration has behind it. A native driver that matches is
   * bound. Where a user owns the group that the device joins, the device stays without a driver
   * (S1-12).
   *
   * @param behind the bridge or port above it; otherwise `at` names the bus, or it goes to the root
   * bus
   * @throws VfioError EEXIST when the place is taken; EINVAL when it cannot be there, or would join
   * existing groups; ENODEV behind a function that is being unplugged; ENOSPC. Nothing has changed
   * then.
   */
  add(spec: FunctionSpec, behind: PciFunction | null): PciFunction {
    const { ctx, fabric, groups } = this.#o;
    if (behind?.present === false) throw new VfioError('ENODEV', `${behind.bdf} is being unplugged`);
    const bus = behind === null ? fabric.busOf(spec?.at) : fabric.busBehind(behind);
    using undo = new Cleanup();
    const placed = fabric.plug(spec, bus, undo);
    ctx.faults.step('add.group');
    groups.join(
      placed.map((p) => p.fn),
      fabric.aroundPlugged(bus),
    );
    undo.move();
    this.#o.added(placed);
    return placed[0]!.fn;
  }

  /**
   * Unplug `top`, its VFs and all functions behind it: see `Machine.remove`.
   *
   * @param surprise the reason, when users find the function gone at once; null: the machine asks
   * them
   */
  remove(top: PciFunction, surprise: string | null = null): Promise<void> {
    const pending = this.#removals.get(top);
    const all = [top, ...(top.vfs ?? []), ...(top.secondary?.everything() ?? [])].reverse();
    const done = pending ?? this.#remove(top, all);
    // Also users that the machine has already asked.
    if (surprise !== null) for (const fn of all) fn.vfio?.revoke(surprise);
    return done;
  }

  #remove(top: PciFunction, all: readonly PciFunction[]): Promise<void> {
    for (const fn of all) fn.present = false;
    const waits = all.flatMap((fn) => (fn.driver === null ? [] : [this.#o.unbind(fn)]));
    if (all.every((fn) => fn.unbinding === null)) {
      this.#takeOut(all);
      return Promise.resolve();
    }
    const done = Promise.all(waits).then(() => {
      this.#removals.delete(top);
      this.#takeOut(all);
    });
    this.#removals.set(top, done);
    return done;
  }

  /** @param all each function before the bridge it is behind */
  #takeOut(all: readonly PciFunction[]): void {
    const { fabric, groups, events } = this.#o;
    for (const fn of all) {
      if (fabric.functions.get(fn.bdf) !== fn) continue;
      events.removed(fn, () => {
        groups.leave(fn);
        fabric.unplug(fn);
      });
    }
  }
}
