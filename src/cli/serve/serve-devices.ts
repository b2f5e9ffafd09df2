/** `vfio serve nvme edu ./card.ts`: several devices beside each other. */
import { join, resolve } from 'node:path';
import { surviveForeignCode } from '../../api/foreign-context.ts';
import { MachineDirectory } from '../../api/machine-directory.ts';
import { socketPathOf } from '../../api/socket-path.ts';
import type { ServedDevice } from '../../api/threads/jobs.ts';
import { serveDevices as serveParts } from '../../api/threads/serve-parts.ts';
import { VfioError } from '../../base/errno.ts';
import { EventStream } from '../../events/stream.ts';
import { writeEventFiles } from '../events/event-files.ts';
import type { Terminal } from '../terminal.ts';
import { unlessStopped, untilStopped } from '../until-stopped.ts';
import { deviceNames } from './device-names.ts';
import { modelAddress } from './model-address.ts';
import { guideOf, logTo, refuseDeviceOptions, type ServeOptions, servingOf } from './serve-options.ts';
import { service } from './service.ts';

/** Serves until a signal. @returns the exit status */
export async function serveDevices(devices: readonly string[], options: ServeOptions, terminal: Terminal): Promise<number> {
  refuseDeviceOptions(options, 'it would be for each of the devices');
  if (options.fd !== undefined || options.stdio === true) {
    throw new VfioError('EINVAL', 'several devices have a socket each', { fix: 'Give --socket-path DIRECTORY.' });
  }
  const named = withNames(devices, options);
  using stop = untilStopped();
  using manager = service();
  using _output = await terminal.serve();
  using events = new EventStream({ log: logTo(terminal) });
  using _files = writeEventFiles(events, options, terminal, { record: options.record });
  using _survive = surviveForeignCode(events);
  using _directory = options.socketPath === undefined ? null : new MachineDirectory(resolve(options.socketPath));
  await using served = await unlessStopped(stop, (signal) =>
    serveParts(named, { ...servingOf(options), events, report: terminal.err, signal }),
  );
  if (served === null) return await stop.status;
  manager.ready(`${served.sockets.length} sockets`, stop);
  for (const { path, name } of served.sockets) guideOf(options, terminal)(`unix:${path}  ${name}`);
  terminal.err(
    `listening at ${served.sockets.length} sockets${served.threads === 0 ? '' : `, with ${served.threads} threads for the devices`}`,
  );
  return await stop.status;
}

function withNames(devices: readonly string[], { socketPath, watch = false }: ServeOptions): readonly ServedDevice[] {
  const addresses = devices.map(modelAddress);
  return deviceNames(addresses).map((name, i) => {
    const address = addresses[i]!;
    const path = socketPath === undefined ? socketPathOf(name) : resolve(join(socketPath, `${name}.sock`));
    // A model of the package has no file to watch.
    return { name, address, path, watch: watch && address.kind === 'file' };
  });
}
