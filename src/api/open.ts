/**
 * `open(address)`: the call in a driver's first line. It returns the same `DriverDevice` for every
 * kind of address.
 */
import type { Clock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import type { Logger } from '../base/log.ts';
import { DriverDevice } from '../drivers/kit/driver-device.ts';
import type { EventStream } from '../events/stream.ts';
import { checkModel } from '../models/kit/device-model.ts';
import type { DeviceModel } from '../pci/declaration.ts';
import { parseAddress } from './address.ts';
import { runEvents, runOpening, runSignal } from './running-driver.ts';

/** How `open` looks for a device and prepares it. */
export interface OpenOptions {
  /** The `vendor:device` that the driver is for, or several. `open` refuses any other device. */
  readonly match?: string | readonly string[];
  /**
   * VF token, a UUID, for a function of an SR-IOV device that requires one. A physical function
   * whose VFs have no user takes the token as its new one.
   */
  readonly token?: string | undefined;
  /**
   * For a server (`unix:`): take over the device that was moved there (docs/moving.md), as it was,
   * with its memory in `adopted`. `open` then refuses any other device.
   */
  readonly adopt?: boolean;
  /** For a server: see `VfioUserOptions.spin`. Default: true. */
  readonly spin?: boolean;
  /**
   * For a device of this computer: by its group and a container, or by its own file and an iommufd.
   * Default: that of `vfio run --via`, else its own file where the kernel has it, and this user may
   * open it.
   */
  readonly via?: 'group' | 'cdev' | undefined;
  /**
   * For a device of this computer: open it also without an IOMMU. It can write anywhere in memory
   * then, and so can a fault of its driver. Default: that of `vfio run --unsafe-noiommu`, else
   * false.
   */
  readonly unsafeNoIommu?: boolean | undefined;
  /**
   * Called when the computer, or the machine, asks for the device back, unless the driver listens
   * for the event 'request' itself. The driver has to close the device soon. Default: under
   * `vfio run` the driver is ended; else the request has no effect.
   */
  readonly onRequest?: (device: string) => void;
  /**
   * For a device of this computer: an open one, with which it shares its memory. Both have one
   * container, or one address space, and the same `dma`; a buffer is mapped once for both, until
   * the last of them is closed.
   */
  readonly with?: DriverDevice | undefined;
  /**
   * The clock of timeouts, and of the model for `sim:` addresses. Default: that of `events`, or the
   * machine's.
   */
  readonly clock?: Clock;
  /**
   * After an abort, waits on the device fail with EINTR. Default: the signal of the driver that
   * `vfio run` runs.
   */
  readonly signal?: AbortSignal;
  /**
   * Receives messages of models and the engine. Default: warnings and errors go to stderr. A stream
   * that is given in `events` has a log of its own.
   */
  readonly log?: Logger;
  /**
   * The stream to which the device emits: for a model its machine, for a server the client. The
   * stream stays the caller's. Default: that of `vfio run --events`, or one of its own, which
   * `DriverDevice.events` reads.
   */
  readonly events?: EventStream;
}

/**
 * Open the device at `address`.
 *
 * - `sim:edu` and the other models of the package, or `sim:./my-device.ts`, a model in a file,
 *   relative to the working directory: the model gets a machine of its own, with an IOMMU, in this
 *   process.
 * - A model itself, `open(edu())`, gets such a machine as well. `open` takes over the resources of
 *   the model.
 * - `unix:/path.sock`: a device behind the socket of a vfio-user server, `vfio serve` or any other.
 * - `0000:03:00.0`: a PCI device of this computer that is bound to vfio-pci (docs/hardware.md), and
 *   `mdev:UUID`, a mediated one.
 * - `lent:/path.sock`: such a device that a broker opens for this process (`vfio lend`).
 *
 * @throws VfioError EINVAL for a text that is not an address; ENOENT when there is no such model,
 *   file or socket; ECONNREFUSED when no server listens at the socket; ENXIO, EOPNOTSUPP for
 *   `adopt` where no device waits; EACCES for a VF token that is missing or wrong, EINVAL for one
 *   that is of no use; ENXIO when `match` names another device. For a device of this computer:
 *   ENODEV, EBUSY, EOPNOTSUPP when it is not there or not VFIO's; EACCES, EBUSY, ENOENT for its
 *   files; EPERM for a group that is not viable, and for a device without an IOMMU
 */
export function open(address: string, options?: OpenOptions): Promise<DriverDevice>;
export function open<M extends DeviceModel>(model: M, options?: OpenOptions): Promise<DriverDevice<ReturnType<M['create']>>>;
export function open(address: string | DeviceModel, options?: OpenOptions): Promise<DriverDevice>;
export async function open(address: string | DeviceModel, given: OpenOptions = {}): Promise<DriverDevice> {
  const events = given.events ?? runEvents();
  const options = events === null ? given : { ...given, events };
  if (typeof address === 'object' || typeof address === 'function') {
    checkModel('open()', address);
    return await openModel(address, options);
  }
  const parsed = parseAddress(address);
  if (options.adopt === true && parsed.kind !== 'socket') {
    throw new VfioError('EINVAL', `${address} is no server that a device could have been moved to`, { fix: "Adopt from 'unix:PATH'." });
  }
  if (options.with !== undefined && parsed.kind !== 'pci' && parsed.kind !== 'mdev') {
    throw new VfioError('EOPNOTSUPP', `${address} cannot share memory with ${options.with.name}`, {
      fix: 'Only devices of this computer share memory, such as 0000:03:00.0 and 0000:04:00.0.',
    });
  }
  switch (parsed.kind) {
    case 'model':
    case 'file': {
      const { loadModel } = await import('./simulation.ts');
      return await openModel(await loadModel(parsed), options, false);
    }
    case 'socket': {
      const { connect } = await import('./connect.ts');
      const device = connect(parsed.path, {
        ...(options.log === undefined ? {} : { log: options.log }),
        ...(options.events === undefined ? {} : { events: options.events }),
        ...(options.token === undefined ? {} : { token: options.token }),
        adopt: options.adopt ?? false,
        ...(options.spin === undefined ? {} : { spin: options.spin }),
      });
      return DriverDevice.attach(device, { ...forDriver(options), adopted: device.adopted });
    }
    case 'pci':
    case 'mdev':
    case 'lent': {
      const { openHardware } = await import('./hardware.ts');
      return DriverDevice.attach(openHardware(parsed, options), { ...forDriver(options), dma: options.with?.dma });
    }
  }
}

/**
 * @param mine true when the program passed the model itself and so knows the type of its instances
 */
async function openModel(model: DeviceModel, options: OpenOptions, mine = true): Promise<DriverDevice> {
  // The engine is imported only here: a file that declares a device imports this package too, and
  // needs no engine.
  const { simulate } = await import('./simulation.ts');
  const { device, owns, machine, bdf } = simulate(model, options);
  const instance = mine ? machine.function(bdf).host.model : undefined;
  return DriverDevice.attach<unknown>(device, { owns, instance, ...forDriver(options) });
}

function forDriver({
  match,
  events,
  clock = events?.clock,
  signal = runSignal() ?? undefined,
  onRequest = runOpening().onRequest,
}: OpenOptions): Pick<OpenOptions, 'match' | 'clock' | 'signal' | 'onRequest'> {
  return {
    ...(onRequest === undefined ? {} : { onRequest }),
    ...(signal === undefined ? {} : { signal }),
    ...(match === undefined ? {} : { match }),
    ...(clock === undefined ? {} : { clock }),
  };
}
