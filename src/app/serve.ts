/**
 * A model behind a socket: `serve('sim:edu', { path })`. The model sits in a machine of its own; every client that connects gets the device as it
 * is after power-on and a fresh DMA space, through the same steps and rules as a program that opens /dev/vfio. Several can be served in one process.
 */
import { chmodSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Device } from '../abi/device.ts';
import { Cleanup } from '../base/cleanup.ts';
import type { Clock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import type { Logger, LogLevel } from '../base/log.ts';
import type { Process } from '../engine/dma/process.ts';
import type { Machine } from '../engine/machine/machine.ts';
import type { Mediators } from '../engine/mediation/mediators.ts';
import type { DeviceModel } from '../pci/declaration.ts';
import type { ByteStream, PeerCredentials } from '../sys/byte-stream.ts';
import { UnixListener } from '../sys/unix-listener.ts';
import { SOCKET_PATH_MAX_BYTES } from '../sys/unix-socket.ts';
import type { ServerLimits } from '../vfio-user/limits.ts';
import type { MovedDevice } from '../vfio-user/server/moved-device.ts';
import { VfioUserServer } from '../vfio-user/server.ts';
import type { Session } from '../vfio-user/session.ts';
import { parseAddress } from './address.ts';
import { managePathOf } from './migrate/door.ts';
import { Moves } from './migrate/moves.ts';
import { type OpenedDevice, openForPeer } from './opened-device.ts';
import { PeerProcesses } from './peer-processes.ts';
import { loadModel, machineAround, startMachine, stderrLogger } from './simulation.ts';

/** Mappings of one client, in the engine's accounting (dma_entry_limit): twice what Linux gives, since a client may be a whole computer. */
const MAPPINGS_MAX = 131_072;

export interface ServeOptions {
  /** For messages; the model's name unless told. */
  readonly name?: string;
  readonly clock?: Clock;
  readonly log?: Logger;
  readonly limits?: Partial<ServerLimits>;
  /** Bytes that a client may have mapped for DMA, instead of its own RLIMIT_MEMLOCK; Infinity for no limit. */
  readonly memlockLimit?: number;
  /** Accounts of locked memory, when several servers share their clients. */
  readonly processes?: PeerProcesses;
  /** Who is asked when a client opens the device (docs/mediation.md). */
  readonly mediators?: Mediators;
  /** Whether clients, and waiting for them, keep this process alive. Default true. */
  readonly keepAlive?: boolean;
  /** A second socket beside each path, PATH.manage, through which the device can be moved (docs/moving.md). Default true. */
  readonly manage?: boolean;
}

/** The model behind the socket until `replace`. */
interface Running extends Disposable {
  /** The model's. */
  readonly name: string;
  readonly server: VfioUserServer;
  readonly machines: MachinePerClient;
  readonly moves: Moves;
}

export class DeviceServer implements Disposable {
  readonly #options: ServeOptions;
  readonly #processes: PeerProcesses;
  readonly #listeners = new Set<UnixListener>();
  /** Who pays for the memory of devices that were moved here. */
  readonly #arrivals = new WeakMap<Device, Process>();
  #running: Running;
  #disposed = false;

  /** Takes over what the model owns, also when it throws. @throws VfioError EINVAL for a declaration that is no device */
  constructor(model: DeviceModel, options: ServeOptions = {}) {
    this.#options = options;
    this.#processes = options.processes ?? new PeerProcesses(options.memlockLimit);
    this.#running = this.#start(model);
  }

  /** The machine around the model: another one for each client, and after `replace`. */
  get machine(): Machine {
    return this.#running.machines.current;
  }

  /** Clients that are served now. */
  get sessions(): readonly Session[] {
    return this.#running.server.sessions;
  }

  /**
   * Listen at `path`, with mode 0600; a missing directory is made, with mode 0700. @throws VfioError EADDRINUSE when somebody listens there, or it is
   * no socket; EINVAL, EACCES
   */
  listen(path: string): UnixListener {
    makeDirectory(dirname(path));
    using undo = new Cleanup();
    const listener = undo.use(UnixListener.listen(path));
    if (this.#options.manage ?? true) this.#listenForMoves(managePathOf(path));
    undo.move();
    return this.accept(listener);
  }

  #listenForMoves(path: string): void {
    if (Buffer.byteLength(path) > SOCKET_PATH_MAX_BYTES) {
      this.#log('info', `it cannot be moved: ${path} is too long for a socket`);
      return;
    }
    const door = UnixListener.listen(path);
    this.#listeners.add(door);
    door.onConnection((socket) => void this.#running.moves.serve(socket), { keepAlive: this.#options.keepAlive ?? true });
  }

  /** Serve whoever connects to `listener`, which is taken over. */
  accept(listener: UnixListener): UnixListener {
    this.#listeners.add(listener);
    listener.onConnection((socket) => void this.serve(socket), { keepAlive: this.#options.keepAlive ?? true });
    return listener;
  }

  /** Serve the client at the other end of `stream`, which is taken over. */
  serve(stream: ByteStream): Session {
    return this.#running.server.serve(stream);
  }

  /**
   * Another device from now on: clients of the old one are disconnected, the next one gets the new. Takes over what the model owns, and disposes of what
   * the old one owned.
   *
   * @throws VfioError EINVAL for a declaration that is no device; then nothing has changed
   */
  replace(model: DeviceModel): void {
    const old = this.#running;
    this.#running = this.#start(model);
    old[Symbol.dispose]();
  }

  /** Stops listening, disconnects everybody and switches the machine off. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    using undo = new Cleanup();
    undo.use(this.#running);
    for (const listener of this.#listeners) undo.use(listener);
  }

  #start(model: DeviceModel): Running {
    const { clock, limits, keepAlive } = this.#options;
    const log = this.#options.log ?? stderrLogger;
    const mediated = this.#options.mediators === undefined ? {} : { mediators: this.#options.mediators };
    const given = { log, ...(clock === undefined ? {} : { clock }) };
    using undo = new Cleanup();
    if (model.owns !== undefined) undo.use(model.owns);
    const around = machineAround(model, anyAddress);
    const machines = undo.use(
      new MachinePerClient(() => startMachine(around, { ...given, ...mediated, params: { dmaEntryLimit: MAPPINGS_MAX } })),
    );
    const server: VfioUserServer = undo.use(
      new VfioUserServer({
        ...given,
        name: this.#options.name ?? model.declaration.name,
        open: (peer, vfToken, adopt) =>
          this.#adopt(moves.takeWaiting(adopt), peer) ?? this.#open(machines.next(), around.bdf, peer, vfToken),
        ...(limits === undefined ? {} : { limits }),
        ...(keepAlive === undefined ? {} : { keepAlive }),
      }),
    );
    const moves: Moves = undo.use(
      new Moves({
        name: this.#options.name ?? model.declaration.name,
        log: (level, text) => this.#log(level, text),
        sessions: () => server.sessions,
        open: () => this.#openForNobody(machines.next(), around.bdf),
        domainOf: (device) => (device as OpenedDevice).container.domains[0]!,
      }),
    );
    const owns = undo.move();
    return { name: model.declaration.name, server, machines, moves, [Symbol.dispose]: () => owns[Symbol.dispose]() };
  }

  #open(machine: Machine, bdf: string, peer: PeerCredentials | null, vfToken: Uint8Array | null): Device {
    const { device, process } = openForPeer(machine, bdf, this.#processes, peer, vfToken);
    const { pid, uid, memlockLimit, mayLockFreely } = process;
    const limit =
      mayLockFreely || memlockLimit === Number.POSITIVE_INFINITY ? 'any amount of memory' : `${memlockLimit / 1024} KiB of memory`;
    this.#log('info', `pid ${pid}, uid ${uid} has the device; it may map ${limit}`);
    return device;
  }

  /** For a device that arrives: its memory is ours, and whoever may move it here may fill it. */
  #openForNobody(machine: Machine, bdf: string): Device {
    const { device, process } = openForPeer(machine, bdf, new PeerProcesses(Number.POSITIVE_INFINITY), null);
    this.#arrivals.set(device, process);
    return device;
  }

  /** What came may stay mapped; for what it maps besides, the client has its own limit. */
  #adopt(moved: MovedDevice | null, peer: PeerCredentials | null): MovedDevice | null {
    const process = moved === null ? undefined : this.#arrivals.get(moved.device);
    if (process === undefined) return moved;
    using theirs = this.#processes.acquire(peer);
    process.memlockLimit = Math.max(theirs.process.memlockLimit, process.lockedBytes);
    if (!theirs.process.mayLockFreely) process.capabilities.delete('CAP_IPC_LOCK');
    this.#log('info', 'a client has taken over the device that was moved here');
    return moved;
  }

  #log(level: LogLevel, text: string): void {
    const name = this.#options.name ?? this.#running.name;
    (this.#options.log ?? stderrLogger).log(level, `${name}: ${text}`);
  }
}

/**
 * Switches the machine off and on between clients. A reset of the device is not enough: one that has none keeps its registers, and none clears the
 * memory behind its BARs. The next client may be somebody else, whom that is none of the business of.
 */
class MachinePerClient implements Disposable {
  readonly #start: () => ReturnType<typeof startMachine>;
  #running: ReturnType<typeof startMachine>;
  #isUsed = false;

  /** @throws VfioError EINVAL for a declaration that is no device */
  constructor(start: () => ReturnType<typeof startMachine>) {
    this.#start = start;
    this.#running = start();
  }

  get current(): Machine {
    return this.#running.machine;
  }

  /** A machine that no client has used. Nobody uses the one before any more. */
  next(): Machine {
    if (this.#isUsed) {
      const before = this.#running;
      this.#running = this.#start();
      before.owns[Symbol.dispose]();
    }
    this.#isUsed = true;
    return this.#running.machine;
  }

  [Symbol.dispose](): void {
    this.#running.owns[Symbol.dispose]();
  }
}

/**
 * I/O addresses are the client's own (a guest's physical addresses, for a virtual machine), and its interrupts are not messages on a bus: no
 * address is special.
 */
const anyAddress = { aperture: { first: 0n, last: 2n ** 64n - 1n }, reserved: [] };

/**
 * Serve the model at `address` at `path`.
 *
 * @param address `sim:edu` or `sim:./my-device.ts`   @param path `socketPathOf(name)` unless told
 * @throws VfioError ENOENT for a model or file that is not there; EINVAL for what is no model; EADDRINUSE when somebody listens at `path`
 */
export async function serve(address: string, options: ServeOptions & { readonly path: string }): Promise<DeviceServer> {
  const parsed = parseAddress(address);
  if (parsed.kind !== 'model' && parsed.kind !== 'file') {
    throw new VfioError('EINVAL', `${address} is not a model`, { fix: "Give 'sim:edu', or 'sim:./my-device.ts' for one in a file." });
  }
  using undo = new Cleanup();
  const server = undo.use(new DeviceServer(await loadModel(parsed), options));
  server.listen(options.path);
  undo.move();
  return server;
}

/** Where the socket of a device called `name` is unless told: in the user's own run-time directory. @throws VfioError ENOENT when there is none */
export function socketPathOf(name: string, runtimeDirectory = process.env.XDG_RUNTIME_DIR): string {
  if (runtimeDirectory === undefined || runtimeDirectory === '') {
    throw new VfioError('ENOENT', 'there is no place for the socket: XDG_RUNTIME_DIR is not set', {
      fix: 'Say where with --socket-path PATH.',
    });
  }
  return join(runtimeDirectory, 'vfio-ts', `${name}.sock`);
}

/** For sockets: with mode 0700 when it is made. @throws VfioError EACCES */
export function makeDirectory(path: string): void {
  try {
    if (mkdirSync(path, { recursive: true, mode: 0o700 }) !== undefined) chmodSync(path, 0o700);
  } catch (cause) {
    throw new VfioError('EACCES', `the directory ${path} cannot be made: ${(cause as Error).message}`, { cause });
  }
}
