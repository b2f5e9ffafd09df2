/**
 * One transmit queue: descriptors become packets, packets become frames (7.2).
 *
 * A packet is copied once into the queue's own buffer, because its driver may change it meanwhile.
 * Its frames leave from there, one for each `serve` at least, and the descriptor of its end is
 * written back when the last has left. Memory that is not mapped here is read by messages: the
 * queue then waits, and no other queue does.
 *
 * Longer than 400 lines because each step of a descriptor names the step that follows it, whether
 * at once or after a message.
 */
import { Reg, Tctl, Tdwbal } from '../../../abi/82576.ts';
import { TxCommand, TxContext, TxLegacy, TxStatus } from '../../../abi/82576-descriptors.ts';
import { Stat } from '../../../abi/82576-statistics.ts';
import { type DeviceHost, Dma, DmaPlace, type Iova } from '../../../abi/device-host.ts';
import { Access } from '../../../abi/memory.ts';
import { frameCheckSequence } from '../filter/crc.ts';
import { ByteCopy } from './byte-copy.ts';
import { AHEAD_MAX, behind, DescriptorRing, iovaOf, WORDS } from './descriptor-ring.ts';
import { insertIpChecksum, insertL4Checksum, insertLegacyChecksum, ipLength, macLength } from './offload.ts';
import type { QueueEvents } from './queue-events.ts';
import { Segmentation } from './segmentation.ts';
import { CONTEXT_WORDS, FRAME_MAX, FRAME_MIN, PACKET_AT, PACKET_MAX, PADDED, WRITES_MAX } from './transmit-limits.ts';

/** Of the queue's own buffer, until a packet needs more. */
const BUFFER = 16_384;
const ADDRESS_HIGH_MAX = 2 ** 21;
const TWO32 = 2 ** 32;
const NO_BYTES = new Uint8Array(0);

/** Why a queue does not go on. */
export const Stop = {
  /** It has no more work. */
  EMPTY: 0,
  /** Its turn is over. */
  TURN: 1,
  /** The wire or a PAUSE frame holds the port. */
  PORT: 2,
  /** A message is under way; `resume` follows. */
  MESSAGE: 3,
  /** A descriptor or its data could not be read: until the queue is enabled anew. */
  FAULT: 4,
} as const;
export type Stop = (typeof Stop)[keyof typeof Stop];

/** A write to remote memory: a descriptor's status, or the head. */
export interface WriteBack {
  readonly iova: Iova;
  readonly bytes: Uint8Array;
}

/** The port, as its queues see it. */
export interface TransmitQueuePort {
  /** Whether a frame may leave now. */
  readonly open: boolean;
  transmit(queue: number, bytes: Uint8Array, offset: number, length: number, vlan: number): void;
  count(register: number): void;
  /** The buffers of a packet do not fit what it says of itself (DTXCTL.OutOfSync). */
  outOfSync(): void;
  /** A descriptor with RS is written back. */
  transmitted(queue: number): void;
  /** The time of this frame is asked for (1588). */
  stamp(queue: number): void;
  /** `queue` can go on after a message. */
  resume(queue: number): void;
}

/** State of a queue that no register shows, for migration. */
export interface TransmitQueueState {
  readonly contexts: number[];
  /** The packet that is under way. Null: there is none. */
  readonly packet: PacketState | null;
  /** Write-backs to remote memory whose end is not known, in order. */
  readonly unwritten: readonly WriteBack[];
}

interface PacketState {
  /** Words 2 and 3 of its first descriptor. */
  readonly command: number;
  readonly options: number;
  readonly dropped: boolean;
  readonly bytes: Uint8Array;
  /** It is complete: the command of its last descriptor, and what has left. Null: it is not. */
  readonly sending: { readonly command: number; readonly payload: number; readonly frames: number } | null;
}

export class TransmitQueue {
  readonly index: number;
  /** Descriptors fetched, and frames sent, of the last `serve`. */
  used = 0;
  readonly ring = new DescriptorRing();
  readonly #port: TransmitQueuePort;
  readonly #words: Uint32Array;
  readonly #events: QueueEvents;
  /** Indices of TDH, TDT and TDWBAL. */
  readonly #tdh: number;
  readonly #tdt: number;
  readonly #tdwbal: number;
  readonly #place = new DmaPlace();
  readonly #copy = new ByteCopy();
  readonly #contexts = new Uint32Array(CONTEXT_WORDS);
  readonly #headWord = new Uint8Array(4);
  #host: DeviceHost | null = null;
  #life = 0;
  #faulted = false;
  #waiting = false;
  /** It waits for write-backs, of which too many are under way, and for no read. */
  #crowded = false;
  /** Write-backs under way, in order. */
  #unwritten: WriteBack[] = [];
  #lastWrite: Promise<void> = Promise.resolve();
  #bytes = NO_BYTES;
  /** Bytes of the packet so far; -1: the next descriptor is a packet's first. */
  #length = -1;
  /** The rest of the packet is fetched, and thrown away. */
  #dropping = false;
  /** The packet's first descriptor: words 2 and 3. */
  #command = 0;
  #options = 0;
  /** The packet is complete, and frames of it are left. */
  #sending = false;
  #segmented = false;
  #segments: Segmentation | null = null;
  /** A frame that is not cut: where it ends. */
  #end = 0;
  /** The descriptor that completed it. */
  #lastCommand = 0;

  constructor(index: number, words: Uint32Array, events: QueueEvents, port: TransmitQueuePort) {
    this.index = index;
    this.#words = words;
    this.#events = events;
    this.#port = port;
    const base = index * 0x40;
    this.#tdh = (Reg.TDH + base) >>> 2;
    this.#tdt = (Reg.TDT + base) >>> 2;
    this.#tdwbal = (Reg.TDWBAL + base) >>> 2;
  }

  /** The ring's registers have changed, or the queue's function has. */
  configure(host: DeviceHost | null): void {
    if (host !== this.#host) this.#unwritten = [];
    this.#host = host;
    const at = (Reg.TDBAL + this.index * 0x40) >>> 2;
    this.ring.configure(host === null ? null : host.dma, this.#words[at]!, this.#words[at + 1]!, this.#words[at + 2]!);
    this.abandon();
  }

  /** Messages under way come to nothing: what they were for begins again. */
  abandon(): void {
    this.#life++;
    this.#waiting = false;
    this.#crowded = false;
    // A peer that never answers must not hold up what comes later.
    this.#lastWrite = Promise.resolve();
    this.ring.drop();
    this.#copy.forget();
  }

  /** Write-backs that `abandon` has cut off, or that `load` has brought, are sent again. */
  goOn(): void {
    for (const one of this.#unwritten) this.#post(one);
  }

  /** The queue is enabled anew, or reset: no packet is under way. */
  restart(): void {
    this.abandon();
    this.#unwritten = [];
    this.#faulted = false;
    this.#length = -1;
    this.#dropping = false;
    this.#sending = false;
    this.#contexts.fill(0);
  }

  save(): TransmitQueueState {
    return { contexts: [...this.#contexts], packet: this.#savePacket(), unwritten: [...this.#unwritten] };
  }

  #savePacket(): PacketState | null {
    if (this.#length < 0) return null;
    const command = this.#command;
    const options = this.#options;
    const dropped = this.#dropping;
    const end = this.#sending && !this.#segmented ? this.#end : PACKET_AT + this.#length;
    const bytes = this.#bytes.slice(PACKET_AT, end);
    if (!this.#sending) return { command, options, dropped, bytes, sending: null };
    const segments = this.#segmented ? this.#segments! : null;
    if (segments !== null) bytes.set(segments.header);
    const { payload, frames } = segments === null ? { payload: 0, frames: 0 } : segments.progress;
    return { command, options, dropped, bytes, sending: { command: this.#lastCommand, payload, frames } };
  }

  /** A state that fits no packet loads as no packet. `goOn` sends its write-backs. */
  load({ contexts, packet, unwritten }: TransmitQueueState): void {
    this.restart();
    this.#contexts.set(contexts);
    this.#unwritten = [...unwritten];
    if (packet === null) return;
    this.#begin(packet.command, packet.options);
    if (packet.bytes.length > this.#limit()) {
      this.#length = -1;
      return;
    }
    this.#dropping = packet.dropped;
    this.#room(packet.bytes.length);
    this.#bytes.set(packet.bytes, PACKET_AT);
    this.#length = packet.bytes.length;
    const { sending } = packet;
    if (sending === null) return;
    this.#lastCommand = sending.command;
    this.#segmented = this.#isCut();
    this.#end = PACKET_AT + this.#length;
    if (this.#segmented) {
      const at = this.#context;
      this.#segments ??= new Segmentation();
      const all = this.#contexts;
      const fits = this.#segments.begin(this.#bytes, PACKET_AT, this.#length, all[at]!, all[at + 2]!, all[at + 3]!, this.#options);
      if (fits) this.#segments.skip(sending);
      this.#sending = fits && this.#segments.more;
    } else this.#sending = true;
    if (!this.#sending) this.#length = -1;
  }

  /** Fetches descriptors and sends frames, `max` of them together at most. */
  serve(max: number): Stop {
    this.used = 0;
    let reported = false;
    let stop: Stop = Stop.TURN;
    const words = this.#words;
    const port = this.#port;
    const { size } = this.ring;
    while (this.used < max) {
      if (this.#waiting) {
        stop = Stop.MESSAGE;
        break;
      }
      if (!port.open) {
        stop = Stop.PORT;
        break;
      }
      if (this.#sending) {
        if (this.#send()) reported = this.#complete() || reported;
        continue;
      }
      const head = words[this.#tdh]!;
      const tail = words[this.#tdt]!;
      // A tail beyond the ring names no descriptor.
      if (head === tail || head >= size || tail >= size || this.#faulted) {
        stop = this.#faulted ? Stop.FAULT : Stop.EMPTY;
        break;
      }
      const ring = this.ring.words();
      let entry: Uint32Array;
      let at = 0;
      if (ring !== null) {
        entry = ring;
        at = head * WORDS;
      } else {
        const fetched = this.#unwritten.length >= WRITES_MAX ? Dma.REMOTE : this.ring.fetch(head);
        if (fetched !== Dma.DONE) {
          stop = this.#wait(fetched, head, tail);
          break;
        }
        entry = this.ring.entry;
      }
      this.used++;
      // The driver may change its descriptor meanwhile: each word is read once.
      const low = entry[at]!;
      const high = entry[at + 1]!;
      const command = entry[at + 2]!;
      const options = entry[at + 3]!;
      if ((command & (TxCommand.DEXT | TxCommand.DTYP)) === (TxCommand.DEXT | TxCommand.DTYP_CONTEXT)) {
        const context = (options & (1 << TxContext.IDX_SHIFT)) === 0 ? 0 : WORDS;
        this.#contexts[context] = low;
        this.#contexts[context + 1] = high;
        this.#contexts[context + 2] = command;
        this.#contexts[context + 3] = options;
        reported = this.#writeBack(command, options) || reported;
        continue;
      }
      if (this.#length < 0) this.#begin(command, options);
      const gathered = this.#gather(low, high, command & TxCommand.LENGTH);
      if (gathered === Dma.DONE) reported = this.#gathered(command, options, true) || reported;
      else if (gathered === Dma.FAULT) {
        stop = this.#fault();
        break;
      } else {
        void this.#gatherRemote(iovaOf(low, high), command, options);
        stop = Stop.MESSAGE;
        break;
      }
    }
    if (reported) port.transmitted(this.index);
    return stop;
  }

  #begin(command: number, options: number): void {
    this.#length = 0;
    this.#command = command;
    this.#options = options;
    this.#dropping = false;
  }

  /** The packet is cut into frames: TSE of an advanced descriptor. */
  #isCut(): boolean {
    return (this.#command & TxCommand.TSE) !== 0 && (this.#command & TxCommand.DEXT) !== 0;
  }

  /** Bytes that the packet may have; a frame that brings its own check sequence has four more. */
  #limit(): number {
    return this.#isCut() ? PACKET_MAX : FRAME_MAX + 4;
  }

  #room(length: number): void {
    const need = PACKET_AT + length;
    if (need <= this.#bytes.length) return;
    const bytes = new Uint8Array(Math.max(BUFFER, 2 ** Math.ceil(Math.log2(need))));
    if (this.#length > 0) bytes.set(this.#bytes.subarray(0, PACKET_AT + this.#length));
    this.#bytes = bytes;
  }

  /** The data of a descriptor join the packet. FAULT and REMOTE: nothing has changed. */
  #gather(low: number, high: number, length: number): Dma {
    if (this.#dropping || length === 0) return Dma.DONE;
    const at = PACKET_AT + this.#length;
    if (this.#length + length > this.#limit()) {
      this.#dropping = true;
      return Dma.DONE;
    }
    this.#room(this.#length + length);
    const { dma } = this.#host!;
    const bytes = this.#bytes;
    const place = this.#place;
    if (high < ADDRESS_HIGH_MAX && dma.locate(high * TWO32 + low, length, Access.READ, place)) {
      const from = place.bytes;
      const start = place.offset;
      this.#copy.copy(from, start, length, bytes, at);
      place.bytes = NO_BYTES;
    } else {
      const done = dma.tryRead(iovaOf(low, high), bytes.subarray(at, at + length));
      if (done !== Dma.DONE) return done;
    }
    this.#length += length;
    return Dma.DONE;
  }

  /**
   * The descriptor at the head is used.
   *
   * @param open    the port takes a frame now
   * @returns a write-back is to be reported
   */
  #gathered(command: number, options: number, open: boolean): boolean {
    if ((command & TxCommand.EOP) === 0) return this.#writeBack(command, options);
    this.#lastCommand = command;
    if (!this.#dropping && this.#prepare()) {
      this.#sending = true;
      // Most packets are one frame, which leaves now.
      if (!this.#segmented && open) {
        this.#send();
        return this.#complete();
      }
      return false;
    }
    this.#port.count(Stat.HTDPMC);
    return this.#complete();
  }

  /** The packet is complete. False: it is none that can be sent. */
  #prepare(): boolean {
    this.#segmented = this.#isCut();
    return this.#segmented ? this.#prepareSegments() : this.#prepareFrame();
  }

  get #context(): number {
    return (this.#options & (1 << TxStatus.IDX_SHIFT)) === 0 ? 0 : WORDS;
  }

  #prepareSegments(): boolean {
    const at = this.#context;
    const contexts = this.#contexts;
    this.#segments ??= new Segmentation();
    const fits = this.#segments.begin(
      this.#bytes,
      PACKET_AT,
      this.#length,
      contexts[at]!,
      contexts[at + 2]!,
      contexts[at + 3]!,
      this.#options,
    );
    if (!fits) this.#port.outOfSync();
    else this.#port.count(Stat.TSCTC);
    return fits;
  }

  #prepareFrame(): boolean {
    const bytes = this.#bytes;
    let end = PACKET_AT + this.#length;
    const command = this.#command;
    // The frame brings its own check sequence: a wrong one is a frame that no receiver takes.
    if ((command & TxCommand.IFCS) === 0) {
      end -= 4;
      if (end - PACKET_AT < FRAME_MIN) return false;
      const own = bytes[end]! | (bytes[end + 1]! << 8) | (bytes[end + 2]! << 16) | (bytes[end + 3]! << 24);
      if ((frameCheckSequence(bytes, PACKET_AT, end) | 0) !== own) return false;
    }
    if (end - PACKET_AT < FRAME_MIN || end - PACKET_AT > FRAME_MAX) return false;
    const options = this.#options;
    if ((command & TxCommand.DEXT) !== 0) {
      if ((options & (TxStatus.IXSM | TxStatus.TXSM)) !== 0) this.#insertChecksums(end, options);
    } else if ((command & TxLegacy.IC) !== 0) {
      const css = (options >>> TxLegacy.CSS_SHIFT) & 0xff;
      const cso = (command >>> TxLegacy.CSO_SHIFT) & 0xff;
      insertLegacyChecksum(bytes, PACKET_AT + css, PACKET_AT + cso, end);
    }
    if (end < PACKET_AT + PADDED && (this.#words[Reg.TCTL >>> 2]! & Tctl.PSP) !== 0) {
      bytes.fill(0, end, PACKET_AT + PADDED);
      end = PACKET_AT + PADDED;
    }
    this.#end = end;
    return true;
  }

  #insertChecksums(end: number, options: number): void {
    const lengths = this.#contexts[this.#context]!;
    const kind = this.#contexts[this.#context + 2]!;
    const ip = PACKET_AT + macLength(lengths);
    if ((options & TxStatus.IXSM) !== 0 && (kind & TxContext.IPV4) !== 0) insertIpChecksum(this.#bytes, ip, ipLength(lengths), end);
    if ((options & TxStatus.TXSM) !== 0) insertL4Checksum(this.#bytes, ip + ipLength(lengths), end, kind, 0);
  }

  /** The tag that the descriptors ask for; -1: none. */
  get #vlan(): number {
    if ((this.#command & TxCommand.VLE) === 0) return -1;
    return (this.#command & TxCommand.DEXT) === 0
      ? this.#options >>> TxLegacy.VLAN_SHIFT
      : this.#contexts[this.#context]! >>> TxContext.VLAN_SHIFT;
  }

  /** A frame leaves. @returns it was the packet's last */
  #send(): boolean {
    const port = this.#port;
    if ((this.#command & (TxCommand.DEXT | TxCommand.MAC_TSTAMP)) === (TxCommand.DEXT | TxCommand.MAC_TSTAMP)) port.stamp(this.index);
    if (!this.#segmented) {
      port.transmit(this.index, this.#bytes, PACKET_AT, this.#end - PACKET_AT, this.#vlan);
      return true;
    }
    const segments = this.#segments!;
    const words = this.#words;
    segments.next(words[Reg.DTXTCPFLGL >>> 2]!, words[Reg.DTXTCPFLGH >>> 2]!);
    this.used++;
    port.transmit(this.index, this.#bytes, segments.offset, segments.length, this.#vlan);
    return !segments.more;
  }

  /** The packet is done with. @returns a write-back is to be reported */
  #complete(): boolean {
    // A reset from within `transmit` has made an end of it already.
    if (this.#length < 0) return false;
    if (this.#events.on) this.#events.transmitted(this.index, this.#length, this.#segmented);
    this.#length = -1;
    this.#sending = false;
    return this.#writeBack(this.#lastCommand, this.#options);
  }

  /** The head goes on; with RS memory shows it (7.2.3.5). @returns it is to be reported now */
  #writeBack(command: number, options: number): boolean {
    const words = this.#words;
    const head = words[this.#tdh]!;
    const next = head + 1 >= this.ring.size ? 0 : head + 1;
    words[this.#tdh] = next;
    const ring = this.ring.words();
    if (ring === null) this.ring.next();
    else this.ring.drop();
    if ((command & TxCommand.RS) === 0) return false;
    const low = words[this.#tdwbal]!;
    if ((low & Tdwbal.HEAD_WB_EN) !== 0) {
      this.#headWord[0] = next;
      this.#headWord[1] = next >>> 8;
      return this.#write(iovaOf((low & Tdwbal.ADDRESS) >>> 0, words[this.#tdwbal + 1]!), this.#headWord);
    }
    const status = (command & TxCommand.DEXT) === 0 ? options | TxStatus.DD : TxStatus.DD;
    if (ring !== null) {
      ring[head * WORDS + 3] = status;
      return true;
    }
    return this.#write(behind(this.ring.at(head), 12), Uint8Array.of(status, status >>> 8, status >>> 16, status >>> 24));
  }

  /** Writes are posted: nothing comes back of one that faults. @returns whether it has landed */
  #write(iova: Iova, bytes: Uint8Array): boolean {
    const { dma } = this.#host!;
    if (dma.tryWrite(iova, bytes) !== Dma.REMOTE) return true;
    this.#unwritten.push({ iova, bytes: bytes.slice() });
    this.#post(this.#unwritten.at(-1)!);
    return false;
  }

  /** Write-backs land in order. */
  #post({ iova, bytes }: WriteBack): void {
    const life = this.#life;
    const { dma } = this.#host!;
    this.#lastWrite = this.#lastWrite
      .then(() => (this.#life === life ? dma.write(iova, bytes) : undefined))
      .catch(() => undefined)
      .then(() => {
        if (this.#life !== life) return;
        this.#unwritten.shift();
        this.#port.transmitted(this.index);
        if (this.#crowded) this.#resume();
      });
  }

  #fault(): Stop {
    this.#faulted = true;
    this.#host?.log.log('warn', `transmit queue ${this.index} stops: a descriptor or its data could not be read`);
    return Stop.FAULT;
  }

  #resume(): void {
    this.#waiting = false;
    this.#crowded = false;
    this.#port.resume(this.index);
  }

  /** The descriptor at the head was not read. */
  #wait(fetched: Dma, head: number, tail: number): Stop {
    if (fetched === Dma.FAULT) return this.#fault();
    this.#waiting = true;
    // With many write-backs under way the end of one goes on.
    if (this.#unwritten.length >= WRITES_MAX) this.#crowded = true;
    else void this.#fetchRemote(head, tail);
    return Stop.MESSAGE;
  }

  async #fetchRemote(head: number, tail: number): Promise<void> {
    const life = this.#life;
    try {
      const { size } = this.ring;
      const words = await this.ring.read(head, Math.min(AHEAD_MAX, tail > head ? tail - head : tail - head + size));
      if (this.#life !== life) return;
      this.ring.bring(head, words);
    } catch {
      if (this.#life !== life) return;
      this.#fault();
    }
    this.#resume();
  }

  async #gatherRemote(iova: Iova, command: number, options: number): Promise<void> {
    const life = this.#life;
    const bytes = new Uint8Array(command & TxCommand.LENGTH);
    this.#waiting = true;
    let landed = true;
    try {
      await this.#host!.dma.read(iova, bytes);
    } catch {
      landed = false;
    }
    if (this.#life !== life) return;
    if (!landed) this.#fault();
    else {
      this.#bytes.set(bytes, PACKET_AT + this.#length);
      this.#length += bytes.length;
      if (this.#gathered(command, options, false)) this.#port.transmitted(this.index);
    }
    if (this.#life === life) this.#resume();
  }
}
