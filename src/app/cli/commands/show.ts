import { Command } from 'commander';
import type { CommandContext } from '../command.ts';
import { groupLines, machineDocument, treeLines } from '../machine-tree.ts';
import { json } from '../terminal.ts';

export function showCommand({ terminal }: CommandContext): Command {
  return new Command('show')
    .description('draw a machine: buses, devices, drivers, and the isolation groups that follow')
    .argument('<machine.yaml>', 'the machine')
    .option('--json', 'one JSON document for programs')
    .addHelpText('after', '\nExample:\n  vfio show examples/machines/desktop.yaml')
    .action(async (file: string, options: { json?: boolean }) => {
      const { loadMachine } = await import('../../machine.ts');
      using machine = loadMachine(file);
      if (options.json === true) {
        json(terminal, 'vfio-ts/show/1', machineDocument(machine));
        return;
      }
      for (const line of treeLines(machine, terminal)) terminal.out(line);
      for (const group of machine.groups.values()) {
        terminal.out('');
        for (const line of groupLines(group, terminal)) terminal.out(line);
      }
    });
}
