/**
 * The file and the device of a region, as regions and their mappings see them. `DeviceFile` and
 * `VfioPciDevice` are these. Types only: register accesses go through these members, and cost no
 * more than through the classes.
 */
import type { VfioError } from '../../base/errno.ts';
import type { FunctionHost } from '../../hardware/function-host.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';
import type { VirtualConfig } from './virtual-config.ts';

/** The file that a region belongs to. */
export interface RegionFile {
  readonly device: RegionDevice;
  /** `close` was called; mappings may still hold the device. */
  readonly closed: boolean;
  /** @throws VfioError ENODEV when the file was closed or the device is gone */
  checkLive(): void;
  /** A mapping was made: it holds the file open until `unmapped`. */
  mapped(mapping: Disposable): void;
  unmapped(mapping: Disposable): void;
}

/** The device whose registers and memory a region shows. */
export interface RegionDevice {
  readonly bdf: string;
  readonly host: FunctionHost;
  readonly fn: { readonly declaration: PciDeclaration; readonly config: ConfigSpace };
  readonly ctx: { readonly pageSize: number };
  readonly openState: { readonly vconfig: VirtualConfig };
  readonly power: { wake(): void };
  /** Register accesses have to go the long way: the device is gone, in reset, or in low power. */
  readonly slow: boolean;
  /** The reason why the device is gone; null while it is there. */
  readonly gone: string | null;
  /**
   * No access reaches the device, whatever the user has switched on: reset, or sleep of the
   * machine.
   */
  readonly standing: boolean;
  /** The reason why a load from a mapping faults now; null when it does not. */
  mappingFault(): string | null;
  /** The error for an access that the device does not answer now. */
  closedGate(what: string): VfioError;
  /** An access is over: low power again when the user asked for it. */
  settle(): void;
}
