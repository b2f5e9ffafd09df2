import type { CommandSpec } from '../command.ts';
import { jsonOption } from '../options.ts';
import { bdf, machine } from '../values.ts';

export const explain: CommandSpec = {
  name: 'explain',
  summary: 'say whether a user can have a device, what is in the way, and which steps change that',
  arguments: [
    { name: '<machine>', help: 'a machine file, or the directory where a machine is served', kind: machine },
    { name: '[bdf]', help: 'the device, such as 0000:03:00.0 or 03:00.0', kind: bdf },
  ],
  options: [jsonOption],
  notes: ['Exit status 3: something is in the way.'],
  examples: ['vfio explain examples/machines/desktop.yaml 01:00.0', 'vfio explain /tmp/card 01:00.1'],
  run: async () => (await import('../explanation.ts')).explain,
};
