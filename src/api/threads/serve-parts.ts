/**
 * Serves a machine, or several devices, in threads: one for each set of functions that shares
 * nothing with the others.
 */
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { AsyncCleanup } from '../../base/async-cleanup.ts';
import { type Clock, SystemClock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import { INSPECT } from '../../base/inspect.ts';
import type { Slice } from '../../engine/machine/units.ts';
import { type EventStream, streamOf } from '../../events/stream.ts';
import { MachineDirectory } from '../machine-directory.ts';
import { readMachineFile } from '../machine-file.ts';
import { PeerProcesses } from '../peer-processes.ts';
import { stderrLogger } from '../stderr-logger.ts';
import { sharedWireOf } from '../wires.ts';
import { askOnce } from './device-thread.ts';
import type { DevicesJob, Job, MachineJob, Plan, ServedDevice, ServedSocket, ServingOptions, Survey } from './jobs.ts';
import { startPart } from './parts.ts';
import { ServerThreads } from './server-threads.ts';
import { THREADS_MAX } from './shared-table.ts';
import { ThreadsDesk } from './threads-desk.ts';

/** How a machine, or several devices, are served. */
export interface ServePartsOptions extends ServingOptions {
  /**
   * The most threads for devices, 1 to 31. 1: all devices run in the calling thread. Default: as
   * many as there are sets of functions that share nothing, 31 at most.
   */
  readonly threads?: number;
  /** The stream to which all parts emit. It stays the caller's. Default: one of its own. */
  readonly events?: EventStream;
  /**
   * A clock other than the system's, such as a ManualClock, ticks in one thread alone: all devices
   * run in the calling thread then. Default: that of `events`.
   */
  readonly clock?: Clock;
  /** Gets lines about code that was loaded anew. Default: nothing does. */
  readonly report?: (line: string) => void;
  /** Ends a start that takes too long: it rejects with the reason of the signal. */
  readonly signal?: AbortSignal;
}

/** Devices behind sockets, until disposed. */
export class ServedParts implements AsyncDisposable {
  /** Sockets at the start; those of virtual functions come and go. */
  readonly sockets: readonly ServedSocket[];
  /** Threads of devices; 0: all run in the calling thread. */
  readonly threads: number;
  readonly #owns: AsyncDisposable;

  /** For `serveMachine` and `serveDevices`. */
  constructor(sockets: readonly ServedSocket[], threads: number, owns: AsyncDisposable) {
    this.sockets = sockets;
    this.threads = threads;
    this.#owns = owns;
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    const where = this.threads === 0 ? 'in this thread' : `in ${this.threads} threads`;
    return `ServedParts ${where}: ${this.sockets.map(({ path }) => path).join(', ')}`;
  }

  /** Stops listening, disconnects every client and ends the threads. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owns[Symbol.asyncDispose]();
  }
}

/** Things that are common to the parts of one server. */
class Serving {
  readonly stream: EventStream;
  readonly clock: Clock;
  readonly report: (line: string) => void;
  readonly threads: number;
  readonly #owned: EventStream | null;

  /** @throws VfioError EINVAL for a number of threads that cannot be */
  constructor({ events, clock, report = () => {}, threads = THREADS_MAX }: ServePartsOptions) {
    if (!Number.isInteger(threads) || threads < 1 || threads > THREADS_MAX) {
      throw new VfioError('EINVAL', `${String(threads)} threads`, { fix: `Give a number from 1 to ${THREADS_MAX}.` });
    }
    this.stream = streamOf(events, { log: stderrLogger, ...(clock === undefined ? {} : { clock }) });
    this.#owned = events === undefined ? this.stream : null;
    this.clock = clock ?? this.stream.clock;
    this.report = report;
    this.threads = this.clock instanceof SystemClock ? threads : 1;
  }

  /** All of `jobs` in this thread. */
  async here(jobs: readonly Job[]): Promise<ServedParts> {
    await using undo = new AsyncCleanup();
    undo.defer(() => this.#owned?.[Symbol.dispose]());
    const { stream: events, report } = this;
    const processes = new PeerProcesses(jobs[0]?.memlockLimit);
    const sockets: ServedSocket[] = [];
    for (const job of jobs) {
      const part = await startPart(job, { events, processes, report, numbers: null, desk: null, changed: () => {} });
      undo.use(part);
      sockets.push(...part.sockets);
    }
    return new ServedParts(sockets, 0, undo.move());
  }

  /** How the machine can be divided. @throws VfioError (rejects) as `askOnce` */
  async survey(survey: Survey, signal: AbortSignal | undefined): Promise<Plan> {
    using source = this.stream.source('threads');
    return await askOnce<Plan>(survey, { note: (level, text) => source.note(level, text, text) }, signal);
  }

  begin(undo: AsyncCleanup): ServerThreads {
    undo.defer(() => this.#owned?.[Symbol.dispose]());
    return undo.use(new ServerThreads({ events: this.stream, report: this.report }));
  }
}

/**
 * Serve the machine in `file`: each function that vfio-pci drives has a socket in `directory`, with
 * its address as name, for as long as it is bound. Functions that share nothing run in threads of
 * their own (engine/machine/units.ts).
 *
 * @throws VfioError (rejects) as `importMachine` and `new MachineServer`; EINVAL for options that
 *   cannot be
 */
export async function serveMachine(file: string, directory: string, options: ServePartsOptions = {}): Promise<ServedParts> {
  const serving = new Serving(options);
  const spec = readMachineFile(file);
  const name = spec.name ?? 'machine';
  const place = resolve(directory);
  const job = (share: Partial<MachineJob>): MachineJob => ({
    ...servingOf(options),
    kind: 'machine',
    name,
    file: resolve(file),
    spec,
    standIns: [],
    directory: place,
    atPowerOn: { groups: {}, vfioDevices: {} },
    ...share,
  });
  const { signal } = options;
  const plan =
    serving.threads === 1 ? null : await serving.survey({ kind: 'survey', name, file: resolve(file), threads: serving.threads }, signal);
  if (plan === null || plan.shares.length < 2) return await serving.here([job({})]);
  await using undo = new AsyncCleanup();
  const home = undo.use(new MachineDirectory(place));
  const threads = serving.begin(undo);
  const { shares, bridges, atPowerOn } = plan;
  threads.reserve(atPowerOn);
  const start = (functions: readonly string[], { spec: of, standIns }: Slice) =>
    threads.start(job({ spec: of, standIns, atPowerOn, name: nameOf(functions) }), desk, signal);
  const startEmpty = async () => (await start([], bridges)).thread;
  const desk: ThreadsDesk = new ThreadsDesk(threads, plan.name, startEmpty);
  const sockets = await startAll(shares, (share) => start(share.functions, share));
  if (options.manage ?? true) {
    // From now on the desk knows each function, also of a thread that stops to answer.
    await desk.status();
    const events = undo.use(serving.stream.source('machine'));
    home.openDoor({ desk, join: null, events, clock: serving.clock, keepAlive: true });
  }
  return new ServedParts(sockets, shares.length, undo.move());
}

/**
 * Serve devices beside each other, each in a machine of its own.
 *
 * @throws VfioError (rejects) as `serve`; EINVAL for options that cannot be
 */
export async function serveDevices(devices: readonly ServedDevice[], options: ServePartsOptions = {}): Promise<ServedParts> {
  const serving = new Serving(options);
  const units = unitsByWire(devices);
  const count = Math.min(serving.threads, units.length);
  const jobs = Array.from({ length: count }, (_, number): DevicesJob => {
    const own = units.filter((_unit, i) => i % count === number).flat();
    return { ...servingOf(options), kind: 'devices', name: nameOf(own.map(({ name }) => name)), devices: own };
  });
  if (count < 2) return await serving.here(jobs);
  await using undo = new AsyncCleanup();
  const threads = serving.begin(undo);
  const sockets = await startAll(jobs, (job) => threads.start(job, null, options.signal));
  return new ServedParts(sockets, count, undo.move());
}

/** Devices by the named wire that they share; each other device is alone. */
function unitsByWire(devices: readonly ServedDevice[]): ServedDevice[][] {
  const units: ServedDevice[][] = [];
  const byWire = new Map<string, ServedDevice[]>();
  for (const device of devices) {
    const { wire } = device.address.kind === 'model' ? device.address.options : {};
    const key = typeof wire === 'string' ? sharedWireOf(wire) : null;
    const found = key === null ? undefined : byWire.get(key);
    if (found !== undefined) {
      found.push(device);
      continue;
    }
    const unit = [device];
    units.push(unit);
    if (key !== null) byWire.set(key, unit);
  }
  return units;
}

/**
 * Start as many at once as there are cores: a start is work for the processor alone.
 *
 * @returns the sockets of all, in the order of `items`
 * @throws the error of the first that failed, when those that were begun with it have settled
 */
async function startAll<T>(
  items: readonly T[],
  start: (item: T) => Promise<{ readonly sockets: readonly ServedSocket[] }>,
): Promise<readonly ServedSocket[]> {
  const width = availableParallelism();
  const sockets: ServedSocket[] = [];
  for (let at = 0; at < items.length; at += width) {
    for (const started of await Promise.allSettled(items.slice(at, at + width).map(start))) {
      if (started.status === 'rejected') throw started.reason;
      sockets.push(...started.value.sockets);
    }
  }
  return sockets;
}

/** Of a thread, in messages: `0000:01:00.0 and 2 more`. */
function nameOf(things: readonly string[]): string {
  const [first = 'a device that was plugged in'] = things;
  return things.length < 2 ? first : `${first} and ${things.length - 1} more`;
}

function servingOf({ limits, memlockLimit, manage, mediators, vfToken }: ServingOptions): ServingOptions {
  return {
    ...(limits === undefined ? {} : { limits }),
    ...(memlockLimit === undefined ? {} : { memlockLimit }),
    ...(manage === undefined ? {} : { manage }),
    ...(mediators === undefined ? {} : { mediators: mediators.map((path) => resolve(path)) }),
    ...(vfToken === undefined ? {} : { vfToken }),
  };
}
