import { Command } from 'commander';
import type { CommandContext } from '../command.ts';
import { Exit } from '../exit-codes.ts';
import { endingSignals } from '../until-stopped.ts';

export function demoCommand({ terminal }: CommandContext): Command {
  return new Command('demo')
    .description(
      'a machine, drivers at work in processes of their own, three attacks refused, what it costs, a disk, tenants of virtual functions, a live migration; needs no root, no hardware, no kernel module',
    )
    .addHelpText('after', '\nThis is what npm start runs.')
    .action(async () => {
      // The folders go with the process, and the drivers end when the process that directs them is
      // gone.
      for (const [signal] of endingSignals) process.once(signal, () => process.exit(Exit.INTERRUPTED));
      const { demo } = await import('../demo/demo.ts');
      await demo(terminal);
    });
}
