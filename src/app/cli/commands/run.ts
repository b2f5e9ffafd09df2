import { Command } from 'commander';
import { runDriver } from '../../run-driver.ts';
import { tokenOf, type VfTokenOptions, vfTokenOption } from '../../vf-token-file.ts';
import { address } from '../arguments.ts';
import type { CommandContext } from '../command.ts';

export function runCommand({ exit, terminal }: CommandContext): Command {
  return new Command('run')
    .description('run a driver on a device')
    .argument('<driver.ts>', 'a file that exports main(address, args, options)')
    .argument('<address>', 'the device', address)
    .argument('[args...]', 'given to the driver')
    .addOption(vfTokenOption())
    .addHelpText(
      'after',
      `
The driver gets the token as options.token, for open(address, options).

Examples:
  vfio run examples/hello-driver.ts sim:examples/hello-device.ts
  vfio run --vf-token-file ~/token driver.ts unix:/tmp/card/0000:01:00.1.sock`,
    )
    .action(async (file: string, at: string, args: string[], options: VfTokenOptions) => {
      const token = tokenOf(options, terminal);
      exit(await runDriver(file, at, args, token === undefined ? {} : { token }));
    });
}
