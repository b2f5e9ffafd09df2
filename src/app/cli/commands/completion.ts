import { Argument, Command } from 'commander';
import type { CommandContext } from '../command.ts';
import { say } from '../terminal.ts';

interface Words {
  readonly name: string;
  readonly description: string;
  readonly options: readonly string[];
  /** Of a command that has commands of its own. */
  readonly commands: readonly Words[];
}

function wordsOf(program: Command): Words[] {
  return program.commands.map((c) => ({
    name: c.name(),
    description: c.description().split('\n')[0]!,
    options: [...c.options.flatMap((o) => (o.long == null ? [] : [o.long])), '--help'],
    commands: wordsOf(c),
  }));
}

const names = (words: readonly Words[]) => words.map((w) => w.name).join(' ');
const indented = (lines: readonly string[], by: string) => lines.map((line) => by + line);

/** `word`: the number of the word that is the command's name, 1 for the first behind `vfio`. */
function bashCases(words: readonly Words[], word: number): string[] {
  return [
    `case "$(set -- $COMP_LINE; echo "$${word + 1}")" in`,
    ...words.flatMap((w) =>
      w.commands.length === 0
        ? [`  ${w.name}) words="${w.options.join(' ')}" ;;`]
        : [
            `  ${w.name})`,
            `    if [ "$COMP_CWORD" -eq ${word + 1} ]; then COMPREPLY=($(compgen -W "${names(w.commands)} --help" -- "$cur")); return; fi`,
            ...indented(bashCases(w.commands, word + 1), '    '),
            '    ;;',
          ],
    ),
    'esac',
  ];
}

const quoted = (text: string) => text.replaceAll("'", '’');

function zshDescribe(words: readonly Words[], variable: string): string[] {
  return [
    `local -a ${variable}=(${words.map((w) => `'${w.name}:${quoted(w.description).replaceAll(':', ' ')}'`).join(' ')})`,
    `_describe 'command' ${variable}; return`,
  ];
}

function zshCases(words: readonly Words[], word: number): string[] {
  return [
    `case $words[${word + 1}] in`,
    ...words.flatMap((w) =>
      w.commands.length === 0
        ? [`  ${w.name}) options=(${w.options.join(' ')}) ;;`]
        : [
            `  ${w.name})`,
            `    if (( CURRENT == ${word + 2} )); then`,
            ...indented(zshDescribe(w.commands, 'commands'), '      '),
            '    fi',
            ...indented(zshCases(w.commands, word + 1), '    '),
            '    ;;',
          ],
    ),
    'esac',
  ];
}

function fishLines(words: readonly Words[], when: string): string[] {
  return words.flatMap((w) => {
    const inside = `${when === '__fish_use_subcommand' ? '' : `${when}; and `}__fish_seen_subcommand_from ${w.name}`;
    const before = when === '__fish_use_subcommand' ? when : `'${when}; and not __fish_seen_subcommand_from ${names(words)}'`;
    return [
      `complete -c vfio -n ${before} -f -a ${w.name} -d '${quoted(w.description)}'`,
      ...(w.commands.length > 0 ? fishLines(w.commands, inside) : w.options.map((o) => `complete -c vfio -n '${inside}' -l ${o.slice(2)}`)),
    ];
  });
}

const shells: Record<string, (words: readonly Words[]) => string> = {
  bash: (words) =>
    [
      '_vfio() {',
      '  local cur=$2 words=""',
      '  if [ "$COMP_CWORD" -eq 1 ]; then',
      `    COMPREPLY=($(compgen -W "${names(words)} --help --version" -- "$cur")); return`,
      '  fi',
      ...indented(bashCases(words, 1), '  '),
      '  if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W "$words" -- "$cur")); else COMPREPLY=($(compgen -f -- "$cur")); fi',
      '}',
      'complete -o filenames -F _vfio vfio',
    ].join('\n'),
  zsh: (words) =>
    [
      '#compdef vfio',
      '_vfio() {',
      '  if (( CURRENT == 2 )); then',
      ...indented(zshDescribe(words, 'commands'), '    '),
      '  fi',
      '  local -a options',
      ...indented(zshCases(words, 1), '  '),
      '  if [[ $PREFIX == -* ]]; then compadd -- $options; else _files; fi',
      '}',
      'compdef _vfio vfio',
    ].join('\n'),
  fish: (words) => fishLines(words, '__fish_use_subcommand').join('\n'),
};

export function completionCommand({ terminal }: CommandContext, program: Command): Command {
  return new Command('completion')
    .description('print a completion script for your shell')
    .addArgument(new Argument('<shell>', 'bash, zsh or fish').choices(Object.keys(shells)))
    .addHelpText('after', '\nExample:\n  source <(vfio completion bash)')
    .action((shell: string) => say(shells[shell]!(wordsOf(program)), terminal.out));
}
