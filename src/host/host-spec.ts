/**
 * The declaration of a machine that is like the computer of a picture: stubs with the ids, kinds,
 * BARs and drivers of its functions, on its buses, with its groups.
 */
import type {
  DmaUse,
  FunctionKind,
  FunctionSpec,
  HostDriverSpec,
  IommuSpec,
  MachineSpec,
  ReservedWindow,
  SriovSpec,
} from '../engine/machine/machine-spec.ts';
import type { EngineParams } from '../engine/params.ts';
import { bdfParts, compareBdf } from '../pci/bdf.ts';
import { Acs } from '../pci/capabilities/access-control.ts';
import type { BarDeclaration } from '../pci/declaration.ts';
import type { PciNames } from '../pci/pci-ids.ts';
import { nameOf } from './function-name.ts';
import type { HostFunction, HostPicture, HostResource } from './host-picture.ts';

export interface HostSpec {
  readonly spec: MachineSpec;
  /** Facts of the picture that a machine cannot have: a sentence each. */
  readonly notes: readonly string[];
}

/** @param names names of vendors and devices. Default: the recorded names, or ids */
export function specOf(picture: HostPicture, names: PciNames | null = null): HostSpec {
  return new SpecBuilder(picture, names).build();
}

const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
const idOf = ({ vendor, device }: HostFunction) => `${hex(vendor ?? 0, 4)}:${hex(device ?? 0, 4)}`;

/** Drivers that every machine has. */
const builtIn: ReadonlySet<string> = new Set(['vfio-pci', 'pci-stub', 'pci-pf-stub', 'pcieport']);
/** An IOMMU for functions that Linux has put into no group. */
const NO_IOMMU = 'none';

const withAcs: ReadonlySet<FunctionKind> = new Set(['root-port', 'downstream-port', 'upstream-port', 'endpoint', 'integrated-endpoint']);
const ISOLATION = Acs.SV | Acs.RR | Acs.CR | Acs.UF;

/**
 * Root ports of Intel chipsets whose control register is elsewhere than PCI Express has it.
 *
 * @see linux/drivers/pci/quirks.c, pci_quirk_intel_spt_pch_acs()
 */
const oddAcsRegisters: readonly (readonly [number, number])[] = [
  [0x9d10, 0x9d1b],
  [0xa110, 0xa11f],
  [0xa167, 0xa16a],
  [0xa290, 0xa29f],
  [0xa2e7, 0xa2ee],
];

class SpecBuilder {
  readonly #picture: HostPicture;
  readonly #names: PciNames | null;
  readonly #notes: string[] = [];
  readonly #byBdf: ReadonlyMap<string, HostFunction>;
  /** Functions behind each bridge, and on root buses; VFs follow from their PFs. */
  readonly #below = new Map<string | null, HostFunction[]>();
  /** Windows of a group's own, by the first function of the group. */
  readonly #windows = new Map<string, readonly ReservedWindow[]>();
  readonly #common: readonly ReservedWindow[];
  readonly #mainUnit: string | null;

  constructor(picture: HostPicture, names: PciNames | null) {
    this.#picture = picture;
    this.#names = names;
    this.#byBdf = new Map(picture.functions.map((fn) => [fn.bdf, fn]));
    for (const fn of picture.functions) {
      if (this.#isImplied(fn)) continue;
      const there = this.#below.get(fn.parent);
      if (there === undefined) this.#below.set(fn.parent, [fn]);
      else there.push(fn);
    }
    const groups = picture.groups ?? [];
    const key = (w: ReservedWindow) => `${w.first}-${w.last} ${w.kind}`;
    const [one] = groups;
    this.#common = (one?.reserved ?? []).filter((w) => groups.every((g) => g.reserved.some((other) => key(other) === key(w))));
    const common = new Set(this.#common.map(key));
    for (const { functions, reserved } of groups) {
      const own = reserved.filter((w) => !common.has(key(w)));
      if (own.length > 0) this.#windows.set(functions[0]!, own);
    }
    this.#mainUnit = this.#unitOfMost();
  }

  /** A VF that its PF makes at power-on. */
  #isImplied({ physicalFunction }: HostFunction): boolean {
    const pf = physicalFunction === null ? undefined : this.#byBdf.get(physicalFunction);
    return pf?.sriov != null && pf.sriov.numVfs > 0 && pf.sriov.firstOffset !== null && pf.sriov.stride !== null;
  }

  build(): HostSpec {
    const { picture } = this.#notesOfPicture();
    const units = this.#units();
    const spec: MachineSpec = {
      name: picture.hostname ?? picture.source,
      recorded: true,
      iommu: this.#iommu(),
      ...(units.length === 0 ? {} : { iommus: Object.fromEntries(units) }),
      ...(picture.groups === null || picture.groups.length === 0
        ? {}
        : { groups: picture.groups.map(({ id, functions }) => ({ id, functions })) }),
      hostDrivers: this.#drivers(),
      params: this.#params(),
      devices: this.#inOrder(null).map((fn) => this.#function(fn)),
    };
    return { spec, notes: this.#notes };
  }

  #notesOfPicture(): { picture: HostPicture } {
    const picture = this.#picture;
    this.#notes.push(...picture.notes);
    if (picture.groups === null) {
      this.#notes.push('the source has no isolation groups: those here are the groups that Linux 7.3 makes of this fabric');
    }
    return { picture };
  }

  #inOrder(parent: string | null): readonly HostFunction[] {
    return [...(this.#below.get(parent) ?? [])].sort((a, b) => compareBdf(a.bdf, b.bdf));
  }

  #iommu(): IommuSpec {
    const { groups, interruptsRemapped } = this.#picture;
    if (groups !== null && groups.length === 0) return { kind: 'none' };
    return {
      ...(interruptsRemapped === false ? { isolatedMsi: false } : {}),
      ...(this.#common.length === 0 ? {} : { reserved: this.#common }),
    };
  }

  /** The IOMMU unit of most functions, which the kernel usually starts last. */
  #unitOfMost(): string | null {
    const counts = new Map<string, number>();
    for (const { iommu } of this.#picture.functions) if (iommu !== null) counts.set(iommu, (counts.get(iommu) ?? 0) + 1);
    return [...counts].sort(([, a], [, b]) => b - a)[0]?.[0] ?? null;
  }

  /** The other units by name, and one for functions without a group. */
  #units(): [string, IommuSpec][] {
    const roots = this.#below.get(null) ?? [];
    const named = [...new Set(roots.map((fn) => this.#unitOf(fn)))].filter((unit) => unit !== undefined && unit !== NO_IOMMU) as string[];
    const spec = this.#iommu();
    const units = named.sort().map((unit): [string, IommuSpec] => [unit, spec]);
    return roots.some((fn) => this.#unitOf(fn) === NO_IOMMU) ? [...units, [NO_IOMMU, { kind: 'none' }]] : units;
  }

  /** The name of the IOMMU above a function on a root bus; undefined for the one of all others. */
  #unitOf(fn: HostFunction): string | undefined {
    const { groups } = this.#picture;
    if (groups === null || groups.length === 0) return undefined;
    // The functions of one device are behind one IOMMU.
    const device = (this.#below.get(null) ?? []).filter((one) => one.bdf.slice(0, -1) === fn.bdf.slice(0, -1));
    if (device.every((one) => this.#hasNoGroup(one))) return NO_IOMMU;
    const unit = device.find((one) => one.iommu !== null)?.iommu ?? null;
    return unit === null || unit === this.#mainUnit || unit === NO_IOMMU ? undefined : unit;
  }

  #hasNoGroup(fn: HostFunction): boolean {
    return fn.group === null && (this.#below.get(fn.bdf) ?? []).every((one) => this.#hasNoGroup(one));
  }

  #drivers(): HostDriverSpec[] {
    const ids = new Map<string, Set<string>>();
    const sriov = new Set<string>();
    for (const fn of this.#picture.functions) {
      const driver = this.#driverOf(fn);
      if (driver === null || builtIn.has(driver)) continue;
      const there = ids.get(driver) ?? new Set();
      ids.set(driver, there.add(idOf(fn)));
      if ((fn.sriov?.numVfs ?? 0) > 0) sriov.add(driver);
    }
    return [...ids].sort().map(([name, of]) => ({
      name,
      ids: [...of].sort().slice(0, 256),
      ...(dmaUseOf(name) === 'kernel' ? {} : { dma: dmaUseOf(name) }),
      ...(sriov.has(name) ? { sriov: true } : {}),
    }));
  }

  #driverOf({ driver, bdf }: HostFunction): string | null {
    if (driver === null || /^[a-z0-9][a-z0-9_.-]{0,62}$/i.test(driver)) return driver;
    const note = `${bdf}: its driver ${JSON.stringify(driver.slice(0, 64))} has a name that machines do not take`;
    if (!this.#notes.includes(note)) this.#notes.push(note);
    return null;
  }

  #params(): Partial<EngineParams> {
    const modules = this.#picture.modules ?? {};
    const parameterOf = (module: string, parameter: string) => modules[module]?.[parameter] ?? '';
    const on = (module: string, parameter: string) => /^[Y1]/i.test(parameterOf(module, parameter));
    const limit = Number(parameterOf('vfio_iommu_type1', 'dma_entry_limit'));
    const vfsOfVfio = this.#picture.functions.some((fn) => fn.driver === 'vfio-pci' && (fn.sriov?.numVfs ?? 0) > 0);
    return {
      ...(on('vfio', 'enable_unsafe_noiommu_mode') ? { unsafeNoIommu: true } : {}),
      ...(on('vfio_iommu_type1', 'allow_unsafe_interrupts') ? { allowUnsafeInterrupts: true } : {}),
      ...(Number.isSafeInteger(limit) && limit > 0 && limit !== 65_535 ? { dmaEntryLimit: limit } : {}),
      ...(on('vfio_pci', 'nointxmask') || on('vfio_pci_core', 'nointxmask') ? { noIntxMask: true } : {}),
      ...(on('vfio_pci', 'disable_idle_d3') || on('vfio_pci_core', 'disable_idle_d3') ? { disableIdleD3: true } : {}),
      ...(on('vfio_pci', 'disable_denylist') ? { disableDenylist: true } : {}),
      ...(on('vfio_pci', 'enable_sriov') || on('vfio_pci_core', 'enable_sriov') || vfsOfVfio ? { enableSriov: true } : {}),
    };
  }

  #function(fn: HostFunction): FunctionSpec {
    const behind = this.#inOrder(fn.bdf);
    const { domain, bus } = bdfParts(fn.bdf);
    const onFirst = domain === 0 && bus === 0;
    const unit = fn.parent === null ? this.#unitOf(fn) : undefined;
    const kind = this.#kindOf(fn);
    const acs = this.#acsOf(fn, kind);
    const driver = this.#driverOf(fn);
    const sriov = this.#sriov(fn);
    const secondary = behind.length > 0 ? bdfParts(behind[0]!.bdf).bus : fn.secondary;
    const bars = fn.resources.slice(0, isBridgeKind(kind) ? 2 : 6).flatMap((resource, index) => barOf(resource, index) ?? []);
    const reserved = this.#windows.get(fn.bdf);
    const name = nameOf(fn, this.#names);
    return {
      at: fn.parent === null && !onFirst ? fn.bdf : fn.bdf.slice(-4),
      kind,
      ...(name === null ? {} : { name }),
      id: idOf(fn),
      ...(fn.subsystemVendor === null || fn.subsystemVendor === 0
        ? {}
        : { subsystem: `${hex(fn.subsystemVendor, 4)}:${hex(fn.subsystem ?? 0, 4)}` }),
      classCode: fn.classCode,
      ...(acs === undefined ? {} : { acs }),
      ...(fn.functionReset === false && !isBridgeKind(kind) ? { reset: 'none' as const } : {}),
      ...(bars.length === 0 ? {} : { bars }),
      ...(sriov === null ? {} : sriov),
      driver,
      ...(fn.driverOverride === null ? {} : { driverOverride: fn.driverOverride }),
      ...(unit === undefined ? {} : { iommu: unit }),
      ...(reserved === undefined ? {} : { reserved }),
      ...(isBridgeKind(kind) && secondary !== null && secondary !== 0 ? { bus: secondary } : {}),
      ...(behind.length === 0 ? {} : { devices: behind.map((one) => this.#function(one)) }),
    };
  }

  #siblings(fn: HostFunction): readonly HostFunction[] {
    const device = fn.bdf.slice(0, -1);
    return (this.#below.get(fn.parent) ?? []).filter((one) => one !== fn && one.bdf.startsWith(device));
  }

  #isAlone(fn: HostFunction): boolean {
    return this.#siblings(fn).every((one) => one.group !== fn.group);
  }

  /** The kind; one that is a guess and contradicts the recorded groups is another one. */
  #kindOf(fn: HostFunction): FunctionKind {
    const apart = fn.group !== null && this.#siblings(fn).length > 0 && this.#isAlone(fn);
    if (!fn.kindIsKnown && fn.kind === 'conventional' && fn.parent === null && apart) return 'integrated-endpoint';
    return fn.kind;
  }

  /**
   * Whether access control is on. Where registers do not say it, the recorded groups do; undefined
   * where neither does.
   */
  #acsOf(fn: HostFunction, kind: FunctionKind): boolean | undefined {
    if (!withAcs.has(kind)) return undefined;
    const { acs, group } = fn;
    if (acs === null) return false;
    if (acs !== undefined) {
      if (group === null || hasOddRegisters(fn)) return true;
      const needed = acs.capabilities & ISOLATION;
      return (acs.control & needed) === needed;
    }
    if (group === null) return undefined;
    if (kind === 'root-port' || kind === 'downstream-port') {
      return (this.#below.get(fn.bdf) ?? []).every((one) => one.group !== group) && this.#isAlone(fn);
    }
    return this.#siblings(fn).length === 0 ? undefined : this.#isAlone(fn);
  }

  #sriov(fn: HostFunction): Pick<FunctionSpec, 'sriov' | 'numVfs' | 'vfDriver'> | null {
    const { sriov } = fn;
    if (sriov === null || !(fn.kind === 'endpoint' || fn.kind === 'integrated-endpoint')) return null;
    const declared: SriovSpec = {
      totalVfs: sriov.totalVfs,
      ...(sriov.vfDevice === null ? {} : { device: hex(sriov.vfDevice, 4) }),
      ...(sriov.firstOffset === null || sriov.firstOffset === 0 ? {} : { firstOffset: sriov.firstOffset }),
      ...(sriov.stride === null || sriov.stride === 0 ? {} : { stride: sriov.stride }),
      ...vfBars(sriov.bars),
    };
    const vfs = this.#picture.functions.filter((vf) => vf.physicalFunction === fn.bdf);
    const drivers = new Set(vfs.map((vf) => this.#driverOf(vf)));
    const [driver] = drivers;
    return {
      sriov: declared,
      ...(sriov.numVfs === 0 || !vfs.some((vf) => this.#isImplied(vf)) ? {} : { numVfs: Math.min(sriov.numVfs, sriov.totalVfs) }),
      ...(drivers.size === 1 && driver != null ? { vfDriver: driver } : {}),
    };
  }
}

/**
 * The use of DMA by a driver. Drivers of VFIO and of ports respect an owner (driver_managed_dma);
 * every other one does DMA for the kernel, as far as Linux knows.
 */
function dmaUseOf(driver: string): DmaUse {
  return /vfio/.test(driver) ? 'managed' : 'kernel';
}

function isBridgeKind(kind: FunctionKind): boolean {
  return /port$|bridge$/.test(kind);
}

function hasOddRegisters({ vendor, device }: HostFunction): boolean {
  return vendor === 0x8086 && oddAcsRegisters.some(([first, last]) => device !== null && device >= first && device <= last);
}

/** A BAR as a machine can have it; null for none, and where the size is not known. */
function barOf(resource: HostResource | null, index: number): BarDeclaration | null {
  if (resource === null || resource.size === null || resource.size > 2n ** 52n) return null;
  const size = Number(resource.size);
  const isPowerOfTwo = Number.isInteger(Math.log2(size));
  const type = resource.kind === 'io' ? 'io' : resource.wide ? 'mem64' : 'mem32';
  const least = type === 'io' ? 4 : 16;
  const most = type === 'io' ? 256 : type === 'mem32' ? 2 ** 31 : 2 ** 52;
  if (!isPowerOfTwo || size < least || size > most || (type === 'mem64' && index === 5)) return null;
  return { index, size, type, ...(resource.prefetchable && type !== 'io' ? { prefetchable: true } : {}) };
}

function vfBars(resources: readonly (HostResource | null)[]): Pick<SriovSpec, 'bars'> {
  const bars = resources.flatMap((resource, index) => barOf(resource, index) ?? []).filter((bar) => bar.type !== 'io' && bar.size >= 4096);
  return bars.length === 0 ? {} : { bars };
}
