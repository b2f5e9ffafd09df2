/**
 * A PCI function at power-on: ids, BARs, capabilities. Models declare it; the engine builds config
 * space from it.
 */
import type { Doorbell, MappableArea } from '../abi/device.ts';
import type { DeviceHost, Model } from '../abi/device-host.ts';

/** One BAR: its size in bytes and its kind. */
export interface BarDeclaration {
  /** 0 to 5; a 64-bit BAR takes the next index too. */
  readonly index: number;
  /** Bytes, a power of two: at least 16 for memory, 4 for I/O. */
  readonly size: number;
  readonly type: 'mem32' | 'mem64' | 'io';
  readonly prefetchable?: boolean;
  /**
   * 'registers': every access reaches the model. 'memory': plain memory, which drivers and peers
   * may map. Default: 'registers'.
   */
  readonly backing?: 'registers' | 'memory';
  /**
   * False: users can read and write the BAR, and cannot map it. Default: a BAR of a page or more
   * can be mapped, as on Linux.
   */
  readonly mappable?: boolean;
  /**
   * Parts of a BAR of registers, whole pages of 4096 bytes, that are memory to users who map them:
   * their stores reach the bytes of `DeviceHost.barMemory` at the part's offset, and not the model,
   * which polls. Accesses that no mapping makes reach the model as for every register, and the
   * model keeps the bytes equal. Only these parts can be mapped
   * (VFIO_REGION_INFO_CAP_SPARSE_MMAP). A host with larger pages lets users map none of the BAR.
   */
  readonly sparseAreas?: readonly MappableArea[];
  /**
   * Registers whose writes a transport may carry as signals. They reach the model as ordinary
   * writes; several may come as one.
   */
  readonly doorbells?: readonly Doorbell[];
}

/**
 * One capability as bytes and masks, made by the builders of capabilities.ts. The chain builder
 * fills in the header.
 */
export interface Capability {
  readonly id: number;
  readonly name: string;
  readonly extended: boolean;
  /** Version of an extended capability. */
  readonly version?: number;
  /** The whole capability at power-on, header included. */
  readonly bytes: Uint8Array;
  /** Bits that hardware lets software write. */
  readonly writable: Uint8Array;
  /** Bits that software clears by writing one. */
  readonly writeOneClears: Uint8Array;
  /** Fixed offset. Default: the chain builder chooses one. */
  readonly at?: number;
}

/**
 * A region that is no BAR: VFIO's device-specific regions, from index 9 on in the order of their
 * declaration.
 */
export interface RegionDeclaration {
  /** VFIO_REGION_INFO_CAP_TYPE, 32 bits each; a vendor's own type is 0x80000000 | vendor. */
  readonly type: number;
  readonly subtype: number;
  /** Bytes; of memory: whole pages of 4096. */
  readonly size: number;
  /**
   * 'registers': every access reaches the model, with the region's index in place of the BAR's.
   * 'memory': plain memory. Default: 'registers'.
   */
  readonly backing?: 'registers' | 'memory';
  /** Default: 'read-write'. */
  readonly access?: 'read-write' | 'read-only' | 'write-only';
}

/**
 * A register of the device's own in config space, from 0x40 on: outside of capabilities, or in the
 * body of one.
 */
export interface ConfigRegister {
  readonly name: string;
  readonly offset: number;
  readonly bytes: 1 | 2 | 4;
  /** Value after power-on and reset. */
  readonly reset: number;
  /** Bits that hardware lets software write, without those that ones clear. */
  readonly writable: number;
  readonly writeOneClears: number;
}

/** The PCI identity of a function: ids, class, BARs, interrupts and capabilities. */
export interface PciDeclaration {
  readonly name: string;
  readonly vendor: number;
  readonly device: number;
  readonly revision?: number;
  /** 24 bits: base class, sub-class, programming interface. */
  readonly classCode: number;
  readonly subsystemVendor?: number;
  readonly subsystem?: number;
  /** 'endpoint' (type 0) or 'bridge' (type 1). Default: 'endpoint'. */
  readonly header?: 'endpoint' | 'bridge';
  readonly bars?: readonly BarDeclaration[];
  readonly rom?: Uint8Array;
  readonly regions?: readonly RegionDeclaration[];
  /** 0 none, 1 INTA … 4 INTD. Default: 0. */
  readonly interruptPin?: 0 | 1 | 2 | 3 | 4;
  readonly capabilities?: readonly Capability[];
  /** Extended capabilities need a PCI Express capability: config space has 4096 bytes then. */
  readonly extendedCapabilities?: readonly Capability[];
  /**
   * A model with `configRead` and `configWrite` answers these registers. Without those functions
   * config space keeps their bits.
   */
  readonly registers?: readonly ConfigRegister[];
  /**
   * False: a device older than PCI 2.3 whose COMMAND.InterruptDisable cannot be set (S2-12).
   * Default true.
   */
  readonly interruptDisable?: boolean;
  /**
   * 'always': COMMAND.BusMaster is wired to one, as in some chipset functions. Default: software
   * switches it.
   */
  readonly busMaster?: 'always';
  /**
   * A VF's hardware (SR-IOV 1.1, 3.4.1): ids read FFFF, there are no BAR registers and no
   * COMMAND.Memory; all of that follows from the PF. Set by `virtualFunctionOf`.
   */
  readonly virtualFunction?: boolean;
  /**
   * Reset methods of the device itself. Default: those that its capabilities name (FLR, AF FLR, PM
   * without NoSoftReset).
   */
  readonly resets?: readonly ('flr' | 'af' | 'pm')[];
}

/** The kind of each virtual function of a device. Any `DeviceModel` is one. */
export interface VirtualFunctionModel {
  /**
   * Vendor and subsystem vendor are those of the PF. BARs are memory, of 4 KiB at least; they lie
   * in the PF's VF BARs.
   */
  readonly declaration: PciDeclaration;
  /**
   * Makes the model of one virtual function on its host.
   *
   * @param index from 0
   * @param physical the PF's model; null when the PF is a stub
   */
  create(host: DeviceHost, index: number, physical: Model | null): Model;
}

/** Virtual functions of a device: how many it can have, and where they appear. */
export interface SriovDeclaration {
  /** TotalVFs and InitialVFs of the capability. */
  readonly totalVfs: number;
  readonly vf: VirtualFunctionModel;
  /** From the PF's routing id to that of VF 0; Default: 1. */
  readonly firstOffset?: number;
  /** Offset of the capability. Default: behind the others. */
  readonly at?: number;
  /** From one VF's routing id to the next one's; Default: 1. */
  readonly stride?: number;
}

/** A kind of software device: its declaration, and how to make one. */
export interface DeviceModel {
  readonly declaration: PciDeclaration;
  /** Makes one device of this kind on `host`, in its power-on state. */
  create(host: DeviceHost): Model;
  /**
   * Makes the device a physical function: `{ ...edu(), sriov: { totalVfs: 4, vf: edu() } }`. The
   * engine adds the SR-IOV capability to `declaration`.
   */
  readonly sriov?: SriovDeclaration;
  /**
   * Resources that outlive each device that this model creates, such as a disk's image. The code
   * that made the model disposes of them.
   */
  readonly owns?: Disposable;
  /**
   * A thing outside of the machine's fabric by which devices call each other, such as a switch:
   * devices with the same name here run in one thread. Default: the device shares nothing.
   */
  readonly sharesWith?: string;
}
