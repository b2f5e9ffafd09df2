import { Argument, Command } from 'commander';
import type { CommandContext } from '../main.ts';

interface Words {
  readonly name: string;
  readonly description: string;
  readonly options: readonly string[];
}

function wordsOf(program: Command): Words[] {
  return program.commands.map((c) => ({
    name: c.name(),
    description: c.description().split('\n')[0]!,
    options: [...c.options.flatMap((o) => (o.long == null ? [] : [o.long])), '--help'],
  }));
}

const shells: Record<string, (words: readonly Words[]) => string> = {
  bash: (words) =>
    [
      '_vfio() {',
      '  local cur=$2 words=""',
      '  if [ "$COMP_CWORD" -eq 1 ]; then',
      `    COMPREPLY=($(compgen -W "${words.map((w) => w.name).join(' ')} --help --version" -- "$cur")); return`,
      '  fi',
      '  case "$(set -- $COMP_LINE; echo "$2")" in',
      ...words.map((w) => `    ${w.name}) words="${w.options.join(' ')}" ;;`),
      '  esac',
      '  if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W "$words" -- "$cur")); else COMPREPLY=($(compgen -f -- "$cur")); fi',
      '}',
      'complete -o filenames -F _vfio vfio',
    ].join('\n'),
  zsh: (words) =>
    [
      '#compdef vfio',
      '_vfio() {',
      '  if (( CURRENT == 2 )); then',
      `    local -a commands=(${words.map((w) => `'${w.name}:${w.description.replaceAll("'", '’').replaceAll(':', ' ')}'`).join(' ')})`,
      "    _describe 'command' commands; return",
      '  fi',
      '  local -a options',
      '  case $words[2] in',
      ...words.map((w) => `    ${w.name}) options=(${w.options.join(' ')}) ;;`),
      '  esac',
      '  if [[ $PREFIX == -* ]]; then compadd -- $options; else _files; fi',
      '}',
      'compdef _vfio vfio',
    ].join('\n'),
  fish: (words) =>
    words
      .flatMap((w) => [
        `complete -c vfio -n __fish_use_subcommand -f -a ${w.name} -d '${w.description.replaceAll("'", '’')}'`,
        ...w.options.map((o) => `complete -c vfio -n '__fish_seen_subcommand_from ${w.name}' -l ${o.slice(2)}`),
      ])
      .join('\n'),
};

export function completionCommand({ terminal }: CommandContext, program: Command): Command {
  return new Command('completion')
    .description('print a completion script for your shell')
    .addArgument(new Argument('<shell>', 'bash, zsh or fish').choices(Object.keys(shells)))
    .addHelpText('after', '\nExample:\n  source <(vfio completion bash)')
    .action((shell: string) => terminal.out(shells[shell]!(wordsOf(program))));
}
