/**
 * `npm run soak [-- lifecycle|wire|storage|migration|net|hostile] [--minutes N] [--seed N]
 * [--watched] [--threads]`: long runs of random users. Without a name all suites run, one after the
 * other. A suite throws the fault and how to see it again; otherwise it returns a summary.
 */
import { parseArgs } from 'node:util';
import { hostile } from './hostile.ts';
import { lifecycle } from './lifecycle.ts';
import { migration } from './migration.ts';
import { net } from './net.ts';
import { storage } from './storage.ts';
import { wire } from './wire.ts';

export interface SoakOptions {
  /** The length. Default: each suite has its own. */
  readonly minutes?: number;
  /** 31 bits. */
  readonly seed: number;
  /** Of `wire`: the server's events have a file, and a reader that never reads. Default: false. */
  readonly watched?: boolean;
  /** Of `wire`: each device has a thread of its own. Default: false. */
  readonly threads?: boolean;
}

const suites: Readonly<Record<string, (options: SoakOptions) => Promise<string>>> = {
  lifecycle,
  wire,
  storage,
  migration,
  net,
  hostile,
};

const { values, positionals } = parseArgs({
  options: { minutes: { type: 'string' }, seed: { type: 'string' }, watched: { type: 'boolean' }, threads: { type: 'boolean' } },
  allowPositionals: true,
  // An unknown option gets the usage below, not a stack trace.
  strict: false,
});
const number = (value: unknown): number => (typeof value === 'string' && value !== '' ? Number(value) : Number.NaN);
const minutes = values.minutes === undefined ? undefined : number(values.minutes);
const seed = values.seed === undefined ? Date.now() & 0x7fff_ffff : number(values.seed);
const watched = values.watched === true;
const threads = values.threads === true;
const unknown = [
  ...positionals.filter((name) => !Object.hasOwn(suites, name)),
  ...Object.keys(values).filter((name) => !['minutes', 'seed', 'watched', 'threads'].includes(name)),
];
if ((minutes !== undefined && !(minutes > 0)) || !Number.isInteger(seed) || unknown.length > 0) {
  console.error(`usage: npm run soak -- [${Object.keys(suites).join('|')}] [--minutes N] [--seed N] [--watched] [--threads]`);
  process.exit(2);
}

process.on('SIGINT', () => process.exit(130));
for (const name of positionals.length > 0 ? positionals : Object.keys(suites)) {
  try {
    console.log(`soak ${name}: ${await suites[name]!({ seed, watched, threads, ...(minutes === undefined ? {} : { minutes }) })}`);
  } catch (error) {
    console.error(`soak ${name}: failed; --seed ${seed}`);
    console.error(error);
    process.exit(1);
  }
}
