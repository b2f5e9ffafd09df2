/**
 * A writer of protocol buffers: fields of one message after the other, into memory that is used
 * again. Nested messages have their length in front, which is known at their end only: room for a
 * length of one byte is left, and the message moves when it is longer.
 *
 * @see https://protobuf.dev/programming-guides/encoding/
 */

/** Wire types. */
const Wire = { VARINT: 0, FIXED64: 1, BYTES: 2 } as const;

const WORD = 2 ** 32;
const utf8 = new TextEncoder();

export class ProtobufWriter {
  #bytes: Uint8Array = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  /** A copy of what was written; the writer begins anew. */
  take(): Uint8Array {
    const taken = this.#bytes.slice(0, this.#length);
    this.#length = 0;
    return taken;
  }

  /** A field of an integer type. @param value  from 0, whole: below 2^53, or of 64 bits */
  uint(field: number, value: number | bigint): void {
    this.#room(20);
    this.#tag(field, Wire.VARINT);
    if (typeof value === 'bigint') this.#varint64(value);
    else this.#varint(value);
  }

  /** int64: a negative number takes ten bytes. @param value  whole, a safe integer */
  int(field: number, value: number): void {
    this.uint(field, value < 0 ? BigInt.asUintN(64, BigInt(value)) : value);
  }

  bool(field: number, value: boolean): void {
    this.uint(field, value ? 1 : 0);
  }

  /** fixed64. @param value  from 0, whole, below 2^53 */
  fixed64(field: number, value: number): void {
    this.#room(20);
    this.#tag(field, Wire.FIXED64);
    this.#view.setUint32(this.#length, value >>> 0, true);
    this.#view.setUint32(this.#length + 4, Math.floor(value / WORD), true);
    this.#length += 8;
  }

  double(field: number, value: number): void {
    this.#room(20);
    this.#tag(field, Wire.FIXED64);
    this.#view.setFloat64(this.#length, value, true);
    this.#length += 8;
  }

  string(field: number, value: string): void {
    this.#room(20 + 3 * value.length);
    const begun = this.begin(field);
    this.#length += utf8.encodeInto(value, this.#bytes.subarray(this.#length)).written;
    this.end(begun);
  }

  /** Begin a nested message. @returns for `end` */
  begin(field: number): number {
    this.#room(20);
    this.#tag(field, Wire.BYTES);
    return this.#length++;
  }

  /** End the nested message that was begun last. */
  end(begun: number): void {
    const length = this.#length - begun - 1;
    if (length < 0x80) {
      this.#bytes[begun] = length;
      return;
    }
    const extra = length < 0x4000 ? 1 : length < 0x20_0000 ? 2 : length < 0x1000_0000 ? 3 : 4;
    this.#room(extra);
    this.#bytes.copyWithin(begun + 1 + extra, begun + 1, this.#length);
    this.#length = begun;
    this.#varint(length);
    this.#length += length;
  }

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(2 * this.#bytes.length, this.#length + bytes));
    larger.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }

  #tag(field: number, wire: number): void {
    this.#varint(field * 8 + wire);
  }

  /** At most eight bytes. */
  #varint(value: number): void {
    while (value >= 0x80) {
      this.#bytes[this.#length++] = (value % 0x80) + 0x80;
      value = Math.floor(value / 0x80);
    }
    this.#bytes[this.#length++] = value;
  }

  /** At most ten bytes. */
  #varint64(value: bigint): void {
    while (value >= 0x80n) {
      this.#bytes[this.#length++] = Number(value & 0x7fn) + 0x80;
      value >>= 7n;
    }
    this.#bytes[this.#length++] = Number(value);
  }
}
