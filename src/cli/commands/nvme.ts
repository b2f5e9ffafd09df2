/** `vfio nvme …`: the NVMe driver at work on any controller there is an address for. */
import { Command, Option } from 'commander';
import { address, addresses, bytes, integer, seconds } from '../arguments.ts';
import type { CommandContext } from '../command.ts';
import { Exit } from '../exit-codes.ts';
import { interruptible } from '../interruptible.ts';
import { type Doorbells, destroys, doorbellKinds, type Interrupts, interruptKinds, type Pattern, patterns } from '../nvme/patterns.ts';
import { json, type Terminal } from '../terminal.ts';
import { tokenOf, type VfTokenOptions, vfTokenOption } from '../vf-token-file.ts';

const LBA_MAX = Number.MAX_SAFE_INTEGER;

const ADDRESS = 'the controller: sim:nvme, unix:PATH or a BDF';
const namespaceOption = () => new Option('-n, --namespace <id>', 'the namespace').argParser(integer(1, 0xffff_fffe)).default(1);
const jsonOption = () => new Option('--json', 'one JSON document for programs');
const startOption = () => new Option('-s, --start <lba>', 'the first block').argParser(integer(0, LBA_MAX)).default(0);
const countOption = (unless: string) =>
  new Option('-c, --count <blocks>', `how many; ${unless} unless told`).argParser(integer(0, LBA_MAX));

export function nvmeCommand(context: CommandContext): Command {
  const command = new Command('nvme').description('look at NVMe controllers, copy disks in and out, and measure them').addHelpText(
    'after',
    `
Examples:
  vfio nvme list sim:nvme,size=1G
  vfio serve nvme --image disk.img --size 1G --socket-path /tmp/disk.sock &
  vfio nvme write unix:/tmp/disk.sock --input system.img --verify
  vfio nvme bench unix:/tmp/disk.sock --depth 32`,
  );
  for (const make of [listCommand, idCommand, smartCommand, readCommand, writeCommand, benchCommand])
    command.addCommand(make(context).addOption(vfTokenOption()));
  return command;
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

function listCommand({ terminal, exit }: CommandContext): Command {
  return new Command('list')
    .description('the namespaces of controllers, one a line')
    .argument('<address...>', `${ADDRESS}; several are fine`, addresses)
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  vfio nvme list sim:nvme,size=1G,blockSize=4096')
    .action(async (at: string[], options: { json?: boolean } & VfTokenOptions) => {
      const { list } = await import('../nvme/inspect.ts');
      const run = async () => {
        print(terminal, 'vfio-ts/nvme-list/1', await list(at, { token: tokenOf(options, terminal) }), options.json);
        return Exit.OK;
      };
      exit(await interruptible(run));
    });
}

function idCommand({ terminal, exit }: CommandContext): Command {
  return new Command('id')
    .description('what a controller and its namespaces say of themselves (Identify), in words')
    .argument('<address>', ADDRESS, address)
    .addOption(new Option('-n, --namespace <id>', 'one namespace; all unless told').argParser(integer(1, 0xffff_fffe)))
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  vfio nvme id sim:nvme')
    .action(async (at: string, options: { namespace?: number; json?: boolean } & VfTokenOptions) => {
      const { identify } = await import('../nvme/inspect.ts');
      const run = async () => {
        print(terminal, 'vfio-ts/nvme-id/1', await identify(at, options.namespace, { token: tokenOf(options, terminal) }), options.json);
        return Exit.OK;
      };
      exit(await interruptible(run));
    });
}

function smartCommand({ terminal, exit }: CommandContext): Command {
  return new Command('smart')
    .description('the health of a controller (SMART log), with units')
    .argument('<address>', ADDRESS, address)
    .addOption(jsonOption())
    .addHelpText('after', '\nExit status 3 when the controller gives a critical warning.\n\nExample:\n  vfio nvme smart sim:nvme')
    .action(async (at: string, options: { json?: boolean } & VfTokenOptions) => {
      const { smart } = await import('../nvme/inspect.ts');
      const run = async () => {
        const report = await smart(at, { token: tokenOf(options, terminal) });
        print(terminal, 'vfio-ts/nvme-smart/1', report, options.json);
        return report.critical ? Exit.PROBLEMS : Exit.OK;
      };
      exit(await interruptible(run));
    });
}

interface ReadOptions extends VfTokenOptions {
  readonly namespace: number;
  readonly start: number;
  readonly count?: number;
  readonly output: string;
}

function readCommand({ terminal, exit }: CommandContext): Command {
  return new Command('read')
    .description('copy blocks to a file or to standard output')
    .argument('<address>', ADDRESS, address)
    .addOption(startOption())
    .addOption(countOption('to the end of the namespace'))
    .addOption(namespaceOption())
    .option('-o, --output <file>', 'where to; - is standard output', '-')
    .addHelpText(
      'after',
      `
Examples:
  vfio nvme read sim:nvme,size=16M --count 1 | xxd | head
  vfio nvme read unix:/tmp/disk.sock --output disk.img`,
    )
    .action(async (at: string, { output, vfTokenFile, ...range }: ReadOptions) => {
      const { readImage } = await import('../nvme/transfer.ts');
      const run = async (signal: AbortSignal) => {
        terminal.err(await readImage(at, { ...range, signal, token: tokenOf({ vfTokenFile }, terminal) }, output));
        return Exit.OK;
      };
      exit(await interruptible(run));
    });
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

function writeCommand({ terminal, exit }: CommandContext): Command {
  return new Command('write')
    .description('copy a file or standard input to blocks, and flush')
    .argument('<address>', ADDRESS, address)
    .addOption(startOption())
    .addOption(countOption('all that the input has'))
    .addOption(namespaceOption())
    .option('-i, --input <file>', 'where from; - is standard input', '-')
    .option('--fua', 'every command is on the medium before it counts as done (Force Unit Access)')
    .option('--verify', 'read back what was written, and compare')
    .option('--pad', 'fill the last block with zeroes when the input ends within one, which is refused otherwise')
    .addHelpText(
      'after',
      `
Examples:
  vfio nvme write unix:/tmp/disk.sock --input system.img --verify
  head -c 4096 /dev/urandom | vfio nvme write sim:nvme,size=16M --start 8`,
    )
    .action(async (at: string, { input, vfTokenFile, ...options }: WriteOptions) => {
      const { writeImage } = await import('../nvme/transfer.ts');
      const run = async (signal: AbortSignal) => {
        terminal.err(await writeImage(at, { ...options, signal, token: tokenOf({ vfTokenFile }, terminal) }, input));
        return Exit.OK;
      };
      exit(await interruptible(run));
    });
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

function benchCommand({ terminal, exit }: CommandContext): Command {
  return new Command('bench')
    .description('IOPS, bandwidth and latencies of a namespace under load')
    .argument('<address>', ADDRESS, address)
    .addOption(new Option('--rw <pattern>', 'what to do').choices(patterns).default('randread'))
    .addOption(new Option('-b, --block-size <size>', 'of each command').argParser(bytes).default(4096, '4K'))
    .addOption(new Option('-d, --depth <commands>', 'in flight on each queue').argParser(integer(1, 1023)).default(32))
    .addOption(new Option('-q, --queues <number>', 'queue pairs').argParser(integer(1, 64)).default(1))
    .addOption(new Option('-t, --seconds <seconds>', 'how long').argParser(seconds).default(5))
    .addOption(new Option('--interrupts <kind>', 'how completions are found').choices(interruptKinds).default('msix'))
    .addOption(new Option('--doorbells <kind>', 'where the driver rings').choices(doorbellKinds).default('auto'))
    .addOption(namespaceOption())
    .option('--overwrite', 'allow what writes (randwrite, write, randrw): it destroys what is in the namespace')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Latency is from a command's submission to its completion being found. The first 0.3 seconds are not counted.

Examples:
  vfio nvme bench sim:nvme,size=256M --seconds 2
  vfio nvme bench unix:/tmp/disk.sock --rw read --block-size 128K --depth 8
  vfio nvme bench unix:/tmp/disk.sock --rw randwrite --overwrite`,
    )
    .action(async (at: string, { overwrite, json: asJson, vfTokenFile, ...options }: BenchOptions, command: Command) => {
      if (destroys(options.rw) && overwrite !== true) {
        command.error(`error: --rw ${options.rw} destroys what is in the namespace: add --overwrite if that is meant`);
      }
      const { bench } = await import('../nvme/bench.ts');
      const run = async (signal: AbortSignal) => {
        print(terminal, 'vfio-ts/nvme-bench/1', await bench(at, { ...options, signal, token: tokenOf({ vfTokenFile }, terminal) }), asJson);
        return Exit.OK;
      };
      exit(await interruptible(run));
    });
}
