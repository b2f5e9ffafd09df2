/**
 * A model behind a socket: `serve('sim:edu', { path })`. The model sits in a machine of its own.
 * Each client that connects gets the device in its state after power-on and a fresh DMA space,
 * through the same steps and rules as a program that opens /dev/vfio. One process can serve several
 * models.
 */

import { dirname } from 'node:path';
import type { EventFlow, EventKind, EventOf, EventOptions } from '../abi/event.ts';
import { Cleanup } from '../base/cleanup.ts';
import type { Clock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import { callForeign, type Failed, ownedBy } from '../base/foreign.ts';
import { INSPECT } from '../base/inspect.ts';
import type { Logger } from '../base/log.ts';
import type { Machine } from '../engine/machine/machine.ts';
import type { Mediators } from '../engine/mediation/mediators.ts';
import type { EventSource } from '../events/source.ts';
import { type EventStream, streamOf } from '../events/stream.ts';
import { checkModel } from '../models/kit/device-model.ts';
import type { DeviceModel } from '../pci/declaration.ts';
import type { ByteStream } from '../sys/byte-stream.ts';
import { UnixListener } from '../sys/unix-listener.ts';
import type { ServerLimits } from '../vfio-user/limits.ts';
import type { Session } from '../vfio-user/session.ts';
import { parseAddress } from './address.ts';
import { FunctionServer, openDoor } from './function-server.ts';
import { PeerProcesses } from './peer-processes.ts';
import { failedTo, loadModel, machineAround, startMachine } from './simulation.ts';
import { makeSocketDirectory } from './socket-path.ts';
import { stderrLogger } from './stderr-logger.ts';

/**
 * Mappings of one client, in the engine's accounting (dma_entry_limit): twice Linux's number,
 * because a client may be a whole computer.
 */
const MAPPINGS_MAX = 131_072;

/** How a `DeviceServer` serves a model. */
export interface ServeOptions {
  /** The name in messages. Default: the model's name. */
  readonly name?: string;
  /** The clock of the machine around the model. Default: that of `events`, or the system's. */
  readonly clock?: Clock;
  /**
   * Receives lines of the server and its machine, when the stream is their own; a stream that is
   * given has a log of its own. Default: warnings and errors go to stderr.
   */
  readonly log?: Logger;
  /**
   * The stream to which the server and its machines emit. The stream stays the caller's. Default:
   * one of its own, for all clients.
   */
  readonly events?: EventStream;
  /** Limits of one client: sizes of messages, regions mapped, requests in flight. */
  readonly limits?: Partial<ServerLimits>;
  /**
   * Bytes that a client may map for DMA, in place of its own RLIMIT_MEMLOCK. Infinity: no limit.
   */
  readonly memlockLimit?: number;
  /** Accounts of locked memory, for several servers that share their clients. */
  readonly processes?: PeerProcesses;
  /** The mediators that the machine asks when a client opens the device (docs/mediation.md). */
  readonly mediators?: Mediators;
  /** Whether clients, and listening for clients, keep this process alive. Default: true. */
  readonly keepAlive?: boolean;
  /**
   * Listen at a second socket beside each path, PATH.manage, through which the device can be moved
   * (docs/moving.md). Default: true.
   */
  readonly manage?: boolean;
}

/** Where and how `serve` listens. */
export interface ServeAtOptions extends ServeOptions {
  /** The path of the socket; `DeviceServer.listen` says more. */
  readonly path: string;
}

/** The model behind the socket until `replace`. */
interface Running extends Disposable {
  /** The name of the model. */
  readonly name: string;
  readonly bdf: string;
  readonly server: FunctionServer;
  readonly machines: MachinePerClient;
}

/**
 * A model behind sockets: one client of vfio-user after the other, or several. `serve` makes one
 * that listens.
 *
 * @typeParam M the model that the server serves
 */
export class DeviceServer<M extends DeviceModel = DeviceModel> implements Disposable {
  readonly #options: ServeOptions;
  readonly #processes: PeerProcesses;
  readonly #stream: EventStream;
  /** The server's own events, which belong to no client. */
  readonly #source: EventSource;
  /** Notes failures of a user's code. */
  readonly #failed: Failed;
  readonly #listeners = new Set<UnixListener>();
  readonly #instanceListeners = new Set<(instance: ReturnType<M['create']>) => void>();
  #running: Running;
  /** Of the stream: what this server made. */
  readonly #owns: Disposable;
  #disposed = false;

  /**
   * Takes over the resources of the model, also when the constructor throws.
   *
   * @throws VfioError EINVAL for a declaration that is not a device
   */
  constructor(model: M, options: ServeOptions = {}) {
    this.#options = options;
    this.#processes = options.processes ?? new PeerProcesses(options.memlockLimit);
    const { clock, log = stderrLogger } = options;
    using undo = new Cleanup();
    this.#stream = streamOf(options.events, { log, ...(clock === undefined ? {} : { clock }) });
    if (options.events === undefined) undo.use(this.#stream);
    this.#source = undo.use(this.#stream.source(options.name ?? model.declaration.name));
    this.#failed = failedTo(this.#source);
    this.#running = this.#start(model);
    this.#owns = undo.move();
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    const at = [...this.#listeners].flatMap(({ path }) => (path === null ? [] : [path])).join(', ');
    return `DeviceServer of ${this.#options.name ?? this.#running.name}${this.#disposed ? ', closed' : ` at ${at || 'no path'}, ${this.sessions.length} clients`}`;
  }

  /**
   * The machine around the model. Each client gets a new machine, and so does the client after
   * `replace`.
   */
  get machine(): Machine {
    return this.#running.machines.current;
  }

  /**
   * The events of the server and its machines from now on, in order: accesses, DMA, interrupts,
   * messages. A stream that the server was given has events of its other users, too.
   *
   * @throws VfioError EINVAL for options or kinds that do not exist
   */
  events<K extends EventKind = EventKind>(options: EventOptions<K> = {}): EventFlow<EventOf<K | 'dropped'>> {
    return this.#stream.read(options);
  }

  /** The clients that are served now. */
  get sessions(): readonly Session[] {
    return this.#running.server.sessions;
  }

  /**
   * The device that is served now, as the model's `create` returned it: for a model of `device()`,
   * its inputs and outputs. Each client gets a new instance, and so does the client after
   * `replace`.
   */
  get instance(): ReturnType<M['create']> {
    return instanceIn(this.#running) as ReturnType<M['create']>;
  }

  /** Calls `listener` with the present instance, and with each later one. */
  onInstance(listener: (instance: ReturnType<M['create']>) => void): Disposable {
    const own = (instance: ReturnType<M['create']>) => listener(instance);
    this.#instanceListeners.add(own);
    own(this.instance);
    return { [Symbol.dispose]: () => void this.#instanceListeners.delete(own) };
  }

  #announce(instance: unknown): void {
    for (const listener of [...this.#instanceListeners]) {
      callForeign('a listener of onInstance', () => listener(instance as ReturnType<M['create']>), this.#failed);
    }
  }

  /**
   * Listen at `path`, with mode 0600. A directory that is missing is made in $XDG_RUNTIME_DIR
   * alone.
   *
   * @throws VfioError EADDRINUSE when a process listens there, or when the file is not a socket;
   *   ENOENT without its directory; EINVAL, EACCES, EROFS
   */
  listen(path: string): UnixListener {
    makeSocketDirectory(dirname(path));
    using undo = new Cleanup();
    const listener = undo.use(UnixListener.listen(path));
    if (this.#options.manage ?? true) this.#listenForMoves(path);
    undo.move();
    return this.accept(listener);
  }

  #listenForMoves(path: string): void {
    const { keepAlive = true, name = this.#running.name } = this.#options;
    const door = openDoor(path, (socket) => this.#running.server.manage(socket), keepAlive);
    if (door === null) this.#source.note('info', path, `${name}: it cannot be moved: ${path} is too long for a second socket beside it`);
    else this.#listeners.add(door);
  }

  /** Serve each client that connects to `listener`. The server takes the listener over. */
  accept(listener: UnixListener): UnixListener {
    this.#listeners.add(listener);
    listener.onConnection((socket) => void this.serve(socket), { keepAlive: this.#options.keepAlive ?? true });
    return listener;
  }

  /** Serve the client at the other end of `stream`. The server takes the stream over. */
  serve(stream: ByteStream): Session {
    return this.#running.server.serve(stream);
  }

  /**
   * Serve another device from now on: clients of the old device are disconnected, and the next
   * client gets the new one. The server takes over the resources of the new model and disposes of
   * those of the old one.
   *
   * @throws VfioError EINVAL for a declaration that is not a device; then nothing has changed
   */
  replace(model: M): void {
    const old = this.#running;
    this.#running = this.#start(model);
    old[Symbol.dispose]();
    this.#announce(this.instance);
  }

  /** Stops listening, disconnects every client and switches the machine off. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    using undo = new Cleanup();
    undo.use(this.#owns);
    undo.use(this.#running);
    for (const listener of this.#listeners) undo.use(listener);
  }

  #start(model: M): Running {
    const { clock, limits, keepAlive, log = stderrLogger } = this.#options;
    const mediated = this.#options.mediators === undefined ? {} : { mediators: this.#options.mediators };
    const given = { events: this.#stream, ...(clock === undefined ? {} : { clock }) };
    using undo = new Cleanup();
    undo.use(ownedBy(model.declaration.name, model.owns, this.#failed));
    const around = machineAround(model, anyAddress);
    const machines = undo.use(
      new MachinePerClient(
        () => startMachine(around, { ...given, log, ...mediated, params: { dmaEntryLimit: MAPPINGS_MAX } }),
        (machine) => this.#announce(machine.function(around.bdf).host.model),
      ),
    );
    const server = undo.use(
      new FunctionServer({
        ...given,
        name: this.#options.name ?? model.declaration.name,
        bdf: around.bdf,
        machines,
        processes: this.#processes,
        ...(limits === undefined ? {} : { limits }),
        ...(keepAlive === undefined ? {} : { keepAlive }),
      }),
    );
    const owns = undo.move();
    return { name: model.declaration.name, bdf: around.bdf, server, machines, [Symbol.dispose]: () => owns[Symbol.dispose]() };
  }
}

/**
 * Switches the machine off and on between clients. A reset of the device is not enough: a device
 * without a reset keeps its registers, and no reset clears the memory behind the BARs. The next
 * client may be a different user, who must not see the previous client's state.
 */
class MachinePerClient implements Disposable {
  readonly #start: () => ReturnType<typeof startMachine>;
  readonly #started: (machine: Machine) => void;
  #running: ReturnType<typeof startMachine>;
  #isUsed = false;

  /** @throws VfioError EINVAL for a declaration that is not a device */
  constructor(start: () => ReturnType<typeof startMachine>, started: (machine: Machine) => void) {
    this.#start = start;
    this.#started = started;
    this.#running = start();
  }

  get current(): Machine {
    return this.#running.machine;
  }

  /** A machine that no client has used. The previous machine has no user any more. */
  next(): Machine {
    if (this.#isUsed) {
      // Idempotent. A wire has room for one port: the one before leaves first.
      this.#running.owns[Symbol.dispose]();
      this.#running = this.#start();
      this.#started(this.#running.machine);
    }
    this.#isUsed = true;
    return this.#running.machine;
  }

  [Symbol.dispose](): void {
    this.#running.owns[Symbol.dispose]();
  }
}

/** The model's device in the present machine. */
function instanceIn({ bdf, machines }: Running): unknown {
  return machines.current.function(bdf).host.model;
}

/**
 * The client chooses its I/O addresses (for a virtual machine, they are guest-physical), and its
 * interrupts are not messages on a bus: no address is special.
 */
const anyAddress = { aperture: { first: 0n, last: 2n ** 64n - 1n }, reserved: [] };

/**
 * Serve a model at `path`. The program owns the handlers of its process: when a promise or a timer
 * of the model fails, the failure is unhandled, as in any program. `vfio serve` logs it instead.
 *
 * @param model the model, which the server takes over
 * @throws VfioError EADDRINUSE when a process listens at `path`; what `DeviceServer.listen` throws
 */
export function serve<M extends DeviceModel>(model: M, options: ServeAtOptions): Promise<DeviceServer<M>>;
/**
 * Serve a model at `path`, by its address.
 *
 * @param address `sim:edu`, `sim:./my-device.ts`, or the model itself, which the server takes over
 * @throws VfioError ENOENT for a model or file that is not there; EINVAL for what is no model;
 *   EADDRINUSE when a process listens at `path`; what `DeviceServer.listen` throws
 */
export function serve(address: string | DeviceModel, options: ServeAtOptions): Promise<DeviceServer>;
export async function serve(address: string | DeviceModel, options: ServeAtOptions): Promise<DeviceServer> {
  using undo = new Cleanup();
  const server = undo.use(new DeviceServer(await modelAt(address), options));
  server.listen(options.path);
  undo.move();
  return server;
}

async function modelAt(address: string | DeviceModel): Promise<DeviceModel> {
  if (typeof address === 'object' || typeof address === 'function') {
    checkModel('serve()', address);
    return address;
  }
  const parsed = parseAddress(address);
  if (parsed.kind === 'model' || parsed.kind === 'file') return await loadModel(parsed);
  throw new VfioError('EINVAL', `${String(address)} is not a model`, { fix: "Give 'sim:edu', or 'sim:./my-device.ts' for one in a file." });
}
