/**
 * The buses of a machine and the functions on them: hardware, without drivers.
 *
 * Longer than 400 lines because firmware's walk, bridges and functions share the tables of buses.
 */
import type { ErrorKind } from '../../abi/device-host.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { textOf } from '../../base/foreign.ts';
import { FunctionHost } from '../../hardware/function-host.ts';
import { InterruptLine } from '../../hardware/interrupt-line.ts';
import { bdfParts, formatBdf, parseBdf } from '../../pci/bdf.ts';
import { ConfigSpace } from '../../pci/config-space.ts';
import { virtualFunctionAt } from '../../pci/virtual-functions.ts';
import type { EngineContext } from '../context.ts';
import { recoverFrom } from '../device/error-recovery.ts';
import type { IommuProperties } from '../dma/iommu-properties.ts';
import { checkDriverName } from './binding.ts';
import { BusNumbers, FIRST_EMULATED_DOMAIN } from './bus-numbers.ts';
import { Firmware } from './firmware.ts';
import { ANYWHERE, type BuiltFunction, buildFunction, type ModelRegistry } from './function-builder.ts';
import { isVolumeManager } from './hardware-quirks.ts';
import { checkReserved, IommuTable } from './machine-iommu.ts';
import { bridgeKinds, type FunctionSpec, type MachineSpec } from './machine-spec.ts';
import { type PciBus, PciFunction } from './pci-function.ts';
import { PhysicalFunction } from './physical-function.ts';

/** A new function, and its declaration. */
export interface Placed {
  readonly fn: PciFunction;
  readonly spec: FunctionSpec;
}

export class Fabric {
  readonly functions = new Map<string, PciFunction>();
  readonly #buses = new BusNumbers();
  readonly #iommus = new Map<PciFunction, IommuProperties>();
  readonly #table: IommuTable;
  readonly #firmware: Firmware;
  /** The four interrupt lines of each root bus. */
  readonly #wires = new Map<PciBus, readonly InterruptLine[]>();
  readonly #models: ModelRegistry;
  /** Functions are where a recording has them, in whatever place. */
  readonly #recorded: boolean;
  readonly #ctx: EngineContext;

  constructor(spec: MachineSpec, models: ModelRegistry, ctx: EngineContext) {
    this.#table = new IommuTable(spec);
    this.#firmware = new Firmware(spec.memoryBase);
    this.#models = models;
    this.#recorded = spec.recorded === true;
    this.#ctx = ctx;
  }

  /** All functions in the order of discovery: root bus by root bus, and there in bus order. */
  inOrder(): readonly PciFunction[] {
    return this.#buses.inOrder().flatMap((bus) => bus.functions);
  }

  /**
   * In the order in which the kernel gives them groups: the functions behind one IOMMU, then those
   * behind the next one that it starts.
   */
  inGroupOrder(): readonly PciFunction[] {
    return this.#sortByIommu([...this.inOrder()]);
  }

  /**
   * In the same order, the functions that decide with which groups VFs of `pf` are: those of their
   * buses and of all buses above, and functions whose requester ids those carry. The groups of
   * these are known, and VFs have nothing behind them.
   */
  aroundVirtualFunctions(pf: PciFunction): readonly PciFunction[] {
    return this.#around(pf.bus, [pf.bus, ...pf.vfs.map((vf) => vf.bus)]);
  }

  /**
   * The same for functions that were plugged into `bus`: also all behind the bus, since a new
   * neighbour of a bridge decides whether requests can turn round there.
   */
  aroundPlugged(bus: PciBus): readonly PciFunction[] {
    return this.#around(bus, this.#buses.inOrder([bus]));
  }

  #around(bus: PciBus, buses: readonly PciBus[]): readonly PciFunction[] {
    const above: PciBus[] = [];
    for (let at = bus.bridge; at !== null; at = at.parent) above.unshift(at.bus);
    const here = [...new Set([...above, ...buses])].flatMap((one) => one.functions);
    const requesters = here.flatMap((fn) => fn.requester ?? []);
    return this.#sortByIommu([...new Set([...requesters, ...here])]);
  }

  #sortByIommu(functions: PciFunction[]): readonly PciFunction[] {
    const order = this.#table.order();
    return functions.sort((a, b) => order.get(this.iommu(a))! - order.get(this.iommu(b))!);
  }

  iommu(fn: PciFunction): IommuProperties {
    return this.#iommus.get(fn)!;
  }

  /**
   * Build all hardware that is there at power-on.
   *
   * @param rootBuses names of root buses that are there besides those of devices
   * @throws VfioError EINVAL, EEXIST, ENOSPC; the functions built before are disposed of then
   */
  powerOn(specs: readonly FunctionSpec[], rootBuses: readonly string[] = []): readonly Placed[] {
    using undo = new Cleanup();
    const placed: Placed[] = [];
    // As the kernel scans: every function on a bus, then the functions behind each bridge there.
    const put = (list: readonly FunctionSpec[], bus: PciBus): void => {
      const here = checkList(list).map((spec) => ({ fn: this.#insert(spec, bus, undo), spec }));
      placed.push(...here);
      this.#buses.reserve(bus);
      for (const { fn, spec } of here) {
        if (!bridgeKinds.has(fn.kind)) continue;
        const behind = this.#recorded ? this.#buses.openRecorded(fn, spec.bus, spec.devices === undefined) : this.#buses.open(fn, spec.bus);
        if (behind === null) continue;
        undo.defer(() => this.#buses.delete(behind));
        put(spec.devices ?? [], behind);
      }
    };
    const roots = this.#buses.declareRoots([...checkList(specs).map((spec) => spec.at), ...rootBuses.map((name) => `${name}:00.0`)]);
    const onRoot = new Map<PciBus, FunctionSpec[]>(roots.map((root) => [root, []]));
    for (const spec of specs) {
      const bus = this.#buses.of(spec.at);
      onRoot.get(bus)!.push(spec);
    }
    for (const [root, list] of onRoot) put(list, root);
    this.#markMultifunction(placed);
    this.#firmware.start(roots);
    for (const { fn } of placed) this.#start(fn);
    undo.move();
    return placed;
  }

  /**
   * Plug in a function, and the functions that its declaration has behind it, while the machine
   * runs. Steps that undo it go to `undo`.
   *
   * @param bus the function's bus; a port's bus takes device 00 only
   */
  plug(spec: FunctionSpec, bus: PciBus, undo: Cleanup): readonly Placed[] {
    const placed: Placed[] = [];
    const put = (one: FunctionSpec, on: PciBus): PciFunction => {
      const fn = this.#insert(one, on, undo);
      placed.push({ fn, spec: one });
      if (bridgeKinds.has(fn.kind)) {
        const behind = this.#buses.plug(fn, one.bus);
        undo.defer(() => this.#buses.delete(behind));
        for (const each of checkList(one.devices ?? [])) put(each, behind);
      }
      return fn;
    };
    this.#ctx.faults.step('add.config');
    const top = put(spec, bus);
    this.#markMultifunction(placed);
    undo.defer(() => this.#firmware.unplug(top));
    this.#firmware.plug(top);
    this.#ctx.faults.step('add.model');
    for (const { fn } of placed) this.#start(fn);
    return placed;
  }

  /**
   * Take a function out, which must have no function behind it and no driver: its model is disposed
   * of.
   */
  unplug(fn: PciFunction): void {
    this.#firmware.unplug(fn);
    this.#take(fn);
  }

  /**
   * Make the VFs 0 to `count - 1` of `pf`, at the places that its SR-IOV capability gives. Steps
   * that undo it go to `undo`.
   *
   * @throws VfioError ENOMEM when one would be on a bus that is not kept for them; EEXIST when a
   * place is taken
   */
  addVirtualFunctions(pf: PciFunction, count: number, undo: Cleanup): readonly PciFunction[] {
    const places = Array.from({ length: count }, (_, i) => {
      const at = virtualFunctionAt(pf.address, pf.config, i);
      if (at === null) throw new VfioError('ENOMEM', `${pf.bdf}: virtual function ${i} of ${count} would be beyond bus 0xff`);
      const bdf = formatBdf(at);
      const taken = this.functions.get(bdf);
      if (taken !== undefined) throw new VfioError('EEXIST', `${pf.bdf}: virtual function ${i} would be at ${bdf}, where ${taken.name} is`);
      return { bdf, number: at.bus };
    });
    const buses = new Map<number, PciBus>();
    for (const number of new Set(places.map((place) => place.number))) {
      const bus = this.#buses.forVirtualFunctions(pf, number);
      undo.defer(() => this.#forget(bus));
      buses.set(number, bus);
    }
    return places.map(({ bdf, number }, i) => this.#insertVirtual(pf, bdf, buses.get(number)!, i, undo));
  }

  #insertVirtual(pf: PciFunction, bdf: string, bus: PciBus, vfIndex: number, undo: Cleanup): PciFunction {
    const { vfDeclaration: declaration, bars, declared } = pf.sriov!;
    this.#ctx.faults.step('sriov.config');
    const config = new ConfigSpace(declaration);
    for (const { index } of bars) config.setBarAddress(index, pf.sriov!.barAddress(index, vfIndex));
    const fn = new PciFunction({
      bindCommand: this.#ctx.bindCommand,
      bdf,
      name: `${pf.name} VF ${vfIndex}`,
      kind: pf.kind,
      declaration,
      config,
      bus,
      reserved: [],
      dmaAliases: [],
      slot: false,
      requester: pf.requester,
      physical: pf,
      vfIndex,
    });
    this.#attachHost(fn);
    bus.insert(fn);
    pf.vfs.push(fn);
    this.functions.set(bdf, fn);
    this.#iommus.set(fn, this.#iommus.get(pf)!);
    undo.defer(() => this.#take(fn));
    this.#ctx.faults.step('sriov.model');
    if (this.#iommus.get(fn)!.kind === 'full') fn.enableAcs();
    fn.model = declared.vf.create(fn.host, vfIndex, pf.model);
    fn.host.attach(fn.model);
    pf.host.virtualFunctions.push(fn.host);
    return fn;
  }

  #take(fn: PciFunction): void {
    if (fn.secondary !== null) this.#buses.delete(fn.secondary);
    fn.bus.delete(fn);
    this.#forget(fn.bus);
    if (fn.physical !== null) {
      fn.physical.host.virtualFunctions = fn.physical.host.virtualFunctions.filter((vf) => vf !== fn.host);
      fn.physical.vfs = fn.physical.vfs.filter((vf) => vf !== fn);
    }
    this.functions.delete(fn.bdf);
    this.#iommus.delete(fn);
    fn.present = false;
    using _owns = fn.owns;
    fn.host.dispose();
  }

  /** A bus that only virtual functions were on goes with the last one. */
  #forget(bus: PciBus): void {
    if (bus.continues !== null && bus.functions.length === 0) this.#buses.delete(bus);
  }

  /** The bus behind `bridge`. @throws VfioError ENODEV, EINVAL */
  busBehind(bridge: PciFunction): PciBus {
    if (bridge.secondary === null) throw new VfioError('EINVAL', `${bridge.bdf} is no bridge: nothing can be behind it`);
    return bridge.secondary;
  }

  /** The bus that the address `at` is on. @throws VfioError EINVAL for a bus that is not there */
  busOf(at: string): PciBus {
    return this.#buses.of(at);
  }

  #insert(spec: FunctionSpec, bus: PciBus, undo: Cleanup): PciFunction {
    if (typeof spec !== 'object' || spec === null) throw new VfioError('EINVAL', `${String(spec)} is no device of a machine`);
    const bdf = addressOn(spec.at, bus);
    if (this.functions.has(bdf)) throw new VfioError('EEXIST', `${bdf} is taken: ${this.functions.get(bdf)!.name} is there`);
    const { bridge } = bus;
    const failed = (what: string, error: unknown) =>
      this.#ctx.events.note('error', `${bdf} ${what}`, `${bdf}: ${what} failed: ${textOf(error)}`);
    const built = buildFunction(spec, this.#recorded ? ANYWHERE : (bridge?.kind ?? null), this.#models, failed);
    undo.use(built.owns);
    const devfn = bdfParts(bdf);
    const oneDevice = !this.#recorded && (bridge?.kind === 'root-port' || bridge?.kind === 'downstream-port');
    if (oneDevice && devfn.device !== 0) {
      throw new VfioError('EINVAL', `${bdf}: the link of ${bridge!.bdf} leads to one device, 00; ${spec.at} is another`);
    }
    if (spec.iommu !== undefined && !bus.isRoot) {
      throw new VfioError('EINVAL', `${bdf}: an IOMMU is chosen on the root bus, for a device and everything behind it`);
    }
    const requester = this.#requesterOf(spec, bdf, bus);
    const iommu =
      bridge !== null
        ? this.#iommus.get(bridge)!
        : requester !== null && spec.iommu === undefined
          ? this.#iommus.get(requester)!
          : this.#table.get(spec.iommu, bdf);
    if (requester !== null && this.#iommus.get(requester) !== iommu) {
      throw new VfioError('EINVAL', `${bdf} has the requester id of ${requester.bdf}, which is behind another IOMMU`);
    }
    for (const other of bus.device(devfn.device)) {
      if (this.#iommus.get(other) !== iommu) {
        throw new VfioError('EINVAL', `${bdf} and ${other.bdf} are functions of one device, which is behind one IOMMU`);
      }
    }
    const fn = this.#make(bdf, spec, built, bus, requester);
    bus.insert(fn);
    this.functions.set(bdf, fn);
    this.#iommus.set(fn, iommu);
    undo.defer(() => this.#take(fn));
    return fn;
  }

  /**
   * The function whose requester id a function's DMA carries; null for its own.
   *
   * @throws VfioError EINVAL for a function that is not there, or not on a root bus
   */
  #requesterOf(spec: FunctionSpec, bdf: string, bus: PciBus): PciFunction | null {
    if (bus.bridge !== null) {
      if (spec.requester === undefined) return bus.bridge.requester;
      throw new VfioError('EINVAL', `${bdf}: a requester is named on the root bus, for a device and everything behind it`);
    }
    if (spec.requester === undefined) return bus.domain < FIRST_EMULATED_DOMAIN ? null : this.#volumeManager(bus.domain);
    const found = this.functions.get(parseBdf(spec.requester));
    if (found !== undefined && found.bus !== bus) return found;
    throw new VfioError('EINVAL', `${bdf}: its requester ${parseBdf(spec.requester)} is no function of another bus that comes before it`, {
      fix: 'Name a function of another root bus, declared earlier; for one of the same bus use `dmaAliases`.',
    });
  }

  /**
   * The controller that makes an emulated domain, in the order of discovery; null when the machine
   * has none.
   */
  #volumeManager(domain: number): PciFunction | null {
    return this.inOrder().filter(isVolumeManager)[domain - FIRST_EMULATED_DOMAIN] ?? null;
  }

  #make(bdf: string, spec: FunctionSpec, built: BuiltFunction, bus: PciBus, requester: PciFunction | null): PciFunction {
    const { declaration } = built;
    const config = new ConfigSpace(declaration);
    const aliases = (spec.dmaAliases ?? []).map((at) => {
      const { device, fn: number } = bdfParts(addressOn(at, bus));
      return (device << 3) | number;
    });
    const fn = new PciFunction({
      bindCommand: this.#ctx.bindCommand,
      bdf,
      name: spec.name ?? declaration.name,
      kind: built.kind,
      declaration,
      config,
      bus,
      reserved: checkReserved(spec.reserved ?? [], bdf),
      dmaAliases: aliases,
      slot: spec.slot === true,
      requester,
    });
    fn.deviceModel = built.model;
    fn.owns = built.owns;
    if (built.sriov !== null) {
      fn.sriov = new PhysicalFunction(fn, built.sriov, spec.vfDriver === undefined ? null : checkDriverName(spec.vfDriver));
    }
    this.#attachHost(fn);
    if (spec.intxRouted !== false) fn.interruptLine = this.#wireOf(fn);
    return fn;
  }

  #attachHost(fn: PciFunction): void {
    const { bdf, declaration, config } = fn;
    const messages = {
      error: (kind: ErrorKind) => recoverFrom(fn, kind, this.#ctx),
      wake: () => fn.vfio?.wake(),
    };
    fn.host = new FunctionHost({
      ...this.#ctx,
      events: this.#ctx.stream.source(bdf),
      bdf,
      declaration,
      config,
      group: () => fn.group,
      messages,
    });
  }

  /**
   * The wire of a pin. Each bridge turns the four pins by the number of the device below it, and so
   * does the host.
   *
   * @see PCI-to-PCI Bridge Architecture 1.2, 9.1; linux/drivers/pci/irq.c,
   * pci_swizzle_interrupt_pin()
   */
  #wireOf(fn: PciFunction): InterruptLine | null {
    let pin = (fn.declaration.interruptPin ?? 0) - 1;
    if (pin < 0) return null;
    for (let at: PciFunction | null = fn; at !== null; at = at.parent) pin = (pin + at.address.device) % 4;
    const { root } = fn.bus;
    const wires = this.#wires.get(root) ?? ['A', 'B', 'C', 'D'].map((letter) => new InterruptLine(letter));
    this.#wires.set(root, wires);
    return wires[pin]!;
  }

  /**
   * More than one function on a device: each says so in its header type.
   *
   * @throws VfioError EINVAL without a function 0
   */
  #markMultifunction(placed: readonly Placed[]): void {
    for (const { fn } of placed) {
      // VFs share the number of their PF's device, but are not functions of that device.
      const device = fn.functionsOfDevice.filter((f) => f.physical === null);
      if (device[0]!.address.fn !== 0 && !this.#recorded) {
        throw new VfioError('EINVAL', `${fn.bdf}: a device is found by its function 0, and this one has none`);
      }
      if (device.length > 1) for (const f of device) f.config.markMultifunction();
    }
  }

  #start(fn: PciFunction): void {
    if (this.#iommus.get(fn)!.kind === 'full') fn.enableAcs();
    if (fn.deviceModel === null) return;
    fn.model = fn.deviceModel.create(fn.host);
    fn.host.attach(fn.model);
  }
}

function checkList(list: readonly FunctionSpec[]): readonly FunctionSpec[] {
  if (!Array.isArray(list)) throw new VfioError('EINVAL', '`devices` is not a list of devices');
  for (const spec of list as readonly unknown[]) {
    if (typeof spec !== 'object' || spec === null) throw new VfioError('EINVAL', `${String(spec)} is no device of a machine`);
  }
  return list;
}

/**
 * `at`, `device.function` or a full BDF, on `bus`.
 *
 * @throws VfioError EINVAL when it names another bus
 */
export function addressOn(at: string, bus: Pick<PciBus, 'domain' | 'number' | 'name'>): string {
  if (typeof at !== 'string') throw new VfioError('EINVAL', `'${String(at)}' is not the address of a device`);
  if (!at.includes(':')) {
    const match = /^([0-9a-f]{1,2})\.([0-7])$/i.exec(at);
    const device = match === null ? 32 : Number.parseInt(match[1]!, 16);
    if (device > 31) throw new VfioError('EINVAL', `'${at.slice(0, 40)}' is not device.function, such as 04.0`);
    return formatBdf({ domain: bus.domain, bus: bus.number, device, fn: Number(match![2]) });
  }
  const parts = bdfParts(at);
  if (parts.domain !== bus.domain || parts.bus !== bus.number) {
    throw new VfioError('EINVAL', `${at} is declared on bus ${bus.name}`, { fix: 'Write only device.function, such as 00.0.' });
  }
  return formatBdf(parts);
}
