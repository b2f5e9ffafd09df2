/**
 * The part of vitest that the conformance cases use, as a module of its own. A bundle of the cases
 * has this module in the place of vitest, and runs with nothing but Node: as a program of
 * `vfio exec`, and in guests. The matchers are vitest's own.
 */
import { format } from 'node:util';
import { chai, GLOBAL_EXPECT, JestAsymmetricMatchers, JestChaiExpect, JestExtend, setState } from '@vitest/expect';
import type { CaseResult } from './results.ts';

type Work = () => unknown;
interface CaseContext {
  skip(why?: string): never;
}
type CaseWork = (context: CaseContext) => unknown;
interface Case {
  readonly title: string;
  readonly work: CaseWork;
}

class Skipped extends Error {}

/** A case that takes so long hangs: a case takes some milliseconds, in a slow guest a second. */
const CASE_TIMEOUT_MS = 60_000;

const cases: Case[] = [];
const before: Work[] = [];
const after: Work[] = [];
const titles: string[] = [];
const finished: Work[] = [];

/** Declares the cases that `work` declares, under a title of their own. */
export function describe(title: string, work: () => void): void {
  titles.push(title);
  try {
    work();
  } finally {
    titles.pop();
  }
}

/** Declares a case. */
export function it(title: string, work: CaseWork): void {
  cases.push({ title: [...titles, title].join(' > '), work });
}

/** Declares a case for each of `rows`. %s and its like in the title stand for the row. */
it.each =
  <Row>(rows: readonly Row[]) =>
  (title: string, work: (...values: readonly unknown[]) => unknown): void => {
    for (const row of rows) {
      const values: readonly unknown[] = Array.isArray(row) ? row : [row];
      it(titleOf(title, row, values), () => work(...values));
    }
  };

/** Words $NAME stand for members of the row, and %s and its like for the row. */
function titleOf(title: string, row: unknown, values: readonly unknown[]): string {
  if (typeof row !== 'object' || row === null || Array.isArray(row)) return format(title, ...values);
  return title.replace(/\$(\w+)/g, (_, name: string) => String((row as Record<string, unknown>)[name]));
}

/** Runs after the case that is under way, whatever its outcome; the newest first. */
export function onTestFinished(work: Work): void {
  finished.push(work);
}

export function beforeAll(work: Work): void {
  before.push(work);
}

export function afterAll(work: Work): void {
  after.push(work);
}

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);

let currentTestName = '';

export const expect = Object.assign((value: unknown, message?: string) => chai.expect(value, message), chai.expect, {
  getState: () => ({ currentTestName }),
});
// The matchers look for their state under this name.
(globalThis as Record<PropertyKey, unknown>)[GLOBAL_EXPECT] = expect;
setState({ assertionCalls: 0 }, expect as never);

/**
 * Runs the cases that were declared, one after the other, and prints one line of JSON for each.
 * Sets the exit status of the process: 0, or 1 after a failure.
 *
 * @param only a part of the titles of the cases that run. Default: all run
 */
export async function runCases(only = ''): Promise<void> {
  for (const work of before) await work();
  let isWell = true;
  for (const each of cases.filter(({ title }) => title.includes(only))) {
    const result = await run(each);
    if (result.outcome === 'failed') isWell = false;
    process.stdout.write(`${JSON.stringify(result)}\n`);
  }
  for (const work of after) await work();
  if (!isWell) process.exitCode = 1;
}

async function run({ title, work }: Case): Promise<CaseResult> {
  currentTestName = title;
  const context: CaseContext = {
    skip(why = 'no reason was given') {
      throw new Skipped(why);
    },
  };
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the case has no end after ${CASE_TIMEOUT_MS} ms`)), CASE_TIMEOUT_MS);
  });
  try {
    await Promise.race([(async () => work(context))(), late]);
    return { title, outcome: 'passed' };
  } catch (error) {
    if (error instanceof Skipped) return { title, outcome: 'skipped', why: error.message };
    return { title, outcome: 'failed', why: reasonOf(error) };
  } finally {
    clearTimeout(timer);
    for (const each of finished.splice(0).reverse()) await each();
  }
}

/** The values of a matcher that did not match stand in its message only when they are short. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return format('%o', error);
  const { actual, expected } = error as { actual?: unknown; expected?: unknown };
  const values = 'actual' in error ? `\nis     ${shown(actual)}\nshould ${shown(expected)}` : '';
  return `${error.message}${values}\n${error.stack ?? ''}`;
}

function shown(value: unknown): string {
  return JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? `${each}n` : each)) ?? String(value);
}
