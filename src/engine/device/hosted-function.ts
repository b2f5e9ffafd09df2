/**
 * What the device side of the engine needs of its surroundings: the function it drives and the group file it is opened through. `PciFunction`
 * and `GroupFile` are these; tests make small ones.
 */

import type { FunctionHost } from '../../hardware/function-host.ts';
import type { InterruptLine } from '../../hardware/interrupt-line.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';
import type { AttachableGroup } from '../dma/iommu-properties.ts';
import type { VmFile } from '../vm/vm-provider.ts';
import type { DeviceFile } from './device-file.ts';
import type { VfioPciDevice } from './pci-device.ts';

/** A PCI function as vfio-pci sees it while it is bound to it, and as its neighbours see it during a bus reset. */
export interface HostedFunction {
  /** The command that gives the function to `driver`. */
  bindCommand(driver: string): string;
  readonly bdf: string;
  readonly declaration: PciDeclaration;
  readonly config: ConfigSpace;
  readonly host: FunctionHost;
  /** null when no IOMMU translates for it. */
  readonly group: AttachableGroup | null;
  /** The driver bound to it now, by name. */
  readonly driver: string | null;
  /** Set while it is bound to vfio-pci. */
  readonly vfio: VfioPciDevice | null;
  /** On a virtual function: the physical one that it is a part of. */
  readonly physical?: HostedFunction | null;
  /** Its number among the VFs of `physical`, from 0; 0 on other functions. */
  readonly vfIndex?: number;
  /** On a physical function: its VFs. */
  readonly sriov?: { readonly numVfs: number; readonly totalVfs: number } | null;
  /** The wire that its INTx pin is on; null: on none. Absent: one of its own. */
  readonly interruptLine?: InterruptLine | null;
  /** The bridge above it; null on a root bus. */
  readonly parent?: { readonly bdf: string; readonly config: ConfigSpace } | null;
  /** Every function on the same bus, this one included. */
  onSameBus(): readonly HostedFunction[];
  /**
   * Every function that a reset of its bus would hit: those on the same bus and behind bridges on it, this one included; null when it sits on
   * a root bus, which has no bridge above that could reset it.
   */
  inBusReset(): readonly HostedFunction[] | null;
}

/**
 * Whom a device file belongs to: the group file. It takes its own references (its own, the container's) before it calls
 * `VfioPciDevice.open` and drops them in `deviceReleased`, or when `open` throws.
 */
export interface DeviceFileHolder {
  /** The virtual machine that uses the device, when there is one (S4-03). */
  readonly vm?: VmFile | null;
  /**
   * Called once per file, when it is closed and its last mapping is gone. When it was the device's last file, the device has been disabled and
   * reset before (S2-30): only now may the IOMMU domain be let go.
   */
  deviceReleased(file: DeviceFile): void;
}
