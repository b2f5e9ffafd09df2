import type { CommandSpec } from '../command.ts';
import { eventNote, eventOptions, recordOption } from '../event-options.ts';
import { fault } from '../fail-option.ts';
import { vfTokenOption } from '../options.ts';
import { directory, file, machineFile, oneOf, servable } from '../values.ts';

export const exec: CommandSpec = {
  name: 'exec',
  summary: 'run a program on devices of TypeScript as if Linux’s VFIO had them',
  arguments: [
    {
      name: '<program>',
      help: 'the program, in PATH or a path; write -- before it when it has options. A directory is where a machine is served, and the program stands behind it',
      kind: directory,
    },
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
      help: 'how the program reaches mapped BARs: trap each access to registers (by ptrace), poll the doorbells of devices that have mapped ones (nvme,doorbells=mapped) and trap the rest, or rw: BARs can be read and written but not mapped. Default: trap; rw on other processors than x86-64',
      kind: oneOf(['trap', 'poll', 'rw']),
    },
    { flags: '-t, --trace', help: 'print each system call on a file of VFIO, with the rule that refused it' },
    { flags: '-o, --output <file>', help: 'write the lines of --trace into the file. Default: standard error', kind: file() },
    {
      flags: '--fail <call:n:errno>',
      help: 'the call with that name fails with errno, the n-th time that the program makes it: VFIO_IOMMU_MAP_DMA:3:ENOMEM. Default of n: 1',
      kind: fault,
      repeats: true,
    },
    {
      flags: '--no-sysfs',
      help: "the program sees this computer's own /sys and /dev; it can open /dev/vfio and /dev/iommu all the same. Needs no user namespace",
    },
    {
      ...vfTokenOption,
      help: `${vfTokenOption.help}. SR-IOV functions that the program opens without a token are opened with it`,
    },
    ...eventOptions,
    recordOption,
  ],
  notes: [
    'The program opens /dev/vfio and /dev/iommu, and finds the devices in /sys, as on a machine that has them: 0000:01:00.0, 0000:02:00.0 and so on, each in a group of its own, under vfio-pci. It may be linked statically or dynamically, and start others, which have the devices, too.',
    'vfio exec DIRECTORY -- PROGRAM runs the program on the machine that vfio serve machine.yaml --socket-path DIRECTORY --threads 1 serves, beside its other clients and programs. --events and --record are options of vfio serve then.',
    'The exit status is that of the program, or 128 and the number of the signal that ended it.',
    eventNote,
    'This is no security boundary: the program runs with your rights.',
  ],
  examples: [
    'vfio exec --device nvme,image=disk.img -- lspci -v',
    'vfio exec --device ./card.ts --trace -- ./my-program',
    'vfio exec --machine examples/machines/sriov.yaml -- sh',
    'vfio exec /tmp/card -- ./my-program',
    'vfio exec --device edu --fail MAP_DMA:2:ENOMEM -- ./my-program',
  ],
  run: async () => (await import('../exec/exec.ts')).execProgram,
};
