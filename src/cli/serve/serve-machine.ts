/** `vfio serve machine.yaml`: a socket for each function that vfio-pci drives. */
import { basename, dirname, extname, resolve } from 'node:path';
import { surviveForeignCode } from '../../api/foreign-context.ts';
import { importMachine } from '../../api/machine.ts';
import { readMachineFile } from '../../api/machine-file.ts';
import { MachineServer } from '../../api/machine-server.ts';
import { socketPathOf } from '../../api/serve.ts';
import { shellQuoted } from '../../api/shell-quoted.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import { EventStream } from '../../events/stream.ts';
import { writeEventFiles } from '../events/event-files.ts';
import type { Terminal } from '../terminal.ts';
import { untilStopped } from '../until-stopped.ts';
import { clientLimits, guideOf, logTo, mediatorsOf, refuseDeviceOptions, type ServeOptions } from './serve-options.ts';

/** Serves until a signal. @returns the exit status */
export async function serveMachine(file: string, options: ServeOptions, terminal: Terminal): Promise<number> {
  const { fd, stdio, watch, memlock, record, manage = true } = options;
  refuseDeviceOptions(options, `${file} is a machine, which declares its devices itself`);
  if (fd !== undefined || stdio === true || watch === true) {
    throw new VfioError('EINVAL', `${file} is a machine, which has sockets of its own`, { fix: 'Give --socket-path DIRECTORY.' });
  }
  const directory = resolve(options.socketPath ?? socketPathOf(basename(file, extname(file))).replace(/\.sock$/, ''));
  using stop = untilStopped();
  using _output = await terminal.serve();
  using events = new EventStream({ log: logTo(terminal) });
  using _files = writeEventFiles(events, options, terminal, { record });
  using _survive = surviveForeignCode(events);
  using undo = new Cleanup();
  let served: Machine | null = null;
  const bindCommand = (bdf: string, driver: string) => adminBind(directory, bdf, driver, served?.functions.get(bdf)?.driver ?? null);
  const mediated = await mediatorsOf(withMediatorsOf(file, options));
  const machine = undo.use(await importMachine(file, { events, bindCommand, ...mediated }));
  served = machine;
  const server = undo.use(
    new MachineServer(machine, directory, {
      events,
      manage,
      limits: clientLimits(options),
      ...(memlock === undefined ? {} : { memlockLimit: memlock }),
    }),
  );
  for (const bdf of server.functions) {
    const { name, physical } = machine.function(bdf);
    guideOf(
      options,
      terminal,
    )(`unix:${server.pathOf(bdf)}  ${name}${physical?.vfio == null ? '' : ', with the VF token that the driver of its PF sets'}`);
  }
  terminal.err(`listening at ${directory}`);
  return await stop.status;
}

/** The way to give a function of a served machine another driver: by its administrator. */
function adminBind(directory: string, bdf: string, driver: string, before: string | null): string {
  const admin = `vfio admin ${shellQuoted(directory)}`;
  const steps = [...(before === null ? [] : [`${admin} unbind ${bdf}`]), ...(driver === 'none' ? [] : [`${admin} bind ${bdf} ${driver}`])];
  return steps.join(' && ');
}

/** Mediators of the machine file come first. */
function withMediatorsOf(file: string, options: ServeOptions): ServeOptions {
  const named = (readMachineFile(file).mediators ?? []).map((path) => resolve(dirname(file), path));
  if (named.length === 0) return options;
  return { ...options, mediator: [...named, ...(options.mediator ?? [])] };
}
