/**
 * The man pages: vfio(1), and vfio-COMMAND(1) for each command. They are made of the table of
 * commands.
 */
import { type ArgumentSpec, type CommandSpec, longName, type OptionSpec, placeholder, shortFlag } from './command.ts';
import { addressForms, exitStatuses, groups, vfio } from './commands.ts';

export interface ManPage {
  /** `vfio-serve.1`. */
  readonly file: string;
  /** In the language of man(7). */
  readonly text: string;
}

/** @param version of the package   @param date as in 2026-11-29 */
export async function manPages(version: string, date: string): Promise<ManPage[]> {
  const commands = groups
    .flatMap((group) => group.commands)
    .filter((command) => command.run !== undefined || command.commands !== undefined);
  const header = (name: string) => `.TH ${name.toUpperCase()} 1 ${date} "vfio-ts ${version}" "User Commands"`;
  const pages = commands.map(async (command) => {
    const name = `vfio-${command.name}`;
    const rows = (await command.rows?.()) ?? [];
    return { file: `${name}.1`, text: `${[header(name), ...commandPage(command, rows)].join('\n')}\n` };
  });
  return [{ file: 'vfio.1', text: `${[header('vfio'), ...mainPage()].join('\n')}\n` }, ...(await Promise.all(pages))];
}

/** Text as man(7) takes it: backslashes and hyphens are meant, and no line is a request. */
function escaped(text: string): string {
  const plain = text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('’', '\\(cq')
    .replaceAll('…', '\\&...')
    .replaceAll('✓', 'yes');
  return /^[.']/.test(plain) ? `\\&${plain}` : plain;
}

/** A sentence of its own, where a list has words without a full stop. */
function sentence(text: string): string {
  // Names of models, commands and addresses stay as they are typed.
  const first = /^(?:nvme|edu|vfio|lspci|unix|tcp|sim)\b/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1);
  return escaped(/[.!?]$/.test(first) ? first : `${first}.`);
}

const section = (title: string, lines: readonly string[]) => (lines.length === 0 ? [] : [`.SH ${title}`, ...lines]);
/** A line of a list: `term` is markup already. */
const entry = (term: string, text: string) => ['.TP', term, text];
const bold = (text: string) => `\\fB${escaped(text)}\\fR`;
const italic = (text: string) => `\\fI${escaped(text)}\\fR`;
const words = (text: string) => text.replace(/[<>[\].]/g, '');

function mainPage(): string[] {
  return [
    ...section('NAME', [`vfio \\- ${escaped(vfio.summary)}`]),
    ...section('SYNOPSIS', [`${bold('vfio')} ${italic('command')} [${italic('argument')} ...]`]),
    ...section('DESCRIPTION', [
      sentence(vfio.summary),
      '.PP',
      `${bold('vfio')} ${italic('command')} ${bold('--help')} explains a command, with examples.`,
    ]),
    ...groups.flatMap(({ title, commands }) =>
      section(
        title.toUpperCase(),
        commands.flatMap(({ name, summary }) => entry(bold(name), sentence(summary))),
      ),
    ),
    ...section(
      'ADDRESSES',
      addressForms.flatMap(([form, meaning]) => entry(bold(form), sentence(meaning))),
    ),
    ...section('EXIT STATUS', exitStatusLines()),
    ...section('ENVIRONMENT', environment(groups.flatMap(({ commands }) => commands))),
    ...section(
      'SEE ALSO',
      seeAlso(groups.flatMap(({ commands }) => commands.filter((c) => c.run ?? c.commands)).map(({ name }) => `vfio-${name}`)),
    ),
  ];
}

function commandPage(command: CommandSpec, rows: readonly CommandSpec[]): string[] {
  const { name, summary, commands = [], notes = [], examples = [] } = command;
  return [
    ...section('NAME', [`vfio\\-${escaped(name)} \\- ${escaped(summary)}`]),
    ...section(
      'SYNOPSIS',
      commands.length === 0
        ? [synopsis(['vfio', name], command)]
        : commands.flatMap((each, i) => [...(i === 0 ? [] : ['.br']), synopsis(['vfio', name, each.name], each)]),
    ),
    ...section('DESCRIPTION', [sentence(summary), ...notes.flatMap((note) => ['.PP', escaped(note)])]),
    ...details(command, '.SH'),
    ...section(
      'COMMANDS',
      [...commands, ...rows].flatMap((each) => [
        `.SS ${synopsis([each.name], each)}`,
        sentence(each.summary),
        ...(each.notes ?? []).flatMap((note) => ['.PP', escaped(note)]),
        ...details(each, '.PP'),
      ]),
    ),
    ...section('EXAMPLES', exampleLines([...examples, ...commands.flatMap((each) => each.examples ?? [])])),
    ...section('EXIT STATUS', exitStatusLines()),
    ...section('ENVIRONMENT', environment([command])),
    ...section('SEE ALSO', seeAlso(['vfio'])),
  ];
}

function synopsis(name: readonly string[], { arguments: args = [], options = [] }: CommandSpec): string {
  return [
    bold(name.join(' ')),
    ...(options.length === 0 ? [] : [`[${italic('options')}]`]),
    ...args.map(
      (argument) =>
        (argument.name.startsWith('[') ? `[${italic(words(argument.name))}]` : italic(words(argument.name))) +
        (argument.name.includes('...') ? ' ...' : ''),
    ),
  ].join(' ');
}

/** Arguments and options. `.SH` begins a section for each, `.PP` a paragraph. */
function details({ arguments: args = [], options = [] }: CommandSpec, heading: '.SH' | '.PP'): string[] {
  const parts = [...args.flatMap(argumentLines)];
  const listed = [...options.flatMap(optionLines)];
  if (heading === '.PP') return [...parts, ...listed];
  return [...section('ARGUMENTS', parts), ...section('OPTIONS', listed)];
}

function argumentLines({ name, help, kind, default: value }: ArgumentSpec): string[] {
  if (help === '') return [];
  return entry(italic(words(name)), sentence(described(help, kind?.choices, value)));
}

function optionLines(option: OptionSpec): string[] {
  const short = shortFlag(option);
  const value = placeholder(option);
  const long = `--${longName(option)}`;
  const shown = value === undefined ? '' : value.startsWith('[') ? ` [${italic(words(value))}]` : ` ${italic(words(value))}`;
  const names = [...(short === undefined ? [] : [short]), long].map(bold).join(', ');
  return entry(names + shown, sentence(described(option.help, option.kind?.choices, option.default)));
}

function described(help: string, choices: readonly string[] | undefined, value: unknown): string {
  const oneOf = choices === undefined ? '' : `. One of ${choices.join(', ')}`;
  return `${help}${oneOf}${value === undefined ? '' : `. Default: ${String(value)}`}`;
}

function exampleLines(examples: readonly string[]): string[] {
  return examples.length === 0 ? [] : ['.EX', ...examples.flatMap((line) => line.split('\n')).map(escaped), '.EE'];
}

const exitStatusLines = () => exitStatuses.flatMap(([status, meaning]) => entry(bold(status), sentence(meaning)));

function environment(commands: readonly CommandSpec[]): string[] {
  const options = commands.flatMap(function all(command): readonly OptionSpec[] {
    return [...(command.options ?? []), ...(command.commands ?? []).flatMap(all)];
  });
  const named = new Map(options.flatMap((option) => (option.env === undefined ? [] : [[option.env, longName(option)] as const])));
  return [...named].flatMap(([name, option]) => entry(bold(name), `The value of ${bold(`--${option}`)} where the option is missing.`));
}

const seeAlso = (names: readonly string[]) => [names.map((name) => `\\fB${escaped(name)}\\fR(1)`).join(',\n')];
