/** `vfio serve machine.yaml`: a socket for each function that vfio-pci drives. */
import { basename, extname, resolve } from 'node:path';
import { surviveForeignCode } from '../../api/foreign-context.ts';
import { socketPathOf } from '../../api/socket-path.ts';
import { serveMachine as serveParts } from '../../api/threads/serve-parts.ts';
import { VfioError } from '../../base/errno.ts';
import { EventStream } from '../../events/stream.ts';
import { writeEventFiles } from '../events/event-files.ts';
import type { Terminal } from '../terminal.ts';
import { unlessStopped, untilStopped } from '../until-stopped.ts';
import { tokenOf } from '../vf-token-file.ts';
import { guideOf, logTo, refuseDeviceOptions, type ServeOptions, servingOf } from './serve-options.ts';
import { service } from './service.ts';

/** Serves until a signal. @returns the exit status */
export async function serveMachine(file: string, options: ServeOptions, terminal: Terminal): Promise<number> {
  const { fd, stdio, watch, record } = options;
  refuseDeviceOptions(options, `${file} is a machine, which declares its devices itself`);
  if (fd !== undefined || stdio === true || watch === true) {
    throw new VfioError('EINVAL', `${file} is a machine, which has sockets of its own`, { fix: 'Give --socket-path DIRECTORY.' });
  }
  const directory = resolve(options.socketPath ?? socketPathOf(basename(file, extname(file))).replace(/\.sock$/, ''));
  const vfToken = tokenOf(options, terminal);
  using stop = untilStopped();
  using manager = service();
  using _output = await terminal.serve();
  using events = new EventStream({ log: logTo(terminal) });
  using _files = writeEventFiles(events, options, terminal, { record });
  using _survive = surviveForeignCode(events);
  await using served = await unlessStopped(stop, (signal) =>
    serveParts(file, directory, {
      ...servingOf(options),
      ...(vfToken === undefined ? {} : { vfToken }),
      events,
      report: terminal.err,
      signal,
    }),
  );
  if (served === null) return await stop.status;
  manager.ready(`${served.sockets.length} sockets at ${directory}`, stop);
  for (const { path, about } of served.sockets) guideOf(options, terminal)(`unix:${path}  ${about}`);
  if (served.sockets.length === 0) {
    terminal.err(
      `no function has a socket yet: vfio-pci drives none. In ${file} it is driver: vfio-pci, and now vfio admin ${directory} bind BDF vfio-pci`,
    );
  }
  terminal.err(`listening at ${directory}${served.threads === 0 ? '' : `, with ${served.threads} threads for its devices`}`);
  return await stop.status;
}
