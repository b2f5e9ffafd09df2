/** `vfio`: one command, one file per sub-command under commands/. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { VfioError } from '../../base/errno.ts';
import { bindCommand } from './commands/bind.ts';
import { completionCommand } from './commands/completion.ts';
import { configCommand } from './commands/config.ts';
import { demoCommand } from './commands/demo.ts';
import { explainCommand } from './commands/explain.ts';
import { explainWriteCommand } from './commands/explain-write.ts';
import { runCommand } from './commands/run.ts';
import { serveCommand } from './commands/serve.ts';
import { showCommand } from './commands/show.ts';
import { traceCommand } from './commands/trace.ts';
import { Exit, exitCodeOf } from './exit-codes.ts';
import { processTerminal, type Terminal } from './terminal.ts';

/** What a sub-command gets: where to speak, and where to leave an exit status other than 0. */
export interface CommandContext {
  readonly terminal: Terminal;
  exit(code: number): void;
}

const commands = [
  demoCommand,
  showCommand,
  explainCommand,
  bindCommand,
  configCommand,
  explainWriteCommand,
  runCommand,
  serveCommand,
  traceCommand,
  completionCommand,
];

function version(): string {
  return (JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string }).version;
}

export function makeProgram(context: CommandContext): Command {
  const program = new Command('vfio')
    .description(
      'VFIO in TypeScript: PCI device models behind the kernel’s safety rules, and drivers that run unchanged on models and hardware',
    )
    .version(version())
    .addHelpText(
      'after',
      `
Addresses:
  sim:edu | sim:./my-device.ts     a software device in this process
  unix:/path.sock                  a device behind the socket of a vfio-user server
  0000:03:00.0 | 03:00.0           a PCI function (of --machine FILE, or of this computer where a command reads only)

Exit status:
  0 ok   1 failure   2 usage   3 a check found problems   4 refused by a safety rule   5 device gone   130 interrupted`,
    );
  for (const make of commands) program.addCommand(make(context, program));
  for (const command of [program, ...program.commands]) {
    command
      .showHelpAfterError('(add --help for usage and examples)')
      .exitOverride()
      .configureOutput({
        writeOut: (text) => context.terminal.out(text.trimEnd()),
        writeErr: (text) => context.terminal.err(text.trimEnd()),
      });
  }
  return program;
}

/** Runs the command line; resolves to the exit status. Never throws. */
export async function main(argv: readonly string[], terminal: Terminal = processTerminal()): Promise<number> {
  let status: number = Exit.OK;
  const program = makeProgram({
    terminal,
    exit: (code) => {
      status = code;
    },
  });
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return status;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? Exit.OK : Exit.USAGE;
    terminal.err(
      error instanceof VfioError
        ? `vfio: ${error.explain()}`
        : `vfio: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    );
    return exitCodeOf(error);
  }
}
