/**
 * The drivers of functions: matching, binding and unbinding. A bind is all or nothing: when a step
 * fails, the function is as before.
 *
 * @see linux/drivers/base/dd.c, really_probe(); drivers/pci/pci-driver.c, pci_match_device(),
 * pci_dma_configure()
 */
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { nearest } from '../../base/nearest.ts';
import type { Numbers } from '../../base/numbers.ts';
import { parseIds } from '../../pci/vendor-device.ts';
import type { EngineContext } from '../context.ts';
import { VfioPciDevice } from '../device/pci-device.ts';
import type { DmaUse, FunctionSpec, HostDriverSpec, IommuKind } from './machine-spec.ts';
import type { FunctionGroup, PciFunction } from './pci-function.ts';

export const VFIO_PCI = 'vfio-pci';

type Match = (fn: PciFunction) => boolean;

interface HostDriver {
  readonly name: string;
  readonly dma: DmaUse;
  /** Has a sriov_configure of its own. */
  readonly sriov: boolean;
  readonly static: readonly Match[];
  /** Ids that were added while the machine runs (new_id). */
  readonly dynamic: Map<string, Match>;
}

const isPort: Match = (fn) => fn.kind === 'root-port' || fn.kind === 'upstream-port' || fn.kind === 'downstream-port';

function matcher(id: string, driver: string): Match {
  const byClass = /^class:([0-9a-f]{2}|[0-9a-f]{4}|[0-9a-f]{6})$/i.exec(id);
  if (byClass !== null) {
    const digits = byClass[1]!.length;
    const want = Number.parseInt(byClass[1]!, 16);
    return (fn) => Math.floor(fn.declaration.classCode / 16 ** (6 - digits)) === want;
  }
  const { vendor, device } = parseIds(id, `an id of driver ${driver}`);
  return (fn) => fn.declaration.vendor === vendor && fn.declaration.device === device;
}

/**
 * The host's drivers. Always there: vfio-pci, pci-stub and pci-pf-stub, which take no function by
 * themselves (S2-15), and pcieport, which takes ports. pci-pf-stub only enables VFs (S3-14).
 */
export class HostDrivers {
  readonly #drivers = new Map<string, HostDriver>();
  readonly #mentioned = new Set<string>();

  /** @throws VfioError EINVAL for a bad name or id, EEXIST for a driver declared twice */
  constructor(specs: readonly HostDriverSpec[] = []) {
    for (const name of [VFIO_PCI, 'pci-stub', 'pci-pf-stub', 'pcieport']) {
      const dma = name === 'pci-pf-stub' ? 'kernel' : 'managed';
      const ids = name === 'pcieport' ? [isPort] : [];
      this.#drivers.set(name, { name, dma, sriov: name === 'pci-pf-stub', static: ids, dynamic: new Map() });
    }
    for (const spec of specs) {
      const name = checkDriverName(spec.name);
      if (this.#drivers.has(name)) throw new VfioError('EEXIST', `driver ${name} is declared twice, or is one that is always there`);
      const ids = (spec.ids ?? []).map((id) => matcher(id, name));
      this.#drivers.set(name, { name, dma: spec.dma ?? 'kernel', sriov: spec.sriov ?? false, static: ids, dynamic: new Map() });
    }
  }

  /**
   * The machine has every driver that a declaration names, also those that it does not describe.
   */
  noteAll(devices: readonly FunctionSpec[]): void {
    if (!Array.isArray(devices)) return;
    for (const one of devices) {
      // A value that is no declaration is refused where the machine builds the function.
      const { driver, driverOverride, vfDriver, devices: behind = [] } = (one ?? {}) as FunctionSpec;
      for (const name of [driver, driverOverride, vfDriver]) if (typeof name === 'string') this.#mentioned.add(name);
      this.noteAll(behind);
    }
  }

  /**
   * Drivers of this machine: the built-in ones, those that it declares, and those that its devices
   * name.
   */
  get known(): readonly string[] {
    return [...new Set([...this.#drivers.keys(), ...this.#mentioned])];
  }

  /**
   * The error of a write to its `bind`: no such directory below /sys/bus/pci/drivers.
   *
   * @throws VfioError ENOENT with the names of the existing drivers
   */
  checkKnown(name: string): void {
    const { known } = this;
    if (known.includes(checkDriverName(name))) return;
    const near = nearest(name, known);
    throw new VfioError('ENOENT', `this machine has no driver '${name}'; it has ${known.join(', ')}`, {
      fix: near === null ? `Declare it in the machine: hostDrivers: [{ name: ${name} }]` : `Did you mean '${near}'?`,
    });
  }

  get names(): readonly string[] {
    return [...this.#drivers.keys()];
  }

  /** The use of DMA by `name`. A driver that is not declared counts as a native one. */
  dmaUse(name: string): DmaUse {
    return this.#drivers.get(name)?.dma ?? 'kernel';
  }

  /**
   * Whether `name` can enable virtual functions. For vfio-pci a parameter decides that elsewhere.
   */
  doesSriov(name: string): boolean {
    return this.#drivers.get(name)?.sriov ?? false;
  }

  /**
   * Write to the driver's new_id: it takes matching functions from now on.
   *
   * @throws VfioError ENODEV, EINVAL, EEXIST
   */
  newId(driver: string, id: string): void {
    const found = this.#found(driver);
    if (found.dynamic.has(id.toLowerCase())) throw new VfioError('EEXIST', `driver ${driver} has id ${id} already`);
    found.dynamic.set(id.toLowerCase(), matcher(id, driver));
  }

  /** Write to remove_id. Bound functions stay bound. @throws VfioError ENODEV */
  removeId(driver: string, id: string): void {
    if (!this.#found(driver).dynamic.delete(id.toLowerCase())) throw new VfioError('ENODEV', `driver ${driver} was not given id ${id}`);
  }

  #found(driver: string): HostDriver {
    const found = this.#drivers.get(driver);
    if (found === undefined) throw new VfioError('ENODEV', `there is no driver ${driver}`);
    return found;
  }

  /**
   * Whether `name` would take `fn` at a bind: an override decides alone; otherwise the driver's ids
   * do, and a driver without ids takes every function.
   */
  accepts(name: string, fn: PciFunction): boolean {
    if (fn.driverOverride !== null) return fn.driverOverride === name;
    const driver = this.#drivers.get(name);
    if (driver === undefined || (driver.static.length === 0 && driver.dynamic.size === 0)) return true;
    return name === VFIO_PCI || this.#matches(driver, fn);
  }

  /**
   * Whether `name` matches `fn` as a write to the driver's `bind` requires: by an override, which
   * decides alone, or by an id. A driver that declares no ids is one whose ids are not known.
   */
  matches(name: string, fn: PciFunction): boolean {
    if (fn.driverOverride !== null) return fn.driverOverride === name;
    const driver = this.#drivers.get(name);
    if (driver === undefined) return true;
    const isBuiltIn = name === VFIO_PCI || name === 'pci-stub' || name === 'pci-pf-stub';
    return (!isBuiltIn && driver.static.length === 0 && driver.dynamic.size === 0) || this.#matches(driver, fn);
  }

  /** The driver that takes `fn` by itself; null for none. An override decides alone. */
  candidate(fn: PciFunction): string | null {
    if (fn.driverOverride !== null) return fn.driverOverride;
    for (const driver of this.#drivers.values()) if (this.#matches(driver, fn)) return driver.name;
    return null;
  }

  #matches(driver: HostDriver, fn: PciFunction): boolean {
    return driver.static.some((m) => m(fn)) || [...driver.dynamic.values()].some((m) => m(fn));
  }
}

/** @throws VfioError EINVAL */
export function checkDriverName(name: string): string {
  if (typeof name !== 'string' || !/^[a-z0-9][a-z0-9_.-]{0,62}$/i.test(name)) {
    throw new VfioError('EINVAL', `'${String(name).slice(0, 80)}' is not the name of a driver`);
  }
  return name;
}

export interface BinderOptions {
  readonly ctx: EngineContext;
  readonly drivers: HostDrivers;
  /** The kind of IOMMU above a function, to say why it has no group. */
  iommuKind(fn: PciFunction): IommuKind;
  /** The last vfio device of `group` is gone. */
  lastVfioGone(group: FunctionGroup): void;
  /** Give a function without an IOMMU a group of its own, for as long as vfio-pci drives it. */
  makeNoIommuGroup(fn: PciFunction): void;
  leaveNoIommuGroup(fn: PciFunction): void;
  /** The node of a device has gone. */
  deviceNodeGone(vfioIndex: number): void;
  /** Of the nodes that devices get under vfio-pci. */
  readonly vfioDevices: Numbers;
}

export class Binder {
  readonly #o: BinderOptions;

  constructor(options: BinderOptions) {
    this.#o = options;
  }

  /**
   * Bind `fn` to driver `name`. To name vfio-pci here is the user's explicit act (S1-09), so it
   * needs no id; vfio-pci takes no function by itself.
   *
   * @throws VfioError ENODEV when the function is gone or an override or the driver's ids rule
   * `name` out; EBUSY when a driver is bound already, or a native driver asks for a function of a
   * group that a user owns (S1-12); EINVAL for vfio-pci without isolating IOMMU, and what
   * `VfioPciDevice.probe` throws
   */
  bind(fn: PciFunction, name: string): void {
    const { ctx, drivers } = this.#o;
    checkDriverName(name);
    if (!fn.present) throw new VfioError('ENODEV', `${fn.bdf} is being unplugged`);
    if (fn.driver !== null) {
      const leaving = fn.unbinding === null ? `bound to ${fn.driver} already` : `still leaving ${fn.driver}: a user holds it open`;
      throw new VfioError('EBUSY', `${fn.bdf} is ${leaving}`, {
        fix: fn.unbinding === null ? `Unbind it first: ${fn.bindCommand('none')}` : 'Close the device files that are open.',
      });
    }
    if (!drivers.accepts(name, fn)) {
      const why =
        fn.driverOverride !== null ? `its driver_override says ${fn.driverOverride}` : `its id ${fn.id} is not among the driver's`;
      throw new VfioError('ENODEV', `${name} does not take ${fn.bdf}: ${why}`, {
        fix: fn.driverOverride !== null ? `Set its driver_override to ${name}, or clear it.` : `Set its driver_override to ${name}.`,
      });
    }
    ctx.faults.step('bind.match');
    using undo = new Cleanup();
    if (name === VFIO_PCI) this.#bindVfio(fn, undo);
    else {
      const use = drivers.dmaUse(name);
      fn.group?.useDma(fn, name, use);
      undo.defer(() => fn.group?.unuseDma(fn));
      ctx.faults.step('bind.dma');
      ctx.faults.step('bind.probe');
    }
    fn.driver = name;
    undo.move();
  }

  #bindVfio(fn: PciFunction, undo: Cleanup): void {
    const { ctx } = this.#o;
    if (fn.isBridge) {
      throw new VfioError('EINVAL', `${fn.bdf} is a bridge; vfio-pci drives endpoints only`, {
        fix: 'Leave it to pcieport or unbound: bridges do not keep a group from being viable.',
      });
    }
    if (fn.group === null && ctx.params.unsafeNoIommu) {
      this.#o.makeNoIommuGroup(fn);
      undo.defer(() => this.#o.leaveNoIommuGroup(fn));
      const story = `${fn.bdf} has no IOMMU: its user can make it write anywhere in memory (unsafeNoIommu)`;
      fn.host.events.note('warn', `no IOMMU ${fn.bdf}`, story);
    }
    if (fn.group === null) {
      const kind = this.#o.iommuKind(fn);
      const why =
        kind === 'translation' ? 'the IOMMU above it translates but does not isolate, so it makes no groups' : 'there is no IOMMU above it';
      throw new VfioError('EINVAL', `${fn.bdf} has no isolation group: ${why}`, {
        fix: 'Use a machine whose IOMMU is of kind full, or set the parameter unsafeNoIommu.',
      });
    }
    ctx.faults.step('bind.dma');
    const device = VfioPciDevice.probe(fn, ctx);
    undo.defer(() => void device.unregister());
    ctx.faults.step('bind.probe');
    fn.vfio = device;
    fn.vfioIndex = this.#o.vfioDevices.take(fn.bdf);
    undo.defer(() => this.#forget(fn));
    ctx.faults.step('bind.register');
  }

  #forget(fn: PciFunction): void {
    if (fn.vfioIndex !== null) {
      this.#o.vfioDevices.release(fn.vfioIndex);
      this.#o.deviceNodeGone(fn.vfioIndex);
    }
    fn.vfio = null;
    fn.vfioIndex = null;
  }

  /**
   * Bind a native driver again that was bound a moment ago: no match is needed, and no step can
   * fail.
   */
  restore(fn: PciFunction, name: string): void {
    fn.group?.restoreDma(fn, name, this.#o.drivers.dmaUse(name));
    fn.driver = name;
  }

  /**
   * Unbind the driver. At once for a native driver, and for vfio-pci without users; otherwise the
   * engine asks the users to close the device and refuses opens from now on, and the promise waits
   * for the last close (S2-41).
   *
   * @throws VfioError ENODEV when no driver is bound
   */
  unbind(fn: PciFunction): Promise<void> {
    if (fn.unbinding !== null) return fn.unbinding;
    if (fn.driver === null) throw new VfioError('ENODEV', `${fn.bdf} is not bound to a driver`);
    const { vfio } = fn;
    if (vfio === null) {
      fn.group?.unuseDma(fn);
      fn.driver = null;
      return Promise.resolve();
    }
    const released = vfio.unregister();
    if (!vfio.inUse) {
      this.unbound(fn, vfio);
      return released;
    }
    const done = released.then(() => this.unbound(fn, vfio));
    fn.unbinding = done;
    return done;
  }

  /** `device` has no user any more: finish its unbind. Idempotent. */
  unbound(fn: PciFunction, device: VfioPciDevice): void {
    if (fn.vfio !== device) return;
    fn.unbinding = null;
    this.#forget(fn);
    fn.driver = null;
    if (fn.group === null) return;
    if (fn.group.vfioFunctions.length === 0) this.#o.lastVfioGone(fn.group);
    if (fn.group.noIommu) this.#o.leaveNoIommuGroup(fn);
  }
}
