/**
 * The file of `npm run bench -- --json FILE`: the figures of one run, and the machine and commit
 * that they are of. `--against FILE` reads it back.
 */
import { execFileSync } from 'node:child_process';
import { accessSync, constants, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { dirname } from 'node:path';
import { z } from 'zod';

const FORMAT = 'vfio-ts/bench/1';

const record = z.object({
  suite: z.string(),
  /** The heading that it stands under. */
  section: z.string(),
  name: z.string(),
  /** Of `ours` and `floor`: nanoseconds an operation, or bytes. Smaller is better. */
  unit: z.enum(['ns', 'bytes']),
  /** Medians of the rounds. */
  ours: z.number(),
  floor: z.number().nullable(),
  /** The median of the rounds' ratios of ours to the floor beside it; null without a floor. */
  ratio: z.number().nullable(),
  /** The ratio of each round; without a floor, the value of each round. */
  rounds: z.array(z.number()).min(1),
  floorName: z.string(),
  aim: z.string(),
  /** Of a cost at several sizes; the name ends in it. */
  size: z.string().optional(),
  shown: z.enum(['ns', 'µs', 'ms', 'k/s', 'M/s', 'GB/s', 'Gbit/s', 'bytes']),
  bytes: z.number().optional(),
});

const machine = z.object({ cpu: z.string(), cores: z.number(), kernel: z.string(), node: z.string() });

const benchFile = z.object({
  format: z.literal(FORMAT),
  date: z.string(),
  /** Null outside of a git checkout. With changes that are in no commit, it ends in `+`. */
  commit: z.string().nullable(),
  machine,
  records: z.array(record),
});

export type BenchRecord = z.infer<typeof record>;
export type BenchFile = z.infer<typeof benchFile>;
export type Shown = BenchRecord['shown'];

/** A fault of the person who called: its message says what to do. */
export class BenchUsageError extends Error {}

/** The commit of this checkout. */
function commitOf(folder: string): string | null {
  try {
    const git = (...words: string[]) => execFileSync('git', words, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return git('rev-parse', '--short=12', 'HEAD').trim() + (git('status', '--porcelain', '--untracked-files=no') === '' ? '' : '+');
  } catch {
    return null;
  }
}

export function benchFileOf(records: readonly BenchRecord[]): BenchFile {
  return {
    format: FORMAT,
    date: new Date().toISOString(),
    commit: commitOf(import.meta.dirname),
    machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length, kernel: release(), node: process.version },
    records: [...records],
  };
}

/**
 * A file of figures.
 * @throws BenchUsageError when it cannot be read, or is another kind of file
 */
export function readBenchFile(path: string): BenchFile {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new BenchUsageError(`there is no file ${path}; make one with: npm run bench -- --json ${path}`);
    throw new BenchUsageError(`${path} cannot be read: ${(error as Error).message}`);
  }
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch (error) {
    throw new BenchUsageError(`${path} is no file of figures, for it is not JSON (${(error as Error).message})`);
  }
  const format = (content as { format?: unknown } | null)?.format;
  if (format !== FORMAT) {
    const is = format === undefined ? "has no 'format'" : `has the format ${JSON.stringify(format)}`;
    throw new BenchUsageError(`${path} is no file of figures: it ${is}, where '${FORMAT}' is expected (npm run bench -- --json writes it)`);
  }
  const parsed = benchFile.safeParse(content);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new BenchUsageError(`${path}: ${issue!.path.join('.')}: ${issue!.message}`);
}

/**
 * Look whether the file could be written, before a run of minutes.
 * @throws BenchUsageError with the reason
 */
export function checkWritable(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true)
    throw new BenchUsageError(`${path} is a folder; name a file in it`);
  try {
    accessSync(dirname(path), constants.W_OK);
  } catch (error) {
    throw new BenchUsageError(`${path} cannot be written: ${(error as Error).message}`);
  }
}

/** Write the whole file or nothing. */
export function writeBenchFile(path: string, file: BenchFile): void {
  const part = `${path}.part`;
  writeFileSync(part, `${JSON.stringify(file, null, 1)}\n`);
  renameSync(part, path);
}
