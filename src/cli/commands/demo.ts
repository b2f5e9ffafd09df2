import type { CommandContext, CommandSpec } from '../command.ts';
import { Exit } from '../exit-codes.ts';
import { endingSignals } from '../until-stopped.ts';

export const demo: CommandSpec = {
  name: 'demo',
  summary: 'show devices, drivers, refused attacks, a disk, tenants and a live migration at work; needs no root and no hardware',
  notes: [
    'The demo builds a machine, runs drivers in processes of their own without privileges, shows three attacks that the rules refuse and the price of those rules, lends virtual functions to tenants, and moves a disk that is in use. npm start runs the same.',
  ],
  run: async () => runDemo,
};

async function runDemo({ terminal }: CommandContext): Promise<undefined> {
  // The process deletes its folders at its end, and the drivers end with the process that directs
  // them.
  for (const [signal] of endingSignals) process.once(signal, () => process.exit(Exit.INTERRUPTED));
  const { demo } = await import('../demo/demo.ts');
  await demo(terminal);
}
