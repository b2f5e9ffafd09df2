/**
 * Plain data as bytes and back: undefined, null, booleans, numbers, bigints, strings, byte and
 * number arrays, arrays, and objects without a class. For what a device remembers, on its way to
 * another process: bytes come from outside, so every length is checked against what is there.
 */
import { VfioError } from '../../base/errno.ts';

const Tag = { UNDEFINED: 0, NULL: 1, FALSE: 2, TRUE: 3, NUMBER: 4, BIGINT: 5, STRING: 6, NUMBERS: 7, ARRAY: 8, OBJECT: 9 } as const;

/** By number in the data. */
const arrays = [
  Uint8Array,
  Int8Array,
  Uint16Array,
  Int16Array,
  Uint32Array,
  Int32Array,
  Float32Array,
  Float64Array,
  BigUint64Array,
  BigInt64Array,
] as const;
type NumberArray = InstanceType<(typeof arrays)[number]>;

const DEPTH_MAX = 32;
const DATA_MAX = 2 ** 28;
/** Arrays of numbers count once. Data of a byte or two here takes a hundred as a value. */
const VALUES_MAX = 2 ** 20;

/** @throws Error for what is no plain data, naming where it stands */
export function encodePlain(value: unknown): Uint8Array<ArrayBuffer> {
  const writer = new Writer();
  put(writer, value, '', 0);
  return writer.bytes.slice(0, writer.length);
}

/** @throws VfioError EINVAL for what `encodePlain` has not made */
export function decodePlain(bytes: Uint8Array): unknown {
  const reader = new Reader(bytes);
  const value = get(reader, 0);
  if (reader.left !== 0) throw wrong(`${reader.left} bytes too many`);
  return value;
}

class Writer {
  bytes = new Uint8Array(256);
  length = 0;
  values = 0;

  /** Where `size` more bytes go. */
  room(size: number): number {
    const at = this.length;
    this.length += size;
    if (this.length > DATA_MAX) throw new Error(`more than ${DATA_MAX} bytes of data`);
    if (this.length > this.bytes.length) {
      const bytes = new Uint8Array(Math.max(this.length, 2 * this.bytes.length));
      bytes.set(this.bytes);
      this.bytes = bytes;
    }
    return at;
  }

  byte(value: number): void {
    // First the room: it may be in other bytes then.
    const at = this.room(1);
    this.bytes[at] = value;
  }

  count(value: number): void {
    const at = this.room(4);
    new DataView(this.bytes.buffer).setUint32(at, value, true);
  }

  all(bytes: Uint8Array): void {
    const at = this.room(bytes.length);
    this.bytes.set(bytes, at);
  }

  text(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.count(bytes.length);
    this.all(bytes);
  }
}

function put(writer: Writer, value: unknown, path: string, depth: number): void {
  if (depth > DEPTH_MAX) throw new Error(`${path}: more than ${DEPTH_MAX} levels deep`);
  if (++writer.values > VALUES_MAX) throw new Error(`more than ${VALUES_MAX} values; an array of numbers is one when it is typed`);
  if (value === undefined) writer.byte(Tag.UNDEFINED);
  else if (value === null) writer.byte(Tag.NULL);
  else if (typeof value === 'boolean') writer.byte(value ? Tag.TRUE : Tag.FALSE);
  else if (typeof value === 'number') {
    writer.byte(Tag.NUMBER);
    const at = writer.room(8);
    new DataView(writer.bytes.buffer).setFloat64(at, value, true);
  } else if (typeof value === 'bigint') {
    writer.byte(Tag.BIGINT);
    writer.text(value.toString(16));
  } else if (typeof value === 'string') {
    writer.byte(Tag.STRING);
    writer.text(value);
  } else if (ArrayBuffer.isView(value) && !(value instanceof DataView)) putNumbers(writer, value as NumberArray, path);
  else if (Array.isArray(value)) {
    writer.byte(Tag.ARRAY);
    writer.count(value.length);
    value.forEach((each, i) => void put(writer, each, `${path}[${i}]`, depth + 1));
  } else if (isPlainObject(value)) {
    const entries = Object.entries(value);
    writer.byte(Tag.OBJECT);
    writer.count(entries.length);
    for (const [key, each] of entries) {
      writer.text(key);
      put(writer, each, path === '' ? key : `${path}.${key}`, depth + 1);
    }
  } else {
    const kind = typeof value === 'object' ? `a ${value.constructor?.name ?? 'object'}` : `a ${typeof value}`;
    throw new Error(`${path === '' ? 'it' : path} is ${kind}, which is no plain data`);
  }
}

function putNumbers(writer: Writer, value: NumberArray, path: string): void {
  const kind = arrays.findIndex((each) => value instanceof each);
  if (kind < 0) throw new Error(`${path} is a ${value.constructor.name}, which is no plain data`);
  writer.byte(Tag.NUMBERS);
  writer.byte(kind);
  writer.count(value.byteLength);
  writer.all(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

class Reader {
  values = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  /** A copy of the next `size` bytes. */
  take(size: number): Uint8Array<ArrayBuffer> {
    if (size > this.left) throw wrong(`${size} bytes where ${this.left} are left`);
    const at = this.#at;
    this.#at += size;
    return this.#bytes.slice(at, at + size);
  }

  byte(): number {
    return this.take(1)[0]!;
  }

  count(): number {
    if (this.left < 4) throw wrong('it is cut short');
    this.#at += 4;
    return this.#view.getUint32(this.#at - 4, true);
  }

  number(): number {
    if (this.left < 8) throw wrong('it is cut short');
    this.#at += 8;
    return this.#view.getFloat64(this.#at - 8, true);
  }

  text(): string {
    return new TextDecoder().decode(this.take(this.count()));
  }
}

function get(reader: Reader, depth: number): unknown {
  if (depth > DEPTH_MAX) throw wrong(`more than ${DEPTH_MAX} levels deep`);
  if (++reader.values > VALUES_MAX) throw wrong(`more than ${VALUES_MAX} values`);
  const tag = reader.byte();
  switch (tag) {
    case Tag.UNDEFINED:
      return undefined;
    case Tag.NULL:
      return null;
    case Tag.FALSE:
      return false;
    case Tag.TRUE:
      return true;
    case Tag.NUMBER:
      return reader.number();
    case Tag.BIGINT:
      return bigint(reader.text());
    case Tag.STRING:
      return reader.text();
    case Tag.NUMBERS:
      return numbers(reader);
    case Tag.ARRAY: {
      const count = reader.count();
      const values: unknown[] = [];
      for (let i = 0; i < count; i++) values.push(get(reader, depth + 1));
      return values;
    }
    case Tag.OBJECT:
      return object(reader, depth);
    default:
      throw wrong(`a value of kind ${tag}`);
  }
}

function bigint(text: string): bigint {
  if (!/^-?[0-9a-f]{1,4096}$/.test(text)) throw wrong('a number that is none');
  return text.startsWith('-') ? -BigInt(`0x${text.slice(1)}`) : BigInt(`0x${text}`);
}

function numbers(reader: Reader): NumberArray {
  const kind = arrays[reader.byte()];
  if (kind === undefined) throw wrong('an array of a kind that is none');
  const bytes = reader.take(reader.count());
  if (bytes.length % kind.BYTES_PER_ELEMENT !== 0) throw wrong(`${bytes.length} bytes of ${kind.name}`);
  return new kind(bytes.buffer);
}

function object(reader: Reader, depth: number): Record<string, unknown> {
  const count = reader.count();
  const value: Record<string, unknown> = {};
  for (let i = 0; i < count; i++) {
    const key = reader.text();
    if (key === '__proto__' || Object.hasOwn(value, key)) throw wrong('a name that cannot be');
    value[key] = get(reader, depth + 1);
  }
  return value;
}

function wrong(what: string): VfioError {
  return new VfioError('EINVAL', `the state cannot be read: ${what}`);
}
