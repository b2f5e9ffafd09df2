/** Options that several commands have. */
import type { OptionSpec } from './command.ts';
import { bdf, directory, file, machineFile, oneOf } from './values.ts';

export const machineOption: OptionSpec = {
  flags: '-m, --machine <file>',
  help: 'the machine file that has the device; for commands that only read, also a recording of a computer',
  kind: machineFile,
  env: 'VFIO_MACHINE',
};

export const selectOption: OptionSpec = { flags: '-s, --select <bdf>', help: 'one function of a dump that holds several', kind: bdf };

export const jsonOption: OptionSpec = { flags: '--json', help: 'print one JSON document, for programs' };

export const vfTokenOption: OptionSpec = {
  flags: '--vf-token-file <file>',
  help: 'the VF token (a UUID) of an SR-IOV device, in a file that only you can read; - is standard input',
  kind: file(),
  env: 'VFIO_VF_TOKEN_FILE',
};

export const sysfsOption: OptionSpec = {
  flags: '--sysfs <root>',
  help: 'a copy of the files of a computer instead of this one: the folder that has sys and proc',
  kind: directory,
};

export const forceOption: OptionSpec = { flags: '--force', help: 'do it although something is lost; the losses are printed' };

export const stateOption: OptionSpec = {
  flags: '--state <file>',
  help: 'the file with the drivers from before. Default: /run/vfio-ts/bindings.json',
  kind: file(),
  env: 'VFIO_BINDINGS',
};

/** Options of commands that open devices of this computer. */
export const hardwareOptions: readonly OptionSpec[] = [
  {
    flags: '--via <way>',
    help: 'the way to hardware: its IOMMU group, or a file of its own. Default: cdev where the kernel has it',
    kind: oneOf(['group', 'cdev']),
  },
  { flags: '--unsafe-noiommu', help: 'also open hardware without an IOMMU, which can overwrite any memory' },
];

export interface HardwareOptions {
  readonly via?: 'group' | 'cdev';
  readonly unsafeNoiommu?: boolean;
}

/** The options in the form that `open` takes. */
export function hardwareOf({ via, unsafeNoiommu }: HardwareOptions) {
  return { via, unsafeNoIommu: unsafeNoiommu };
}
