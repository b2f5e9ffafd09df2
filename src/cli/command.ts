/**
 * A command as data: its words, their kinds, its help. commander's program, `--help`, completion
 * and the man pages follow from it. The code that carries the command out is imported when a
 * command line asks for it.
 */
import type { Terminal } from './terminal.ts';
import type { ValueKind } from './values.ts';

export interface CommandSpec {
  readonly name: string;
  /** One sentence without a full stop, for lists of commands. */
  readonly summary: string;
  readonly arguments?: readonly ArgumentSpec[];
  readonly options?: readonly OptionSpec[];
  /** Commands of a command, such as those of `vfio nvme`. */
  readonly commands?: readonly CommandSpec[];
  /**
   * Commands behind the first argument, which `run` reads by itself: those of `vfio admin`. Each
   * has no `run`.
   */
  readonly rows?: () => Promise<readonly CommandSpec[]>;
  /** Paragraphs for the command's help. */
  readonly notes?: readonly string[];
  /** Command lines, as they are typed. */
  readonly examples?: readonly string[];
  readonly run?: () => Promise<Action>;
}

export interface ArgumentSpec {
  /** As usage lines have it: `<file>`, `[bdf]`, `[args...]`. */
  readonly name: string;
  readonly help: string;
  readonly kind?: ValueKind;
  readonly default?: string;
}

export interface OptionSpec {
  /** Such as `-o, --output <file>`. */
  readonly flags: string;
  readonly help: string;
  /** Of the value, for an option that has one. */
  readonly kind?: ValueKind;
  /** The option may be given more than once: its value is a list. */
  readonly repeats?: true;
  /** A switch that may be given more than once: its value is how often. */
  readonly counts?: true;
  readonly required?: true;
  readonly default?: unknown;
  /** The environment variable that stands in for the option. */
  readonly env?: string;
  /** Names of options that exclude this one, in camel case. */
  readonly conflicts?: readonly string[];
}

/** Carries a command out. Resolves to the exit status. Default: 0. */
export type Action = (context: CommandContext, options: never, ...words: never[]) => Promise<number | undefined>;

export interface CommandContext {
  readonly terminal: Terminal;
  /** The whole table. */
  readonly vfio: CommandSpec;
  /** End the command for wrong usage. */
  usage(message: string): never;
  /** Carry out `row` with the words behind its name. Wrong usage of it ends the command. */
  runRow(row: CommandSpec, words: readonly string[]): Promise<void>;
}

/** The name of an option behind its dashes: `socket-path`. */
export function longName({ flags }: OptionSpec): string {
  return /--([a-z-]+)/.exec(flags)![1]!;
}

/** `-s`, or undefined. */
export function shortFlag({ flags }: OptionSpec): string | undefined {
  return /^-[a-zA-Z](?=,)/.exec(flags)?.[0];
}

/** The option's value as usage lines have it, `<path>` or `[address]`; undefined for a switch. */
export function placeholder({ flags }: OptionSpec): string | undefined {
  return /[<[].*$/.exec(flags)?.[0];
}
