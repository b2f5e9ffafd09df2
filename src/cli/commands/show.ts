import type { CommandSpec } from '../command.ts';
import { jsonOption } from '../options.ts';
import { machine } from '../values.ts';

export const show: CommandSpec = {
  name: 'show',
  summary: 'draw a machine: buses, devices, drivers, users, and the isolation groups that follow',
  arguments: [
    { name: '<machine>', help: 'a machine file, or the directory where a machine is served, to see it as it is now', kind: machine },
  ],
  options: [jsonOption],
  examples: ['vfio show examples/machines/desktop.yaml', 'vfio show /tmp/card'],
  run: async () => (await import('../show.ts')).show,
};
