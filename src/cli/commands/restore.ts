import type { CommandSpec } from '../command.ts';
import { forceOption, jsonOption, stateOption } from '../options.ts';
import { bdf, group } from '../values.ts';

export const restore: CommandSpec = {
  name: 'restore',
  summary: 'give devices back that vfio bind has given away: drivers, overrides and virtual functions as before',
  arguments: [{ name: '[bdf]', help: 'the device, with the other devices of its group', kind: bdf }],
  options: [
    { flags: '-g, --group <number>', help: 'the devices of a group', kind: group },
    { flags: '-a, --all', help: 'all that vfio bind has given away since the boot' },
    {
      flags: '--persist',
      help: 'also remove the files of vfio bind --persist; the kernel chooses the driver of a device without a record',
    },
    { flags: '--dry-run', help: 'print the commands, and change nothing' },
    forceOption,
    stateOption,
    jsonOption,
  ],
  notes: ['A step that fails undoes the earlier ones. Exit status 4: a process has a device open, or this computer has come to need it.'],
  examples: ['vfio restore 0000:03:00.0', 'vfio restore --all --dry-run'],
  run: async () => (await import('../host/restore.ts')).restore,
};
