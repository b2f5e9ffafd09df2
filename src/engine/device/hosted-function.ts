/**
 * The surroundings of a device, as the device side of the engine sees them: the function that
 * vfio-pci drives, the devices of other functions, the files that users have open, and the group
 * file through which a user opens one. `PciFunction`, `VfioPciDevice`, `DeviceFile` and `GroupFile`
 * are these; tests make small ones.
 */
import type { DeviceEvents } from '../../device/device-events.ts';
import type { FunctionHost } from '../../hardware/function-host.ts';
import type { InterruptLine } from '../../hardware/interrupt-line.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';
import type { AttachableGroup } from '../dma/iommu-properties.ts';
import type { VmFile } from '../vm/vm-provider.ts';
import type { VfToken } from './vf-token.ts';

/**
 * A PCI function as its vfio-pci device sees it, and as its neighbours see it during a bus reset.
 */
export interface HostedFunction {
  /** The command that gives the function to `driver`. */
  bindCommand(driver: string): string;
  readonly bdf: string;
  /** Its folder in sysfs. Absent: it has none. */
  readonly sysfsPath?: string;
  readonly declaration: PciDeclaration;
  readonly config: ConfigSpace;
  readonly host: FunctionHost;
  /** null when no IOMMU translates for it. */
  readonly group: AttachableGroup | null;
  /** The driver bound to it now, by name. */
  readonly driver: string | null;
  /** Set while it is bound to vfio-pci. */
  readonly vfio: BoundDevice | null;
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
   * Every function that a reset of its bus would hit: those on the same bus and behind bridges on
   * it, this one included; null when it sits on a root bus, which has no bridge above that could
   * reset it.
   */
  inBusReset(): readonly HostedFunction[] | null;
}

/** The vfio-pci device of a function, as the devices of other functions see it. */
export interface BoundDevice {
  readonly bdf: string;
  readonly fn: HostedFunction;
  readonly isVirtualFunction: boolean;
  /** A PF's own; null on other functions. */
  readonly token: VfToken | null;
  readonly resetting: boolean;
  /** The device was closed without a reset: the next chance is a reset of its bus (S2-31). */
  needsReset: boolean;
  /** The machine sleeps. */
  readonly power: { readonly suspended: boolean };
  /** Files that are not yet released. */
  readonly openCount: number;
  /** The function has reported an uncorrectable error. */
  reportError(): void;
  /** A reset is about to hit the function. */
  beginReset(): void;
  /** The configuration of the function is back. */
  endReset(): void;
}

/** A file of a device, as the device that all its files share sees it. */
export interface OpenFile {
  readonly holder: DeviceFileHolder;
  /** The listeners of the file. */
  readonly listeners: DeviceEvents;
}

/**
 * The owner of a device file: the group file. A group file takes its references (its own, the
 * container's) before it calls `DeviceFile.open`, and drops them in `deviceReleased`, or when
 * `open` throws.
 */
export interface DeviceFileHolder {
  /** The virtual machine that uses the device, when there is one (S4-03). */
  readonly vm?: VmFile | null;
  /**
   * Called once per file, when it is closed and its last mapping is gone. When it was the device's
   * last file, the device has been disabled and reset before (S2-30): only now may the IOMMU domain
   * be released.
   */
  deviceReleased(file: OpenFile): void;
}
