/** `vfio nvme …`: the NVMe driver at work on any controller that has an address. */
import type { CommandContext } from '../command.ts';
import { type AccessOptions, accessOf } from '../device-access.ts';
import { Exit } from '../exit-codes.ts';
import { type GiveBack, interruptible } from '../interruptible.ts';
import { json, type Terminal } from '../terminal.ts';
import { type Doorbells, destroys, type Interrupts, type Pattern } from './patterns.ts';

const documentOf = (asJson?: boolean) => (asJson === true ? 'a JSON document' : undefined);

interface ReportOptions extends AccessOptions {
  readonly json?: boolean;
}

function print(
  terminal: Terminal,
  schema: string,
  report: { readonly lines: readonly string[]; readonly document: object },
  asJson?: boolean,
): void {
  if (asJson === true) json(terminal, schema, report.document);
  else for (const line of report.lines) terminal.out(line);
}

export async function listNamespaces({ terminal }: CommandContext, options: ReportOptions, at: string[]): Promise<number> {
  const { list } = await import('./inspect.ts');
  using access = await accessOf(options, terminal, documentOf(options.json));
  const run = async () => {
    print(terminal, 'vfio-ts/nvme-list/1', await list(at, access), options.json);
    return Exit.OK;
  };
  return await interruptible(run);
}

interface IdOptions extends ReportOptions {
  readonly namespace?: number;
}

export async function identifyController({ terminal }: CommandContext, options: IdOptions, at: string): Promise<number> {
  const { identify } = await import('./inspect.ts');
  using access = await accessOf(options, terminal, documentOf(options.json));
  const run = async () => {
    print(terminal, 'vfio-ts/nvme-id/1', await identify(at, options.namespace, access), options.json);
    return Exit.OK;
  };
  return await interruptible(run);
}

export async function printSmart({ terminal }: CommandContext, options: ReportOptions, at: string): Promise<number> {
  const { smart } = await import('./inspect.ts');
  using access = await accessOf(options, terminal, documentOf(options.json));
  const run = async () => {
    const report = await smart(at, access);
    print(terminal, 'vfio-ts/nvme-smart/1', report, options.json);
    return report.critical ? Exit.PROBLEMS : Exit.OK;
  };
  return await interruptible(run);
}

interface ReadOptions extends AccessOptions {
  readonly namespace: number;
  readonly start: number;
  readonly count?: number;
  readonly output: string;
}

export async function readBlocks({ terminal }: CommandContext, options: ReadOptions, at: string): Promise<number> {
  const { readImage } = await import('./transfer.ts');
  const { namespace, start, count, output } = options;
  using access = await accessOf(options, terminal, output === '-' ? 'the blocks' : undefined);
  const range = { namespace, start, ...(count === undefined ? {} : { count }), ...access };
  const run = async (signal: AbortSignal, onRequest: GiveBack) => {
    terminal.err(await readImage(at, { ...range, signal, onRequest }, output));
    return Exit.OK;
  };
  return await interruptible(run, (line) => terminal.err(line));
}

interface WriteOptions extends AccessOptions {
  readonly namespace: number;
  readonly start: number;
  readonly count?: number;
  readonly input: string;
  readonly fua?: boolean;
  readonly verify?: boolean;
  readonly pad?: boolean;
}

export async function writeBlocks({ terminal }: CommandContext, options: WriteOptions, at: string): Promise<number> {
  const { writeImage } = await import('./transfer.ts');
  using access = await accessOf(options, terminal);
  const run = async (signal: AbortSignal, onRequest: GiveBack) => {
    terminal.err(await writeImage(at, { ...options, ...access, signal, onRequest }, options.input));
    return Exit.OK;
  };
  return await interruptible(run, (line) => terminal.err(line));
}

interface BenchOptions extends AccessOptions {
  readonly rw: Pattern;
  readonly blockSize: number;
  readonly depth: number;
  readonly queues: number;
  readonly seconds: number;
  readonly interrupts: Interrupts;
  readonly doorbells: Doorbells;
  readonly namespace: number;
  readonly overwrite?: boolean;
  readonly json?: boolean;
}

export async function benchNamespace({ terminal, usage }: CommandContext, options: BenchOptions, at: string): Promise<number> {
  if (destroys(options.rw) && options.overwrite !== true) {
    usage(`--rw ${options.rw} destroys what is in the namespace: add --overwrite if that is meant`);
  }
  const { bench } = await import('./bench.ts');
  using access = await accessOf(options, terminal, documentOf(options.json));
  const run = async (signal: AbortSignal, onRequest: GiveBack) => {
    print(terminal, 'vfio-ts/nvme-bench/1', await bench(at, { ...options, ...access, signal, onRequest }), options.json);
    return Exit.OK;
  };
  return await interruptible(run, (line) => terminal.err(line));
}
