/** commander's program, made from the table of commands. */
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { VfioError } from '../base/errno.ts';
import { printableLines } from '../base/printable.ts';
import { packageVersion } from '../sys/package-files.ts';
import { type ArgumentSpec, type CommandContext, type CommandSpec, longName, type OptionSpec, placeholder } from './command.ts';
import { addressForms, exitStatuses, groups, help, hidden, vfio } from './commands.ts';
import { Exit } from './exit-codes.ts';
import { columnLines, helpWidth, wrapped } from './help-text.ts';
import { say, type Terminal } from './terminal.ts';
import type { ValueKind } from './values.ts';

export interface Run {
  readonly terminal: Terminal;
  exit(status: number): void;
}

/**
 * The program for one command line.
 *
 * @param argv names the command whose rows are loaded for its help
 */
export async function makeProgram(run: Run, argv: readonly string[]): Promise<Command> {
  const program = new Command('vfio').description(vfio.summary).version(packageVersion(), '-V, --version', 'print the version');
  program.addHelpText('after', rootHelp());
  for (const { title, commands } of groups) {
    for (const spec of commands) {
      if (spec === help) {
        program.addHelpCommand(commandOf(spec, run).helpGroup(`${title}:`));
        continue;
      }
      const rows = spec.name === argv[0] ? await spec.rows?.() : undefined;
      program.addCommand(commandOf(spec, run, rows).helpGroup(`${title}:`));
    }
  }
  for (const spec of hidden) program.addCommand(commandOf(spec, run), { hidden: true });
  configure(program, run.terminal);
  return program;
}

function commandOf(spec: CommandSpec, run: Run, rows: readonly CommandSpec[] = []): Command {
  const command = new Command(spec.name).description(spec.summary);
  for (const each of spec.arguments ?? []) command.addArgument(argumentOf(each));
  for (const each of spec.options ?? []) command.addOption(optionOf(each));
  for (const each of spec.commands ?? []) command.addCommand(commandOf(each, run));
  // commander leaves the options of rows to the rows.
  if (spec.rows !== undefined) command.allowUnknownOption();
  command.addHelpText('after', helpAfter(spec, rows));
  const { run: load } = spec;
  if (load !== undefined) {
    command.action(async (...given: unknown[]) => {
      const words = given.slice(0, -2);
      const context: CommandContext = {
        terminal: run.terminal,
        vfio,
        usage: (message) => command.error(`error: ${message}`),
        runRow: async (row, rest) => {
          const parser = commandOf({ ...row, name: `${spec.name} ${row.name}` }, run);
          configure(parser, run.terminal);
          await parser.parseAsync([...rest], { from: 'user' });
        },
      };
      const action = (await load()) as (context: CommandContext, options: unknown, ...words: unknown[]) => Promise<number | undefined>;
      run.exit((await action(context, given.at(-2), ...words)) ?? Exit.OK);
    });
  }
  return command;
}

function argumentOf({ name, help, kind, default: value }: ArgumentSpec): Argument {
  const argument = new Argument(name, help);
  if (value !== undefined) argument.default(value);
  if (kind?.choices !== undefined) argument.choices(kind.choices);
  else if (kind?.parse !== undefined) {
    argument.argParser<unknown>(name.includes('...') ? listParser(kind) : (text) => parsed(kind, text));
  }
  return argument;
}

function optionOf(spec: OptionSpec): Option {
  const { flags, help, kind, required = false, env, conflicts = [] } = spec;
  const option = new Option(flags, help).makeOptionMandatory(required).conflicts([...conflicts]);
  if (env !== undefined) option.env(env);
  if (kind?.choices !== undefined) option.choices(kind.choices);
  else if (spec.counts === true) option.argParser((_: unknown, before: number = 0) => before + 1);
  else if (spec.repeats === true) option.argParser(listParser(kind ?? {}));
  else if (kind?.parse !== undefined) option.argParser((text) => parsed(kind, text));
  if (spec.default !== undefined) {
    // A default is written as a user would write it: it goes through the same parser.
    const shown = String(spec.default);
    option.default(typeof spec.default === 'string' && kind?.parse !== undefined ? kind.parse(shown) : spec.default, shown);
  }
  return option;
}

const listParser =
  (kind: ValueKind) =>
  (text: string, before: unknown = []): unknown[] => [...(before as readonly unknown[]), parsed(kind, text)];

function parsed(kind: ValueKind, text: string): unknown {
  try {
    return kind.parse === undefined ? text : kind.parse(text);
  } catch (error) {
    if (error instanceof VfioError) throw new InvalidArgumentError(error.fix ?? `${error.message}.`);
    throw error;
  }
}

function configure(program: Command, terminal: Terminal): void {
  const width = helpWidth();
  for (const command of withSubcommands(program)) {
    command
      .showHelpAfterError('(add --help for usage and examples)')
      .exitOverride()
      .helpOption('-h, --help', 'print help')
      // A list of commands has their names alone: arguments would leave no room for summaries.
      .configureHelp({ subcommandTerm: (sub) => sub.name() })
      .configureOutput({
        getOutHelpWidth: () => width,
        getErrHelpWidth: () => width,
        writeOut: (text) => say(wrapped(text.trimEnd(), width), terminal.out),
        writeErr: (text) => say(text.trimEnd(), terminal.err),
        // The message quotes the words that the user typed: no line of them passes for one of ours.
        outputError: (text, write) => write(printableLines(text.trimEnd()).join('\n')),
      });
  }
}

function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)];
}

function rootHelp(): string {
  const statuses = exitStatuses.map(([status, meaning]) => `${status} ${meaning}`).join('; ');
  return `\nAddresses:\n${columnLines(addressForms).join('\n')}\n\nExit status: ${statuses}.\n\nvfio COMMAND --help explains a command, with examples.`;
}

function helpAfter({ notes = [], examples = [] }: CommandSpec, rows: readonly CommandSpec[]): string {
  const listed = rows.flatMap((row) => [
    [[row.name, ...(row.arguments ?? []).map(({ name }) => name)].join(' '), row.summary] as const,
    ...(row.options ?? []).map((option) => [`  ${usageOf(option)}`, option.help] as const),
  ]);
  const parts = [
    ...(listed.length === 0 ? [] : [`Commands:\n${columnLines(listed).join('\n')}`]),
    ...notes,
    ...(examples.length === 0 ? [] : [`Examples:\n${examples.map((line) => `  ${line.replaceAll('\n', '\n  ')}`).join('\n')}`]),
  ];
  return parts.map((part) => `\n${part}`).join('\n');
}

const usageOf = (option: OptionSpec) => [`--${longName(option)}`, placeholder(option) ?? ''].join(' ').trim();
