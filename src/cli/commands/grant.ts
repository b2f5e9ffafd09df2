import type { CommandSpec } from '../command.ts';
import { jsonOption } from '../options.ts';
import { bdf, group } from '../values.ts';

export const grant: CommandSpec = {
  name: 'grant',
  summary: 'give the nodes of a group in /dev/vfio to a user, who then needs no root',
  arguments: [{ name: '[bdf]', help: 'a device of the group', kind: bdf }],
  options: [
    { flags: '-g, --group <number>', help: 'the group by its number', kind: group },
    { flags: '-u, --user <name>', help: 'the user, by name or number. Default: the user of sudo' },
    { flags: '--revoke', help: 'give the nodes back to root' },
    { flags: '--persist', help: 'also when the nodes appear anew, and after boots: a rule of udev' },
    { flags: '--iommufd', help: 'also let all users open /dev/iommu, which gives access to no device' },
    jsonOption,
  ],
  notes: [
    'A user who has a group has its devices, with DMA to memory of the own processes only. The user may still need a higher limit of locked memory (vfio doctor).',
  ],
  examples: ['vfio grant 0000:03:00.0 --user alice', 'vfio grant --group 12 --user alice --persist', 'vfio grant 03:00.0 --revoke'],
  run: async () => (await import('../host/grant.ts')).grant,
};
