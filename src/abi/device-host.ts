/**
 * DeviceHost is everything that a model can reach. Model is the interface that a software device
 * implements. Neither knows groups, sockets or VFIO.
 */
import { acrossCopies } from '../base/across-copies.ts';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { DmaFaultReason, EventPort } from './event.ts';
import type { Access, BytesAt, DirectMemory } from './memory.ts';

/** Outcome of a DMA that was tried at once. */
export const Dma = {
  /** The bytes are copied. */
  DONE: 0,
  /**
   * The DMA did not land: bus mastering is off, the range is not mapped, or the mapping forbids the
   * access. The host counts it.
   */
  FAULT: 1,
  /** The memory answers only asynchronously: use `read` or `write`. */
  REMOTE: 2,
} as const;
export type Dma = (typeof Dma)[keyof typeof Dma];

/**
 * The error with which the asynchronous forms reject. A device sees its own faults, as an
 * unsupported request comes back to hardware. The host survives each of them.
 */
export class DmaFault extends Error {
  /** The reason why the transfer did not land. */
  readonly reason: DmaFaultReason;
  /** The first I/O virtual address of the transfer. */
  readonly iova: bigint;
  /** The host makes it; a test may. */
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

/**
 * Where bytes lie in this process: the answer of `DmaPort.locate`. A model makes one, and uses it
 * for all its look-ups.
 *
 *     const place = new DmaPlace();
 *     if (dma.locate(iova, 8, Access.READ, place)) first = place.bytes[place.offset];
 */
export class DmaPlace implements BytesAt {
  /** The memory that holds the bytes, and much else: only what was asked for may be touched. */
  bytes: Uint8Array = new Uint8Array(0);
  /** The first of the bytes, as an index of `bytes`. */
  offset: number;
  /** It is nowhere until `locate` has filled it in. */
  constructor() {
    // A fraction makes JavaScript's engine store the field as a double in place from the start.
    this.offset = 0.5;
    this.offset = 0;
  }
}

/**
 * A model's way to memory, by I/O virtual addresses. A transfer that fails does not land, and is
 * counted by the host.
 *
 * For many small pieces a model gives addresses as numbers, and takes `locate`, `tryRead` and
 * `tryWrite`: for these nothing is allocated, no promise and no view.
 */
export interface DmaPort {
  /** Copy from memory now. Nothing is copied unless all of it can be. */
  tryRead(iova: Iova, into: Uint8Array): Dma;
  /** Copy to memory now. Nothing is written unless all of it can be. */
  tryWrite(iova: Iova, from: Uint8Array): Dma;
  /** Copy from memory, directly mapped or not. @throws DmaFault */
  read(iova: Iova, into: Uint8Array): Promise<void>;
  /** Copy to memory, directly mapped or not. @throws DmaFault */
  write(iova: Iova, from: Uint8Array): Promise<void>;
  /**
   * The bytes themselves, when [iova, iova+size) is directly mapped in one piece with that access;
   * null otherwise. A view is valid until `epoch` changes. A model may keep a view if it compares
   * the epoch before each use. A view taken for writing marks its pages dirty once, when it is
   * taken.
   */
  view(iova: Iova, size: number, access: Access): Uint8Array | null;
  /**
   * As `view`, without an object: says in `place` where the bytes are. True: `place` is valid until
   * `epoch` changes. False: `place` is as before; `view` would have given null.
   */
  locate(iova: Iova, size: number, access: Access, place: DmaPlace): boolean;
  /** Changes when views that were handed out before become invalid. */
  readonly epoch: number;
}

/** A model's interrupts: the INTx pin, and messages. */
export interface IrqPort {
  /** Drive the INTx pin. The pin is a level: it stays until the model lowers it. */
  raise(): void;
  /** Stops driving the INTx pin. */
  lower(): void;
  /**
   * Send message `vector` (MSI or MSI-X, whichever is enabled). @returns false when it could not be
   * sent: messages are disabled, the vector is masked (then pending), or bus mastering is off
   */
  trigger(vector: number): boolean;
  /** The kind of interrupt that the driver has enabled. */
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
  /** The model's way to memory. */
  readonly dma: DmaPort;
  /** The model's interrupts. */
  readonly irq: IrqPort;
  /** The machine's clock: models know no other time. */
  readonly clock: Clock;
  /** Lines about the device, limited in rate. */
  readonly log: Logger;
  /** Where the model emits commands of its own kind, for traces and recordings. */
  readonly events: EventPort;
  /**
   * Hold the answer to the current access until `work` resolves or rejects: see
   * `Device.heldAnswer`. Everything else goes on meanwhile. The model calls it before the access
   * returns.
   */
  answerAfter(work: Promise<unknown>): void;
  /**
   * Report an error (PCIe 6.2). The host sets the status registers of the AER capability where the
   * function has one. An uncorrectable error reaches the user of every function below the port
   * above (ERR); after a fatal one the host resets that link, in the next turn.
   *
   * @param status bits of the status register that the error sets; default: an internal error, or a
   *   receiver error where it is correctable
   * @returns whether a message was sent: not when the error is masked, its reporting is off, or the
   *   function is not PCI Express
   */
  reportError(kind: ErrorKind, status?: number): boolean;
  /**
   * Signal PME. Sets PME_Status, and wakes the function when the host has armed the wake-up (B.10).
   *
   * @returns whether a message was sent: not from a power state that the capability does not name,
   *   or while PME is not enabled
   */
  wake(): boolean;
  /** The hardware's config space, little-endian. Accesses are aligned. */
  readConfig(offset: number, width: Width): number;
  /**
   * The memory behind BAR `index`, or behind region `index` from 9 on. The declaration has
   * `backing: 'memory'` for it, or `sparseAreas`. The memory of `sparseAreas` is another one after
   * a reset between two users, who must not reach each other's: the model asks for it in `reset`.
   */
  barMemory(index: number): DirectMemory;
}

/** The bytes of one register access. */
export type Width = 1 | 2 | 4;

/**
 * A software device's behaviour. `bar` is 0 to 5, and from 9 on a region of the declaration's
 * `regions`. The host checks offsets and widths first: an access never crosses the BAR's end and is
 * naturally aligned. An error that a model throws is a bug of the model: the host logs it, answers
 * all ones and goes on.
 */
export interface Model {
  /** Answers a load of `width` bytes at `offset` of BAR `bar`: an unsigned value. */
  read(bar: number, offset: number, width: Width): number;
  /** Takes a store of the low `width` bytes of `value` at `offset` of BAR `bar`. */
  write(bar: number, offset: number, width: Width, value: number): void;
  /** Answers a load of 64 bits. Absent: the host makes two loads of 32 bits, low half first. */
  read64?(bar: number, offset: number): bigint;
  /** Takes a store of 64 bits. Absent: the host makes two stores of 32 bits, low half first. */
  write64?(bar: number, offset: number, value: bigint): void;
  /**
   * Back to the power-on state: registers, queues, everything. Pending work must not touch DMA or
   * interrupts afterwards.
   */
  reset(): void;
  /**
   * A read of a whole config space register that the declaration's `registers` name. With
   * `configWrite` the model answers reads of these registers; without it, config space keeps their
   * bits.
   */
  configRead?(offset: number, width: Width): number;
  /**
   * A write to config space that touches such registers. The host calls it before `configWritten`.
   * The write may also touch bytes beside the registers.
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
  /** Default: the device has no live migration. */
  readonly migration?: ModelMigration;
}

/**
 * A model's part in live migration (B.11). The states and their arcs, the stream with its sections
 * and checksums, and the errno belong to the host. A model stops, saves its state, and loads it.
 */
export interface ModelMigration {
  /**
   * Version of the data that `save` gives. A higher version only adds to the end. `load` takes
   * every version up to its own, and refuses others.
   */
  readonly version: number;
  /**
   * After its return no DMA and no interrupt leaves the device. The model ends the work under way
   * or keeps it as state. Registers still answer.
   */
  stop(): void;
  /** Go on from the stop, or from the loaded state. */
  start(): void;
  /**
   * The state that a reset clears, and all other state that a driver can notice. Called only while
   * stopped.
   */
  save(): Uint8Array;
  /**
   * Called only while stopped, right after `reset`.
   * @throws VfioError EINVAL for data that it cannot take; the host calls `reset` then
   */
  load(state: Uint8Array, version: number): void;
  /**
   * Contents too large for `save`, such as a disk in memory. The host sends them ahead while the
   * device runs. Without it the device has no PRE_COPY.
   */
  readonly bulk?: ModelBulk | undefined;
  /** About how many bytes `save` gives, for planning a move. Default: 4096. */
  readonly stateSize?: number;
  /** With it the device has the states RUNNING_P2P and PRE_COPY_P2P. */
  readonly p2p?: ModelPeerToPeer | undefined;
}

/**
 * The halt before the stop. While all devices are halted, those that reach each other can be
 * stopped one after another.
 */
export interface ModelPeerToPeer {
  /**
   * After its return no DMA leaves the device; everything else works. The host also calls it while
   * the device is stopped: the halt then holds after the next `start`.
   */
  enter(): void;
  /** DMA may leave again, and transfers that were held back go on. */
  leave(): void;
}

/** Bytes in blocks that can be copied while they change. A reset does not clear them. */
export interface ModelBulk {
  /** Bytes, a multiple of `blockSize`. */
  readonly size: number;
  /** Bytes of one block. */
  readonly blockSize: number;
  /** False for blocks that read as zeroes and need not be sent. */
  present(block: number): boolean;
  /** Copies block `block` into `into`, which has `blockSize` bytes. */
  read(block: number, into: Uint8Array): void;
  /** Replaces block `block` with `from`, which has `blockSize` bytes. */
  write(block: number, from: Uint8Array): void;
  /** Note writes from now on. No block is noted yet. */
  startTracking(): void;
  /** From now on writes are not noted; the notes so far are dropped. */
  stopTracking(): void;
  /**
   * Take the next block at or after `from` that was written since it was last taken. It counts as
   * unwritten then. @returns -1 when there is none
   */
  takeDirty(from: number): number;
}
