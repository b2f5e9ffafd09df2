/**
 * JSON lines: a line that says whose events these are, then one object a line. Its fields are those
 * of the table of kinds, in its order. JsonLinesReader gives back the events that were written.
 *
 * - Addresses and values are text, `"0x1000"`: a program whose numbers are doubles reads them
 *   exactly. A bigint has all its 16 digits, and a number has no leading zeroes.
 * - Bytes are hexadecimal digits.
 * - In a record a bigint is such a text. A text that looks like one begins with `'`, which is not
 *   part of it.
 */
import type { EventKind, VfioEvent } from '../../abi/event.ts';
import { printableJson } from '../../base/printable.ts';
import { EVENTS_VERSION, type FieldType, fieldsOf, headFields, kindNames, type ValueType } from '../kinds.ts';
import { boundedBytes, boundedFields, boundedText } from './bounds.ts';
import { formatFiles } from './format-files.ts';
import type { EventFormat, EventPrinter, StreamAbout } from './printer.ts';

/** The field of the first line that says what the file is; its value is the version. */
export const HEADER_FIELD = 'vfio-events';
/** Digits of a bigint. A number has fewer: it is less than 2^53. */
export const BIGINT_DIGITS = 16;
/** Texts of a record that get a `'` in front. */
export const QUOTED = /^(?:'|0x)/;

const U64 = 2n ** 64n;
/** Most texts are of these characters alone. */
const PLAIN = /^[ !#-[\]-~]*$/;

/** The value does not have the type of its field. A guard around the printer says so. */
const wrong = (): never => {
  throw new TypeError('its value has another type');
};

function text(value: unknown): string {
  if (typeof value !== 'string') return wrong();
  const kept = boundedText(value);
  return PLAIN.test(kept) ? `"${kept}"` : printableJson(JSON.stringify(kept));
}

function number(value: unknown): string {
  return typeof value === 'number' && Number.isFinite(value) ? String(value) : wrong();
}

function bigint(value: unknown): string {
  return typeof value === 'bigint' && value >= 0n && value < U64 ? `"0x${value.toString(16).padStart(BIGINT_DIGITS, '0')}"` : wrong();
}

function hex(value: unknown): string {
  if (typeof value === 'bigint') return bigint(value);
  return Number.isSafeInteger(value) && (value as number) >= 0 ? `"0x${(value as number).toString(16)}"` : wrong();
}

function flag(value: unknown): string {
  return value === true ? 'true' : value === false ? 'false' : wrong();
}

function bytes(value: unknown): string {
  if (!(value instanceof Uint8Array)) return wrong();
  const { buffer, byteOffset, length } = boundedBytes(value);
  return `"${Buffer.from(buffer, byteOffset, length).toString('hex')}"`;
}

function recordValue(value: unknown): string {
  if (typeof value === 'string') return text(QUOTED.test(value) ? `'${value}` : value);
  return typeof value === 'number' ? number(value) : typeof value === 'bigint' ? bigint(value) : flag(value);
}

function record(value: unknown): string {
  if (typeof value !== 'object' || value === null) return wrong();
  const fields = boundedFields(value as Record<string, unknown>);
  return `{${fields.map(([name, each]) => `${text(name)}:${recordValue(each)}`).join(',')}}`;
}

const writers: { readonly [T in ValueType]: (value: unknown) => string } = { text, number, hex, bigint, flag, bytes, record };

interface Field {
  readonly name: string;
  readonly optional: boolean;
  /** `,"offset":` */
  readonly prefix: string;
  readonly write: (value: unknown) => string;
}

function fieldOf([name, type]: readonly [string, FieldType]): Field {
  const optional = type.endsWith('?');
  const write = writers[type.replace(/\?$| or null$/, '') as ValueType];
  return {
    name,
    optional,
    prefix: `,${JSON.stringify(name)}:`,
    write: type === 'text or null' ? (value) => (value === null ? 'null' : write(value)) : write,
  };
}

const head = Object.entries(headFields).map(fieldOf);
const fieldsByKind = Object.fromEntries(kindNames.map((kind) => [kind, fieldsOf(kind).map(fieldOf)])) as Record<EventKind, Field[]>;

/** The line of an event, without its end. @throws TypeError for a value of another type */
export function jsonOf(event: VfioEvent): string {
  let line = '';
  for (const field of head) line += field.prefix + written(event, field);
  line += `,"kind":"${event.kind}"`;
  for (const field of fieldsByKind[event.kind]) {
    if (!field.optional || event[field.name as never] !== undefined) line += field.prefix + written(event, field);
  }
  return `{${line.slice(1)}}`;
}

function written(event: VfioEvent, { name, write }: Field): string {
  try {
    return write(event[name as never]);
  } catch (problem) {
    throw new TypeError(`${name}: ${(problem as Error).message}`);
  }
}

function headerOf({ program, epochNs }: StreamAbout): string {
  return `{"${HEADER_FIELD}":${EVENTS_VERSION},"program":${text(program)},"epochNs":"${epochNs}"}\n`;
}

export const jsonLines: EventFormat = {
  name: 'jsonl',
  extensions: formatFiles.jsonl,
  help: 'JSON lines, which vfio events reads back',
  make: ({ about }): EventPrinter => ({
    begin: () => headerOf(about),
    event: (event) => `${jsonOf(event)}\n`,
    end: () => '',
  }),
};
