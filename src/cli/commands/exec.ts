import type { CommandSpec } from '../command.ts';
import { machineFile, oneOf, servable } from '../values.ts';

export const exec: CommandSpec = {
  name: 'exec',
  summary: 'run a program on devices of TypeScript as if Linux’s VFIO had them',
  arguments: [
    { name: '<program>', help: 'the program, in PATH or a path; write -- before it when it has options' },
    { name: '[args...]', help: 'its arguments' },
  ],
  options: [
    {
      flags: '-d, --device <device>',
      help: 'a model of the package with its options (nvme,image=disk.img), or a file with a device (./card.ts)',
      kind: servable,
      repeats: true,
    },
    { flags: '-m, --machine <file>', help: 'a machine of several devices', kind: machineFile, conflicts: ['device'] },
    {
      flags: '--bars <how>',
      help: 'how the program reaches mapped BARs: trap each access to registers (by ptrace), poll the doorbells of devices that have mapped ones (nvme,doorbells=mapped) and trap the rest, or rw: BARs can be read and written but not mapped. Default: trap',
      kind: oneOf(['trap', 'poll', 'rw']),
    },
  ],
  notes: [
    'The program opens /dev/vfio and /dev/iommu as on a machine that has the devices. It may be linked statically or dynamically, and start others, which have the devices, too.',
    'The exit status is that of the program, or 128 and the number of the signal that ended it.',
    'This is no security boundary: the program runs with your rights.',
  ],
  examples: ['vfio exec --device edu -- ./my-program', 'vfio exec --machine examples/machines/sriov.yaml -- ./my-program'],
  run: async () => (await import('../exec/exec.ts')).execProgram,
};
