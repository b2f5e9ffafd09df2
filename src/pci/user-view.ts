/**
 * A VFIO user's view of a config space of which only the bytes are known (S2-05, S2-43): the copy
 * at open, over the hardware's registers.
 */

import { Bar, Command, Config } from '../abi/pci.ts';
import { viewOf } from '../base/data-view.ts';
import type { PermissionMap } from './permission-map.ts';

/** A BAR or the ROM of a device, where more is known than its registers show. */
export interface KnownRegion {
  readonly size: bigint;
  /**
   * The address by which processors reach it, as the kernel says; 0: none. Default: the address in
   * its registers.
   */
  readonly address?: bigint;
  readonly kind: 'io' | 'memory';
  readonly wide: boolean;
  readonly prefetchable: boolean;
}

/** A virtual function's registers show neither its ids nor its BARs, and have no COMMAND.Memory. */
export interface VirtualFunctionFacts {
  readonly vendor: number;
  readonly device: number;
}

/** The read-only bits of a BAR (linux/vfio_pci_config.c, vfio_generate_bar_flags()). */
function typeBits(region: KnownRegion): number {
  if (region.kind === 'io') return Bar.SPACE_IO;
  return (region.prefetchable ? Bar.MEM_PREFETCH : 0) | (region.wide ? Bar.MEM_TYPE_64 : 0);
}

/**
 * The user's copy as it is at open: the map's, with what vfio_config_init() adds for a virtual
 * function.
 *
 * @param regions BAR 0 to 5, where known
 */
export function userCopy(map: PermissionMap, vf?: VirtualFunctionFacts, regions: readonly (KnownRegion | undefined)[] = []): Uint8Array {
  const copy = map.initial.slice();
  if (vf === undefined) return copy;
  const view = viewOf(copy);
  view.setUint16(Config.VENDOR_ID, vf.vendor, true);
  view.setUint16(Config.DEVICE_ID, vf.device, true);
  view.setUint8(Config.COMMAND, view.getUint8(Config.COMMAND) | Command.MEMORY);
  view.setUint8(Config.INTERRUPT_PIN, 0);
  regions.slice(0, Bar.COUNT).forEach((region, i) => {
    if (region !== undefined) view.setUint32(Config.BASE_ADDRESS_0 + 4 * i, typeBits(region), true);
  });
  return copy;
}

/** All of the user's view; `hardware` is as long as the map. */
export function userView(map: PermissionMap, copy: Uint8Array, hardware: Uint8Array, isVirtualFunction: boolean): Uint8Array {
  const bytes = hardware.map((value, at) => (copy[at]! & map.virt[at]!) | (value & ~map.virt[at]!));
  if (isVirtualFunction) bytes[Config.COMMAND] = bytes[Config.COMMAND]! | (copy[Config.COMMAND]! & Command.MEMORY);
  return bytes;
}
