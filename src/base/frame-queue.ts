/**
 * A first-in, first-out queue of frames in one ring of bytes, bounded. A frame lies in one piece.
 * The ring starts small and doubles up to its limit; then nothing is allocated any more.
 */
const FIRST_BYTES = 0x1_0000;
const FIRST_FRAMES = 64;
/** Bytes that the shortest frame takes: the limit of bytes is one of frames, too. */
const SLOT_BYTES = 64;

export class FrameQueue {
  readonly #maxBytes: number;
  #bytes = new Uint8Array(0);
  /** By place: where a frame lies, its length, its tag, its time. A power of two of them. */
  #starts = new Int32Array(0);
  #lengths = new Int32Array(0);
  #tags = new Int32Array(0);
  #times = new Float64Array(0);
  #first = 0;
  #count = 0;
  /** Where the next frame goes in `#bytes`, unless it does not fit before the end. */
  #end = 0;
  #held = 0;

  /** @param maxBytes of all frames together, where a short frame counts as 64 bytes */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Frames in the queue. */
  get count(): number {
    return this.#count;
  }

  /** Bytes of the frames in the queue. */
  get held(): number {
    return this.#held;
  }

  /**
   * Copies a frame to the end of the queue. @returns false when there is no room
   * @param tag a number that `frontTag` answers @param time a number that `frontTime` answers
   */
  push(bytes: Uint8Array, offset: number, length: number, tag = 0, time = 0): boolean {
    const slot = Math.max(length, SLOT_BYTES);
    let at = this.#roomFor(slot);
    while (at < 0) {
      if (this.#bytes.length >= this.#maxBytes) return false;
      this.#growBytes();
      at = this.#roomFor(slot);
    }
    if (this.#count === this.#starts.length) this.#growPlaces();
    // A loop is faster than `set` of a `subarray`, which makes an object, up to some 100 bytes.
    if (length <= 96) for (let i = 0; i < length; i++) this.#bytes[at + i] = bytes[offset + i]!;
    else this.#bytes.set(bytes.subarray(offset, offset + length), at);
    const place = (this.#first + this.#count) & (this.#starts.length - 1);
    this.#starts[place] = at;
    this.#lengths[place] = length;
    this.#tags[place] = tag;
    this.#times[place] = time;
    this.#count++;
    this.#held += length;
    this.#end = at + slot;
    return true;
  }

  /** The memory of the queue: the first frame is at `frontOffset`. A push may replace it. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  get frontOffset(): number {
    return this.#starts[this.#first]!;
  }

  get frontLength(): number {
    return this.#lengths[this.#first]!;
  }

  get frontTag(): number {
    return this.#tags[this.#first]!;
  }

  get frontTime(): number {
    return this.#times[this.#first]!;
  }

  /** Removes the first frame. Its bytes stay until the next push. */
  shift(): void {
    if (this.#count === 0) return;
    this.#held -= this.#lengths[this.#first]!;
    this.#first = (this.#first + 1) & (this.#starts.length - 1);
    this.#count--;
    if (this.#count === 0) this.#end = 0;
  }

  /** Removes all. @returns how many there were */
  clear(): number {
    const count = this.#count;
    this.#count = 0;
    this.#held = 0;
    this.#end = 0;
    return count;
  }

  /** Where `length` bytes in one piece are free; -1: nowhere. */
  #roomFor(length: number): number {
    const size = this.#bytes.length;
    if (this.#count === 0) return length <= size ? 0 : -1;
    const head = this.#starts[this.#first]!;
    if (this.#end > head) {
      if (length <= size - this.#end) return this.#end;
      return length <= head ? 0 : -1;
    }
    return length <= head - this.#end ? this.#end : -1;
  }

  /** All frames move to the start of a ring of twice the size. */
  #growBytes(): void {
    const bytes = new Uint8Array(Math.min(this.#maxBytes, Math.max(FIRST_BYTES, this.#bytes.length * 2)));
    let at = 0;
    for (let i = 0; i < this.#count; i++) {
      const place = (this.#first + i) & (this.#starts.length - 1);
      const start = this.#starts[place]!;
      const length = this.#lengths[place]!;
      bytes.set(this.#bytes.subarray(start, start + length), at);
      this.#starts[place] = at;
      at += Math.max(length, SLOT_BYTES);
    }
    this.#bytes = bytes;
    this.#end = at;
  }

  #growPlaces(): void {
    const [starts, lengths, tags, times] = [this.#starts, this.#lengths, this.#tags, this.#times];
    const old = starts.length;
    const places = Math.max(FIRST_FRAMES, old * 2);
    this.#starts = new Int32Array(places);
    this.#lengths = new Int32Array(places);
    this.#tags = new Int32Array(places);
    this.#times = new Float64Array(places);
    for (let i = 0; i < this.#count; i++) {
      const from = (this.#first + i) & (old - 1);
      this.#starts[i] = starts[from]!;
      this.#lengths[i] = lengths[from]!;
      this.#tags[i] = tags[from]!;
      this.#times[i] = times[from]!;
    }
    this.#first = 0;
  }
}
