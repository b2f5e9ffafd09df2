/** `npm run bench`: figures beside their floors. No figure passes or fails. */
import { parseArgs } from 'node:util';
import { againstLines } from './against.ts';
import { deviceBench } from './device.ts';
import { dmaBench } from './dma.ts';
import { eventsBench } from './events.ts';
import { execBench } from './exec.ts';
import { kernelBench } from './kernel.ts';
import { migrationBench } from './migration.ts';
import { netBench } from './net.ts';
import { nvmeBench } from './nvme.ts';
import { fillPage } from './page.ts';
import { type BenchFile, BenchUsageError, benchFileOf, checkWritable, readBenchFile, writeBenchFile } from './record.ts';
import { Report, type Suite } from './report.ts';
import { scaleBench } from './scale.ts';
import { vfioUserBench } from './vfio-user.ts';

const suites: Readonly<Record<string, Suite>> = {
  device: deviceBench,
  dma: dmaBench,
  events: eventsBench,
  'vfio-user': vfioUserBench,
  exec: execBench,
  kernel: kernelBench,
  nvme: nvmeBench,
  net: netBench,
  migration: migrationBench,
  scale: scaleBench,
};

const help = `Usage: npm run bench -- [SUITE…] [--json FILE] [--against FILE] [--page FILE] [--of FILE]

Measures figures, each beside a floor of the same run: the least that this machine needs for the
same job. Read the ratios. No figure passes or fails.

SUITE            ${Object.keys(suites).join(', ')}. Default: all.
--json FILE      Write the figures to FILE, after each suite.
--against FILE   Print the figures beside those of FILE, which --json wrote, and mark what changed
                 beyond noise.
--page FILE      Put the figures into the tables of a page, such as docs/performance.md.
--of FILE        Measure nothing: take the figures of FILE for those of this run. With --against or
                 --page.
--help           Print this.

docs/performance.md says what the figures mean and how to measure on a quiet machine.`;

interface Options {
  readonly wanted: readonly string[];
  readonly json: string | undefined;
  readonly against: BenchFile | undefined;
  readonly page: string | undefined;
  readonly of: BenchFile | undefined;
}

/** @returns null when help was asked for */
function parse(args: readonly string[]): Options | null {
  const file = { type: 'string' } as const;
  const options = { json: file, against: file, page: file, of: file, help: { type: 'boolean', short: 'h' } } as const;
  let parsed: ReturnType<typeof parseArgs<{ options: typeof options; allowPositionals: true }>>;
  try {
    parsed = parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    throw new BenchUsageError((error as Error).message);
  }
  const { values, positionals } = parsed;
  if (values.help === true) return null;
  for (const name of positionals) {
    if (!Object.hasOwn(suites, name)) throw new BenchUsageError(`there is no suite '${name}'; there are ${Object.keys(suites).join(', ')}`);
  }
  if (values.of !== undefined && values.against === undefined && values.page === undefined) {
    throw new BenchUsageError('--of FILE needs --against FILE, with which it is compared, or --page FILE, which it fills');
  }
  if (values.of !== undefined && values.json !== undefined)
    throw new BenchUsageError('--of measures nothing that --json could write; leave one out');
  if (values.json !== undefined) checkWritable(values.json);
  return {
    wanted: positionals.length === 0 ? Object.keys(suites) : positionals,
    json: values.json,
    against: values.against === undefined ? undefined : readBenchFile(values.against),
    page: values.page,
    of: values.of === undefined ? undefined : readBenchFile(values.of),
  };
}

/**
 * A suite that fails does not cost the figures of the others.
 * @returns the names of those that failed
 */
async function measureAll(report: Report, { wanted, json }: Options): Promise<string[]> {
  const failed: string[] = [];
  for (const [name, run] of Object.entries(suites)) {
    if (!wanted.includes(name)) continue;
    report.begin(name);
    try {
      await run(report);
    } catch (error) {
      console.error(`bench: suite ${name} failed:`, error);
      failed.push(name);
    }
    if (json !== undefined) writeBenchFile(json, benchFileOf(report.records));
  }
  return failed;
}

async function main(args: readonly string[]): Promise<number> {
  const options = parse(args);
  if (options === null) {
    console.log(help);
    return 0;
  }
  const report = new Report(console.log);
  const failed = options.of === undefined ? await measureAll(report, options) : [];
  const file = options.of ?? benchFileOf(report.records);
  if (options.against !== undefined) {
    console.log();
    const done = options.wanted.filter((name) => !failed.includes(name));
    for (const line of againstLines(options.against, file, done)) console.log(line);
  }
  if (options.page !== undefined) fillPage(options.page, file);
  return failed.length === 0 ? 0 : 1;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof BenchUsageError)) throw error;
  console.error(`bench: ${error.message}\nTry: npm run bench -- --help`);
  process.exitCode = 2;
}
