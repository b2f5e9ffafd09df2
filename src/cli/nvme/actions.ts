/** `vfio nvme …`: the NVMe driver at work on any controller that has an address. */
import type { CommandContext } from '../command.ts';
import { Exit } from '../exit-codes.ts';
import { interruptible } from '../interruptible.ts';
import { json, type Terminal } from '../terminal.ts';
import { tokenOf, type VfTokenOptions } from '../vf-token-file.ts';
import { type Doorbells, destroys, type Interrupts, type Pattern } from './patterns.ts';

interface ReportOptions extends VfTokenOptions {
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
  const run = async () => {
    print(terminal, 'vfio-ts/nvme-list/1', await list(at, { token: tokenOf(options, terminal) }), options.json);
    return Exit.OK;
  };
  return await interruptible(run);
}

interface IdOptions extends ReportOptions {
  readonly namespace?: number;
}

export async function identifyController({ terminal }: CommandContext, options: IdOptions, at: string): Promise<number> {
  const { identify } = await import('./inspect.ts');
  const run = async () => {
    print(terminal, 'vfio-ts/nvme-id/1', await identify(at, options.namespace, { token: tokenOf(options, terminal) }), options.json);
    return Exit.OK;
  };
  return await interruptible(run);
}

export async function printSmart({ terminal }: CommandContext, options: ReportOptions, at: string): Promise<number> {
  const { smart } = await import('./inspect.ts');
  const run = async () => {
    const report = await smart(at, { token: tokenOf(options, terminal) });
    print(terminal, 'vfio-ts/nvme-smart/1', report, options.json);
    return report.critical ? Exit.PROBLEMS : Exit.OK;
  };
  return await interruptible(run);
}

interface ReadOptions extends VfTokenOptions {
  readonly namespace: number;
  readonly start: number;
  readonly count?: number;
  readonly output: string;
}

export async function readBlocks(
  { terminal }: CommandContext,
  { output, vfTokenFile, ...range }: ReadOptions,
  at: string,
): Promise<number> {
  const { readImage } = await import('./transfer.ts');
  const run = async (signal: AbortSignal) => {
    terminal.err(await readImage(at, { ...range, signal, token: tokenOf({ vfTokenFile }, terminal) }, output));
    return Exit.OK;
  };
  return await interruptible(run);
}

interface WriteOptions extends VfTokenOptions {
  readonly namespace: number;
  readonly start: number;
  readonly count?: number;
  readonly input: string;
  readonly fua?: boolean;
  readonly verify?: boolean;
  readonly pad?: boolean;
}

export async function writeBlocks(
  { terminal }: CommandContext,
  { input, vfTokenFile, ...options }: WriteOptions,
  at: string,
): Promise<number> {
  const { writeImage } = await import('./transfer.ts');
  const run = async (signal: AbortSignal) => {
    terminal.err(await writeImage(at, { ...options, signal, token: tokenOf({ vfTokenFile }, terminal) }, input));
    return Exit.OK;
  };
  return await interruptible(run);
}

interface BenchOptions extends VfTokenOptions {
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

export async function benchNamespace(
  { terminal, usage }: CommandContext,
  { overwrite, json: asJson, vfTokenFile, ...options }: BenchOptions,
  at: string,
): Promise<number> {
  if (destroys(options.rw) && overwrite !== true) {
    usage(`--rw ${options.rw} destroys what is in the namespace: add --overwrite if that is meant`);
  }
  const { bench } = await import('./bench.ts');
  const run = async (signal: AbortSignal) => {
    print(terminal, 'vfio-ts/nvme-bench/1', await bench(at, { ...options, signal, token: tokenOf({ vfTokenFile }, terminal) }), asJson);
    return Exit.OK;
  };
  return await interruptible(run);
}
