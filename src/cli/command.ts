import type { Command } from 'commander';
import type { Terminal } from './terminal.ts';

/** What a sub-command gets: where to speak, and where to leave an exit status other than 0. */
export interface CommandContext {
  readonly terminal: Terminal;
  exit(code: number): void;
}

/** What a file under commands/ exports. */
export type MakeCommand = (context: CommandContext, program: Command) => Command;
