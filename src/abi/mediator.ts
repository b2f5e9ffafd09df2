/**
 * Mediator: a vendor's hand in devices that vfio-pci drives (S0). The engine asks it when a device
 * is opened first. A mediator that accepts says which regions and interrupt indexes it wants to
 * see; everything else goes on as without it.
 */
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { FeatureRequest, IrqInfo, Region, RegionInfo, RegionMapping, SetIrqs } from './device.ts';
import type { ModelMigration, Width } from './device-host.ts';
import type { DirectMemory } from './memory.ts';

/** The answer of a hook that lets the device act as without a mediator. */
export const PASS_THROUGH = Symbol('pass through');
/** The answer of a hook that leaves an access to the device. */
export type PassThrough = typeof PASS_THROUGH;

/**
 * Registers of a function's BARs as the hardware has them, past every hook and gate: for the
 * mediator's own use, also while the device is stopped
 */
export interface FunctionRegisters {
  /** Loads 1, 2 or 4 bytes at `offset` of BAR `bar`: an unsigned value. */
  read(bar: number, offset: number, width: Width): number;
  /** Stores the low `width` bytes of `value` at `offset` of BAR `bar`. */
  write(bar: number, offset: number, width: Width, value: number): void;
  /** Loads 64 bits at `offset` of BAR `bar`. */
  read64(bar: number, offset: number): bigint;
  /** Stores 64 bits at `offset` of BAR `bar`. */
  write64(bar: number, offset: number, value: bigint): void;
}

/**
 * The physical function of a mediated virtual one, for the PF's driver, which mediates its VFs.
 */
export interface MediatedPhysical extends FunctionRegisters {
  /** `0000:01:00.0` */
  readonly name: string;
  readonly vendor: number;
  readonly device: number;
  /** The driver that is bound to it now; null for none. */
  readonly driver: string | null;
  readonly totalVfs: number;
  /** Virtual functions that are enabled now. */
  readonly numVfs: number;
}

/**
 * The device as its mediator sees it, from open to release. After the release, reads give ones,
 * writes have no effect, and memory is ENODEV.
 */
export interface MediatedDevice extends FunctionRegisters {
  /** `0000:00:04.0` */
  readonly name: string;
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor: number;
  readonly subsystem: number;
  readonly classCode: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** Of a virtual function: its physical function. Null on every other function. */
  readonly physical: MediatedPhysical | null;
  /**
   * Of a virtual function: its number among those of `physical`, from 0. Null on every other
   * function.
   */
  readonly vfIndex: number | null;
  /** Of a physical function: how many virtual ones it can have. 0 on every other function. */
  readonly totalVfs: number;
  /**
   * Number of regions without a mediator. The regions that the mediator adds (`addedRegions`) get
   * the indexes from here on.
   */
  readonly numRegions: number;
  /**
   * Allocate memory for a region to add: whole pages, zeroed. The mediator disposes of it in
   * release.
   */
  allocate(size: number): DirectMemory;
  /**
   * Read or write memory that the device's user has mapped. The device takes no part (vfio_dma_rw).
   *
   * @throws VfioError EINVAL when nothing is mapped there; EPERM when the mapping forbids it;
   * EAGAIN for memory that answers only by messages
   */
  dmaRead(iova: bigint, into: Uint8Array): void;
  /**
   * Writes to memory as the device's user has mapped it, without the device taking part
   * (vfio_dma_rw).
   *
   * @throws VfioError as `dmaRead`
   */
  dmaWrite(iova: bigint, from: Uint8Array): void;
  /**
   * The device has written, or may yet write, [iova, iova + size): for a mediator that notes it
   * (`notesWrites`). Dropped while no log is kept.
   */
  wrote(iova: bigint, size: number): void;
}

/**
 * Hooks of one region. A hook that is absent costs nothing; `direct` is the region without the
 * mediator, for hooks to call (S0-10).
 */
export interface RegionHooks<H> {
  /**
   * May change flags and capabilities; index and size stay (S0-05). Its answer holds: users can
   * map only its areas, and nothing of a region without RegionFlags.MMAP, READ or WRITE; reads
   * need READ, writes WRITE. Without MMAP no user gets around the other hooks.
   */
  info?(handle: H, info: RegionInfo): RegionInfo;
  /**
   * A read of the region, inside of it. The hook fills `into` and returns the bytes read, or
   * PASS_THROUGH.
   */
  read?(handle: H, offset: number, into: Uint8Array, direct: Region): number | PassThrough;
  /** A write to the region, inside of it. The hook returns the bytes written, or PASS_THROUGH. */
  write?(handle: H, offset: number, from: Uint8Array, direct: Region): number | PassThrough;
  /** An mmap of [offset, offset + size). The hook returns the mapping, or PASS_THROUGH. */
  map?(handle: H, offset: number, size: number, direct: Region): RegionMapping | PassThrough;
}

/**
 * A region that the device itself does not have (S0-05). Added regions come last, in the order of
 * the table.
 */
export interface AddedRegion<H> {
  /** VFIO_REGION_INFO_CAP_TYPE, 32 bits each; a vendor's own type is 0x80000000 | vendor. */
  readonly type: number;
  readonly subtype: number;
  /** Bytes; with `memory`: whole pages of 4096. */
  readonly size: number;
  /** Without `read` and `memory`, the region cannot be read. Accesses are inside the region. */
  read?(handle: H, offset: number, into: Uint8Array): number;
  /** Without `write` and `memory`, the region cannot be written. */
  write?(handle: H, offset: number, from: Uint8Array): number;
  /**
   * The memory that accesses without a hook reach. Without any hook users may map it, and keep it
   * as long as they do.
   */
  readonly memory?: DirectMemory;
}

/** Hooks of one interrupt index. */
export interface IrqHooks<H> {
  /** The engine holds users to its answer: more interrupts than it counts are EINVAL. */
  info?(handle: H, info: IrqInfo): IrqInfo;
  /**
   * VFIO_DEVICE_SET_IRQS of this index. The hook returns what `setIrqs` returns, or PASS_THROUGH;
   * `direct` is the device's own.
   */
  set?(handle: H, request: SetIrqs, direct: (request: SetIrqs) => number): number | PassThrough;
}

/**
 * Answer of a mediator that accepts a device. The engine reads it once: later changes of the
 * tables have no effect until the next open (S0-09).
 */
export interface Accepted<H> {
  /** The mediator's own data; the engine does not look inside (S0-02). */
  readonly handle: H;
  /** By region index. */
  readonly regions?: Readonly<Record<number, RegionHooks<H>>>;
  readonly addedRegions?: readonly AddedRegion<H>[];
  /** By IRQ index. */
  readonly irqs?: Readonly<Record<number, IrqHooks<H>>>;
  /**
   * How to move a device whose model cannot move itself (S0-19). While the device is stopped its
   * DMA does not land; the mediator starts DMA that was in flight again.
   */
  readonly migration?: ModelMigration;
  /**
   * The mediator reports the device's writes by `MediatedDevice.wrote`; the engine notes none
   * itself, as for hardware that keeps no log.
   */
  readonly notesWrites?: boolean;
  /**
   * Before each use of a feature: pass it on, refuse it with a `VfioError`, or answer with the
   * answer of `direct`. Of a feature that the device does not have, the mediator may answer with
   * bytes of its own: how many of `request.data` it has filled.
   */
  readonly feature?: (handle: H, request: FeatureRequest, direct: () => unknown) => unknown;
}

/** Code of a vendor that takes part in each open of the devices that it accepts. */
export interface Mediator<H = unknown> {
  /** Unique in a registry. */
  readonly name: string;
  /** Null: the engine asks the next mediator. An error that it throws is a refusal too. */
  open(device: MediatedDevice): Accepted<H> | null;
  /** Called once for each accepted open. The device is disabled by then (S0-18). */
  release(handle: H): void;
}
