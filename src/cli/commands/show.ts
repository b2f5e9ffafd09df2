import type { CommandSpec } from '../command.ts';
import { jsonOption, sysfsOption } from '../options.ts';
import { hostSource } from '../values.ts';

export const show: CommandSpec = {
  name: 'show',
  summary: 'draw this computer or a machine: buses, devices, drivers, users, and the isolation groups',
  arguments: [
    {
      name: '[source]',
      help: 'a machine file, the directory where a machine is served, or a recording of a computer. Default: this computer',
      kind: hostSource,
    },
  ],
  options: [
    { flags: '--yaml', help: 'print a machine file that makes a machine like the computer', conflicts: ['json'] },
    sysfsOption,
    jsonOption,
  ],
  notes: [
    'A recording is the output of lspci -vvv -nn in a file (as root; - is standard input), a report of sos, an archive of hwloc-gather-topology, or a copy of /sys.',
  ],
  examples: [
    'vfio show',
    'vfio show --yaml > machine.yaml',
    'vfio show lspci.txt',
    'vfio show sosreport-host.tar.xz',
    'vfio show examples/machines/desktop.yaml',
    'vfio show /tmp/card',
  ],
  run: async () => (await import('../show.ts')).show,
};
