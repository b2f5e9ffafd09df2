/** One part of a server: the devices that one thread serves. */
import { dirname, resolve } from 'node:path';
import { Cleanup } from '../../base/cleanup.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import type { MachineNumbers } from '../../engine/machine/machine-options.ts';
import type { EventStream } from '../../events/stream.ts';
import { type AdminDesk, MachineDesk } from '../admin/desk.ts';
import { modelOf } from '../admin/model.ts';
import { DeviceCode } from '../device-code.ts';
import { importMediators } from '../import-mediator.ts';
import type { MachineDocument } from '../machine-document.ts';
import { importMachineOf } from '../machine-of-spec.ts';
import { MachineServer } from '../machine-server.ts';
import { modelsOn } from '../models-of-computer.ts';
import type { PeerProcesses } from '../peer-processes.ts';
import { DeviceServer } from '../serve.ts';
import { shellQuoted } from '../shell-quoted.ts';
import { wiresFor } from '../wires.ts';
import type { DevicesJob, Job, MachineJob, ServedSocket } from './jobs.ts';

/** Things that a part shares with the other parts of its server. */
export interface PartContext {
  readonly events: EventStream;
  readonly processes: PeerProcesses;
  /** Null: the part is the whole machine, and has numbers of its own. */
  readonly numbers: MachineNumbers | null;
  /** Where requests of administrators go. Null: the part is the whole machine. */
  readonly desk: AdminDesk | null;
  /** Gets lines about code that was loaded anew. */
  readonly report: (line: string) => void;
  /** Gets the addresses of a machine's functions each time they change. */
  readonly changed: (functions: readonly string[]) => void;
}

export interface Part extends Disposable {
  readonly sockets: readonly ServedSocket[];
  /** Administers this part alone; null for a device that has no machine which stays. */
  readonly desk: AdminDesk | null;
}

/**
 * Serve what `job` says, until disposed.
 *
 * @throws VfioError (rejects) the errors of loading code, of the machine and of listening
 */
export async function startPart(job: Job, context: PartContext): Promise<Part> {
  return job.kind === 'machine' ? await startMachinePart(job, context) : await startDevicesPart(job, context);
}

async function startMachinePart(job: MachineJob, context: PartContext): Promise<Part> {
  const { file, spec, directory, limits, manage = true } = job;
  const { events, processes, numbers, changed } = context;
  using undo = new Cleanup();
  let served: Machine | null = null;
  const bindCommand = (bdf: string, driver: string) => adminBind(directory, bdf, driver, served?.functions.get(bdf)?.driver ?? null);
  const source = undo.use(events.source('machine'));
  const wires = wiresFor(source, events);
  const model = (device: string) => modelOf(device, wires);
  const mediators = mediatorFilesOf(job);
  const machine = undo.use(
    await importMachineOf(file, spec, {
      events,
      bindCommand,
      models: modelsOn(wires),
      // As a udev rule would make them: programs that join are this user's.
      nodeOwner: process.geteuid!(),
      ...(numbers === null ? {} : { numbers }),
      ...(mediators.length === 0 ? {} : { mediators: await importMediators(mediators) }),
    }),
  );
  served = machine;
  const desk = new MachineDesk({ machine: () => machine, stays: true, model, events: source });
  const isOwn = (bdf: string) => !job.standIns.includes(bdf);
  const whole = context.desk === null ? null : { desk: context.desk, processes };
  const { memlockLimit, vfToken } = job;
  const server = undo.use(
    new MachineServer(
      machine,
      directory,
      {
        ...{ events, manage, model },
        ...(limits === undefined ? {} : { limits }),
        ...(memlockLimit === undefined ? {} : { memlockLimit }),
        ...(vfToken === undefined ? {} : { vfToken }),
      },
      whole,
    ),
  );
  const tell = () => changed([...machine.functions.keys()].filter(isOwn));
  undo.use(
    machine.on(({ kind }) => {
      if (kind === 'add' || kind === 'remove') tell();
    }),
  );
  tell();
  const sockets = server.functions.map((bdf) => {
    const { name, physical } = machine.function(bdf);
    const token = physical?.vfio == null ? '' : ', with the VF token that the driver of its PF sets';
    return { path: server.pathOf(bdf), name: bdf, about: `${name}${token}` };
  });
  const owns = undo.move();
  const own: AdminDesk = {
    status: () => withoutStandIns(desk.status(), isOwn),
    carryOut: (request, progress) => desk.carryOut(request, progress),
  };
  return { sockets, desk: own, [Symbol.dispose]: () => owns[Symbol.dispose]() };
}

/** Their threads have the functions for which others stand in here. */
export function withoutStandIns(document: MachineDocument, isOwn: (bdf: string) => boolean): MachineDocument {
  const groups = document.groups.map((group) => ({ ...group, functions: group.functions.filter(isOwn) }));
  return {
    ...document,
    functions: document.functions.filter(({ bdf }) => isOwn(bdf)),
    groups: groups.filter(({ functions }) => functions.length > 0),
  };
}

/** Mediators of the machine file come first. */
function mediatorFilesOf({ file, spec, mediators = [] }: MachineJob): readonly string[] {
  return [...(spec.mediators ?? []).map((path) => resolve(dirname(file), path)), ...mediators];
}

/** The way to give a function of a served machine another driver: by its administrator. */
function adminBind(directory: string, bdf: string, driver: string, before: string | null): string {
  const admin = `vfio admin ${shellQuoted(directory)}`;
  const steps = [...(before === null ? [] : [`${admin} unbind ${bdf}`]), ...(driver === 'none' ? [] : [`${admin} bind ${bdf} ${driver}`])];
  return steps.join(' && ');
}

async function startDevicesPart({ devices, ...job }: DevicesJob, { events, processes, report }: PartContext): Promise<Part> {
  const { manage = true, limits, mediators = [] } = job;
  using undo = new Cleanup();
  const wires = wiresFor(undo.use(events.source('wires')), events);
  for (const { name, address, path, watch = false } of devices) {
    const code = undo.use(new DeviceCode(address, report, wires));
    const server = undo.use(
      new DeviceServer(await code.load(watch), {
        name,
        events,
        manage,
        processes,
        ...(limits === undefined ? {} : { limits }),
        ...(mediators.length === 0 ? {} : { mediators: await importMediators(mediators) }),
      }),
    );
    code.onReload = (model) => server.replace(model);
    server.listen(path);
  }
  const owns = undo.move();
  const sockets = devices.map(({ name, path }) => ({ path, name, about: name }));
  return { sockets, desk: null, [Symbol.dispose]: () => owns[Symbol.dispose]() };
}
