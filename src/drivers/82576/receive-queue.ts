/**
 * A receive queue as a ring, for millions of frames without an object for any:
 *
 *     const frames = queue.poll();
 *     for (let i = 0; i < frames; i++) use(queue.bytes, queue.offsetOf(i), queue.lengthOf(i));
 *     queue.release(frames);
 *
 * Buffers lie one after another in one piece of memory, as their descriptors do in the ring. So a
 * frame that takes several buffers is in one piece too; where the ring wraps, `poll` copies the
 * frame's second part behind the last buffer.
 */
import { Srrctl, Xdctl } from '../../abi/82576.ts';
import { DESCRIPTOR_BYTES, RING_ENTRIES_MAX, RxStatus } from '../../abi/82576-descriptors.ts';
import type { RegisterAccess } from '../../abi/device.ts';
import { VfioError } from '../../base/errno.ts';
import type { DmaBuffer } from '../kit/dma.ts';
import type { DriverDevice } from '../kit/driver-device.ts';
import type { Doorbell } from './doorbell.ts';
import { QueueReg } from './queue-place.ts';

/** SRRCTL.BSIZEPACKET counts KiB, and a frame of 1522 bytes needs two (8.10.2). */
export const BUFFER_BYTES = 2048;
/** The longest frame is 9728 bytes; its tag and its check sequence may come on top (7.1.4.3). */
const LONGEST = 10_240;
/** Descriptors that are given back together: a register write costs more than a descriptor. */
const BATCH = 32;
const PAGE = 4096;

/** Checks the number of descriptors of a ring: a power of two, so that its end is a mask. */
export function checkEntries(entries: number): number {
  const power = Number.isInteger(entries) && entries >= 8 && entries <= RING_ENTRIES_MAX && (entries & (entries - 1)) === 0;
  if (power) return entries;
  throw new VfioError('EINVAL', `a ring of ${String(entries)} descriptors`, {
    fix: `Ask for a power of two from 8 to ${RING_ENTRIES_MAX}.`,
  });
}

/** A receive queue: `poll`, use, `release`. */
export class ReceiveQueue implements Disposable {
  /** Descriptors. The card has one fewer than that. */
  readonly entries: number;
  /** The memory of all buffers. */
  readonly bytes: Uint8Array;
  /** The address of `bytes[0]` for the device: a transmit queue can send a frame from here. */
  readonly iova: number;
  /** Frames that the driver could not take, because their descriptors made no sense. */
  malformed = 0;
  /** Frames that `poll` has found since the start. */
  received = 0;
  readonly #registers: RegisterAccess;
  readonly #at: number;
  readonly #tail: Doorbell;
  readonly #memory: DmaBuffer;
  readonly #descriptors: Uint32Array;
  readonly #ringIova: bigint;
  readonly #mask: number;
  /** Frames that were found and not released, from `#first` on, by index modulo `entries`. */
  readonly #offsets: Int32Array;
  readonly #lengths: Int32Array;
  readonly #slots: Int32Array;
  readonly #statuses: Int32Array;
  readonly #infos: Int32Array;
  readonly #hashes: Int32Array;
  readonly #vlans: Int32Array;
  #first = 0;
  #count = 0;
  /** The next descriptor to look at, and the next to give back. */
  #next = 0;
  #back = 0;
  /** Descriptors given back that RDT does not name yet. */
  #unannounced = 0;
  #running = false;

  /** @param at offset of RDBAL */
  constructor(dev: DriverDevice, registers: RegisterAccess, at: number, entries: number, tail: Doorbell) {
    this.entries = checkEntries(entries);
    this.#registers = registers;
    this.#at = at;
    this.#tail = tail;
    this.#mask = entries - 1;
    const ring = Math.ceil((entries * DESCRIPTOR_BYTES) / PAGE) * PAGE;
    this.#memory = dev.dma.alloc(ring + entries * BUFFER_BYTES + LONGEST);
    const { bytes, iova } = this.#memory;
    this.#descriptors = new Uint32Array(bytes.buffer, bytes.byteOffset, entries * 4);
    this.#ringIova = iova;
    this.bytes = bytes.subarray(ring);
    this.iova = Number(iova) + ring;
    const perFrame = () => new Int32Array(entries);
    this.#offsets = perFrame();
    this.#lengths = perFrame();
    this.#slots = perFrame();
    this.#statuses = perFrame();
    this.#infos = perFrame();
    this.#hashes = perFrame();
    this.#vlans = perFrame();
  }

  /** Gives the card all buffers, and enables the queue (4.5.9). Frames that were found are gone. */
  start(dropEnable: boolean): void {
    for (let slot = 0; slot < this.entries; slot++) this.#give(slot);
    this.#first = this.#count = this.#next = this.#back = this.#unannounced = 0;
    const low = Number(this.#ringIova & 0xffff_ffffn);
    this.#write(QueueReg.BAL, low);
    this.#write(QueueReg.BAH, Number(this.#ringIova >> 32n));
    this.#write(QueueReg.LEN, this.entries * DESCRIPTOR_BYTES);
    const kib = BUFFER_BYTES / 1024;
    this.#write(QueueReg.SRRCTL, (kib | Srrctl.ADV_ONE_BUFFER | (dropEnable ? Srrctl.DROP_EN : 0)) >>> 0);
    this.#write(QueueReg.HEAD, 0);
    this.#write(QueueReg.TAIL, 0);
    this.#write(QueueReg.XDCTL, Xdctl.ENABLE | (4 << Xdctl.WTHRESH_SHIFT) | (8 << Xdctl.HTHRESH_SHIFT) | 8);
    this.#running = true;
  }

  /** The queue is enabled. @see announce */
  get ready(): boolean {
    return (this.#registers.read32(this.#at + QueueReg.XDCTL) & Xdctl.ENABLE) !== 0;
  }

  /** The first descriptors, once the card has enabled the queue, and receives (4.5.9). */
  open(): void {
    this.#tail.ring(this.#at + QueueReg.TAIL, this.#mask);
  }

  /** The card takes no more buffers. Frames that were found stay until `start`. */
  stop(): void {
    this.#running = false;
  }

  /** Frames that wait, as of the last `poll`. */
  get waiting(): number {
    return this.#count;
  }

  /**
   * Looks for frames. Those that were found before and are not released count too.
   * @returns how many there are; the oldest has index 0
   */
  poll(): number {
    const descriptors = this.#descriptors;
    const mask = this.#mask;
    while (this.#running) {
      // The frame is whole once the descriptor with its end is done.
      let slot = this.#next;
      let length = 0;
      let parts = 0;
      let status = 0;
      for (;;) {
        if (this.#count + parts > mask) return this.#count;
        status = descriptors[slot * 4 + 2]!;
        if ((status & RxStatus.DD) === 0) {
          if (this.#unannounced > 0 && this.#count === 0) this.#announce();
          return this.#count;
        }
        // A frame's parts are full buffers, but the last.
        length = parts * BUFFER_BYTES + (descriptors[slot * 4 + 3]! & 0xffff);
        parts++;
        slot = (slot + 1) & mask;
        if ((status & RxStatus.EOP) !== 0) break;
      }
      this.#found(length, parts, status);
    }
    return this.#count;
  }

  /** Where frame `index` begins in `bytes`. */
  offsetOf(index: number): number {
    return this.#offsets[(this.#first + index) & this.#mask]!;
  }

  /** Bytes of frame `index`. */
  lengthOf(index: number): number {
    return this.#lengths[(this.#first + index) & this.#mask]!;
  }

  /** RDESC.STATUS and ERRORS of frame `index`: bits of `RxStatus` (7.1.5.2). */
  statusOf(index: number): number {
    return this.#statuses[(this.#first + index) & this.#mask]! >>> 0;
  }

  /** RSS type, packet type, header length of frame `index`: fields of `RxInfo`. */
  infoOf(index: number): number {
    return this.#infos[(this.#first + index) & this.#mask]! >>> 0;
  }

  /** The RSS hash of frame `index`. */
  hashOf(index: number): number {
    return this.#hashes[(this.#first + index) & this.#mask]! >>> 0;
  }

  /** The tag that was stripped from frame `index`; -1: none. */
  vlanOf(index: number): number {
    const at = (this.#first + index) & this.#mask;
    return (this.#statuses[at]! & RxStatus.VP) === 0 ? -1 : this.#vlans[at]!;
  }

  /** The oldest `frames` are used: the card gets their buffers back. Indices begin anew. */
  release(frames = 1): void {
    const released = Math.min(frames, this.#count);
    for (let i = 0; i < released; i++) {
      const slots = this.#slots[(this.#first + i) & this.#mask]!;
      for (let k = 0; k < slots; k++) {
        this.#give(this.#back);
        this.#back = (this.#back + 1) & this.#mask;
      }
      this.#unannounced += slots;
    }
    this.#first = (this.#first + released) & this.#mask;
    this.#count -= released;
    if (this.#unannounced >= Math.min(BATCH, this.entries >>> 2)) this.#announce();
  }

  /** Unmaps the ring and its buffers. */
  [Symbol.dispose](): void {
    this.#running = false;
    this.#memory[Symbol.dispose]();
  }

  #found(length: number, parts: number, status: number): void {
    const first = this.#next;
    const last = (first + parts - 1) & this.#mask;
    this.#next = (last + 1) & this.#mask;
    const at = (this.#first + this.#count) & this.#mask;
    this.#slots[at] = parts;
    const fits = length > 0 && length <= parts * BUFFER_BYTES && length <= LONGEST;
    this.received++;
    if (!fits) this.malformed++;
    const bytes = fits ? length : 0;
    const offset = first * BUFFER_BYTES;
    const end = this.entries * BUFFER_BYTES;
    if (offset + bytes > end) this.bytes.copyWithin(end, 0, offset + bytes - end);
    this.#offsets[at] = offset;
    this.#lengths[at] = bytes;
    this.#statuses[at] = status;
    this.#infos[at] = this.#descriptors[first * 4]!;
    this.#hashes[at] = this.#descriptors[first * 4 + 1]!;
    this.#vlans[at] = this.#descriptors[last * 4 + 3]! >>> 16;
    this.#count++;
  }

  /** Writes the descriptor of `slot`: the card's write-back has overwritten it. */
  #give(slot: number): void {
    const at = slot * 4;
    const address = this.iova + slot * BUFFER_BYTES;
    const descriptors = this.#descriptors;
    descriptors[at + 2] = 0;
    descriptors[at + 3] = 0;
    descriptors[at] = address;
    descriptors[at + 1] = address / 2 ** 32;
  }

  /** One descriptor stays the driver's: RDT equal to RDH means that the card has none. */
  #announce(): void {
    this.#unannounced = 0;
    if (this.#running) this.#tail.ring(this.#at + QueueReg.TAIL, (this.#back - 1) & this.#mask);
  }

  #write(register: number, value: number): void {
    this.#registers.write32(this.#at + register, value);
  }
}
