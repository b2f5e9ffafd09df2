import type { CommandSpec } from '../command.ts';
import { jsonOption, sysfsOption } from '../options.ts';
import { bdf } from '../values.ts';

export const doctor: CommandSpec = {
  name: 'doctor',
  summary: 'look at everything that VFIO needs on this computer, and say what to change',
  arguments: [{ name: '[bdf]', help: 'a device, which is looked at too', kind: bdf }],
  options: [sysfsOption, jsonOption],
  notes: [
    'Exit status 3: at least one problem. A copy of files does not know everything; the command marks the rest with a question mark.',
  ],
  examples: ['vfio doctor', 'vfio doctor 0000:03:00.0', 'vfio doctor --json'],
  run: async () => (await import('../host/doctor.ts')).doctor,
};
