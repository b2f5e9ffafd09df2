import type { CommandContext, CommandSpec } from '../command.ts';
import { vfTokenOption } from '../options.ts';
import { address, codeFile } from '../values.ts';
import type { VfTokenOptions } from '../vf-token-file.ts';

export const run: CommandSpec = {
  name: 'run',
  summary: 'run a driver on a device',
  arguments: [
    { name: '<driver.ts>', help: 'a file that exports main(address, { args, signal, token })', kind: codeFile },
    { name: '<address>', help: 'the device', kind: address },
    { name: '[args...]', help: 'arguments for the driver' },
  ],
  options: [vfTokenOption],
  notes: [
    "Ctrl-C aborts the signal. Waits on the driver's devices then end, so that the driver's blocks close them. A second Ctrl-C ends the process at once.",
    'The driver hands the token on with open(address, { token }).',
  ],
  examples: [
    'vfio run examples/hello-driver.ts sim:examples/hello-device.ts',
    'vfio run --vf-token-file ~/token driver.ts unix:/tmp/card/0000:01:00.1.sock',
  ],
  run: async () => runDriverFile,
};

async function runDriverFile(
  { terminal }: CommandContext,
  options: VfTokenOptions,
  file: string,
  at: string,
  args: string[],
): Promise<number> {
  const { tokenOf } = await import('../vf-token-file.ts');
  const { runDriver } = await import('../../api/run-driver.ts');
  const { interruptible } = await import('../interruptible.ts');
  const token = tokenOf(options, terminal);
  return await interruptible((signal) => runDriver(file, at, { args, signal, ...(token === undefined ? {} : { token }) }));
}
