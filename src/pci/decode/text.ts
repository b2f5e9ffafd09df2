/**
 * Registers as text and as fields, from one declaration: a line is written as it is printed, with
 * its bit fields in braces.
 *
 *     line('DevSta', value, 'DevSta:\tCorrErr{0} AuxPwr{4} Payload {7:5 size}, {key=31:24 hex2}')
 *
 * `{bit}` prints + or - and is a boolean; `{msb:lsb}` prints a decimal number; `{msb:lsb NAME}`
 * what the renderer NAME says, which is a number for the numeric renderers and its text for the
 * others. The field's key is the word before the brace, or `key=`.
 */
import { viewOf } from '../../base/data-view.ts';

export type FieldValue = boolean | number | string | readonly (number | string)[];
export type Fields = Record<string, FieldValue>;
/** Registers by name. */
export type FieldGroups = Record<string, Fields>;

/** Texts by value; what is not in a list is its second form. */
export interface Choice {
  readonly texts: readonly (string | null)[];
  readonly otherwise: (value: number) => string;
}

export function choice(texts: readonly (string | null)[], otherwise: string | ((value: number) => string) = 'Unknown'): Choice {
  return { texts, otherwise: typeof otherwise === 'string' ? () => otherwise : otherwise };
}

/** Renderers of numbers. */
const numeric: Record<string, (value: number) => string> = {
  dec: (value) => String(value),
  hex1: (value) => value.toString(16),
  hex2: (value) => hexDigits(value, 2),
  hex3: (value) => hexDigits(value, 3),
  hex4: (value) => hexDigits(value, 4),
  hex6: (value) => hexDigits(value, 6),
  hex8: (value) => hexDigits(value, 8),
};

export function hexDigits(value: number | bigint, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}

/** The text of a value that the specification does not define. */
export function undefinedValue(value: number): string {
  return `??${value}`;
}

/** Bits `msb` to `lsb` of a 32-bit value. */
export function extract(value: number, msb: number, lsb: number): number {
  return Math.floor(value / 2 ** lsb) % 2 ** (msb - lsb + 1);
}

interface Part {
  readonly before: string;
  readonly key: string;
  readonly msb: number;
  readonly lsb: number;
  readonly renderer: string | null;
}
interface Template {
  readonly parts: readonly Part[];
  readonly tail: string;
}

const cache = new Map<string, Template>();

function parse(text: string): Template {
  const known = cache.get(text);
  if (known !== undefined) return known;
  const parts: Part[] = [];
  let from = 0;
  for (const match of text.matchAll(/\{(?:([\w.+-]+)=)?(\d+)(?::(\d+))?(?: (\w+))?\}/g)) {
    const before = text.slice(from, match.index);
    from = match.index + match[0].length;
    const key = match[1] ?? /([\w/.+-]*\w)[^\w]*$/.exec(before)?.[1];
    if (key === undefined) throw new Error(`no name for ${match[0]} in "${text}"`);
    const msb = Number(match[2]);
    parts.push({
      before,
      key,
      msb,
      lsb: match[3] === undefined ? msb : Number(match[3]),
      renderer: match[4] ?? (match[3] === undefined ? null : 'dec'),
    });
  }
  const template = { parts, tail: text.slice(from) };
  cache.set(text, template);
  return template;
}

/**
 * Registers of one capability, relative to its start. Reads outside of the bytes there are give 0;
 * look with `has` first.
 */
export class CapabilityReader {
  readonly #view: DataView;
  readonly offset: number;

  constructor(bytes: Uint8Array, offset: number) {
    this.#view = viewOf(bytes);
    this.offset = offset;
  }

  has(at: number, size: number): boolean {
    return this.offset + at + size <= this.#view.byteLength;
  }

  u8(at: number): number {
    return this.has(at, 1) ? this.#view.getUint8(this.offset + at) : 0;
  }

  u16(at: number): number {
    return this.has(at, 2) ? this.#view.getUint16(this.offset + at, true) : 0;
  }

  u32(at: number): number {
    return this.has(at, 4) ? this.#view.getUint32(this.offset + at, true) : 0;
  }

  u64(at: number): bigint {
    return BigInt(this.u32(at)) | (BigInt(this.u32(at + 4)) << 32n);
  }
}

export type Choices = Readonly<Record<string, Choice>>;

/** Collects the lines and the fields of one capability. */
export class Decoding {
  readonly lines: string[] = [];
  readonly fields: FieldGroups = {};
  readonly #choices: Choices;

  constructor(choices: Choices) {
    this.#choices = choices;
  }

  /** A line, and its fields into the group `name`. */
  line(name: string, value: number, template: string): this {
    this.lines.push(this.text(name, value, template));
    return this;
  }

  /** The same without a line of its own. */
  text(name: string, value: number, template: string): string {
    const { parts, tail } = parse(template);
    this.fields[name] ??= {};
    const group = this.fields[name];
    let out = '';
    for (const { before, key, msb, lsb, renderer } of parts) {
      const bits = extract(value, msb, lsb);
      if (renderer === null) {
        group[key] = bits === 1;
        out += before + (bits === 1 ? '+' : '-');
        continue;
      }
      const print = numeric[renderer];
      const shown = print?.(bits) ?? this.#choose(renderer, bits);
      group[key] = print === undefined ? shown : bits;
      out += before + shown;
    }
    return out + tail;
  }

  /** Field without text. */
  set(name: string, key: string, value: FieldValue): this {
    this.fields[name] ??= {};
    this.fields[name][key] = value;
    return this;
  }

  #choose(name: string, value: number): string {
    const found = this.#choices[name];
    if (found === undefined) throw new Error(`no renderer "${name}"`);
    return found.texts[value] ?? found.otherwise(value);
  }
}

/**
 * Bytes with the largest unit that leaves it whole: 4K, 72K, 1M, 4098M, 1G. Sizes below 1 KiB have
 * none.
 */
export function sizeText(size: bigint): string {
  const units = ['', 'K', 'M', 'G', 'T'];
  let unit = 0;
  let value = size;
  while (unit < units.length - 1 && value >= 1024n && value % 1024n === 0n) {
    value /= 1024n;
    unit++;
  }
  return `${value}${units[unit]}`;
}
