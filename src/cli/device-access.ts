/** How commands that drive a device get to it: token, events, the way to hardware. */
import { open } from '../api/open.ts';
import type { DriverDevice } from '../drivers/kit/driver-device.ts';
import type { EventStream } from '../events/stream.ts';
import type { EventsOptions } from './event-options.ts';
import { type HardwareOptions, hardwareOf } from './options.ts';
import type { Terminal } from './terminal.ts';
import { tokenOf, type VfTokenOptions } from './vf-token-file.ts';

/** Options of a command line by which it gets to a device. */
export type AccessOptions = VfTokenOptions & EventsOptions & HardwareOptions;

export interface DeviceAccess {
  /** VF token of a function of an SR-IOV device. */
  readonly token?: string | undefined;
  /** The stream that the device emits into. Default: one of its own. */
  readonly events?: EventStream | undefined;
  /** As `OpenOptions.via`. */
  readonly via?: 'group' | 'cdev' | undefined;
  /** As `OpenOptions.unsafeNoIommu`. */
  readonly unsafeNoIommu?: boolean | undefined;
  /** As `OpenOptions.onRequest`. */
  readonly onRequest?: ((device: string) => void) | undefined;
}

/** The part of a command's options that opens the device. */
export function accessIn({ token, events, via, unsafeNoIommu, onRequest }: DeviceAccess): DeviceAccess {
  return { token, events, via, unsafeNoIommu, onRequest };
}

/** @throws VfioError as `open` */
export async function openThrough(address: string, { token, events, via, unsafeNoIommu, onRequest }: DeviceAccess): Promise<DriverDevice> {
  return await open(address, {
    token,
    via,
    unsafeNoIommu,
    ...(onRequest === undefined ? {} : { onRequest }),
    ...(events === undefined ? {} : { events }),
  });
}

/**
 * The token of a command line, and the stream of its files of events. Dispose it when the device is
 * closed.
 *
 * @param stdoutHas the data that the command itself writes to standard output
 */
export async function accessOf(
  options: AccessOptions,
  terminal: Terminal,
  stdoutHas?: string,
): Promise<Required<DeviceAccess> & Disposable> {
  const { watchedStream } = await import('./events/event-files.ts');
  const token = tokenOf(options, terminal);
  const watched = watchedStream(options, terminal, { stdoutHas });
  return {
    token,
    events: watched?.stream,
    ...hardwareOf(options),
    onRequest: undefined,
    [Symbol.dispose]: () => watched?.[Symbol.dispose](),
  };
}
