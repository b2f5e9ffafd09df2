import { Command } from 'commander';
import { runDriver } from '../../run-driver.ts';
import { address } from '../arguments.ts';
import type { CommandContext } from '../main.ts';

export function runCommand({ exit }: CommandContext): Command {
  return new Command('run')
    .description('run a driver on a device')
    .argument('<driver.ts>', 'a file that exports main(address, args)')
    .argument('<address>', 'the device', address)
    .argument('[args...]', 'given to the driver')
    .addHelpText('after', '\nExample:\n  vfio run examples/hello-driver.ts sim:examples/hello-device.ts')
    .action(async (file: string, at: string, args: string[]) => exit(await runDriver(file, at, args)));
}
