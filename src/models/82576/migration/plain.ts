/** Saved state comes from outside: each field is looked at before it is used. */
import { VfioError } from '../../../base/errno.ts';
import { textOf } from '../../../base/foreign.ts';

export function wrong(what: string): VfioError {
  return new VfioError('EINVAL', `the state of an 82576 has ${what}`, { fix: 'Save it again, with this version.' });
}

export type Fields = Readonly<Record<string, unknown>>;

export function fieldsOf(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) throw wrong(`no ${what}`);
  return value as Fields;
}

export function numberOf(fields: Fields, name: string, max: number): number {
  const value = fields[name];
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0 || value > max) throw wrong(`a wrong number '${name}'`);
  return value;
}

export function flagOf(fields: Fields, name: string): boolean {
  const value = fields[name];
  if (typeof value !== 'boolean') throw wrong(`a wrong flag '${name}'`);
  return value;
}

/** 32 bits each; `length` of them, or any number. */
export function wordsOf(fields: Fields, name: string, length?: number): Uint32Array {
  const value = fields[name];
  if (!(value instanceof Uint32Array) || (length !== undefined && value.length !== length)) throw wrong(`wrong words '${name}'`);
  return value;
}

export function halvesOf(fields: Fields, name: string, length: number): Uint16Array {
  const value = fields[name];
  if (!(value instanceof Uint16Array) || value.length !== length) throw wrong(`wrong words '${name}'`);
  return value;
}

/** A room takes its part, or the state is wrong. */
export function loadRoom(load: () => void): void {
  try {
    load();
  } catch (error) {
    if (error instanceof VfioError) throw error;
    throw wrong(`a room that cannot be read: ${textOf(error)}`);
  }
}

/** Nanoseconds that are left, one for each. */
export function timesOf(fields: Fields, name: string, length: number): Float64Array {
  const value = fields[name];
  if (!(value instanceof Float64Array) || value.length !== length || value.some((left) => !(left >= 0 && left <= DAY_NS))) {
    throw wrong(`wrong times '${name}'`);
  }
  return value;
}

/** No timer of the card is as long. */
export const DAY_NS = 86_400e9;
