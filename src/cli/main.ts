/** `vfio`: one command, one file per sub-command under commands/, of which a run loads the one that it was asked for. */
import { Command, CommanderError } from 'commander';
import { orNever } from '../api/unsettled.ts';
import { printableLines } from '../base/printable.ts';
import { packageVersion } from '../sys/package-files.ts';
import type { CommandContext, MakeCommand } from './command.ts';
import { Exit, exitCodeOf, failureLines } from './exit-codes.ts';
import { processTerminal, say, type Terminal } from './terminal.ts';

interface Listed {
  /** Under which heading --help has it. */
  readonly group: string;
  readonly load: () => Promise<MakeCommand>;
}

const start = 'To begin with:';
const machines = 'Machines:';
const configSpaces = 'Config spaces:';
const devices = 'Devices at work:';
const others = 'Other:';

/** In the order of --help. */
const commands: Readonly<Record<string, Listed>> = {
  demo: { group: start, load: async () => (await import('./commands/demo.ts')).demoCommand },
  show: { group: machines, load: async () => (await import('./commands/show.ts')).showCommand },
  explain: { group: machines, load: async () => (await import('./commands/explain.ts')).explainCommand },
  bind: { group: machines, load: async () => (await import('./commands/bind.ts')).bindCommand },
  admin: { group: machines, load: async () => (await import('./commands/admin.ts')).adminCommandLine },
  config: { group: configSpaces, load: async () => (await import('./commands/config.ts')).configCommand },
  'explain-write': { group: configSpaces, load: async () => (await import('./commands/explain-write.ts')).explainWriteCommand },
  run: { group: devices, load: async () => (await import('./commands/run.ts')).runCommand },
  serve: { group: devices, load: async () => (await import('./commands/serve.ts')).serveCommand },
  migrate: { group: devices, load: async () => (await import('./commands/migrate.ts')).migrateCommand },
  nvme: { group: devices, load: async () => (await import('./commands/nvme.ts')).nvmeCommand },
  trace: { group: devices, load: async () => (await import('./commands/trace.ts')).traceCommand },
  completion: { group: others, load: async () => (await import('./commands/completion.ts')).completionCommand },
};

/** What `argv` needs: the command that it begins with; all of them for help, a misspelt word, and what speaks of all. */
function listedFor(argv: readonly string[]): readonly Listed[] {
  const name = argv[0] ?? '';
  return Object.hasOwn(commands, name) && name !== 'completion' ? [commands[name]!] : Object.values(commands);
}

async function makeProgram(context: CommandContext, argv: readonly string[]): Promise<Command> {
  const program = new Command('vfio')
    .description(
      'VFIO in TypeScript: PCI device models behind the kernel’s safety rules, and drivers that run unchanged on models and hardware',
    )
    .version(packageVersion())
    .commandsGroup(others)
    .addHelpText(
      'after',
      `
Addresses:
  sim:edu | sim:nvme,size=1G       a software device of the package
  sim:./my-device.ts,option=value  one of yours
  unix:/path.sock                  a device that a vfio-user server has
  0000:03:00.0 | 03:00.0           a PCI function: of --machine FILE, or of this
                                   computer where a command reads only

Exit status:
  0 ok   1 failure   2 usage   3 a check found problems
  4 refused by a safety rule   5 device gone   130 interrupted`,
    );
  const made = await Promise.all(listedFor(argv).map(async ({ group, load }) => ({ group, make: await load() })));
  for (const { group, make } of made) program.addCommand(make(context, program).helpGroup(group));
  const width = (process.stdout.isTTY && process.stdout.columns) || HELP_COLUMNS;
  for (const command of withSubcommands(program)) {
    command
      .showHelpAfterError('(add --help for usage and examples)')
      .exitOverride()
      // Names alone: a command's own help has its arguments, which here leave no room for its
      // description.
      .configureHelp({ subcommandTerm: (sub) => sub.name() })
      .configureOutput({
        getOutHelpWidth: () => width,
        getErrHelpWidth: () => width,
        writeOut: (text) => say(wrapped(text.trimEnd(), width), context.terminal.out),
        writeErr: (text) => say(text.trimEnd(), context.terminal.err),
        // The message quotes the words that the user typed: no line of them passes for one of ours.
        outputError: (text, write) => write(printableLines(text.trimEnd()).join('\n')),
      });
  }
  return program;
}

/** The width without a terminal. */
const HELP_COLUMNS = 80;

/** Prose is wrapped at `width`, and the right column of a table below itself. Other indented lines are examples, to be typed as they are. */
function wrapped(text: string, width: number): string {
  return text
    .split('\n')
    .map((line) => {
      const left = /^ +\S.*? {2,}(?=\S)/.exec(line)?.[0] ?? '';
      if (line.length <= width || (left === '' && line.startsWith(' '))) return line;
      const room = Math.max(width - left.length, 20);
      const right = line.slice(left.length).replace(new RegExp(`(?=.{${room + 1}})(.{1,${room}}) `, 'g'), '$1\n');
      return left + right.replaceAll('\n', `\n${' '.repeat(left.length)}`);
    })
    .join('\n');
}

function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)];
}

const neverEnds = () => new Error('nothing is left that could end what the command waits for: this is a bug of vfio-ts');

/** Runs the command line; resolves to the exit status. Never throws. */
export async function main(argv: readonly string[], terminal: Terminal = processTerminal()): Promise<number> {
  let status: number = Exit.OK;
  const exit = (code: number) => {
    status = code;
  };
  try {
    const program = await makeProgram({ terminal, exit }, argv);
    await orNever(program.parseAsync([...argv], { from: 'user' }), neverEnds, 1);
    return status;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? Exit.OK : Exit.USAGE;
    failureLines(error).forEach((line, i) => {
      terminal.err(i === 0 ? `vfio: ${line}` : line);
    });
    return exitCodeOf(error);
  }
}
