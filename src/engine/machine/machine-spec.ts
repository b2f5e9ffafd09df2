/**
 * A machine as data, from which `Machine` is built. YAML files (src/api/machine-file.ts) are read
 * into the same types.
 *
 * Devices form a tree, as the buses do. At its top are root buses: 0000:00, and each other one that
 * the address of a device there names. Bus numbers grow depth-first from the root bus's own, where
 * a bridge names no other.
 */
import type { BarDeclaration, DeviceModel } from '../../pci/declaration.ts';
import type { LinuxVersion } from '../linux-version.ts';
import type { EngineParams } from '../params.ts';

/**
 * The kind of IOMMU between devices and memory. `translation`: it remaps addresses but does not
 * isolate, so it makes no groups (S1-05).
 */
export type IommuKind = 'none' | 'translation' | 'full';

/**
 * The reason why user DMA must avoid a window of I/O addresses; the kinds of
 * /sys/kernel/iommu_groups/N/reserved_regions.
 */
export type ReservedKind = 'direct' | 'relaxable' | 'reserved' | 'msi';

/** I/O addresses that a mapping must leave out, or that firmware has mapped. */
export interface ReservedWindow {
  /** First and last I/O address; `last` is inclusive. */
  readonly first: bigint;
  readonly last: bigint;
  readonly kind: ReservedKind;
}

/**
 * One IOMMU. Members that are left out are as in an Intel IOMMU under QEMU, the machine of the
 * recorded kernel answers.
 */
export interface IommuSpec {
  readonly kind?: IommuKind;
  /**
   * Message interrupts are remapped, so that a device cannot forge another's (S2-36). Default true.
   */
  readonly isolatedMsi?: boolean;
  /**
   * DMA can be forced to be cache coherent; vfio-pci refuses devices without (S1-05). Default true.
   */
  readonly coherent?: boolean;
  /** No-snoop DMA can be blocked, which VFIO_DMA_CC_IOMMU reports. Default false. */
  readonly enforcesCoherency?: boolean;
  /** Bitmap of page sizes in bytes; default 4 KiB, 2 MiB and 1 GiB. */
  readonly pageSizes?: bigint;
  /** Input address range; default 0 to 2^48-1. */
  readonly aperture?: { readonly first: bigint; readonly last: bigint };
  /** Default: the x86 MSI window, 0xfee00000-0xfeefffff. */
  readonly reserved?: readonly ReservedWindow[];
  /**
   * It notes the pages that devices write, for domains of an iommufd that ask for it (HWPT_ALLOC
   * with DIRTY_TRACKING). Default false, as QEMU's Intel IOMMU.
   */
  readonly dirtyTracking?: boolean;
  /** Bits of the PASIDs of its devices' requests, at most 20. Default 0: none. */
  readonly pasidBits?: number;
}

/**
 * The rule by which functions share a group. `linux`: the groups of Linux 7.3. `strict`: also
 * everything behind a switch one of whose downstream ports has no access control, since a device
 * behind that port reaches the others.
 */
export type Grouping = 'linux' | 'strict';

export const groupings = ['linux', 'strict'] as const satisfies readonly Grouping[];

/**
 * The part of a function in the fabric: decides whether ACS, aliasing or a shared bus applies to
 * it.
 */
export type FunctionKind =
  | 'endpoint'
  | 'integrated-endpoint'
  | 'conventional'
  | 'root-port'
  | 'upstream-port'
  | 'downstream-port'
  | 'pcie-to-pci-bridge'
  | 'pci-bridge';

export const bridgeKinds: ReadonlySet<FunctionKind> = new Set([
  'root-port',
  'upstream-port',
  'downstream-port',
  'pcie-to-pci-bridge',
  'pci-bridge',
]);

/** A model by name, looked up in `MachineOptions.models`, or the model itself. */
export type ModelReference = string | DeviceModel;

/** SR-IOV of a stub. Its VFs are stubs too. */
export interface SriovSpec {
  readonly totalVfs: number;
  /** Device id of the VFs, four hexadecimal digits. Default: the PF's. */
  readonly device?: string;
  /** Of each VF: memory, 4 KiB at least. */
  readonly bars?: readonly BarDeclaration[];
  readonly firstOffset?: number;
  readonly stride?: number;
}

/** The link below a port. */
export interface LinkSpec {
  /** PCI Express generation, 1 (2.5 GT/s) to 6. Default: 1. */
  readonly generation?: number;
  /** Lanes. Default: 1. */
  readonly width?: number;
  /**
   * Data Link Layer Link Active, for a port that reports it (above generation 2 every port does).
   * Default there: true. False: the port reports its link down although a device answers behind it,
   * as QEMU's ports do under ACPI hot plug (LNKCAP 00300604, LNKSTA 0204); above generation 2 a
   * reset of its bus is ENOTTY then.
   */
  readonly active?: boolean;
}

/** A PCI function of a machine, as data. */
export interface FunctionSpec {
  /**
   * `device.function` on the bus it is in (`04.0`), or a full BDF. On the top level the BDF names
   * the root bus: `60:01.0`, `0001:00:00.0`. Default: 0000:00. Behind a bridge it must name the bus
   * there.
   */
  readonly at: string;
  /**
   * Default: the kind of the model's PCI Express capability; without a model, `endpoint` behind a
   * port, else `integrated-endpoint`.
   */
  readonly kind?: FunctionKind;
  readonly name?: string;
  /**
   * Behaviour. Without a model the function is a stub: ids, class, BARs and capabilities for the
   * topology; its BARs read as all ones.
   */
  readonly model?: ModelReference;
  /** Options for the model's factory. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** `vendor:device` of a stub, hexadecimal. */
  readonly id?: string;
  readonly subsystem?: string;
  /** 24-bit class code of a stub. */
  readonly classCode?: number;
  /**
   * Access Control Services, which the kernel switches on. Default: as the model declares; for
   * stubs true for ports, false for endpoints.
   */
  readonly acs?: boolean;
  /** How a stub can be reset: `flr` (default), or not at all. */
  readonly reset?: 'flr' | 'none';
  /** MSI vectors of a stub; default 1, 0 for none. */
  readonly msi?: number;
  readonly bars?: readonly BarDeclaration[];
  /** Makes a stub a physical function of SR-IOV. A model says so itself. */
  readonly sriov?: SriovSpec;
  /** Virtual functions that are enabled at power-on, once its driver is bound: sriov_numvfs. */
  readonly numVfs?: number;
  /**
   * driver_override of its virtual functions, unless vfio-pci drives it: then they get vfio-pci
   * (S3-17). Default: the driver that matches.
   */
  readonly vfDriver?: string;
  /**
   * Driver at power-on: a name, or null for none. Default: the native driver whose ids match, as in
   * the kernel.
   */
  readonly driver?: string | null;
  readonly driverOverride?: string;
  /**
   * False, on a stub: it is older than PCI 2.3, and COMMAND.InterruptDisable cannot be set (S2-12).
   * A model says so itself.
   */
  readonly interruptDisable?: boolean;
  /**
   * False: the platform has no interrupt for its INTx pin, so that enabling INTx is ENODEV.
   * Default: true.
   */
  readonly intxRouted?: boolean;
  /** Of a port that is a stub: its link. */
  readonly link?: LinkSpec;
  /**
   * The one of `MachineSpec.iommus` that is above this device and everything behind it; only on the
   * root bus.
   */
  readonly iommu?: string;
  /**
   * Windows that firmware reserves for this device (RMRR, IVMD); `direct` ones bar it from users
   * altogether.
   */
  readonly reserved?: readonly ReservedWindow[];
  /**
   * Other `device.function`s of the same bus whose requester id its DMA carries (quirky devices).
   */
  readonly dmaAliases?: readonly string[];
  /**
   * The function whose requester id all DMA of this device, and of the devices behind it, carries;
   * only on a root bus. Default: for a bus in a domain from 10000 the Intel VMD controller that
   * makes such domains, when the machine has one: the first makes domain 10000, the next 10001.
   */
  readonly requester?: string;
  /** A port with a hot-plug slot: its bus is reset through the slot. */
  readonly slot?: boolean;
  /**
   * Bus number behind this bridge: any number that leaves each bridge a range of its own. Default:
   * the next one, depth-first.
   */
  readonly bus?: number;
  /** The devices behind this bridge. */
  readonly devices?: readonly FunctionSpec[];
}

/**
 * A host driver's use of DMA, on which viability depends (S1-08). `kernel`: DMA on the kernel's
 * behalf, so no user may have the group. `managed`: no DMA, or DMA that respects an owner
 * (pci-stub, pcieport). `own-domain`: the driver manages DMA itself and has attached a domain of
 * its own.
 */
export type DmaUse = 'kernel' | 'managed' | 'own-domain';

/**
 * A driver of the host besides vfio-pci, pci-stub, pci-pf-stub and pcieport, which are always
 * there.
 */
export interface HostDriverSpec {
  readonly name: string;
  /**
   * The functions that the driver takes at power-on and at probe: `vendor:device`, or `class:cc`,
   * `class:ccss`, `class:ccsspp`; hexadecimal.
   */
  readonly ids?: readonly string[];
  readonly dma?: DmaUse;
  /** It can enable virtual functions (sriov_configure). Default false. */
  readonly sriov?: boolean;
}

/** An isolation group as a computer has it. */
export interface GroupSpec {
  readonly id: number;
  /** Full addresses. */
  readonly functions: readonly string[];
}

/** A machine as data: buses, functions and IOMMUs. */
export interface MachineSpec {
  readonly name?: string;
  /** The IOMMU of all devices that name no other. Default: `full`. */
  readonly iommu?: IommuSpec;
  readonly iommus?: Readonly<Record<string, IommuSpec>>;
  /** Default: `linux`. */
  readonly grouping?: Grouping;
  /**
   * The isolation groups of a recorded computer, in place of those that follow from the fabric.
   * Functions that are in none have no group. Default: groups follow from the fabric.
   */
  readonly groups?: readonly GroupSpec[];
  /**
   * The machine is a recording of a computer: the engine takes fabrics that it refuses elsewhere,
   * such as a device without function 0, or a bridge in an unusual place. Default: false.
   */
  readonly recorded?: boolean;
  readonly hostDrivers?: readonly HostDriverSpec[];
  /** The first address that firmware gives to a 32-bit BAR. Default: 0xc0000000. */
  readonly memoryBase?: number;
  /**
   * vfio-pci's parameter enable_sriov; `MachineOptions.params` stands above it. Default: false, as
   * in Linux.
   */
  readonly enableSriov?: boolean;
  /**
   * Files of mediators, which are code: the program that makes the machine loads them
   * (`importMediators`) and gives them as `MachineOptions.mediators`. Until then no group can be
   * opened.
   */
  readonly mediators?: readonly string[];
  /**
   * The kernel whose answers the machine gives where kernels differ; `MachineOptions.linux` stands
   * above it. Default: 7.3.
   */
  readonly linux?: LinuxVersion;
  /** Module parameters, and ours; `MachineOptions.params` stands above them. */
  readonly params?: Partial<EngineParams>;
  /**
   * The CPU's page size: 4096 (default), 16384 or 65536; `MachineOptions.pageSize` stands above it.
   */
  readonly pageSize?: number;
  /**
   * Root buses that are there without a device, by name (`0000:60`). The part of a machine has the
   * root buses of the whole (`sliceOf`). Default: those that `devices` name.
   */
  readonly rootBuses?: readonly string[];
  readonly devices: readonly FunctionSpec[];
}
