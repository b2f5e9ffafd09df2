import type { CommandSpec } from '../command.ts';
import { jsonOption, machineOption, selectOption, sysfsOption, vfTokenOption } from '../options.ts';
import { addressOrDump } from '../values.ts';

export const config: CommandSpec = {
  name: 'config',
  summary: 'print a config space the way lspci does',
  arguments: [
    {
      name: '<address>',
      help: 'the device: a BDF, sim:MODEL, unix:PATH, a file made by lspci -xxxx, or a recording of a computer',
      kind: addressOrDump,
    },
  ],
  options: [
    machineOption,
    vfTokenOption,
    selectOption,
    sysfsOption,
    { flags: '-u, --user', help: 'the view that a user has through VFIO, in place of the hardware registers' },
    { flags: '-n, --numeric', help: 'numbers only, no names' },
    {
      flags: '-v, --verbose',
      help: 'as lspci -v; -vv and -vvv print more. Default: -vvv.',
      counts: true,
      conflicts: ['terse', 'json', 'hex', 'permissions'],
    },
    { flags: '-t, --terse', help: 'one line' },
    { flags: '-x, --hex', help: 'hexadecimal that lspci -F reads', conflicts: ['json'] },
    {
      flags: '-p, --permissions',
      help: 'the bits of its registers that a user may write through VFIO, each with the reason',
      conflicts: ['json', 'hex', 'user'],
    },
    jsonOption,
  ],
  notes: [
    'Without --machine a BDF is a device of this computer, read through sysfs. --machine also takes a recording of a computer (vfio help show). Of a dump with several functions the command prints all.',
  ],
  examples: [
    'vfio config sim:edu',
    'vfio config 01:00.0 --machine examples/machines/desktop.yaml --user',
    'vfio config sim:edu --permissions',
    'vfio config sim:edu --hex > edu.txt && lspci -F edu.txt -vvv',
  ],
  run: async () => (await import('../config/config.ts')).printConfig,
};
