import type { CommandSpec } from '../command.ts';
import { jsonOption } from '../options.ts';
import { servedMachine } from '../values.ts';

export const admin: CommandSpec = {
  name: 'admin',
  summary: 'administer a served machine while it is used, as sysfs, aer-inject and a hand on the slot do',
  arguments: [
    {
      name: '<where>',
      help: "the directory where a machine is served; or unix:PATH, one function's socket, which needs no BDF",
      kind: servedMachine,
    },
    { name: '[command]', help: 'one of the commands below. Default: show' },
    { name: '[arguments...]', help: 'arguments of that command' },
  ],
  options: [jsonOption],
  rows: async () => (await import('../admin/rows.ts')).adminRows(),
  notes: ['The owner of the sockets and root may do it: PATH.manage and machine.manage have mode 0600.'],
  examples: [
    'vfio admin /tmp/card unbind 01:00.1 --wait',
    'vfio admin /tmp/card plug nvme,size=1G --behind 00:02.0',
    'vfio admin /tmp/card error 01:00.0 nonfatal',
    'vfio admin unix:/tmp/edu.sock reset',
  ],
  run: async () => (await import('../admin/admin.ts')).administer,
};
