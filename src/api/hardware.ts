/** Opens devices of this computer, through Linux's VFIO. */
import type { Device } from '../abi/device.ts';
import { VfioError } from '../base/errno.ts';
import { KernelDevice, type KernelDeviceOptions } from '../kernel/device.ts';
import { LentFiles } from '../kernel/lent-files.ts';
import type { Address } from './address.ts';
import { runOpening } from './running-driver.ts';
import { shellQuoted } from './shell-quoted.ts';
import { stderrLogger } from './stderr-logger.ts';

/** An address of a device of this computer. */
export type HardwareAddress = Extract<Address, { readonly kind: 'pci' | 'mdev' | 'lent' }>;

/** The options of `open` that are for devices of this computer. */
export interface HardwareOptions extends Pick<KernelDeviceOptions, 'log' | 'events' | 'token' | 'via' | 'unsafeNoIommu'> {
  /** A device that is open, to share its container. */
  readonly with?: { readonly name: string; readonly device: Device } | undefined;
}

/** @throws VfioError as `open` says of devices of this computer */
export function openHardware(address: HardwareAddress, options: HardwareOptions): KernelDevice {
  const { log = stderrLogger, events, token, via = runOpening().via, unsafeNoIommu = runOpening().unsafeNoIommu } = options;
  const seen: Pick<KernelDeviceOptions, 'log' | 'events'> = { log, events };
  if (address.kind !== 'lent')
    return KernelDevice.open(address, { ...seen, token, via, unsafeNoIommu, with: ofThisComputer(options.with) });
  if (token !== undefined || via !== undefined) {
    throw new VfioError('EINVAL', `lent:${address.path}: the process that lends the device chooses how it is opened`, {
      fix: 'Leave `token` and `via` out, and give them to vfio lend.',
    });
  }
  using files = receive(address.path);
  return KernelDevice.take(files.name, (source) => files.opened(source), seen);
}

/** @throws VfioError EOPNOTSUPP for a device that is no hardware */
function ofThisComputer(other: HardwareOptions['with']): KernelDevice | undefined {
  if (other === undefined || other.device instanceof KernelDevice) return other?.device as KernelDevice | undefined;
  throw new VfioError('EOPNOTSUPP', `${other.name} is no device of this computer, so none of this computer can share memory with it`);
}

function receive(path: string): LentFiles {
  try {
    return LentFiles.receive(path);
  } catch (cause) {
    if (!(cause instanceof VfioError) || (cause.code !== 'ENOENT' && cause.code !== 'ECONNREFUSED')) throw cause;
    throw new VfioError(cause.code, `no process lends a device at ${path}`, {
      cause,
      fix: `Start one as root: vfio lend 0000:03:00.0 --socket-path ${shellQuoted(path)}.`,
    });
  }
}
