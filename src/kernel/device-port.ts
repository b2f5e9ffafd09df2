/**
 * The port of a device of Linux's VFIO: the members that the device's parts (regions, interrupts,
 * features) need of it.
 */
import type { EventSource } from '../events/source.ts';
import type { KernelFile } from '../sys/kernel-file.ts';
import type { KernelCall } from './calls.ts';

export interface KernelPort {
  /** `0000:03:00.0`, or the UUID of a mediated device. */
  readonly name: string;
  /** The device's file. */
  readonly file: KernelFile;
  /** The events of the device. */
  readonly source: EventSource;
  /** Whether the user has closed the device; mappings may still hold it. */
  readonly closed: boolean;
  /** @throws VfioError ENODEV once the device is closed or gone */
  checkOpen(): void;
  /**
   * Make a request of the device.
   *
   * @returns the result, 0 or more
   * @throws VfioError the kernel's errno, with device, call and remedy; `failed` has seen it
   */
  call(call: KernelCall, argument: number | Uint8Array): number;
  /**
   * The kernel has answered an access or a request with this errno: ENODEV may mean that the device
   * is gone, in which case the device says so to its listeners.
   *
   * @param result the negative errno
   */
  failed(result: number): void;
  /** A mapping keeps the device open after `close`, until `dropped`. */
  held(mapping: object): void;
  dropped(mapping: object): void;
}
