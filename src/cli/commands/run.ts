import { Command } from 'commander';
import { runDriver } from '../../api/run-driver.ts';
import { address } from '../arguments.ts';
import type { CommandContext } from '../command.ts';
import { interruptible } from '../interruptible.ts';
import { tokenOf, type VfTokenOptions, vfTokenOption } from '../vf-token-file.ts';

export function runCommand({ exit, terminal }: CommandContext): Command {
  return new Command('run')
    .description('run a driver on a device')
    .argument('<driver.ts>', 'a file that exports main(address, { args, signal, token })')
    .argument('<address>', 'the device', address)
    .argument('[args...]', 'given to the driver')
    .addOption(vfTokenOption())
    .addHelpText(
      'after',
      `
Ctrl-C aborts the signal: waits on the driver's devices end, so that its blocks close them. A second one ends the process at once.
The driver gets the token for open(address, { token }).

Examples:
  vfio run examples/hello-driver.ts sim:examples/hello-device.ts
  vfio run --vf-token-file ~/token driver.ts unix:/tmp/card/0000:01:00.1.sock`,
    )
    .action(async (file: string, at: string, args: string[], options: VfTokenOptions) => {
      const token = tokenOf(options, terminal);
      exit(await interruptible((signal) => runDriver(file, at, { args, signal, ...(token === undefined ? {} : { token }) })));
    });
}
