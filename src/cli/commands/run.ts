import type { CommandContext, CommandSpec } from '../command.ts';
import { type EventsOptions, eventNote, eventOptions, recordOption } from '../event-options.ts';
import { type HardwareOptions, hardwareOf, hardwareOptions, vfTokenOption } from '../options.ts';
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
  options: [...hardwareOptions, vfTokenOption, ...eventOptions, recordOption],
  notes: [
    "Ctrl-C aborts the signal. Waits on the driver's devices then end, so that the driver's blocks close them. A second Ctrl-C ends the process at once.",
    'The driver hands the token on with open(address, { token }).',
    'A device of this computer has to be bound to vfio-pci (vfio bind). When the computer asks for a device back, the driver is ended like with Ctrl-C, and the exit status is 5; a driver that listens for the event request decides itself.',
    'Events are those of the devices that the driver opens: its accesses, mappings, interrupts and waits; of a sim: device also the work of the model; of a socket also the messages.',
    eventNote,
  ],
  examples: [
    'vfio run examples/hello-driver.ts sim:examples/hello-device.ts',
    'vfio run driver.ts 0000:03:00.0',
    'vfio run --events out.pftrace examples/hello-driver.ts unix:/tmp/hello.sock',
    'vfio run --vf-token-file ~/token driver.ts unix:/tmp/card/0000:01:00.1.sock',
  ],
  run: async () => runDriverFile,
};

async function runDriverFile(
  { terminal }: CommandContext,
  options: VfTokenOptions & EventsOptions & HardwareOptions & { readonly record?: string },
  file: string,
  at: string,
  args: string[],
): Promise<number> {
  const { tokenOf } = await import('../vf-token-file.ts');
  const { runDriver } = await import('../../api/run-driver.ts');
  const { interruptible } = await import('../interruptible.ts');
  const { watchedStream } = await import('../events/event-files.ts');
  const token = tokenOf(options, terminal);
  using watched = watchedStream(options, terminal, { record: options.record });
  return await interruptible(
    (signal, onRequest) => {
      const context = { args, signal, ...(token === undefined ? {} : { token }) };
      return runDriver(file, at, context, watched?.stream ?? null, { ...hardwareOf(options), onRequest });
    },
    (line) => terminal.err(line),
  );
}
