/** `vfio`: runs one command line. The table of commands is in commands.ts. */
import { CommanderError } from 'commander';
import { failureLines } from '../api/failure-lines.ts';
import { orNever } from '../api/unsettled.ts';
import { Exit, exitCodeOf } from './exit-codes.ts';
import { makeProgram } from './program.ts';
import { processTerminal, type Terminal } from './terminal.ts';

const neverEnds = () => new Error('nothing is left that could end what the command waits for: this is a bug of vfio-ts');

/** Runs the command line; resolves to the exit status. Never throws. */
export async function main(argv: readonly string[], terminal: Terminal = processTerminal()): Promise<number> {
  let status: number = Exit.OK;
  const exit = (code: number) => {
    status = code;
  };
  try {
    const program = await makeProgram({ terminal, exit }, argv);
    await orNever(program.parseAsync([...argv], { from: 'user' }), neverEnds, 1);
    return status;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? Exit.OK : Exit.USAGE;
    failureLines(error).forEach((line, i) => {
      terminal.err(i === 0 ? `vfio: ${line}` : line);
    });
    return exitCodeOf(error);
  }
}
