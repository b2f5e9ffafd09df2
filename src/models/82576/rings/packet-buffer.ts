/**
 * The receive packet buffer (8.3.1): frames that wait for descriptors, or for memory that is
 * reached by messages. The bytes are shared by all queues, and each queue has its own order.
 *
 * While the card is virtualized a queue takes no more than what it leaves free: a function that
 * gives no descriptors cannot take the buffer from the others. Hardware needs Drop_En for that.
 */
import { QUEUES, type ReceivedFrame } from '../parts.ts';

/** Bytes of one piece of the buffer. */
const CHUNK = 128;
const CHUNKS = (64 * 1024) / CHUNK;
const NONE = -1;

/** A frame that is not yet one. */
export function emptyFrame(bytes: Uint8Array): ReceivedFrame {
  return {
    bytes,
    offset: 0,
    length: 0,
    looped: false,
    vlan: -1,
    vlanOffset: 0,
    packetType: 0,
    rssType: 0,
    rssHash: 0,
    status: 0,
    errors: 0,
    headerLength: 0,
  };
}

export class PacketBuffer {
  /** Bytes that frames take. */
  used = 0;
  readonly #bytes = new Uint8Array(CHUNKS * CHUNK);
  /** The next piece of a frame, or of the free ones. */
  readonly #next = new Int16Array(CHUNKS);
  /** By the first piece of a frame: the first piece of the queue's next frame, and its facts. */
  readonly #nextFrame = new Int16Array(CHUNKS);
  readonly #frames: ReceivedFrame[];
  #free = 0;
  readonly #first = new Int16Array(QUEUES).fill(NONE);
  readonly #last = new Int16Array(QUEUES).fill(NONE);
  readonly #usedBy = new Uint32Array(QUEUES);

  constructor() {
    this.#frames = Array.from({ length: CHUNKS }, () => emptyFrame(this.#bytes));
    for (let i = 0; i < CHUNKS; i++) this.#next[i] = i + 1 === CHUNKS ? NONE : i + 1;
  }

  /** Whether a frame of `queue` waits. */
  has(queue: number): boolean {
    return this.#first[queue] !== NONE;
  }

  /**
   * `frame` waits for `queue`. False: there is no room for it.
   *
   * @param capacity bytes of the buffer (RXPBS)
   * @param fair     a queue takes no more than it leaves
   */
  put(queue: number, frame: ReceivedFrame, capacity: number, fair: boolean): boolean {
    const { length } = frame;
    const pieces = Math.max(1, Math.ceil(length / CHUNK));
    const taken = pieces * CHUNK;
    const left = Math.min(capacity, CHUNKS * CHUNK) - this.used - taken;
    if (left < 0 || (fair && this.#usedBy[queue]! + taken > left)) return false;
    const first = this.#free;
    let piece = first;
    for (let i = 0, at = 0; i < pieces; i++, at += CHUNK) {
      if (i > 0) piece = this.#next[piece]!;
      const from = frame.offset + at;
      this.#bytes.set(frame.bytes.subarray(from, Math.min(from + CHUNK, frame.offset + length)), piece * CHUNK);
    }
    this.#free = this.#next[piece]!;
    this.#next[piece] = NONE;
    copyFacts(frame, this.#frames[first]!);
    this.#nextFrame[first] = NONE;
    const last = this.#last[queue]!;
    if (last === NONE) this.#first[queue] = first;
    else this.#nextFrame[last] = first;
    this.#last[queue] = first;
    this.used += taken;
    this.#usedBy[queue]! += taken;
    return true;
  }

  /** Copies the first frame of `queue` into `frame`, whose bytes are large enough. */
  peek(queue: number, frame: ReceivedFrame): void {
    this.#copy(this.#first[queue]!, frame);
  }

  /** The first frame of `queue` is gone. */
  pop(queue: number): void {
    const first = this.#first[queue]!;
    const next = this.#nextFrame[first]!;
    this.#first[queue] = next;
    if (next === NONE) this.#last[queue] = NONE;
    let last = first;
    let taken = CHUNK;
    for (; this.#next[last] !== NONE; taken += CHUNK) last = this.#next[last]!;
    this.#next[last] = this.#free;
    this.#free = first;
    this.used -= taken;
    this.#usedBy[queue]! -= taken;
  }

  /** Frames of `queue` are lost. */
  clear(queue: number): void {
    while (this.has(queue)) this.pop(queue);
  }

  /** Up to `max` frames of `queue`, in order, which stay. */
  list(queue: number, max = Number.POSITIVE_INFINITY): ReceivedFrame[] {
    const frames: ReceivedFrame[] = [];
    for (let at = this.#first[queue]!; at !== NONE && frames.length < max; at = this.#nextFrame[at]!) {
      const frame = emptyFrame(new Uint8Array(this.#frames[at]!.length));
      this.#copy(at, frame);
      frames.push(frame);
    }
    return frames;
  }

  #copy(first: number, frame: ReceivedFrame): void {
    const facts = this.#frames[first]!;
    frame.offset = 0;
    copyFacts(facts, frame);
    let piece = first;
    for (let at = 0; at < facts.length; at += CHUNK) {
      const from = piece * CHUNK;
      frame.bytes.set(this.#bytes.subarray(from, from + Math.min(CHUNK, facts.length - at)), at);
      piece = this.#next[piece]!;
    }
  }
}

function copyFacts(from: ReceivedFrame, into: ReceivedFrame): void {
  into.length = from.length;
  into.looped = from.looped;
  into.vlan = from.vlan;
  into.vlanOffset = from.vlanOffset;
  into.packetType = from.packetType;
  into.rssType = from.rssType;
  into.rssHash = from.rssHash;
  into.status = from.status;
  into.errors = from.errors;
  into.headerLength = from.headerLength;
}
