import { Argument, Command } from 'commander';
import { adminCommands } from '../../api/admin/commands.ts';
import { optionName } from '../../api/admin/door.ts';
import type { CommandContext } from '../command.ts';
import { say } from '../terminal.ts';

/** A row of `vfio admin`, which follows the place where a machine is served. */
interface Row {
  readonly name: string;
  readonly help: string;
  readonly options: readonly string[];
}

/** Rows of `vfio admin WHERE`. Whether a row begins with an address is the same for all shells. */
const adminRows: readonly Row[] = Object.entries(adminCommands).map(([name, { help, options = {} }]) => ({
  name,
  help,
  options: [...Object.keys(options).map((entry) => `--${optionName(entry)}`), '--json', '--help'],
}));
const rowsWithBdf = Object.keys(adminCommands).filter((name) => adminCommands[name]!.positional[0] === 'bdf');

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

const names = (words: readonly { readonly name: string }[]) => words.map((w) => w.name).join(' ');
const indented = (lines: readonly string[], by: string) => lines.map((line) => by + line);

/** `word`: the number of the word that is the command's name, 1 for the first behind `vfio`. */
function bashCases(words: readonly Words[], word: number): string[] {
  return [
    `case "$(set -- $COMP_LINE; echo "$${word + 1}")" in`,
    ...words.flatMap((w) =>
      w.name === 'admin'
        ? ['  admin)', ...indented(bashAdmin, '    '), '    ;;']
        : w.commands.length === 0
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

/** Words are counted in the line: bash cuts `unix:PATH` and addresses at their colons, and the matches have to be cut alike. */
// biome-ignore-start lint/suspicious/noTemplateCurlyInString: the braces are those of bash
const bashAdmin: readonly string[] = [
  'local line=(${COMP_LINE:0:COMP_POINT}) at word=""',
  'at=${#line[@]}',
  '[[ ${COMP_LINE:0:COMP_POINT} == *[[:space:]] ]] || { at=$((at - 1)); word=${line[at]}; }',
  `if [ "$at" -eq 3 ]; then COMPREPLY=($(compgen -W "${names(adminRows)}" -- "$cur")); return; fi`,
  'words="--json --help"',
  'case "${line[3]}" in',
  ...adminRows.map(({ name, options }) => `  ${name}) words="${options.join(' ')}" ;;`),
  'esac',
  `if [ "$at" -eq 4 ] && [[ $word != -* && " ${rowsWithBdf.join(' ')} " == *" \${line[3]} "* ]]; then`,
  '  COMPREPLY=($(cd "${line[2]}" 2>/dev/null && compgen -W "$(printf \'%s\\n\' *.sock | sed -n \'s/\\.sock$//p\')" -- "$word"))',
  '  [[ $word == *:* ]] && COMPREPLY=("${COMPREPLY[@]#"${word%:*}:"}")',
  '  return',
  'fi',
];
// biome-ignore-end lint/suspicious/noTemplateCurlyInString: the braces are those of bash

const quoted = (text: string) => text.replaceAll("'", '’');

function zshDescribe(words: readonly { readonly name: string; readonly description: string }[], variable: string): string[] {
  return [
    `local -a ${variable}=(${words.map((w) => `'${w.name}:${quoted(w.description).replaceAll(':', ' ')}'`).join(' ')})`,
    `_describe 'command' ${variable}; return`,
  ];
}

const zshAdmin: readonly string[] = [
  'if (( CURRENT == 4 )); then',
  ...indented(
    zshDescribe(
      adminRows.map(({ name, help }) => ({ name, description: help })),
      'rows',
    ),
    '  ',
  ),
  'fi',
  'options=(--json --help)',
  'case $words[4] in',
  ...adminRows.map(({ name, options }) => `  ${name}) options=(${options.join(' ')}) ;;`),
  'esac',
  `if (( CURRENT == 5 )) && [[ $PREFIX != -* && " ${rowsWithBdf.join(' ')} " == *" $words[4] "* ]]; then`,
  '  compadd -- $words[3]/*.sock(N:t:r); return',
  'fi',
];

function zshCases(words: readonly Words[], word: number): string[] {
  return [
    `case $words[${word + 1}] in`,
    ...words.flatMap((w) =>
      w.name === 'admin'
        ? ['  admin)', ...indented(zshAdmin, '    '), '    ;;']
        : w.commands.length === 0
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

const fishAdmin: readonly string[] = [
  ...adminRows.map(
    ({ name, help }) =>
      `complete -c vfio -n '__fish_seen_subcommand_from admin; and test (count (commandline -opc)) -eq 3' -f -a ${name} -d '${quoted(help)}'`,
  ),
  ...adminRows.flatMap(({ name, options }) =>
    options.map(
      (option) => `complete -c vfio -n '__fish_seen_subcommand_from admin; and __fish_seen_subcommand_from ${name}' -l ${option.slice(2)}`,
    ),
  ),
  `complete -c vfio -n '__fish_seen_subcommand_from admin; and test (count (commandline -opc)) -eq 4; and contains -- (commandline -opc)[4] ${rowsWithBdf.join(' ')}' -f -a '(path basename -E (commandline -opc)[3]/*.sock 2>/dev/null)'`,
];

function fishLines(words: readonly Words[], when: string): string[] {
  return words.flatMap((w) => {
    const inside = `${when === '__fish_use_subcommand' ? '' : `${when}; and `}__fish_seen_subcommand_from ${w.name}`;
    const before = when === '__fish_use_subcommand' ? when : `'${when}; and not __fish_seen_subcommand_from ${names(words)}'`;
    return [
      `complete -c vfio -n ${before} -f -a ${w.name} -d '${quoted(w.description)}'`,
      ...(w.name === 'admin' ? fishAdmin : []),
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
