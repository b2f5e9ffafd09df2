/**
 * A machine: its PCI functions, the isolation groups that follow from the fabric, the drivers of
 * the functions, and the files through which users reach them. Two machines share nothing, and the
 * same declaration gives the same machine every time.
 *
 * Longer than 400 lines because it lists everything that a user and an administrator can do with a
 * machine, each action with its errors; the work is done in the files beside it.
 */

import type { ErrorKind } from '../../abi/device-host.ts';
import type { EventFlow, EventKind, EventOf, EventOptions } from '../../abi/event.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { INSPECT } from '../../base/inspect.ts';
import { LowestFree } from '../../base/numbers.ts';
import { refusalOf } from '../../events/source.ts';
import { compareBdf, parseBdf } from '../../pci/bdf.ts';
import type { EngineContext } from '../context.ts';
import { Container } from '../dma/container.ts';
import { checkRawIo, Process } from '../dma/process.ts';
import type { Iommufd } from '../iommufd/iommufd.ts';
import { type ParamState, type ParamValue, paramStates, writeParam } from '../params.ts';
import { reportErrorOf, resetByAdministrator, setPower } from './administrator.ts';
import { type BindPlan, carryOut, planGroup } from './bind-plan.ts';
import { Binder, checkDriverName, HostDrivers, VFIO_PCI } from './binding.ts';
import type { CdevFile } from './cdev-file.ts';
import { type Explanation, explainFunction, type Remedies } from './explain.ts';
import { Fabric, type Placed } from './fabric.ts';
import { GroupFile } from './group-file.ts';
import { GroupTable, pathOf, type VfioNode } from './group-table.ts';
import { Hotplug } from './hotplug.ts';
import { IommufdFiles } from './iommufd-files.ts';
import { type MachineEvent, MachineEvents } from './machine-events.ts';
import { contextOf, type MachineOptions } from './machine-options.ts';
import { MachineSleep } from './machine-sleep.ts';
import type { FunctionSpec, MachineSpec } from './machine-spec.ts';
import type { FunctionGroup, PciFunction } from './pci-function.ts';
import { recordedGroups } from './recorded-groups.ts';
import { SriovControl } from './sriov.ts';
import { checkGrouping } from './topology.ts';

/** A computer with PCI functions, IOMMUs and the VFIO drivers of a kernel. */
export class Machine implements Disposable {
  readonly name: string;
  readonly context: EngineContext;
  readonly drivers: HostDrivers;
  /** The process of calls that name none: uid 0, every capability, no limits. */
  readonly process: Process;
  readonly #fabric: Fabric;
  readonly #groups: GroupTable;
  readonly #listeners: MachineEvents;
  readonly #binder: Binder;
  readonly #sriov: SriovControl;
  readonly #hotplug: Hotplug;
  readonly #sleep: MachineSleep;
  /** Files of mediators that the declaration names and that were not loaded. */
  readonly #missing: readonly string[];
  /** Its part in the stream, and in the plan of faults. */
  readonly #owns: Disposable;
  readonly #containers = new Set<Container>();
  readonly #iommufdFiles: IommufdFiles;
  readonly #remedies: Remedies | undefined;
  #disposed = false;

  /** @throws VfioError EINVAL, EEXIST, ENOSPC for a declaration that is no machine */
  constructor(spec: MachineSpec, options: MachineOptions) {
    using undo = new Cleanup();
    this.context = contextOf(spec, options, () => vectorsInUse(this.functions.values()));
    undo.use(options.events === undefined ? this.context.stream : this.context.events);
    undo.use(this.#emitFaults());
    this.name = spec.name ?? 'machine';
    this.#missing = options.mediators === undefined ? (spec.mediators ?? []) : [];
    this.#remedies = options.remedies;
    this.#listeners = new MachineEvents(this.context);
    this.drivers = new HostDrivers(spec.hostDrivers);
    this.drivers.noteAll(spec.devices);
    this.process = Process.root({ pageSize: this.context.pageSize, allocate: options.allocate });
    this.#fabric = new Fabric(spec, options.models ?? {}, this.context);
    this.#sleep = new MachineSleep(this.name, this.functions, this.context.events);
    const recorded = recordedGroups(spec.groups);
    const { groups, vfioDevices } = options.numbers ?? { groups: recorded?.numbers() ?? new LowestFree(), vfioDevices: new LowestFree() };
    this.#groups = new GroupTable({
      fabric: this.#fabric,
      nodeOwner: options.nodeOwner ?? 0,
      grouping: checkGrouping(spec.grouping),
      recorded,
      numbers: groups,
      linux: this.context.linux,
    });
    this.#binder = new Binder({
      ctx: this.context,
      drivers: this.drivers,
      iommuKind: (fn) => this.#fabric.iommu(fn).kind,
      lastVfioGone: (group) => this.#groups.lastVfioGone(group),
      deviceNodeGone: (index) => this.#groups.deviceNodeGone(index),
      makeNoIommuGroup: (fn) => this.#groups.joinNoIommu(fn),
      leaveNoIommuGroup: (fn) => this.#groups.leave(fn),
      vfioDevices,
    });
    this.#iommufdFiles = new IommufdFiles({
      ctx: this.context,
      groups: this.#groups,
      functions: this.functions,
      asleep: () => this.#sleep.suspended,
    });
    this.#sriov = new SriovControl({
      ctx: this.context,
      fabric: this.#fabric,
      groups: this.#groups,
      drivers: this.drivers,
      added: (vfs) => this.#added(vfs.map((fn) => ({ fn, spec: { at: fn.bdf } }))),
      remove: (vf) => this.#hotplug.remove(vf),
    });
    this.#hotplug = new Hotplug({
      ctx: this.context,
      fabric: this.#fabric,
      groups: this.#groups,
      events: this.#listeners,
      added: (placed) => this.#added(placed),
      unbind: (fn) => this.#unbind(fn),
    });
    const { events } = this.context;
    const seq = events.on ? events.emit('power', { state: 'on' }) : 0;
    events.during(seq, () => {
      const placed = this.#fabric.powerOn(spec.devices, spec.rootBuses);
      this.#groups.join(placed.map((p) => p.fn));
      this.#added(placed);
    });
    this.#owns = undo.move();
  }

  #emitFaults(): Disposable {
    const { events, faults } = this.context;
    return faults.on((step, errno) => {
      if (events.on) events.emit('fault', { step, errno });
    });
  }

  #added(placed: readonly Placed[]): void {
    for (const { fn } of placed) this.#listeners.added(fn);
    for (const one of placed) this.#firstProbe(one);
    for (const { fn, spec } of placed) this.#sriov.first(fn, spec.numVfs ?? 0);
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    return `Machine ${this.name}: ${this.functions.size} functions, ${this.groups.size} groups${this.#disposed ? ', switched off' : ''}`;
  }

  // ---- Functions, groups and nodes

  /** By BDF, in bus order at power-on. */
  get functions(): ReadonlyMap<string, PciFunction> {
    return this.#fabric.functions;
  }

  /** By number. A group without functions does not exist. */
  get groups(): ReadonlyMap<number, FunctionGroup> {
    return this.#groups.groups;
  }

  /** The function at `bdf`, `0000:` may be left out. @throws VfioError EINVAL, ENODEV */
  function(bdf: string): PciFunction {
    const fn = this.#fabric.functions.get(parseBdf(bdf));
    if (fn !== undefined) return fn;
    const all = [...this.#fabric.functions.keys()].sort(compareBdf);
    const more = all.length > 8 ? ', …' : '';
    throw new VfioError('ENODEV', `${parseBdf(bdf)} is not in this machine`, { fix: `It has ${all.slice(0, 8).join(', ')}${more}.` });
  }

  /** @throws VfioError ENOENT */
  group(id: number): FunctionGroup {
    return this.#groups.get(id);
  }

  /** The nodes that /dev/vfio holds now (S2-22). */
  get nodes(): readonly VfioNode[] {
    return this.#groups.nodes;
  }

  /** The node at `path`. @throws VfioError ENOENT */
  node(path: string): VfioNode {
    return this.#groups.node(path);
  }

  /**
   * Calls `listener` at each event of the machine (hot plug, binding), until the result is
   * disposed.
   */
  on(listener: (event: MachineEvent) => void): Disposable {
    return this.#listeners.on(listener);
  }

  /**
   * The events of the machine and all its devices from now on, in order: bindings, containers,
   * accesses, DMA, interrupts. A stream that the machine was given has events of its other users,
   * too.
   *
   * @throws VfioError EINVAL for options or kinds that do not exist
   */
  events<K extends EventKind = EventKind>(options: EventOptions<K> = {}): EventFlow<EventOf<K | 'dropped'>> {
    return this.context.stream.read(options);
  }

  // ---- Files that users open

  /** open("/dev/vfio/vfio"): every process may. */
  openContainer(process: Process = this.process): Container {
    this.#check();
    this.context.faults.step('container.open');
    const container: Container = new Container(this.context, () => {
      onExit[Symbol.dispose]();
      this.#containers.delete(container);
      if (container.events.on) container.events.emit('open', { step: 'closed', pid: process.pid });
    });
    if (container.events.on) container.events.emit('open', { step: 'opened', pid: process.pid });
    const onExit = process.onExit(() => container.close());
    this.#containers.add(container);
    return container;
  }

  /** open("/dev/iommu"). @throws VfioError EACCES for a process that does not own the node */
  openIommufd(process: Process = this.process): Iommufd {
    this.#check();
    return this.#iommufdFiles.openIommufd(process);
  }

  /**
   * Bytes of memory that a user has locked through iommufds: those that pay by user, which is their
   * default.
   */
  lockedThroughIommufds(uid: number): number {
    return this.#iommufdFiles.locked(uid);
  }

  /**
   * open("/dev/vfio/devices/vfioN"): a device without its group. It can do nothing until it is
   * bound to an iommufd.
   *
   * @param device its BDF, or the name of its node: `vfioN`, `noiommu-vfioN`
   * @throws VfioError ENOENT for a device that vfio-pci does not drive; EACCES for a process that
   * does not own the node; ENODEV while the device leaves; EINVAL as `openGroup`
   */
  openDevice(device: string, process: Process = this.process): CdevFile {
    this.#check();
    this.#checkMediators();
    const fn = device.includes(':') ? this.function(device) : this.#iommufdFiles.functionOf(device);
    return this.#iommufdFiles.openDevice(fn, process);
  }

  /**
   * open("/dev/vfio/ID"). Binds and unbinds no function (S1-09).
   *
   * @throws VfioError ENOENT for a group without a device bound to vfio-pci; EACCES for a process
   * that does not own the node (S2-01); EPERM for a group without an IOMMU, without CAP_SYS_RAWIO;
   * EBUSY while another user has it open (S1-04); EINVAL while
   * mediators that the declaration names are not loaded
   */
  openGroup(id: number, process: Process = this.process): GroupFile {
    this.#check();
    const { events } = this.context;
    if (!events.on) return this.#openGroup(id, process);
    return events.attempt('group', { group: Number.isInteger(id) ? id : -1, step: 'opened' }, () => this.#openGroup(id, process));
  }

  #openGroup(id: number, process: Process): GroupFile {
    this.#checkMediators();
    const group = this.group(id);
    if (group.vfioFunctions.length === 0) {
      throw new VfioError('ENOENT', `there is no /dev/vfio/${id}: no device of group ${id} is bound to vfio-pci`, {
        fix: this.planBind(id).steps.find((s) => s.to !== null)?.command ?? 'The group has only bridges.',
      });
    }
    this.#groups.checkAccess(pathOf(group), process);
    if (group.noIommu) checkRawIo(process, `group ${id}, which has no IOMMU`);
    return GroupFile.open(group, process, this.context, () => this.#sleep.suspended);
  }

  #checkMediators(): void {
    if (this.#missing.length === 0) return;
    throw new VfioError('EINVAL', `${this.name} names mediators in files that were not loaded: ${this.#missing.join(', ')}`, {
      fix: 'Give them to the machine: { mediators: await importMediators([…]) }.',
    });
  }

  /**
   * chown of a group's node: the one privileged act besides binding (S2-01). Lasts as long as the
   * node.
   *
   * @throws VfioError ENOENT, EINVAL
   */
  chownGroup(id: number, uid: number): void {
    this.#emitted('group owner', `uid ${uid} of group ${id}`, () => this.#groups.chown(pathOf(this.group(id)), uid));
  }

  /**
   * chown of any node of `nodes`. Lasts as long as the node.
   *
   * @throws VfioError ENOENT, EINVAL
   */
  chownNode(path: string, uid: number): void {
    this.#emitted('node owner', `uid ${uid} of ${path.slice(0, 40)}`, () => this.#groups.chown(path, uid));
  }

  /** An administrator's setting `name` of `fn`; null: of the machine. */
  #emitted<T>(name: string, value: unknown, act: () => T, fn: PciFunction | null = null): T {
    const events = fn === null ? this.context.events : fn.host.events;
    if (!events.on) return act();
    return events.attempt('feature', { name, op: 'set', value: shortly(value) }, act);
  }

  // ---- Drivers

  /**
   * Bind `driver` to the function; see `Binder.bind` for the errors. A failed bind has changed
   * nothing.
   */
  bind(bdf: string, driver: string): void {
    this.#check();
    const fn = this.function(bdf);
    try {
      this.#sleep.checkAwake();
      this.#binder.bind(fn, driver);
    } catch (error) {
      this.#listeners.refused(fn, driver, error);
      throw error;
    }
    fn.probeError = null;
    this.#sriov.bound(fn, driver);
    this.#listeners.bound(fn, driver);
  }

  /**
   * Unbind the function's driver. Resolves when the last user has closed the device (S2-41), at
   * once when there is none.
   *
   * @throws VfioError ENODEV without driver
   */
  unbind(bdf: string): Promise<void> {
    this.#check();
    const fn = this.function(bdf);
    return this.#unbind(fn);
  }

  #unbind(fn: PciFunction): Promise<void> {
    if (fn.unbinding !== null) return fn.unbinding;
    const waits = this.#sriov.beforeUnbind(fn, () => this.#unbind(fn));
    if (waits !== null) return waits;
    const { driver } = fn;
    const told = () => this.#listeners.unbound(fn, driver!);
    let done: Promise<void>;
    try {
      done = this.#binder.unbind(fn);
    } catch (error) {
      this.#listeners.refused(fn, null, error);
      throw error;
    }
    if (fn.unbinding === null) {
      told();
      return done;
    }
    return done.then(told);
  }

  /**
   * Only `driver` may take the function from now on; null or '' clears the override. A bound driver
   * stays bound.
   *
   * @throws VfioError EINVAL, ENODEV
   */
  setDriverOverride(bdf: string, driver: string | null): void {
    this.#check();
    const fn = this.function(bdf);
    const set = () => {
      fn.driverOverride = driver === null || driver === '' ? null : checkDriverName(driver);
    };
    this.#emitted('driver_override', driver ?? '', set, fn);
  }

  /**
   * drivers_probe: the driver that matches takes the function. Returns the function's driver, null
   * for none.
   *
   * @throws what `bind` throws
   */
  probe(bdf: string): string | null {
    this.#check();
    const fn = this.function(bdf);
    const driver = fn.driver === null ? this.drivers.candidate(fn) : null;
    if (driver !== null) this.bind(fn.bdf, driver);
    return fn.driver;
  }

  /**
   * Bind the driver of a function that has just appeared. A refusal is kept in `probeError` and
   * logged: the function stays without a driver.
   */
  #firstProbe({ fn, spec }: Placed): void {
    if (spec.driverOverride !== undefined) fn.driverOverride = checkDriverName(spec.driverOverride);
    if (fn.driver !== null || !fn.present || spec.driver === null) return;
    const driver = spec.driver ?? this.drivers.candidate(fn);
    if (driver === null) return;
    try {
      this.bind(fn.bdf, driver);
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      fn.probeError = error;
      fn.host.events.note('warn', 'probe', `${fn.bdf}: ${driver} was not bound: ${error.message}`);
    }
  }

  // ---- SR-IOV

  /**
   * Write sriov_numvfs: enable `count` virtual functions, or with 0 disable them all. VFs are
   * functions of their own, with their own groups. vfio-pci gets the VFs of a PF under vfio-pci.
   * Resolves when the users of VFs that go have closed them, at once when there are none.
   *
   * @throws VfioError see `SriovControl.setNumVfs`; nothing has changed then
   */
  setNumVfs(bdf: string, count: number): Promise<void> {
    this.#check();
    const fn = this.function(bdf);
    const set = () => {
      this.#sleep.checkAwake();
      return this.#sriov.setNumVfs(fn, count);
    };
    return this.#emitted('sriov_numvfs', count, set, fn);
  }

  /**
   * The administrator's reset of a function (sysfs `reset`), also while a user has it. A PF takes
   * its VFs along and asks for no token (S3-20).
   *
   * @throws VfioError EAGAIN when the device lock is held; ENOTTY without a way to reset it; EBUSY
   * while the machine is suspended
   */
  reset(bdf: string): void {
    this.#check();
    this.#sleep.checkAwake();
    resetByAdministrator(this.function(bdf), this.context);
  }

  // ---- Other actions of an administrator

  /** /sys/module/…/parameters, and the engine's own. */
  get params(): readonly ParamState[] {
    return paramStates(this.context.params);
  }

  /**
   * Set a parameter while the machine runs: by the engine's name (`enableSriov`) or Linux's
   * (`vfio_pci.enable_sriov`), to a value or to text as sysfs takes it (`Y`, `5000`). Files that
   * are open already keep the limits that they began with.
   *
   * @throws VfioError ENOENT unknown; EACCES fixed while the machine runs; EINVAL a value that does
   * not fit
   */
  setParam(name: string, value: ParamValue | string): void {
    this.#check();
    this.#emitted(shortly(name), value, () => writeParam(this.context.params, name, value));
  }

  /**
   * Have the function report a PCI Express error, as aer-inject does: see `DeviceHost.reportError`.
   *
   * @returns false: no message was sent, because the error is masked or its reporting is off
   * @throws VfioError ENODEV; EOPNOTSUPP for a function that is not PCI Express; EINVAL for an
   * unknown kind
   */
  reportError(bdf: string, kind: ErrorKind, status?: number): boolean {
    this.#check();
    return reportErrorOf(this.function(bdf), kind, status);
  }

  /**
   * Wake a function from low power (B.10), as writing `on` to power/control does. No effect on a
   * function that is awake.
   *
   * @throws VfioError ENODEV
   */
  wake(bdf: string): void {
    this.#check();
    this.function(bdf).vfio?.wake();
  }

  /**
   * Put a function into D0 or D3hot, as setpci does by PMCSR. Back in D0 its configuration is
   * unchanged.
   *
   * @throws VfioError EOPNOTSUPP without a power management capability; EBUSY for a PF that has
   * VFs, and while the machine sleeps; ENODEV
   */
  setPower(bdf: string, state: 'D0' | 'D3hot'): void {
    this.#check();
    this.#sleep.checkAwake();
    setPower(this.function(bdf), state);
  }

  // ---- Hotplug

  /** Plug in a device: see `Hotplug.add`. Nothing has changed when it throws. */
  add(spec: FunctionSpec, behind?: string): PciFunction {
    this.#check();
    try {
      this.#sleep.checkAwake();
      return this.#hotplug.add(spec, behind === undefined ? null : this.function(behind));
    } catch (error) {
      const { events } = this.context;
      if (events.on) events.emit('plug', { step: 'added', name: shortly(spec?.at), ...refusalOf(error) });
      throw error;
    }
  }

  /**
   * Unplug a function and everything behind it. From now on it cannot be opened or bound. The
   * engine asks its users to close it, and the promise resolves when the last one has (S2-41), at
   * once when there is none.
   *
   * @param surprise the device was pulled out: no user is asked, and every user finds it gone
   */
  remove(bdf: string, { surprise = false }: { readonly surprise?: boolean } = {}): Promise<void> {
    this.#check();
    const fn = this.function(bdf);
    return this.#hotplug.remove(fn, surprise ? `${fn.bdf} was pulled out` : null);
  }

  // ---- Groups

  /**
   * The function's group, its viability, the functions that block it, and the fixes.
   *
   * @throws VfioError ENODEV
   */
  explain(bdf: string): Explanation {
    const fn = this.function(bdf);
    return explainFunction(fn, this.#fabric.iommu(fn), this.context.params.allowUnsafeInterrupts, this.#remedies);
  }

  /**
   * The binds that make a group viable and its devices usable (S1-15). Changes nothing.
   *
   * @throws VfioError ENOENT
   */
  planBind(groupId: number): BindPlan {
    return planGroup(this.group(groupId));
  }

  /**
   * Carry out `planBind`. All or nothing.
   *
   * @throws VfioError EINVAL when no driver change can make the group viable; what `bind` throws
   */
  bindGroup(groupId: number): BindPlan {
    this.#check();
    this.#sleep.checkAwake();
    const plan = this.planBind(groupId);
    carryOut(plan, this, (fn, driver) => {
      this.#binder.restore(fn, driver);
      this.#listeners.bound(fn, driver);
    });
    return plan;
  }

  // ---- Sleep

  /** The machine sleeps, or is about to. */
  get suspended(): boolean {
    return this.#sleep.suspended;
  }

  /**
   * Suspend (S2-42): users of devices hear of it and may save state; each acknowledges or runs into
   * the timeout. Then no device can do DMA until `resume`. Meanwhile nothing can be bound, plugged
   * in or opened.
   */
  suspend(): Promise<void> {
    this.#check();
    return this.#sleep.suspend();
  }

  /** Wake up; does nothing while awake. */
  resume(): void {
    this.#check();
    this.#sleep.resume();
  }

  #check(): void {
    if (this.#disposed) throw new VfioError('ENODEV', `${this.name} is switched off`);
  }

  /** Take the function from its users and its driver, also while an unbind waits. */
  #letGo(fn: PciFunction): void {
    const { vfio } = fn;
    vfio?.revoke(`${this.name} is switched off`);
    const { driver } = fn;
    if (driver !== null && fn.unbinding === null) void this.#binder.unbind(fn);
    if (vfio !== null) {
      void vfio.unregister();
      this.#binder.unbound(fn, vfio);
    }
    if (driver !== null) this.#listeners.unbound(fn, driver);
  }

  /** Switch off: every file is closed, every driver unbound, every model disposed. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    const { events } = this.context;
    const seq = events.on ? events.emit('power', { state: 'off' }) : 0;
    // No listener hears of the functions that go.
    this.#listeners.clear();
    events.during(seq, () => this.#switchOff());
  }

  #switchOff(): void {
    using off = new Cleanup();
    off.use(this.#owns);
    off.defer(() => this.process.exit());
    for (const fn of this.functions.values()) {
      if (fn.owns !== null) off.use(fn.owns);
      off.defer(() => fn.host.dispose());
      off.defer(() => this.#letGo(fn));
    }
    off.use(this.#iommufdFiles);
    for (const container of this.#containers) off.defer(() => container.close());
    for (const group of this.groups.values()) {
      off.defer(() => group.file?.close());
      for (const file of group.file?.deviceFiles ?? []) off.defer(() => file.close());
    }
  }
}

/** Of a value that may be anything, for an event. */
function shortly(value: unknown): string {
  return ['string', 'number', 'boolean'].includes(typeof value) ? String(value).slice(0, 64) : '?';
}

function vectorsInUse(functions: Iterable<PciFunction>): number {
  let sum = 0;
  for (const fn of functions) sum += fn.vfio?.vectors ?? 0;
  return sum;
}

export { type MachineEvent, type MachineOptions, VFIO_PCI, type VfioNode };
