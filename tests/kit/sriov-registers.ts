/** The SR-IOV capability of a PF as its hardware shows it. */
import { ExtCapId } from '../../src/abi/pci.ts';
import type { Machine } from '../../src/engine/machine/machine.ts';
import { Sriov } from '../../src/pci/capabilities/single-root-virtualization.ts';

/** Values that are no number of VFs. */
export const ERROR_VALUES: readonly number[] = [
  -1,
  1.5,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  '2' as never,
  undefined as never,
  null as never,
];

export function sriovRegisters(machine: Machine, bdf: string) {
  const { config } = machine.function(bdf);
  const at = config.findExtendedCapability(ExtCapId.SRIOV);
  const control = config.read(at + Sriov.CTRL, 2);
  return {
    enabled: (control & Sriov.CTRL_VFE) !== 0,
    memory: (control & Sriov.CTRL_MSE) !== 0,
    numVfs: config.read(at + Sriov.NUM_VF, 2),
    bar0: config.read(at + Sriov.BAR, 4),
  };
}
