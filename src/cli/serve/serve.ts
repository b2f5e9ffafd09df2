/** `vfio serve`: a device behind a socket until a signal. */
import { basename, extname, resolve } from 'node:path';
import { DeviceCode } from '../../api/device-code.ts';
import { surviveForeignCode } from '../../api/foreign-context.ts';
import { DeviceServer } from '../../api/serve.ts';
import { socketPathOf } from '../../api/socket-path.ts';
import { wiresFor } from '../../api/wires.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { EventStream } from '../../events/stream.ts';
import { PipeStream } from '../../sys/pipe-stream.ts';
import { UnixListener } from '../../sys/unix-listener.ts';
import { socketAddress } from '../../sys/unix-socket.ts';
import type { Session } from '../../vfio-user/session.ts';
import type { CommandContext } from '../command.ts';
import { writeEventFiles } from '../events/event-files.ts';
import { Exit } from '../exit-codes.ts';
import { say, type Terminal } from '../terminal.ts';
import { untilStopped } from '../until-stopped.ts';
import { attachLines } from './attach-lines.ts';
import { modelAddress } from './model-address.ts';
import { clientLimits, guideOf, logTo, mediatorsOf, type ServeOptions, withDeviceOptions } from './serve-options.ts';
import { activationSockets, inheritedSocket, service } from './service.ts';

export async function serve({ terminal }: CommandContext, options: ServeOptions, devices: readonly string[]): Promise<number> {
  const machine = devices.find((device) => /\.ya?ml$/.test(device));
  if (machine === undefined && options.vfTokenFile !== undefined) {
    throw new VfioError('EINVAL', '--vf-token-file is for a machine, whose virtual functions have sockets of their own', {
      fix: 'Declare the device in a machine file: docs/machines.md.',
    });
  }
  const passed = activationSockets(terminal.err);
  const isPlaced = options.fd !== undefined || options.stdio === true || options.socketPath !== undefined;
  if (passed.length > 0 && !isPlaced) {
    if (machine !== undefined) {
      throw new VfioError('EINVAL', `${machine} is a machine, whose sockets systemd cannot make`, {
        fix: 'Leave the socket unit out: --socket-path DIRECTORY makes the sockets.',
      });
    }
    const { serveActivated } = await import('./serve-activated.ts');
    return await serveActivated(devices, passed, options, terminal);
  }
  if (devices.length === 1 && machine === undefined) return await serveDevice(devices[0]!, options, terminal);
  if (machine === undefined) {
    const { serveDevices } = await import('./serve-devices.ts');
    return await serveDevices(devices, options, terminal);
  }
  if (devices.length > 1) {
    throw new VfioError('EINVAL', `${machine} is a machine, which is served alone`, {
      fix: 'Declare the other devices in it, or serve them apart.',
    });
  }
  const { serveMachine } = await import('./serve-machine.ts');
  return await serveMachine(machine, options, terminal);
}

async function serveDevice(text: string, options: ServeOptions, terminal: Terminal): Promise<number> {
  const address = withDeviceOptions(modelAddress(text), options);
  const name = address.kind === 'model' ? address.name : basename(address.path, extname(address.path));
  const path = options.fd === undefined && options.stdio !== true ? resolve(options.socketPath ?? socketPathOf(name)) : null;
  // Before the socket exists: a signal may come as soon as it does.
  using stop = untilStopped();
  using manager = service();
  using _output = await terminal.serve();
  using events = new EventStream({ log: logTo(terminal) });
  const { record } = options;
  using _files = writeEventFiles(events, options, terminal, { record, ...(options.stdio === true ? { stdoutHas: 'the client' } : {}) });
  using _survive = surviveForeignCode(events);
  using wireEvents = events.source('wires');
  const wires = wiresFor(wireEvents, events);
  using undo = new Cleanup();
  const code = undo.use(new DeviceCode(address, terminal.err, wires));
  const server = undo.use(
    new DeviceServer(await code.load(options.watch === true), {
      name,
      events,
      manage: options.manage ?? true,
      limits: clientLimits(options),
      ...(options.memlock === undefined ? {} : { memlockLimit: options.memlock }),
      ...(await mediatorsOf(options)),
    }),
  );
  code.onReload = (model) => server.replace(model);
  let only: Session | null = null;
  if (path !== null) {
    server.listen(path);
    announce(path, guideOf(options, terminal), terminal);
  } else if (options.fd !== undefined) {
    const socket = inheritedSocket(options.fd, `--fd ${options.fd}`);
    if (socket instanceof UnixListener) server.accept(socket);
    else only = server.serve(socket);
  } else only = server.serve(PipeStream.stdio());
  manager.ready(`${name}${path === null ? '' : ` at ${path}`}`, stop);
  if (only === null) return await stop.status;
  return await Promise.race([stop.status, only.ended.then(() => Exit.OK)]);
}

function announce(path: string, out: Terminal['out'], { err, paint }: Terminal): void {
  // In the form that clients must write: for a path that is too long for a socket, the way from
  // this directory.
  const address = socketAddress(path);
  for (const { title, command } of attachLines(address)) {
    out(paint.dim(`# ${title}`));
    say(command, out);
    out('');
  }
  err(
    address === path
      ? `listening at ${path}`
      : `listening at ${path}, which is too long for others: they connect to ${address} from ${process.cwd()}`,
  );
}
