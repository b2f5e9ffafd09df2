/**
 * The answers of a device, call by call: what the conformance cases called, and what came back, so
 * that two implementations can be compared by more than what the cases look at.
 */
import { expect } from 'vitest';
import { BusError } from '../../src/abi/bus-error.ts';
import { VfioError } from '../../src/base/errno.ts';
import type { ConformanceSubject } from './subject.ts';

/** A call and its answer. */
export type Answer = readonly [call: string, answer: string];

/** The answers of each case, by the title of the case without the name of the subject. */
export type AnswersOfCases = Readonly<Record<string, readonly Answer[]>>;

/** Members whose results are objects of others, which go to the cases as they are. */
const AS_THEY_ARE = new Set<PropertyKey>(['allocate', 'on', 'events', 'eventPort', 'memory', 'heldAnswer', 'awake', 'constructor']);

/** Calls that fill bytes of the caller. */
const FILLS = new Set<PropertyKey>(['read', 'report', 'feature', 'unmap']);

export class Answers {
  readonly #cases = new Map<string, Answer[]>();

  /** As `open`, and what the case calls is written down. */
  of(open: () => Promise<ConformanceSubject>): () => Promise<ConformanceSubject> {
    return async () => {
      const subject = await open();
      const title = titleOfCase();
      const answers = this.#cases.get(title) ?? [];
      this.#cases.set(title, answers);
      const device = written(subject.device, '', answers);
      const dispose = () => subject[Symbol.asyncDispose]();
      const { reopen } = subject;
      return {
        ...subject,
        device,
        ...(reopen === undefined ? {} : { reopen: () => written(reopen(), 'next ', answers) }),
        [Symbol.asyncDispose]: dispose,
      };
    };
  }

  get cases(): AnswersOfCases {
    return Object.fromEntries(this.#cases);
  }
}

function titleOfCase(): string {
  const [, ...titles] = (expect.getState().currentTestName ?? '').split(' > ');
  return titles.join(' > ');
}

/** `target`, whose calls and properties are added to `answers`. */
function written<T extends object>(target: T, path: string, answers: Answer[]): T {
  const note = (call: string, answer: string) => {
    // A case that waits asks the same again: the last answer stands for all.
    if (answers.at(-1)?.[0] === call) answers.pop();
    answers.push([call, answer]);
  };
  const outcome = (call: string, value: unknown, bytes = '') => {
    if (isPart(value)) return written(value, `${call}.`, answers);
    note(call, `${text(value)}${bytes}`);
    return value;
  };
  const attempt = <R>(call: string, work: () => R): R => {
    try {
      return work();
    } catch (error) {
      note(call, nameOf(error));
      throw error;
    }
  };
  return new Proxy(target, {
    get(_, key) {
      const call = `${path}${typeof key === 'symbol' ? '[dispose]' : key}`;
      const value: unknown = attempt(call, () => Reflect.get(target, key, target));
      if (AS_THEY_ARE.has(key)) return typeof value === 'function' ? value.bind(target) : value;
      if (typeof value !== 'function') return value === undefined || typeof key === 'symbol' ? value : outcome(call, value);
      return (...values: unknown[]) => {
        // Data of a device that moves: its size is not the same in two devices.
        const isData = key === 'write' && path.includes('setState(');
        const name = `${call}(${isData ? 'data' : values.map(text).join(', ')})`;
        const result: unknown = attempt(name, () => (value as (...all: unknown[]) => unknown).apply(target, values));
        const filled = FILLS.has(key) ? values.map(bytesIn).filter((bytes) => bytes !== '') : [];
        if (isData) {
          note(name, 'ok');
          return result;
        }
        return outcome(name, result, filled.map((bytes) => `, bytes ${bytes}`).join(''));
      };
    },
  });
}

/** Whether a result is a part of the device with calls of its own. */
function isPart(value: unknown): value is object {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== null && prototype !== Object.prototype) return true;
  return Object.values(value).some((each) => typeof each === 'function');
}

function nameOf(error: unknown): string {
  if (error instanceof BusError) return 'BusError';
  return error instanceof VfioError ? error.code : `${error}`;
}

/** A value as a word that does not depend on the place of the device, or on memory's addresses. */
function text(value: unknown): string {
  if (value === undefined) return 'ok';
  if (typeof value === 'bigint') return `0x${value.toString(16)}n`;
  if (typeof value === 'number') return Number.isInteger(value) && value > 9 ? `0x${value.toString(16)}` : `${value}`;
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'string') return /^([0-9a-f]{4}:[0-9a-f]{2}:|unix:)/.test(value) ? 'the device' : value;
  if (typeof value !== 'object' || value === null) return `${value}`;
  if (ArrayBuffer.isView(value)) return `${value.byteLength} bytes`;
  if (Array.isArray(value)) return value.length > 8 ? `${value.length} values` : `[${value.map(text).join(', ')}]`;
  if ('signal' in value) return 'an eventfd';
  if ('get' in value && 'put' in value && 'size' in value) return `memory of ${text(value.size)}`;
  const members = Object.entries(value).filter(([, each]) => each !== undefined);
  return `{ ${members.map(([key, each]) => `${key}: ${text(each)}`).join(', ')} }`;
}

function bytesIn(value: unknown): string {
  if (value instanceof Uint8Array) return value.length > 64 ? '' : Buffer.from(value).toString('hex');
  if (typeof value !== 'object' || value === null) return '';
  return Object.values(value).map(bytesIn).join('');
}

export interface Difference {
  readonly call: string;
  readonly reference: string;
  readonly answer: string;
  /** Titles of the cases that make the call. */
  readonly cases: string[];
}

/** Differences from the reference, each call once. */
export function differences(reference: AnswersOfCases, answers: AnswersOfCases): Difference[] {
  const found = new Map<string, Difference>();
  const add = (title: string, call: string, should: string, is: string) => {
    const key = `${call}\n${should}\n${is}`;
    const difference = found.get(key) ?? { call, reference: should, answer: is, cases: [] };
    found.set(key, difference);
    if (!difference.cases.includes(title)) difference.cases.push(title);
  };
  for (const [title, calls] of Object.entries(reference)) {
    const others = answers[title] ?? [];
    for (let i = 0; i < Math.max(calls.length, others.length); i++) {
      const [call, should] = calls[i] ?? ['the end of the case', 'reached'];
      const [other, is] = others[i] ?? ['the end of the case', 'reached'];
      if (call === other) {
        if (should !== is) add(title, call, should, is);
        continue;
      }
      add(title, call, should, `${other}: ${is}`);
      // A value of an earlier answer may be an argument. Any other case has gone another way.
      if (calls[i + 1]?.[0] !== others[i + 1]?.[0]) break;
    }
  }
  return [...found.values()];
}
