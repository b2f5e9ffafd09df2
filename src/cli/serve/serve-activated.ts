/**
 * `vfio serve` behind sockets that systemd listens at: one for each device. All devices run in this
 * thread, which has the sockets.
 */
import { DeviceCode } from '../../api/device-code.ts';
import { surviveForeignCode } from '../../api/foreign-context.ts';
import { PeerProcesses } from '../../api/peer-processes.ts';
import { DeviceServer } from '../../api/serve.ts';
import { wiresFor } from '../../api/wires.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { EventStream } from '../../events/stream.ts';
import type { PassedSocket } from '../../sys/service-manager.ts';
import { UnixListener } from '../../sys/unix-listener.ts';
import type { Session } from '../../vfio-user/session.ts';
import { writeEventFiles } from '../events/event-files.ts';
import { Exit } from '../exit-codes.ts';
import type { Terminal } from '../terminal.ts';
import { untilStopped } from '../until-stopped.ts';
import { deviceNames } from './device-names.ts';
import { modelAddress } from './model-address.ts';
import { clientLimits, logTo, mediatorsOf, refuseDeviceOptions, type ServeOptions, withDeviceOptions } from './serve-options.ts';
import { inheritedSocket, service, socketsFor } from './service.ts';

/** Serves until a signal, or until clients of connected sockets are gone. @returns the status */
export async function serveActivated(
  devices: readonly string[],
  passed: readonly PassedSocket[],
  options: ServeOptions,
  terminal: Terminal,
): Promise<number> {
  if (devices.length > 1) refuseDeviceOptions(options, 'it would be for each of the devices');
  const addresses = devices.map((text) => (devices.length > 1 ? modelAddress(text) : withDeviceOptions(modelAddress(text), options)));
  const names = deviceNames(addresses);
  const numbers = socketsFor(names, passed);
  using stop = untilStopped();
  using manager = service();
  using _output = await terminal.serve();
  using events = new EventStream({ log: logTo(terminal) });
  using _files = writeEventFiles(events, options, terminal, { record: options.record });
  using _survive = surviveForeignCode(events);
  using wireEvents = events.source('wires');
  const wires = wiresFor(wireEvents, events);
  using undo = new Cleanup();
  const processes = new PeerProcesses(options.memlock);
  const mediators = await mediatorsOf(options);
  const sessions: Session[] = [];
  for (const [i, address] of addresses.entries()) {
    const name = names[i]!;
    const code = undo.use(new DeviceCode(address, terminal.err, wires));
    const model = await code.load(options.watch === true);
    // A socket of systemd has no second one beside it for moves.
    const server = undo.use(
      new DeviceServer(model, { name, events, processes, manage: false, limits: clientLimits(options), ...mediators }),
    );
    code.onReload = (changed) => server.replace(changed);
    const socket = inheritedSocket(numbers[i]!, `the socket of ${name}`);
    if (socket instanceof UnixListener) server.accept(socket);
    else sessions.push(server.serve(socket));
  }
  terminal.err(`listening at ${names.length === 1 ? 'a socket' : `${names.length} sockets`} of systemd: ${names.join(', ')}`);
  manager.ready(names.join(', '), stop);
  if (sessions.length < names.length) return await stop.status;
  return await Promise.race([stop.status, Promise.all(sessions.map(({ ended }) => ended)).then(() => Exit.OK)]);
}
