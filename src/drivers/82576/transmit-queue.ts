/**
 * A transmit queue as a ring, for millions of frames without an object for any:
 *
 *     const at = queue.reserve(60);              // -1: the ring is full
 *     queue.bytes.set(frame, at);
 *     queue.commit(60);
 *     queue.ring();                              // one register write for all that were committed
 *
 * Each descriptor has a buffer. A frame that is longer takes the buffers of the next descriptors
 * too, in one piece: where the ring wraps, its memory goes on behind the last buffer.
 */
import { Xdctl } from '../../abi/82576.ts';
import { DESCRIPTOR_BYTES, TxCommand, TxContext, TxStatus } from '../../abi/82576-descriptors.ts';
import type { RegisterAccess } from '../../abi/device.ts';
import type { DmaBuffer } from '../kit/dma.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import type { Doorbell } from './doorbell.ts';
import { QueueReg } from './queue-place.ts';
import { BUFFER_BYTES, checkEntries } from './receive-queue.ts';

/** The longest packet: segmentation cuts 64 KiB of payload, behind headers (7.2.4). */
export const PACKET_MAX = 65_535 + 256;
const PAGE = 4096;

/** The card's work on a frame: parts of its descriptor's words (7.2.2.3). */
export const TransmitFlag = {
  /** Insert the checksum of IPv4's header. */
  IP_CHECKSUM: TxStatus.IXSM,
  /** Insert the checksum of TCP, UDP or SCTP. */
  L4_CHECKSUM: TxStatus.TXSM,
  /** Sample the time. */
  TIMESTAMP: TxCommand.MAC_TSTAMP,
  /** Insert the tag of the context. */
  VLAN: TxCommand.VLE,
  /** Cut into segments of the context's MSS. */
  SEGMENT: TxCommand.TSE,
} as const;

const STATUS_FLAGS = TxStatus.IXSM | TxStatus.TXSM;
const COMMAND_FLAGS = (TxCommand.MAC_TSTAMP | TxCommand.VLE | TxCommand.TSE) >>> 0;
const DATA = (TxCommand.DTYP_DATA | TxCommand.DEXT | TxCommand.IFCS) >>> 0;
const CONTEXT = (TxCommand.DTYP_CONTEXT | TxCommand.DEXT) >>> 0;

/** A transmit queue: `reserve`, fill, `commit`, `ring`. */
export class TransmitQueue implements Disposable {
  readonly entries: number;
  /** The memory of all buffers. */
  readonly bytes: Uint8Array;
  /** The address of `bytes[0]` for the device. */
  readonly iova: number;
  /** Frames committed, and frames that the card has taken, since the start. */
  committed = 0;
  completed = 0;
  readonly #registers: RegisterAccess;
  readonly #at: number;
  readonly #tail: Doorbell;
  readonly #memory: DmaBuffer;
  readonly #descriptors: Uint32Array;
  readonly #ringIova: bigint;
  readonly #mask: number;
  /** Descriptors that report when they are done, oldest first, and the frames up to them. */
  readonly #reports: Int32Array;
  readonly #reportFrames: Float64Array;
  #reportFirst = 0;
  #reportCount = 0;
  /** The next descriptor to fill; the first that is in flight; the last of the newest frame. */
  #next = 0;
  #clean = 0;
  #last = -1;
  #announced = 0;
  /** Descriptors, and frames, since the last descriptor that reports. */
  #silent = 0;
  #unreported = 0;
  #lengths = -1;
  #command = -1;
  #segments = -1;
  #running = false;

  /** @param at offset of TDBAL */
  constructor(dev: DriverDevice, registers: RegisterAccess, at: number, entries: number, tail: Doorbell) {
    this.entries = checkEntries(entries);
    this.#registers = registers;
    this.#at = at;
    this.#tail = tail;
    this.#mask = entries - 1;
    const ring = Math.ceil((entries * DESCRIPTOR_BYTES) / PAGE) * PAGE;
    this.#memory = dev.dma.alloc(ring + entries * BUFFER_BYTES + PACKET_MAX);
    const { bytes, iova } = this.#memory;
    this.#descriptors = new Uint32Array(bytes.buffer, bytes.byteOffset, entries * 4);
    this.#ringIova = iova;
    this.bytes = bytes.subarray(ring);
    this.iova = Number(iova) + ring;
    this.#reports = new Int32Array(entries);
    this.#reportFrames = new Float64Array(entries);
  }

  /** Enables an empty ring (4.5.10). Frames that the card had not taken are lost. */
  start(): void {
    this.#descriptors.fill(0);
    this.#next = this.#clean = this.#announced = this.#silent = this.#unreported = this.#reportCount = this.#reportFirst = 0;
    this.#last = this.#lengths = -1;
    this.committed = this.completed;
    this.#write(QueueReg.BAL, Number(this.#ringIova & 0xffff_ffffn));
    this.#write(QueueReg.BAH, Number(this.#ringIova >> 32n));
    this.#write(QueueReg.LEN, this.entries * DESCRIPTOR_BYTES);
    this.#write(QueueReg.HEAD, 0);
    this.#write(QueueReg.TAIL, 0);
    this.#write(QueueReg.XDCTL, Xdctl.ENABLE | (8 << Xdctl.HTHRESH_SHIFT) | 8);
    this.#running = true;
  }

  /** The queue is enabled. */
  get ready(): boolean {
    return (this.#registers.read32(this.#at + QueueReg.XDCTL) & Xdctl.ENABLE) !== 0;
  }

  /** No frame is taken any more. */
  stop(): void {
    this.#running = false;
  }

  /** Descriptors that are free, as of the last `reclaim`. */
  get free(): number {
    return this.#mask - ((this.#next - this.#clean) & this.#mask);
  }

  /** Frames that the card has not taken, as of the last `reclaim`. */
  get inFlight(): number {
    return this.committed - this.completed;
  }

  /**
   * Buffers for a frame of `length` bytes, which `commit` sends.
   * @returns where the frame goes in `bytes`; -1: there is no room, or the queue stands still
   */
  reserve(length: number): number {
    const slots = length <= BUFFER_BYTES ? 1 : Math.ceil(length / BUFFER_BYTES);
    if (slots > this.free && (this.reclaim() === 0 || slots > this.free)) return -1;
    return this.#running && length <= PACKET_MAX ? this.#next * BUFFER_BYTES : -1;
  }

  /**
   * How frames that follow are offloaded (7.2.2.4): the card keeps it, so that only a change costs
   * a descriptor. Call it before `reserve`.
   *
   * @param lengths of MAC's and IP's header, and the VLAN tag: as in word 0 of the descriptor
   * @param tucmd `TxContext.IPV4`, `L4T_TCP` and the like
   * @param segments length of L4's header, and MSS: as in word 3 of the descriptor
   * @returns false when there is no room
   */
  context(lengths: number, tucmd: number, segments: number): boolean {
    if (lengths === this.#lengths && tucmd === this.#command && segments === this.#segments) return true;
    // A frame has to follow: a context alone would never be reported.
    if (this.free < 2 && (this.reclaim() === 0 || this.free < 2)) return false;
    if (!this.#running) return false;
    const at = this.#next * 4;
    this.#descriptors[at] = lengths;
    this.#descriptors[at + 1] = 0;
    this.#descriptors[at + 2] = CONTEXT | tucmd;
    this.#descriptors[at + 3] = segments;
    this.#lengths = lengths;
    this.#command = tucmd;
    this.#segments = segments;
    this.#next = (this.#next + 1) & this.#mask;
    this.#silent++;
    return true;
  }

  /**
   * Sends the frame that lies where `reserve` said.
   *
   * @param flags a set of `TransmitFlag`
   * @param payload bytes behind the headers, for `SEGMENT`. Default: all of the frame
   */
  commit(length: number, flags = 0, payload = length): void {
    let left = length;
    let address = this.iova + this.#next * BUFFER_BYTES;
    const status = (payload << TxStatus.PAYLEN_SHIFT) | (flags & STATUS_FLAGS);
    const command = DATA | (flags & COMMAND_FLAGS);
    while (left > BUFFER_BYTES) {
      this.#data(address, command | BUFFER_BYTES, status);
      address += BUFFER_BYTES;
      left -= BUFFER_BYTES;
    }
    this.#end(address, command | left, status);
  }

  /**
   * Sends a frame from memory of the caller, who keeps the memory until `completed` says that the
   * frame was taken: no byte is copied.
   *
   * @param iova below 2^53: of a receive queue's frame, or of `dev.dma.alloc`
   * @param flags as `commit`
   * @returns false when there is no room, or the queue stands still
   */
  put(iova: number, length: number, flags = 0): boolean {
    if (this.free < 1 && this.reclaim() === 0) return false;
    if (!this.#running) return false;
    this.#end(iova, DATA | (flags & COMMAND_FLAGS) | length, (length << TxStatus.PAYLEN_SHIFT) | (flags & STATUS_FLAGS));
    return true;
  }

  /** Announces the frames that were committed. */
  ring(): void {
    if (this.#next === this.#announced) return;
    if (this.#unreported > 0) this.#report();
    this.#announced = this.#next;
    if (this.#running) this.#tail.ring(this.#at + QueueReg.TAIL, this.#next);
  }

  /**
   * Looks which frames the card has taken.
   * @returns descriptors that became free
   */
  reclaim(): number {
    let freed = 0;
    while (this.#reportCount > 0) {
      const at = this.#reports[this.#reportFirst]!;
      if ((this.#descriptors[at * 4 + 3]! & TxStatus.DD) === 0) break;
      const end = (at + 1) & this.#mask;
      freed += (end - this.#clean) & this.#mask;
      this.#clean = end;
      this.completed = this.#reportFrames[this.#reportFirst]!;
      this.#reportFirst = (this.#reportFirst + 1) & this.#mask;
      this.#reportCount--;
    }
    return freed;
  }

  /** Unmaps the ring and its buffers. */
  [Symbol.dispose](): void {
    this.#running = false;
    this.#memory[Symbol.dispose]();
  }

  #data(address: number, command: number, status: number): void {
    const at = this.#next * 4;
    const descriptors = this.#descriptors;
    descriptors[at] = address;
    descriptors[at + 1] = address / 2 ** 32;
    descriptors[at + 2] = command;
    descriptors[at + 3] = status;
    this.#next = (this.#next + 1) & this.#mask;
    this.#silent++;
  }

  #end(address: number, command: number, status: number): void {
    this.#last = this.#next;
    this.#data(address, command | TxCommand.EOP, status);
    this.committed++;
    this.#unreported++;
    if (this.#silent >= this.entries >>> 2) this.#report();
  }

  /** The newest frame's last descriptor is written back when the card has taken it. */
  #report(): void {
    this.#descriptors[this.#last * 4 + 2]! |= TxCommand.RS;
    const at = (this.#reportFirst + this.#reportCount) & this.#mask;
    this.#reports[at] = this.#last;
    this.#reportFrames[at] = this.committed;
    this.#reportCount++;
    this.#silent = this.#unreported = 0;
  }

  #write(register: number, value: number): void {
    this.#registers.write32(this.#at + register, value);
  }
}

/** The words of a context, from the lengths of a frame's headers (7.2.2.4). */
export function contextLengths(mac: number, ip: number, vlan = 0): number {
  return (ip | (mac << TxContext.MACLEN_SHIFT) | (vlan << TxContext.VLAN_SHIFT)) >>> 0;
}

/** The word of a context for segmentation (7.2.2.4). @param mss payload of a frame; 0: one frame */
export function contextSegments(l4: number, mss: number): number {
  return ((l4 << TxContext.L4LEN_SHIFT) | (mss << TxContext.MSS_SHIFT)) >>> 0;
}
