/** Options of `vfio serve` that the device itself takes. */
import type { OptionSpec } from '../command.ts';
import { file, oneOf } from '../values.ts';

/**
 * Options of the device itself, with the names that they have in `sim:nvme,image=disk.img`. A
 * device
 * that has no such option refuses it.
 */
export const deviceOptions: readonly OptionSpec[] = [
  { flags: '--image <file>', help: 'nvme: a disk image or block device; a further one is the next namespace', kind: file(), repeats: true },
  { flags: '--size <size>', help: 'nvme: bytes of a new image, such as 10G, or of a disk in memory. Default in memory: 1G' },
  { flags: '--block-size <bytes>', help: 'nvme: bytes of a logical block. Default: 512', kind: oneOf(['512', '4096']) },
  {
    flags: '--format <format>',
    help: 'nvme: the image is raw, although it looks like a qcow2, VMDK, VHDX … image',
    kind: oneOf(['raw']),
  },
  {
    flags: '--doorbells <kind>',
    help: 'nvme: clients can map the doorbells, and the controller polls them, as SPDK needs. Default: registers',
    kind: oneOf(['registers', 'mapped']),
  },
  { flags: '--readonly', help: 'nvme: the disk refuses writes, and the image can be shared', conflicts: ['overlay'] },
  { flags: '--overlay', help: 'nvme: writes stay in memory, and the image as it is' },
];
