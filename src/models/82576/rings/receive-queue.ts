/**
 * One receive queue: a frame goes to the buffers of descriptors, which are written back (7.1). A
 * write is posted: where it faults, the frame is lost as on a bus, and the queue goes on. A
 * descriptor that cannot be read stops the queue until it is enabled anew.
 */
import { ofQueue, Reg, Srrctl, Xdctl } from '../../../abi/82576.ts';
import { type DeviceHost, Dma, DmaPlace, type Iova } from '../../../abi/device-host.ts';
import { Access } from '../../../abi/memory.ts';
import type { ReceivedFrame } from '../parts.ts';
import { ByteCopy } from './byte-copy.ts';
import { AHEAD_MAX, DescriptorRing, iovaOf, WORDS } from './descriptor-ring.ts';
import { ReceiveLayout } from './receive-layout.ts';

const ADDRESS_HIGH_MAX = 2 ** 21;
const TWO32 = 2 ** 32;
const NO_BYTES = new Uint8Array(0);
/** Bytes of a VLAN tag. */
const TAG = 4;
const COUNTER_MAX = 0xffff_ffff;

export const Delivery = {
  TAKEN: 0,
  /** There are not enough descriptors. */
  NO_DESCRIPTORS: 1,
  /** The ring is too small for it at any time, or the queue has stopped. */
  NEVER: 2,
  /** Memory is reached by messages. */
  REMOTE: 3,
} as const;
export type Delivery = (typeof Delivery)[keyof typeof Delivery];

export class ReceiveQueue {
  readonly index: number;
  readonly ring = new DescriptorRing();
  /** A frame is under way to remote memory. */
  busy = false;
  /** Free descriptors before the last frame. */
  hadFree = 0;
  /** It counts: messages of another one come to nothing. */
  life = 0;
  readonly #words: Uint32Array;
  readonly #rdh: number;
  readonly #rdt: number;
  readonly #srrctl: number;
  readonly #rxdctl: number;
  readonly #rqdpc: number;
  readonly #layout = new ReceiveLayout();
  readonly #place = new DmaPlace();
  readonly #copy = new ByteCopy();
  /** A frame as it lies in memory; made for the first that needs it. */
  #scratch = NO_BYTES;
  #host: DeviceHost | null = null;
  #faulted = false;
  /** Descriptors that the frame has used. */
  readonly #written = new Uint32Array(WORDS);
  readonly #writtenBytes = new Uint8Array(this.#written.buffer);

  constructor(index: number, words: Uint32Array) {
    this.index = index;
    this.#words = words;
    this.#rdh = ofQueue(Reg.RDH, index) >>> 2;
    this.#rdt = ofQueue(Reg.RDT, index) >>> 2;
    this.#srrctl = ofQueue(Reg.SRRCTL, index) >>> 2;
    this.#rxdctl = ofQueue(Reg.RXDCTL, index) >>> 2;
    this.#rqdpc = ofQueue(Reg.RQDPC, index) >>> 2;
  }

  configure(host: DeviceHost | null): void {
    this.#host = host;
    const at = ofQueue(Reg.RDBAL, this.index) >>> 2;
    this.ring.configure(host === null ? null : host.dma, this.#words[at]!, this.#words[at + 1]!, this.#words[at + 2]!);
    this.abandon();
  }

  abandon(): void {
    this.life++;
    this.busy = false;
    this.ring.drop();
    this.#copy.forget();
  }

  restart(): void {
    this.abandon();
    this.#faulted = false;
  }

  get enabled(): boolean {
    return (this.#words[this.#rxdctl]! & Xdctl.ENABLE) !== 0;
  }

  /** SRRCTL.Drop_En. */
  get drops(): boolean {
    return (this.#words[this.#srrctl]! & Srrctl.DROP_EN) !== 0;
  }

  /** Where the free descriptors begin. */
  get head(): number {
    return this.#words[this.#rdh]!;
  }

  /** Descriptors that the driver has given, and that hold no frame. */
  get free(): number {
    const head = this.#words[this.#rdh]!;
    const tail = this.#words[this.#rdt]!;
    const { size } = this.ring;
    // A tail beyond the ring names no descriptor.
    if (head >= size || tail >= size) return 0;
    return tail >= head ? tail - head : tail - head + size;
  }

  /** Free descriptors of which the driver wants to hear (SRRCTL.RDMTS). */
  get threshold(): number {
    return ((this.#words[this.#srrctl]! & Srrctl.RDMTS) >>> Srrctl.RDMTS_SHIFT) * 16;
  }

  /** A frame was dropped (RQDPC). */
  countDrop(): void {
    if (this.#words[this.#rqdpc]! < COUNTER_MAX) this.#words[this.#rqdpc]!++;
  }

  deliver(frame: ReceivedFrame): Delivery {
    const { free } = this;
    this.hadFree = free;
    if (this.#faulted) return Delivery.NEVER;
    if (free === 0) return Delivery.NO_DESCRIPTORS;
    const words = this.#words;
    const total = frame.length - (frame.vlan < 0 ? 0 : TAG);
    const layout = this.#layout;
    layout.lay(words[this.#srrctl]!, words, total, frame.headerLength);
    if (layout.descriptors > free) return layout.descriptors >= this.ring.size ? Delivery.NEVER : Delivery.NO_DESCRIPTORS;
    const ring = this.ring.words();
    if (ring === null) return this.#deliverSlowly(frame, total, null);
    const head = words[this.#rdh]!;
    if (layout.descriptors > 1 || layout.head > 0) return this.#deliverSlowly(frame, total, ring);
    const at = head * WORDS;
    const low = ring[at]!;
    const high = ring[at + 1]!;
    const place = this.#place;
    const isAddress = high < ADDRESS_HIGH_MAX && (low !== 0 || high !== 0);
    if (!isAddress || !this.#host!.dma.locate(high * TWO32 + low, total, Access.WRITE, place)) {
      return this.#deliverSlowly(frame, total, ring);
    }
    this.#store(frame, place.bytes, place.offset);
    place.bytes = NO_BYTES;
    layout.writeBack(ring, at, frame, total, true, true);
    words[this.#rdh] = head + 1 === this.ring.size ? 0 : head + 1;
    return Delivery.TAKEN;
  }

  /** Several buffers, or memory in pieces. @param ring null: its descriptors are copied */
  #deliverSlowly(frame: ReceivedFrame, total: number, ring: Uint32Array | null): Delivery {
    const words = this.#words;
    const layout = this.#layout;
    const { size } = this.ring;
    const bytes = this.#inMemory(frame, total);
    const head = words[this.#rdh]!;
    let index = head;
    let from = layout.start;
    // Data first: descriptors announce them.
    for (let i = 0; i < layout.descriptors; i++) {
      const entry = ring ?? this.ring.entry;
      if (ring === null) {
        const fetched = this.ring.fetch(index);
        if (fetched === Dma.REMOTE) return Delivery.REMOTE;
        if (fetched === Dma.FAULT) return this.#fault();
      }
      const at = ring === null ? 0 : index * WORDS;
      const next = Math.min(total, from + layout.packetBytes);
      if (this.#write(iovaOf(entry[at]!, entry[at + 1]!), bytes, from, next) === Dma.REMOTE) return Delivery.REMOTE;
      if (i === 0 && layout.head > 0) {
        if (this.#write(iovaOf(headerLow(entry[at + 2]!), entry[at + 3]!), bytes, 0, layout.head) === Dma.REMOTE) return Delivery.REMOTE;
      }
      from = next;
      index = index + 1 === size ? 0 : index + 1;
    }
    from = layout.start;
    index = head;
    for (let i = 0; i < layout.descriptors; i++) {
      const next = Math.min(total, from + layout.packetBytes);
      const last = i + 1 === layout.descriptors;
      if (ring !== null) layout.writeBack(ring, index * WORDS, frame, next - from, i === 0, last);
      else {
        this.#keepRead(index);
        layout.writeBack(this.#written, 0, frame, next - from, i === 0, last);
        if (this.#host!.dma.tryWrite(this.ring.at(index), this.#writtenBytes) === Dma.REMOTE) return Delivery.REMOTE;
      }
      from = next;
      index = index + 1 === size ? 0 : index + 1;
    }
    words[this.#rdh] = index;
    return Delivery.TAKEN;
  }

  /** The legacy write-back leaves the address as it is. */
  #keepRead(index: number): void {
    if (this.ring.fetch(index) === Dma.DONE) this.#written.set(this.ring.entry);
  }

  #write(iova: Iova, bytes: Uint8Array, from: number, to: number): Dma {
    // A null descriptor: its bytes are skipped (7.1.4).
    if (to === from || iova === 0) return Dma.DONE;
    return this.#host!.dma.tryWrite(iova, bytes.subarray(from, to));
  }

  #fault(): Delivery {
    this.#faulted = true;
    this.#host?.log.log('warn', `receive queue ${this.index} stops: a descriptor could not be read`);
    return Delivery.NEVER;
  }

  /** Copies the frame without its stripped tag. */
  #store(frame: ReceivedFrame, into: Uint8Array, at: number): void {
    const { bytes, offset, length, vlanOffset } = frame;
    const copy = this.#copy;
    if (frame.vlan < 0) copy.copy(bytes, offset, length, into, at);
    else copy.copy(bytes, offset + vlanOffset + TAG, length - vlanOffset - TAG, into, copy.copy(bytes, offset, vlanOffset, into, at));
  }

  /** The frame as it lies in memory: without the stripped tag. */
  #inMemory(frame: ReceivedFrame, total: number): Uint8Array {
    if (this.#scratch.length < total) this.#scratch = new Uint8Array(Math.max(total, 16_384));
    const bytes = this.#scratch;
    this.#store(frame, bytes, 0);
    return bytes;
  }

  /**
   * The same by messages, for frames in order, as far as there are descriptors. The frames and the
   * head stay as they are until all has landed: a message that comes to nothing is sent again.
   *
   * @returns how many of the frames are delivered
   */
  async deliverRemote(frames: readonly ReceivedFrame[]): Promise<number> {
    const { life, ring } = this;
    const { dma } = this.#host!;
    const words = this.#words;
    const head = words[this.#rdh]!;
    const count = Math.min(AHEAD_MAX, this.free);
    let entries: Uint32Array;
    try {
      entries = await ring.read(head, count);
    } catch {
      if (this.life === life) this.#fault();
      return 0;
    }
    if (this.life !== life) return 0;
    const posted: Promise<void>[] = [];
    const post = (iova: Iova, bytes: Uint8Array) => {
      if (bytes.length > 0 && iova !== 0) posted.push(dma.write(iova, bytes).catch(() => undefined));
    };
    const layout = this.#layout;
    let used = 0;
    let delivered = 0;
    for (const frame of frames) {
      const total = frame.length - (frame.vlan < 0 ? 0 : TAG);
      layout.lay(words[this.#srrctl]!, words, total, frame.headerLength);
      if (layout.descriptors > count - used) break;
      const bytes = this.#inMemory(frame, total).slice(0, total);
      let from = layout.start;
      for (let i = 0; i < layout.descriptors; i++, used++) {
        const at = used * WORDS;
        const next = Math.min(total, from + layout.packetBytes);
        post(iovaOf(entries[at]!, entries[at + 1]!), bytes.subarray(from, next));
        if (i === 0 && layout.head > 0) post(iovaOf(headerLow(entries[at + 2]!), entries[at + 3]!), bytes.subarray(0, layout.head));
        layout.writeBack(entries, at, frame, next - from, i === 0, i + 1 === layout.descriptors);
        from = next;
      }
      delivered++;
    }
    await Promise.all(posted);
    if (this.life !== life || delivered === 0) return 0;
    await ring.write(head, entries, used).catch(() => undefined);
    if (this.life !== life) return 0;
    const end = head + used;
    words[this.#rdh] = end >= ring.size ? end - ring.size : end;
    return delivered;
  }
}

/** Bit 0 of the header's address is the descriptor's DD. */
function headerLow(low: number): number {
  return (low & ~1) >>> 0;
}
