/**
 * Words that can stand in place of the last one of a command line: completion scripts of all shells
 * ask here.
 */
import { type ArgumentSpec, type CommandSpec, longName, type OptionSpec, placeholder, shortFlag } from '../command.ts';
import type { ValueKind } from '../values.ts';
import type { Suggestion, Typed } from './suggestion.ts';

const HELP: OptionSpec = { flags: '-h, --help', help: 'print help' };
const VERSION: OptionSpec = { flags: '-V, --version', help: 'print the version' };

/** The words of a command line so far. */
class Reading implements Typed {
  readonly options = new Map<string, string>();
  readonly words: string[] = [];
  /** Words that belong to commands before this one: the place of `vfio admin PLACE …`. */
  #before = 0;
  #pending: OptionSpec | null = null;
  #wordsOnly = false;
  command: CommandSpec;

  constructor(root: CommandSpec) {
    this.command = root;
  }

  /** The option whose value comes next. */
  get pending(): OptionSpec | null {
    return this.#pending;
  }

  get wordsOnly(): boolean {
    return this.#wordsOnly;
  }

  /** The argument that comes next. */
  get argument(): ArgumentSpec | undefined {
    const all = this.command.arguments ?? [];
    const last = all.at(-1);
    return all[this.words.length - this.#before] ?? (last?.name.includes('...') === true ? last : undefined);
  }

  /** Commands that can come next. */
  async commands(): Promise<readonly CommandSpec[]> {
    if (this.command.rows !== undefined && this.words.length === 1) return await this.command.rows();
    return this.words.length === this.#before ? (this.command.commands ?? []) : [];
  }

  async take(word: string): Promise<void> {
    if (this.#pending !== null) {
      this.options.set(longName(this.#pending), word);
      this.#pending = null;
    } else if (word === '--' && !this.#wordsOnly) this.#wordsOnly = true;
    else if (word.startsWith('-') && word !== '-' && !this.#wordsOnly) this.#takeOption(word);
    else await this.#takeWord(word);
  }

  #takeOption(word: string): void {
    const [flag, value] = word.split(/=(.*)/s, 2);
    const option = optionsOf(this.command).find((each) => flag === `--${longName(each)}` || flag === shortFlag(each));
    if (option === undefined) return;
    if (value !== undefined) this.options.set(longName(option), value);
    else if (placeholder(option)?.startsWith('<') === true) this.#pending = option;
    else this.options.set(longName(option), '');
  }

  async #takeWord(word: string): Promise<void> {
    const next = (await this.commands()).find(({ name }) => name === word);
    if (next === undefined) this.words.push(word);
    else {
      // Options of `vfio admin` itself stand behind its rows, too.
      this.command = this.command.rows === undefined ? next : { ...next, options: [...(next.options ?? []), ...optionsOf(this.command)] };
      this.#before = this.words.length;
    }
  }
}

function optionsOf({ options = [] }: CommandSpec): readonly OptionSpec[] {
  return options.some(({ flags }) => flags === HELP.flags) ? options : [...options, HELP];
}

/**
 * @param root the command `vfio`
 * @param line the words behind `vfio`, the last of which is the one to complete; it may be ''
 */
export async function suggest(root: CommandSpec, line: readonly string[]): Promise<readonly Suggestion[]> {
  const last = line.at(-1) ?? '';
  const at = new Reading({ ...root, options: [HELP, VERSION] });
  for (const word of line.slice(0, -1)) await at.take(word);
  const [flag, inline] = last.startsWith('--') && !at.wordsOnly ? last.split(/=(.*)/s, 2) : [];
  if (at.pending !== null) return await valuesOf(at.pending.kind, last, at);
  if (flag !== undefined && inline !== undefined) {
    const option = optionsOf(at.command).find((each) => flag === `--${longName(each)}`);
    return (await valuesOf(option?.kind, inline, at)).map(({ value, ...more }) => ({ value: `${flag}=${value}`, ...more }));
  }
  if (last.startsWith('-') && last !== '-' && !at.wordsOnly) return beginningWith(last, flagsFor(at));
  const commands = (await at.commands()).map(({ name, summary }) => ({ value: name, help: summary }));
  const values = await valuesOf(commands.length === 0 ? at.argument?.kind : undefined, last, at);
  return [...beginningWith(last, commands), ...values];
}

/** Options that may come yet. */
function flagsFor({ command, options }: Reading): Suggestion[] {
  return optionsOf(command)
    .filter((option) => option.repeats === true || option.counts === true || !options.has(longName(option)))
    .map((option) => ({ value: `--${longName(option)}`, help: option.help }));
}

async function valuesOf(kind: ValueKind | undefined, word: string, typed: Typed): Promise<readonly Suggestion[]> {
  const choices = (kind?.choices ?? []).map((value) => ({ value }));
  return beginningWith(word, [...choices, ...((await kind?.suggest?.(word, typed)) ?? [])]);
}

const beginningWith = (word: string, all: readonly Suggestion[]) => all.filter(({ value }) => value.startsWith(word));
