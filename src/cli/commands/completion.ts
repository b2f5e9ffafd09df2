import type { CommandContext, CommandSpec } from '../command.ts';
import { say } from '../terminal.ts';
import { oneOf } from '../values.ts';

export const completion: CommandSpec = {
  name: 'completion',
  summary: 'print a completion script for your shell',
  arguments: [{ name: '<shell>', help: 'the shell', kind: oneOf(['bash', 'zsh', 'fish']) }],
  notes: ['The script asks vfio for suggestions at each press of the key: models, functions, sockets, files and choices as they are then.'],
  examples: [
    'source <(vfio completion bash)      # in ~/.bashrc',
    'source <(vfio completion zsh)       # in ~/.zshrc, behind compinit',
    'vfio completion fish | source       # in ~/.config/fish/config.fish',
  ],
  run: async () => printScript,
};

async function printScript({ terminal }: CommandContext, _options: object, shell: string): Promise<undefined> {
  const { scripts } = await import('../completion/shells.ts');
  say(scripts[shell]!, terminal.out);
}

/** Completion scripts call this command. */
export const suggestions: CommandSpec = {
  name: 'suggest',
  summary: 'print words that can stand in place of the last one',
  arguments: [{ name: '[words...]', help: 'the words behind vfio, the last of which is incomplete' }],
  run: async () => printSuggestions,
};

async function printSuggestions({ terminal, vfio }: CommandContext, _options: object, words: string[]): Promise<undefined> {
  const { suggest } = await import('../completion/suggest.ts');
  for (const { value, help } of await suggest(vfio, words)) terminal.out(help === undefined ? value : `${value}\t${help}`);
}
