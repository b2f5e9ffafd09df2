import type { CommandSpec } from '../command.ts';
import { machineOption } from '../options.ts';
import { bdf, driver } from '../values.ts';

export const bind: CommandSpec = {
  name: 'bind',
  summary: 'plan the bind of a device, or of its whole group, to a driver; --write keeps it',
  arguments: [
    { name: '<bdf>', help: 'the device', kind: bdf },
    { name: '[driver]', help: 'the driver; none unbinds', kind: driver, default: 'vfio-pci' },
  ],
  options: [
    { ...machineOption, required: true },
    { flags: '-g, --group', help: 'make every bind that the group needs, so that a user can have it' },
    { flags: '-w, --write', help: 'write the new drivers into the machine file' },
  ],
  notes: ['Without --write the command prints the changes and whether they work, and leaves the machine file as it is.'],
  examples: ['vfio bind 01:00.0 --group -m examples/machines/desktop.yaml', 'vfio bind 01:00.0 none -m my-machine.yaml --write'],
  run: async () => (await import('../bind.ts')).bind,
};
