import type { CommandSpec } from '../command.ts';
import { forceOption, jsonOption, machineOption, stateOption, sysfsOption } from '../options.ts';
import { bdf, driver, groupOrBdf } from '../values.ts';

export const bind: CommandSpec = {
  name: 'bind',
  summary: 'give a device of this computer and its group to a driver; with --machine, plan it in a machine file',
  arguments: [
    { name: '[bdf]', help: 'the device', kind: bdf },
    { name: '[driver]', help: 'the driver, as --driver', kind: driver },
  ],
  options: [
    {
      flags: '-g, --group [number]',
      help: 'the group by its number; in a machine file without a number: every bind that the group of the device needs',
      kind: groupOrBdf,
    },
    { flags: '--driver <name>', help: 'the driver; none unbinds. Default: vfio-pci', kind: driver },
    { flags: '--alone', help: 'this device only, and not its group' },
    { flags: '--dry-run', help: 'print the commands that do it, and change nothing' },
    { flags: '--persist', help: 'also at the next boots: a file of driverctl where that is installed, else a rule of udev' },
    { flags: '--early', help: 'print the commands that do it before the drivers in the initramfs, and change nothing' },
    forceOption,
    stateOption,
    sysfsOption,
    jsonOption,
    machineOption,
    { flags: '-w, --write', help: 'write the new drivers into the machine file' },
  ],
  notes: [
    'All devices of the group change, but its bridges. A step that fails undoes the earlier ones. vfio restore gives everything back.',
    'The command refuses, with exit status 4, to take away what this computer needs (vfio ls), what a process has open, or a physical function with virtual ones.',
    'With --machine and without --write the command prints the changes and whether they work, and leaves the machine file as it is.',
  ],
  examples: [
    'vfio bind 0000:03:00.0',
    'vfio bind --group 12 --dry-run',
    'vfio bind 03:00.0 --persist',
    'vfio bind 01:00.0 --group -m examples/machines/desktop.yaml',
    'vfio bind 01:00.0 none -m my-machine.yaml --write',
  ],
  run: async () => (await import('../bind.ts')).bind,
};
