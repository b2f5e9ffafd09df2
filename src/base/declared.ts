/**
 * Declarations that people write in JavaScript, where no compiler checks them. An unknown key, or a
 * value of the wrong kind, is an error that names it.
 */
import { VfioError } from './errno.ts';
import { nearest } from './nearest.ts';

/** @throws VfioError EINVAL that begins with `what` */
export type Check = (value: unknown, what: string) => void;

function refuse(value: unknown, what: string, takes: string): never {
  throw new VfioError('EINVAL', `${what} is ${shownValue(value)}; it takes ${takes}`);
}

/** `value` as people write it in code, short. */
export function shownValue(value: unknown): string {
  if (typeof value === 'string') return `'${value.slice(0, 40)}'`;
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}

export const text: Check = (value, what) => void (typeof value === 'string' || refuse(value, what, 'text'));

export const flag: Check = (value, what) => void (typeof value === 'boolean' || refuse(value, what, 'true or false'));

export const callable: Check = (value, what) => void (typeof value === 'function' || refuse(value, what, 'a function'));

export const bytes: Check = (value, what) => void (value instanceof Uint8Array || refuse(value, what, 'a Uint8Array'));

export function integer(min: number, max: number): Check {
  return (value, what) =>
    void (
      (Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max) ||
      refuse(value, what, `an integer from ${min} to ${max}`)
    );
}

export function oneOf(...choices: readonly (string | number | boolean)[]): Check {
  return (value, what) => {
    const written = choices.map(shownValue);
    const last = written.pop();
    if (!choices.includes(value as string))
      refuse(value, what, written.length === 0 ? `${last} alone` : `${written.join(', ')} or ${last}`);
  };
}

/** An instance of a class. @param takes how to make an instance, for the error */
export function made(classes: readonly (abstract new (...args: never) => unknown)[], takes: string): Check {
  return (value, what) => void (classes.some((each) => value instanceof each) || refuse(value, what, takes));
}

export function listOf(each: Check): Check {
  return (value, what) => {
    if (!Array.isArray(value)) refuse(value, what, 'an array');
    for (const [i, one] of value.entries()) each(one, `${what}[${i}]`);
  };
}

/** An object whose keys are free. */
export function mapOf(each: Check): Check {
  return (value, what) => {
    for (const [key, one] of Object.entries(asObject(value, what))) if (one !== undefined) each(one, `${what}['${key}']`);
  };
}

/** An object with these keys and no other; those that are undefined count as left out. */
export function keys(checks: Readonly<Record<string, Check>>, required: readonly string[] = []): Check {
  return (value, what) => {
    const object = asObject(value, what);
    for (const [key, one] of Object.entries(object)) {
      const check = Object.hasOwn(checks, key) ? checks[key]! : null;
      if (check === null) {
        const near = nearest(key, Object.keys(checks));
        throw new VfioError('EINVAL', `${what} has no '${key}'`, {
          fix: near === null ? `It has ${Object.keys(checks).join(', ')}.` : `Did you mean '${near}'?`,
        });
      }
      if (one !== undefined) check(one, `${key} of ${what}`);
    }
    for (const key of required) if (object[key] === undefined) throw new VfioError('EINVAL', `${what} lacks '${key}'`);
  };
}

/** Checks an object by `object`, and any other value by `other`. */
export function either(object: Check, other: Check): Check {
  return (value, what) => (typeof value === 'object' && value !== null ? object : other)(value, what);
}

function asObject(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(value, what, 'an object');
  return value as Record<string, unknown>;
}
