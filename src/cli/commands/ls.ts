import type { CommandSpec } from '../command.ts';
import { jsonOption, sysfsOption } from '../options.ts';
import { bdf } from '../values.ts';

export const ls: CommandSpec = {
  name: 'ls',
  summary: 'list the PCI devices of this computer: driver, group, users, and whether each can be given away',
  arguments: [{ name: '[bdf]', help: 'one device', kind: bdf }],
  options: [{ flags: '--groups', help: 'group by group' }, sysfsOption, jsonOption],
  notes: [
    'free: a user can have it. used: a process has it, or another device of its group, open through VFIO. needed: the computer needs it, or another device of its group: a mounted disk, swap, the display, the default route, the only keyboard. no-iommu: no IOMMU isolates it.',
    'An ordinary user sees the users of the own processes only.',
  ],
  examples: ['vfio ls', 'vfio ls --groups', 'vfio ls --json'],
  run: async () => (await import('../host/ls.ts')).ls,
};
