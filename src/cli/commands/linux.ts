import type { CommandSpec } from '../command.ts';
import { eventNote, eventOptions } from '../event-options.ts';
import { vfTokenOption } from '../options.ts';
import { directory, file, integer, machineFile, servable, size } from '../values.ts';

export const linux: CommandSpec = {
  name: 'linux',
  summary: 'boot a Linux as a process, with devices of TypeScript as its PCI cards',
  arguments: [{ name: '[command...]', help: 'the command that it runs, with its arguments; write -- before it. Default: a shell' }],
  options: [
    {
      flags: '-d, --device <device>',
      help: 'a model of the package with its options (nvme,image=disk.img), or a file with a device (./card.ts); a further one is the next card. Default: nvme',
      kind: servable,
      repeats: true,
    },
    {
      flags: '-m, --machine <file>',
      help: 'a machine: Linux gets the functions with MSI-X that vfio-pci drives',
      kind: machineFile,
      conflicts: ['device'],
    },
    { flags: '--kernel <file>', help: 'a User Mode Linux with UML_PCI_OVER_VFIO. Default: the one that --build has built', kind: file() },
    { flags: '--root <directory>', help: 'the root file system of Linux. Default: /, of this computer', kind: directory },
    { flags: '--writable', help: 'changes of the root happen in that directory. Default: they stay in the memory of Linux' },
    {
      flags: '--share <directory>',
      help: 'a directory that Linux may write all the same, at the same path; may be given again',
      kind: directory,
      repeats: true,
    },
    { flags: '--memory <size>', help: 'its memory, such as 1G. Default: 256M', kind: size },
    { flags: '--processors <number>', help: 'its processors. Default: 1', kind: integer(1, 16) },
    { flags: '--append <words>', help: "further words of the kernel's command line, such as nvme.poll_queues=1", repeats: true },
    {
      ...vfTokenOption,
      help: `${vfTokenOption.help}. Linux opens functions of SR-IOV devices with it`,
    },
    ...eventOptions,
    { flags: '-v, --verbose', help: "print the kernel's messages, too" },
    {
      flags: '--build',
      help: "build the kernel from Debian's linux-source into ~/.cache/vfio-ts first: four minutes, 3 GB of disk space meanwhile",
      conflicts: ['kernel'],
    },
    { flags: '--source <directory>', help: 'of --build: a source tree of Linux 6.16 or newer in place of Debian’s', kind: directory },
  ],
  notes: [
    'Linux takes the devices through VFIO as vfio exec gives it to a program, and drives them with its stock drivers: nvme, igb, virtio_rng, pci_endpoint_test. It needs neither root nor a virtual machine.',
    'The exit status is that of the command. Linux ends with it, and its changes of the root are gone.',
    'With a terminal the command has it. Otherwise the command reads nothing, and its output is passed on as it is.',
    eventNote,
    'User Mode Linux knows MSI-X alone: devices with pin interrupts or MSI need a virtual machine (docs/guides/attach-to-qemu.md).',
  ],
  examples: [
    'vfio linux --build',
    'vfio linux',
    'vfio linux --device nvme,image=disk.img -- lsblk',
    'vfio linux --device nvme --events disk.pftrace -- mkfs.ext4 /dev/nvme0n1',
    'vfio linux --device ./my-card.ts --verbose -- ls /sys/bus/pci/devices',
  ],
  run: async () => (await import('../linux/linux.ts')).bootLinux,
};
