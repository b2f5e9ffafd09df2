/** One PCI function of a machine: its hardware (config space, host, model) and its driver. */

import type { Model } from '../../abi/device-host.ts';
import { Command, Config, ExtCapId, HeaderType } from '../../abi/pci.ts';
import type { VfioError } from '../../base/errno.ts';
import { INSPECT } from '../../base/inspect.ts';
import type { FunctionHost } from '../../hardware/function-host.ts';
import type { InterruptLine } from '../../hardware/interrupt-line.ts';
import { type BdfParts, bdfParts } from '../../pci/bdf.ts';
import { Acs } from '../../pci/capabilities/access-control.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';
import type { DeviceModel, PciDeclaration } from '../../pci/declaration.ts';
import type { HostedFunction } from '../device/hosted-function.ts';
import type { VfioPciDevice } from '../device/pci-device.ts';
import { isolationQuirkOf } from './hardware-quirks.ts';
import type { GroupedFunction, IsolationGroup } from './isolation-group.ts';
import type { FunctionKind, ReservedWindow } from './machine-spec.ts';
import type { PhysicalFunction } from './physical-function.ts';

/**
 * One bus: its functions share a bus reset. Functions are in order of device and function number.
 */
export class PciBus {
  readonly domain: number;
  readonly number: number;
  /** The bridge above the bus; null for a root bus. */
  readonly bridge: PciFunction | null;
  /**
   * On a bus number that only virtual functions use: the bus of their physical functions. Null for
   * a bus of its own.
   */
  readonly continues: PciBus | null;
  /**
   * The last bus number that is kept for virtual functions of the functions here; its own when they
   * need no other.
   */
  reserved: number;
  readonly #functions: PciFunction[] = [];

  constructor(domain: number, number: number, bridge: PciFunction | null, continues: PciBus | null = null) {
    this.domain = domain;
    this.number = number;
    this.bridge = bridge;
    this.continues = continues;
    this.reserved = number;
  }

  /** The root bus above the bus; a root bus's own is itself. */
  get root(): PciBus {
    if (this.continues !== null) return this.continues.root;
    return this.bridge === null ? this : this.bridge.bus.root;
  }

  /** `0000:00`, as it is written before a device number. */
  get name(): string {
    const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
    return `${hex(this.domain, 4)}:${hex(this.number, 2)}`;
  }

  /**
   * The last bus number that its bridge must forward: its own, those kept for virtual functions,
   * and all behind it.
   */
  get subordinate(): number {
    let last = this.reserved;
    for (const fn of this.#functions) if (fn.secondary !== null) last = Math.max(last, fn.secondary.subordinate);
    return last;
  }

  get functions(): readonly PciFunction[] {
    return this.#functions;
  }

  get isRoot(): boolean {
    return this.bridge === null && this.continues === null;
  }

  /** A reset can hit the bus alone: the bus is behind a bridge. */
  get isResettable(): boolean {
    return this.bridge !== null && this.continues === null;
  }

  /** Its functions and all that is behind them, each bridge before what is behind it. */
  *everything(): Generator<PciFunction> {
    for (const fn of this.#functions) {
      yield fn;
      if (fn.secondary !== null) yield* fn.secondary.everything();
    }
  }

  /** The functions of one device. */
  device(number: number): readonly PciFunction[] {
    return this.#functions.slice(this.#placeOf(number << 3), this.#placeOf((number + 1) << 3));
  }

  insert(fn: PciFunction): void {
    this.#functions.splice(this.#placeOf(fn.devfn + 1), 0, fn);
  }

  /** How many functions have a lower devfn. */
  #placeOf(devfn: number): number {
    let [low, high] = [0, this.#functions.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#functions[middle]!.devfn < devfn) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  delete(fn: PciFunction): void {
    const at = this.#functions.indexOf(fn);
    if (at !== -1) this.#functions.splice(at, 1);
  }
}

export interface PciFunctionParts {
  readonly bindCommand?: ((bdf: string, driver: string) => string) | undefined;
  readonly bdf: string;
  readonly name: string;
  readonly kind: FunctionKind;
  readonly declaration: PciDeclaration;
  readonly config: ConfigSpace;
  readonly bus: PciBus;
  readonly reserved: readonly ReservedWindow[];
  readonly dmaAliases: readonly number[];
  readonly slot: boolean;
  readonly requester: PciFunction | null;
  /** Of a virtual function: its PF, and its number there. */
  readonly physical?: PciFunction;
  readonly vfIndex?: number;
}

/**
 * The bits that keep peer-to-peer requests apart: source validation, request and completion
 * redirect, upstream forwarding.
 */
const ACS_ISOLATION = Acs.SV | Acs.RR | Acs.CR | Acs.UF;

/** A group of the machine's functions. */
export type FunctionGroup = IsolationGroup<PciFunction>;

export class PciFunction implements GroupedFunction, HostedFunction {
  readonly bdf: string;
  readonly address: BdfParts;
  /** Device (7:3) and function (2:0) number. */
  readonly devfn: number;
  /** The name for people: the spec's, else the declaration's. */
  readonly name: string;
  readonly kind: FunctionKind;
  readonly declaration: PciDeclaration;
  /** The hardware's config space. */
  readonly config: ConfigSpace;
  readonly bus: PciBus;
  /** Firmware's reserved windows for this device. */
  readonly reserved: readonly ReservedWindow[];
  /** devfns of the same bus that its DMA also appears under. */
  readonly dmaAliases: readonly number[];
  /** A port whose bus is reset through a hot-plug slot. */
  readonly slot: boolean;
  /** The function of another bus whose requester id all its DMA carries; null for its own. */
  readonly requester: PciFunction | null;
  /** On a virtual function: the physical one that it is a part of. */
  readonly physical: PciFunction | null;
  /** Its number among the VFs of its PF; 0 on other functions. */
  readonly vfIndex: number;
  /** On a physical function: the registers that control its VFs. */
  sriov: PhysicalFunction | null = null;
  /** On a physical function: its VFs that exist, in order. */
  vfs: PciFunction[] = [];
  /** The wire that its INTx pin is on; null: it has no pin, or the platform does not route it. */
  interruptLine: InterruptLine | null = null;
  /** The bus behind it, when it is a bridge. */
  secondary: PciBus | null = null;
  /** Set right after construction, before anything can reach the function. */
  host!: FunctionHost;
  /** The maker of its behaviour; null for bridges and stubs. */
  deviceModel: DeviceModel | null = null;
  /** The resources of a model that the machine made: disposed of after the function's own model. */
  owns: Disposable | null = null;
  /** Null: no behaviour behind the registers (bridges, stubs). */
  model: Model | null = null;
  /** Null while no isolating IOMMU is above it. Set before the add event (S1-03). */
  group: FunctionGroup | null = null;
  /** The reason why the function shares its group; null when nothing ties it to others. */
  groupedBecause: string | null = null;
  /** Name of the driver bound to it. */
  driver: string | null = null;
  /** When set, only this driver matches (/sys/bus/pci/devices/BDF/driver_override). */
  driverOverride: string | null = null;
  /** While bound to vfio-pci. */
  vfio: VfioPciDevice | null = null;
  /** Number N of `vfio-dev/vfioN` while bound to vfio-pci (S2-22). */
  vfioIndex: number | null = null;
  /** The unbind that waits for the last user to close the device (S2-41); null for none. */
  unbinding: Promise<void> | null = null;
  /** The error of the bind at power-on or plug-in; null when that worked. */
  probeError: VfioError | null = null;
  /** False once it is unplugged, also while unplugging waits for its users. */
  present = true;

  readonly #bindCommand: (bdf: string, driver: string) => string;

  constructor(parts: PciFunctionParts) {
    this.#bindCommand = parts.bindCommand ?? ((bdf, driver) => `vfio bind ${bdf} ${driver}`);
    this.bdf = parts.bdf;
    this.address = bdfParts(parts.bdf);
    this.devfn = (this.address.device << 3) | this.address.fn;
    this.name = parts.name;
    this.kind = parts.kind;
    this.declaration = parts.declaration;
    this.config = parts.config;
    this.bus = parts.bus;
    this.reserved = parts.reserved;
    this.dmaAliases = parts.dmaAliases;
    this.slot = parts.slot;
    this.requester = parts.requester;
    this.physical = parts.physical ?? null;
    this.vfIndex = parts.vfIndex ?? 0;
  }

  [INSPECT](): string {
    return `PciFunction ${this.bdf} ${this.id} ${this.name}, driver ${this.driver ?? 'none'}, group ${this.group?.id ?? 'none'}`;
  }

  /** The command that gives the function to `driver`; 'none' for no driver. */
  bindCommand(driver: string): string {
    return this.#bindCommand(this.bdf, driver);
  }

  /** The bridge above; null on a root bus. */
  get parent(): PciFunction | null {
    return this.bus.bridge;
  }

  get isBridge(): boolean {
    return (this.config.bytes[Config.HEADER_TYPE]! & HeaderType.MASK) === HeaderType.BRIDGE;
  }

  /** Header type bit 7: the device has more than one function. */
  get isMultifunction(): boolean {
    return (this.config.bytes[Config.HEADER_TYPE]! & HeaderType.MULTIFUNCTION) !== 0;
  }

  /** Its folder in sysfs: `/sys/devices/pci0000:00/0000:00:1c.0/0000:01:00.0`. */
  get sysfsPath(): string {
    let { bus } = this;
    while (bus.continues !== null) bus = bus.continues;
    const above = bus.bridge === null ? `/sys/devices/pci${bus.name}` : bus.bridge.sysfsPath;
    return `${above}/${this.bdf}`;
  }

  /** `vvvv:dddd`, as lspci -n writes it. */
  get id(): string {
    const hex = (value: number) => value.toString(16).padStart(4, '0');
    return `${hex(this.declaration.vendor)}:${hex(this.declaration.device)}`;
  }

  /**
   * Access control services are on, or there is nothing for them to control: all isolating bits
   * that the capability has are enabled. A port without the capability forwards freely, so callers
   * look at the kind, too.
   */
  get acs(): boolean {
    const at = this.config.findExtendedCapability(ExtCapId.ACS);
    if (at === 0) return false;
    const needed = this.config.read(at + Acs.CAP, 2) & ACS_ISOLATION;
    return (this.config.read(at + Acs.CTRL, 2) & needed) === needed;
  }

  /** The kernel knows from the function's ids that it isolates, whatever its registers say. */
  get isolates(): boolean {
    return isolationQuirkOf(this) !== null;
  }

  /**
   * Enable every isolating bit that the capability has, as the kernel does when it finds the
   * function behind an isolating IOMMU.
   */
  enableAcs(): void {
    const at = this.config.findExtendedCapability(ExtCapId.ACS);
    if (at !== 0) this.config.write(at + Acs.CTRL, 2, this.config.read(at + Acs.CAP, 2) & ACS_ISOLATION);
  }

  /**
   * COMMAND as firmware leaves it: decoding on, errors reported, bus mastering only for bridges.
   */
  get commandOfFirmware(): number {
    return Command.IO | Command.MEMORY | Command.SERR | (this.isBridge ? Command.MASTER : 0);
  }

  /** All functions on its bus, itself included. */
  get siblings(): readonly PciFunction[] {
    return this.bus.functions;
  }

  onSameBus(): readonly PciFunction[] {
    return this.bus.functions;
  }

  /**
   * All functions that a reset of its bus would hit, behind bridges too; null where no bridge can
   * reset the bus alone.
   */
  inBusReset(): readonly PciFunction[] | null {
    return this.bus.isResettable ? [...this.bus.everything()] : null;
  }

  /** The functions of its device (same bus and device number), itself included. */
  get functionsOfDevice(): readonly PciFunction[] {
    return this.bus.device(this.address.device);
  }
}
