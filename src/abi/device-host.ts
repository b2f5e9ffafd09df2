/**
 * DeviceHost: everything a model can reach. Model: what a software device implements. They know no
 * groups, no sockets, no VFIO.
 */
import { acrossCopies } from '../base/across-copies.ts';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { Access, DirectMemory } from './memory.ts';

/** Outcome of a DMA that was tried at once. */
export const Dma = {
  DONE: 0,
  /**
   * It did not land: bus mastering is off, nothing is mapped there, or the mapping forbids it.
   * Counted by the host.
   */
  FAULT: 1,
  /** The memory answers only asynchronously: use `read` or `write`. */
  REMOTE: 2,
} as const;
export type Dma = (typeof Dma)[keyof typeof Dma];

/** 'stopped': for migration; a model has broken its promise. */
export type DmaFaultReason = 'bus-master-off' | 'not-powered' | 'stopped' | 'no-domain' | 'not-mapped' | 'permission' | 'remote-failed';

/**
 * What the asynchronous forms reject with: a device sees its own faults (an unsupported request
 * comes back), the host never crashes on one.
 */
export class DmaFault extends Error {
  readonly reason: DmaFaultReason;
  readonly iova: bigint;
  constructor(reason: DmaFaultReason, iova: bigint) {
    super(`DMA fault at 0x${iova.toString(16)}: ${reason}`);
    this.name = 'DmaFault';
    this.reason = reason;
    this.iova = iova;
  }
}
acrossCopies(DmaFault, 'DmaFault');

/** An I/O virtual address: a bigint, or a number where the model knows that it is below 2^53. */
export type Iova = bigint | number;

export interface DmaPort {
  /** Copy from memory now. Nothing is copied unless all of it can be. */
  tryRead(iova: Iova, into: Uint8Array): Dma;
  /** Copy to memory now. Nothing is written unless all of it can be. */
  tryWrite(iova: Iova, from: Uint8Array): Dma;
  /** Copy from memory, directly mapped or not. @throws DmaFault */
  read(iova: Iova, into: Uint8Array): Promise<void>;
  /** @throws DmaFault */
  write(iova: Iova, from: Uint8Array): Promise<void>;
  /**
   * The bytes themselves, when [iova, iova+size) is directly mapped in one piece with that access;
   * null otherwise. Good until `epoch` changes: a model may keep a view as long as it compares. A
   * view taken for writing marks its pages dirty once, when it is taken.
   */
  view(iova: Iova, size: number, access: Access): Uint8Array | null;
  /** Changes whenever a view handed out before may no longer be used. */
  readonly epoch: number;
}

export interface IrqPort {
  /** Drive the INTx pin. Level: stays until lowered. */
  raise(): void;
  lower(): void;
  /**
   * Send message `vector` (MSI or MSI-X, whichever is enabled). False when it could not be sent:
   * not enabled, masked (then pending), or no bus mastering.
   */
  trigger(vector: number): boolean;
  /** What the driver has enabled. */
  readonly mode: 'intx' | 'msi' | 'msix';
  /** Messages allocated in that mode; 1 for INTx. */
  readonly vectors: number;
}

/** Errors that a PCI Express function reports (PCIe 6.2.2). */
export const errorKinds = ['correctable', 'nonfatal', 'fatal'] as const;
/** How severe an error that a function reports is (PCIe, "Error Classification"). */
export type ErrorKind = (typeof errorKinds)[number];

/** Everything that a model can reach: DMA, interrupts, the clock, the log, errors and wake-up. */
export interface DeviceHost {
  readonly dma: DmaPort;
  readonly irq: IrqPort;
  readonly clock: Clock;
  readonly log: Logger;
  /**
   * The access that is being made is to be answered only when `work` settles, whichever way: see
   * `Device.heldAnswer`. Everything else goes on meanwhile. Call it before the access returns.
   */
  answerAfter(work: Promise<unknown>): void;
  /**
   * Report an error (PCIe 6.2). The AER capability's status registers are set where the function
   * has one. An uncorrectable error reaches the user of every function below the port above (ERR);
   * after a fatal one the host resets that link, in the next turn.
   *
   * @param status bits of the status register that the error sets; default: an internal error, or a
   *   receiver error where it is correctable
   * @returns whether a message was sent: not when the error is masked, its reporting is off, or the
   *   function is not PCI Express
   */
  reportError(kind: ErrorKind, status?: number): boolean;
  /**
   * Signal PME: sets PME_Status, and wakes the function when its host has armed that (B.10).
   *
   * @returns whether a message was sent: not from a power state that the capability does not name,
   *   or while PME is not enabled
   */
  wake(): boolean;
  /** The hardware's config space, little-endian and aligned. */
  readConfig(offset: number, width: Width): number;
  /**
   * The memory behind BAR `index`, or from 9 on behind that region, when it was declared with
   * `backing: 'memory'`.
   */
  barMemory(index: number): DirectMemory;
}

/** The bytes of one register access. */
export type Width = 1 | 2 | 4;

/**
 * A software device's behaviour. `bar` is 0 to 5, and from 9 on a region of the declaration's
 * `regions`. Offsets and widths are checked before they get here: an access never crosses the BAR's
 * end and is naturally aligned. What it throws is a bug of the model: the host logs it, answers all
 * ones and goes on.
 */
export interface Model {
  read(bar: number, offset: number, width: Width): number;
  write(bar: number, offset: number, width: Width, value: number): void;
  /** 64-bit accesses; without these the host makes two of 32 bits, low half first. */
  read64?(bar: number, offset: number): bigint;
  write64?(bar: number, offset: number, value: bigint): void;
  /**
   * Back to the power-on state: registers, queues, everything. Pending work must not touch DMA or
   * interrupts afterwards.
   */
  reset(): void;
  /**
   * A read of a register in config space that the declaration's `registers` name, all of it. With
   * `configWrite` the model answers these registers; without, config space keeps their bits.
   */
  configRead?(offset: number, width: Width): number;
  /**
   * A write to config space that touches such registers, before `configWritten`. It may touch bytes
   * beside them too.
   */
  configWrite?(offset: number, width: Width, value: number): void;
  /**
   * Config bytes [offset, offset+width) of hardware were written (vendor capabilities, for
   * example).
   */
  configWritten?(offset: number, width: number): void;
  /** D0 or D3hot was entered. */
  power?(state: 'D0' | 'D3hot'): void;
  /** The device is removed for good. */
  dispose?(): void;
  /** Absent: the device cannot be moved while it runs. */
  readonly migration?: ModelMigration;
}

/**
 * A model's part in live migration (B.11). The states and their arcs, the stream with its sections
 * and checksums, and the errno are the host's; a model stops, tells what it is made of, and takes
 * it back.
 */
export interface ModelMigration {
  /**
   * Of what `save` gives. A higher one adds to the end only; `load` takes all up to its own, and
   * refuses what it does not know.
   */
  readonly version: number;
  /**
   * From its return on nothing leaves the device: no DMA, no interrupt. Work under way is ended or
   * kept as state. Registers still answer.
   */
  stop(): void;
  /** Go on from where it stopped, or from what was loaded. */
  start(): void;
  /** Everything a reset would clear, and all else the driver could miss. Only while stopped. */
  save(): Uint8Array;
  /**
   * Only while stopped, right after `reset`.
   * @throws VfioError EINVAL for what it cannot take; then reset follows
   */
  load(state: Uint8Array, version: number): void;
  /**
   * Contents too large for `save`, such as a disk in memory: sent ahead while the device runs.
   * Without it there is no PRE_COPY.
   */
  readonly bulk?: ModelBulk | undefined;
  /** About how many bytes `save` gives, for planning a move. Default: 4096. */
  readonly stateSize?: number;
  /** With it the device has the states RUNNING_P2P and PRE_COPY_P2P. */
  readonly p2p?: ModelPeerToPeer | undefined;
}

/**
 * The halt before the stop, in which devices that reach each other are stopped one after the other.
 */
export interface ModelPeerToPeer {
  /**
   * From its return on no DMA leaves the device; else it works. Also called while stopped: then it
   * holds after the next `start`.
   */
  enter(): void;
  /** DMA may leave again, and what was held back goes on. */
  leave(): void;
}

/** Bytes in blocks that can be copied while they change. A reset does not clear them. */
export interface ModelBulk {
  /** Bytes, a multiple of `blockSize`. */
  readonly size: number;
  readonly blockSize: number;
  /** False for blocks that read as zeroes and need not be sent. */
  present(block: number): boolean;
  read(block: number, into: Uint8Array): void;
  write(block: number, from: Uint8Array): void;
  /** From now on writes are noted; nothing is noted yet. */
  startTracking(): void;
  stopTracking(): void;
  /**
   * The next block at or after `from` that was written since it was taken; it counts as unwritten
   * then. -1: none.
   */
  takeDirty(from: number): number;
}
