/** A virtual machine behind a descriptor, and the VFIO device that it may have. */
import { SyntheticVm } from '../engine/vm/synthetic-vm.ts';
import type { VfioFileSet } from '../engine/vm/vfio-file-set.ts';
import type { VmProvider } from '../engine/vm/vm-provider.ts';

export class VirtualMachine {
  readonly vm: SyntheticVm;
  /** Null until KVM_CREATE_DEVICE, and again after the device is closed. */
  device: VfioFileSet | null = null;

  constructor(provider: VmProvider, name: string) {
    this.vm = new SyntheticVm(provider, name);
  }
}
