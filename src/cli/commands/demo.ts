import { silentLogger } from '../../base/log.ts';
import type { CommandContext, CommandSpec } from '../command.ts';
import { type EventsOptions, eventNote, eventOptions } from '../event-options.ts';
import { Exit } from '../exit-codes.ts';
import { endingSignals } from '../until-stopped.ts';

export const demo: CommandSpec = {
  name: 'demo',
  summary: 'show devices, drivers, refused attacks, a disk, tenants and a live migration at work; needs no root and no hardware',
  options: eventOptions,
  notes: [
    'The demo builds a machine, runs drivers in processes of their own without privileges, shows three attacks that the rules refuse and the price of those rules, lends virtual functions to tenants, and moves a disk that is in use. npm start runs the same.',
    'Events are those of the devices, whose side this process is: accesses, DMA, interrupts, commands, moves, and the messages with the drivers. They slow the devices down, so the figures of the demo mean little then.',
    eventNote,
  ],
  examples: ['vfio demo', 'vfio demo --events demo.pftrace'],
  run: async () => runDemo,
};

async function runDemo({ terminal }: CommandContext, options: EventsOptions): Promise<undefined> {
  // The process deletes its folders at its end, and the drivers end with the process that directs
  // them.
  for (const [signal] of endingSignals) process.once(signal, () => process.exit(Exit.INTERRUPTED));
  const { demo } = await import('../demo/demo.ts');
  const { watchedStream } = await import('../events/event-files.ts');
  using watched = watchedStream(options, terminal, { log: silentLogger });
  await demo(terminal, watched?.stream ?? null);
}
