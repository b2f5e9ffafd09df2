import type { CommandSpec } from '../command.ts';
import { jsonOption, sysfsOption } from '../options.ts';
import { bdf, hostSourceOrBdf } from '../values.ts';

export const explain: CommandSpec = {
  name: 'explain',
  summary: 'say whether a user can have a device, what is in the way, and which steps change that',
  arguments: [
    {
      name: '<source>',
      help: 'a machine file, the directory where a machine is served, or a recording of a computer. Without it: this computer',
      kind: hostSourceOrBdf,
    },
    { name: '[bdf]', help: 'the device, such as 0000:03:00.0 or 03:00.0', kind: bdf },
  ],
  options: [sysfsOption, jsonOption],
  notes: ['Exit status 3: something is in the way.'],
  examples: [
    'vfio explain 0000:03:00.0',
    'vfio explain lspci.txt 03:00.0',
    'vfio explain examples/machines/desktop.yaml 01:00.0',
    'vfio explain /tmp/card 01:00.1',
  ],
  run: async () => (await import('../explanation.ts')).explain,
};
