/**
 * The reader of JSON lines. It reads a file chunk by chunk and keeps at most one line. Each line is
 * checked by the table of kinds. A line that breaks off at the end of the file, as a killed program
 * leaves it, is no error: see `cut`. Kinds and fields of a later version are left out and counted.
 */
import type { VfioEvent } from '../../abi/event.ts';
import { VfioError } from '../../base/errno.ts';
import { EVENTS_VERSION, type FieldType, fieldsOf, headFields, kindNames, type ValueType } from '../kinds.ts';
import { BIGINT_DIGITS, HEADER_FIELD, QUOTED } from './json-lines.ts';
import type { StreamAbout } from './printer.ts';

/** The printer's bounds make no longer line. */
const LINE_CHARS = 16 * 2 ** 20;
const LF = 10;

/** A value that is not of its type. */
const WRONG = Symbol('wrong');

const HEX = /^0x[0-9a-f]{1,16}$/;
const HEX_BYTES = /^(?:[0-9a-f]{2})*$/;

const text = (value: unknown) => (typeof value === 'string' ? value : WRONG);
const number = (value: unknown) => (Number.isFinite(value) ? value : WRONG);
const bigint = (value: unknown) => (typeof value === 'string' && HEX.test(value) ? BigInt(value) : WRONG);
const flag = (value: unknown) => (typeof value === 'boolean' ? value : WRONG);

function hex(value: unknown) {
  if (typeof value !== 'string' || !HEX.test(value)) return WRONG;
  if (value.length === 2 + BIGINT_DIGITS) return BigInt(value);
  const result = Number(value);
  return Number.isSafeInteger(result) ? result : WRONG;
}

function bytes(value: unknown) {
  return typeof value === 'string' && HEX_BYTES.test(value) ? new Uint8Array(Buffer.from(value, 'hex')) : WRONG;
}

function recordValue(value: unknown) {
  if (typeof value !== 'string') return typeof value === 'number' ? number(value) : flag(value);
  if (value.startsWith("'")) return QUOTED.test(value.slice(1)) ? value.slice(1) : WRONG;
  return value.startsWith('0x') ? bigint(value) : value;
}

function record(value: unknown) {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return WRONG;
  const fields = Object.entries(value).map(([name, each]) => [name, recordValue(each)] as const);
  return fields.some(([, each]) => each === WRONG) ? WRONG : Object.fromEntries(fields);
}

const readers: { readonly [T in ValueType]: { readonly as: string; readonly read: (value: unknown) => unknown } } = {
  text: { as: 'a text', read: text },
  number: { as: 'a number', read: number },
  hex: { as: 'a text such as "0x1000"', read: hex },
  bigint: { as: 'a text such as "0x0000000000001000"', read: bigint },
  flag: { as: 'true or false', read: flag },
  bytes: { as: 'a text of hexadecimal digits, two for each byte', read: bytes },
  record: { as: 'an object of plain values', read: record },
};

interface Field {
  readonly name: string;
  readonly type: FieldType;
  readonly as: string;
  readonly read: (value: unknown) => unknown;
}

function fieldOf([name, type]: readonly [string, FieldType]): Field {
  return { name, type, ...readers[type.replace(/\?$| or null$/, '') as ValueType] };
}

const head = Object.entries(headFields).map(fieldOf);
const fieldsByKind = new Map<unknown, readonly Field[]>(kindNames.map((kind) => [kind, [...head, ...fieldsOf(kind).map(fieldOf)]]));

export class JsonLinesReader {
  /** Known after the first line; null before it. */
  about: StreamAbout | null = null;
  /** The last line was broken off, and left out. Known after `end`. */
  cut = false;
  /** Events whose kind, and fields whose name, this version does not know. They are left out. */
  readonly skipped = { events: 0, fields: 0 };
  readonly #decoder = new TextDecoder();
  #line = 0;
  /** The beginning of a line whose end has not come yet. */
  #parts: string[] = [];
  #length = 0;

  /**
   * The events of the lines that end in `chunk`.
   *
   * @throws VfioError EINVAL for a file of another kind or version, and for a line that is no
   *   event: the error names line and field
   */
  *read(chunk: Uint8Array): Generator<VfioEvent, void, void> {
    let from = 0;
    for (let end = chunk.indexOf(LF); end >= 0; end = chunk.indexOf(LF, from)) {
      this.#add(this.#decoder.decode(chunk.subarray(from, end), { stream: true }));
      from = end + 1;
      const event = this.#event(this.#whole());
      if (event !== null) yield event;
    }
    this.#add(this.#decoder.decode(chunk.subarray(from), { stream: true }));
  }

  /** The file is over. @throws VfioError as `read` */
  *end(): Generator<VfioEvent, void, void> {
    const line = this.#whole();
    if (line === '') return;
    this.cut = !line.endsWith('}');
    // A foreign file without a line break is an error.
    if (this.cut && (this.about !== null || `{"${HEADER_FIELD}":`.startsWith(line.slice(0, HEADER_FIELD.length + 4)))) return;
    const event = this.#event(line);
    if (event !== null) yield event;
  }

  #add(part: string): void {
    if (part === '') return;
    this.#parts.push(part);
    this.#length += part.length;
    if (this.#length <= LINE_CHARS) return;
    this.#line++;
    throw this.#error(`it has more than ${LINE_CHARS} characters`);
  }

  #whole(): string {
    const line = this.#parts.join('') + this.#decoder.decode();
    this.#parts = [];
    this.#length = 0;
    return line;
  }

  /** @returns null for a line that is the header or of an unknown kind */
  #event(line: string): VfioEvent | null {
    this.#line++;
    let values: Readonly<Record<string, unknown>>;
    try {
      values = JSON.parse(line);
    } catch {
      throw this.about === null ? this.#foreign() : this.#error('it is no JSON');
    }
    if (this.about === null) {
      this.about = this.#aboutOf(values);
      return null;
    }
    if (typeof values !== 'object' || values === null) throw this.#error('it is no object');
    const fields = fieldsByKind.get(values.kind);
    if (fields === undefined) {
      if (typeof values.kind !== 'string') throw this.#error(`'kind' is ${shown(values.kind)}, where a text is expected`);
      this.skipped.events++;
      return null;
    }
    return this.#eventOf(values, fields);
  }

  #eventOf(values: Readonly<Record<string, unknown>>, fields: readonly Field[]): VfioEvent {
    const event: Record<string, unknown> = { kind: values.kind };
    let known = 1;
    for (const { name, type, as, read } of fields) {
      const value = Object.hasOwn(values, name) ? values[name] : undefined;
      if (value === undefined && type.endsWith('?')) continue;
      const result = value === null && type === 'text or null' ? null : read(value);
      if (result === WRONG) throw this.#error(`'${name}' is ${shown(value)}, where ${as} is expected`);
      event[name] = result;
      known++;
    }
    this.skipped.fields += Math.max(0, Object.keys(values).length - known);
    return event as unknown as VfioEvent;
  }

  #aboutOf(values: Readonly<Record<string, unknown>> | null): StreamAbout {
    const version = values?.[HEADER_FIELD];
    if (typeof version !== 'number') throw this.#foreign();
    if (version !== EVENTS_VERSION) {
      throw new VfioError('EINVAL', `the events are of version ${version}; this program reads version ${EVENTS_VERSION}`, {
        fix: 'Read the file with the version of vfio-ts that wrote it.',
      });
    }
    const { program, epochNs } = values!;
    if (typeof program !== 'string') throw this.#error(`'program' is ${shown(program)}, where a text is expected`);
    if (typeof epochNs !== 'string' || !/^\d{1,20}$/.test(epochNs)) {
      throw this.#error(`'epochNs' is ${shown(epochNs)}, where a text of decimal digits is expected`);
    }
    return { program, epochNs: BigInt(epochNs) };
  }

  #foreign(): VfioError {
    return new VfioError('EINVAL', `its first line is not the header of a file of events: {"${HEADER_FIELD}":${EVENTS_VERSION},…}`, {
      fix: 'Give a file that was recorded as JSON lines (.jsonl).',
    });
  }

  #error(problem: string): VfioError {
    return new VfioError('EINVAL', `line ${this.#line} is no event: ${problem}`);
  }
}

function shown(value: unknown): string {
  if (value === undefined) return 'missing';
  // Its depth has no bound.
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'a list' : 'an object';
  const json = typeof value === 'number' ? String(value) : JSON.stringify(value);
  return json.length <= 40 ? json : `${json.slice(0, 40)}…`;
}
