/**
 * A computer as its kernel describes it: PCI functions, isolation groups, IOMMUs. The picture comes
 * from this computer or from a recording, and says null where its source says nothing.
 */
import type { FunctionKind, ReservedWindow } from '../engine/machine/machine-spec.ts';

/** The kind of source that a picture was read from. */
export type HostSource = 'this computer' | 'sysfs' | 'lspci' | 'sosreport' | 'hwloc';

/** A BAR, a ROM or the BARs of virtual functions. */
export interface HostResource {
  /** Null: without an address. */
  readonly start: bigint | null;
  /** Bytes; null where the source does not say. */
  readonly size: bigint | null;
  readonly kind: 'io' | 'memory';
  readonly wide: boolean;
  readonly prefetchable: boolean;
}

/** Access Control Services as registers: bits of `Acs` in pci/capabilities/access-control.ts. */
export interface HostAcs {
  readonly capabilities: number;
  readonly control: number;
}

/** SR-IOV of a physical function. */
export interface HostSriov {
  readonly totalVfs: number;
  readonly numVfs: number;
  /** Distances of routing ids: from the PF to VF 0, and from one VF to the next. */
  readonly firstOffset: number | null;
  readonly stride: number | null;
  /** Device id of the VFs. */
  readonly vfDevice: number | null;
  /** BARs 0 to 5 of each VF; sizes are those of one VF. */
  readonly bars: readonly (HostResource | null)[];
}

/** A PCI function. */
export interface HostFunction {
  /** Canonical: `0000:03:00.0`. */
  readonly bdf: string;
  /** Null where the source has names only. */
  readonly vendor: number | null;
  readonly device: number | null;
  readonly subsystemVendor: number | null;
  readonly subsystem: number | null;
  /** 24 bits. */
  readonly classCode: number;
  readonly revision: number | null;
  /** The name that the source prints; null for none. */
  readonly name: string | null;
  /** Config space as far as it could be read; empty for none. */
  readonly config: Uint8Array;
  /** BAR 0 to 5, then the ROM; null where there is none. */
  readonly resources: readonly (HostResource | null)[];
  readonly driver: string | null;
  readonly driverOverride: string | null;
  /** Kernel modules that could drive it. */
  readonly modules: readonly string[];
  readonly group: number | null;
  /** Name of the IOMMU above it: `dmar0`; null where the source does not say. */
  readonly iommu: string | null;
  readonly numaNode: number | null;
  readonly irq: number | null;
  readonly slot: string | null;
  /** The bridge above; null on a root bus. */
  readonly parent: string | null;
  /** The bus behind a bridge; null for other functions, and where the source does not say. */
  readonly secondary: number | null;
  /** Its part in the fabric. */
  readonly kind: FunctionKind;
  /** The kind follows from capabilities; otherwise from its class and its place. */
  readonly kindIsKnown: boolean;
  /** Null: it has none. Undefined: the source does not say, because it was not read by root. */
  readonly acs: HostAcs | null | undefined;
  /** It can reset itself alone. Null: the source does not say. */
  readonly functionReset: boolean | null;
  readonly sriov: HostSriov | null;
  /** On a virtual function: its physical one. */
  readonly physicalFunction: string | null;
  /** On a physical function: its virtual ones, in order. */
  readonly virtualFunctions: readonly string[];
  /** `vfio3`, while a VFIO driver has it and the kernel has device files. */
  readonly vfioDevice: string | null;
  /** The display that the firmware uses. */
  readonly bootVga: boolean;
}

/** An IOMMU group as the kernel has it. */
export interface HostGroup {
  readonly id: number;
  /** Addresses of functions, in order. */
  readonly functions: readonly string[];
  /** `DMA`, `DMA-FQ`, `identity`; null where the source does not say. */
  readonly type: string | null;
  readonly reserved: readonly ReservedWindow[];
}

/** A computer as sysfs, or a recording, shows it. */
export interface HostPicture {
  readonly source: HostSource;
  /** The path of the source, or a sentence; for messages. */
  readonly origin: string;
  readonly hostname: string | null;
  /** Release of the kernel: `6.12.48`. */
  readonly kernel: string | null;
  readonly commandLine: string | null;
  /** In order of address. */
  readonly functions: readonly HostFunction[];
  /** In order of number. Null: the source does not say. Empty: the kernel has none. */
  readonly groups: readonly HostGroup[] | null;
  /** Names of IOMMU units: `dmar0`, `ivhd0`, `smmu3.0x…`; null where the source does not say. */
  readonly iommus: readonly string[] | null;
  /** Parameters of loaded modules of VFIO, by module; null where the source does not say. */
  readonly modules: Readonly<Record<string, Readonly<Record<string, string>>>> | null;
  /** Message interrupts are remapped; null where the source does not say. */
  readonly interruptsRemapped: boolean | null;
  /** Doubts about the source: a sentence each. */
  readonly notes: readonly string[];
}
