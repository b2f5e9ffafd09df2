/**
 * Serves one function of a machine behind a socket. Each client that connects gets the function.
 * Through a door beside the socket the device moves to other servers, and devices of other servers
 * move in (docs/moving.md).
 */
import type { Device } from '../abi/device.ts';
import { parseVfToken } from '../abi/vf-token.ts';
import { Cleanup } from '../base/cleanup.ts';
import type { Clock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import type { LogLevel } from '../base/log.ts';
import type { Process } from '../engine/dma/process.ts';
import type { Machine } from '../engine/machine/machine.ts';
import type { EventSource } from '../events/source.ts';
import type { EventStream } from '../events/stream.ts';
import type { ByteStream, PeerCredentials } from '../sys/byte-stream.ts';
import { UnixListener } from '../sys/unix-listener.ts';
import { fitsSocket } from '../sys/unix-socket.ts';
import type { ServerLimits } from '../vfio-user/limits.ts';
import type { MovedDevice } from '../vfio-user/server/moved-device.ts';
import { VfioUserServer } from '../vfio-user/server.ts';
import type { Session } from '../vfio-user/session.ts';
import { type AdminDesk, MachineDesk } from './admin/desk.ts';
import { serveAdmin } from './admin/door.ts';
import { modelOf } from './admin/model.ts';
import type { GroupUse } from './group-use.ts';
import { managePathOf } from './migrate/door.ts';
import { Moves } from './migrate/moves.ts';
import { type OpenedDevice, openForPeer, openForProcess } from './opened-device.ts';
import { PeerProcesses } from './peer-processes.ts';

export interface FunctionServerOptions {
  /** The name in messages. */
  readonly name: string;
  readonly bdf: string;
  /** `next` gives the machine for another client, or for a device that arrives. */
  readonly machines: { readonly current: Machine; next(): Machine };
  readonly processes: PeerProcesses;
  /** The stream to which the server emits. Its clock is the default clock. */
  readonly events: EventStream;
  readonly clock?: Clock;
  readonly limits?: Partial<ServerLimits>;
  readonly keepAlive?: boolean;
  /**
   * Where requests of administrators go, for a machine that stays from one client to the next.
   * Default: each client gets a new machine, which carries them out itself.
   */
  readonly desk?: AdminDesk;
  /** See `MachineServerOptions.vfToken`. */
  readonly vfToken?: string | undefined;
}

export class FunctionServer implements Disposable {
  readonly #options: FunctionServerOptions;
  readonly #events: EventSource;
  readonly #server: VfioUserServer;
  readonly #moves: Moves;
  readonly #owns: Disposable;
  /** The process whose account holds the memory of devices that were moved here. */
  readonly #arrivals = new WeakMap<Device, Process>();

  constructor(options: FunctionServerOptions) {
    this.#options = options;
    const { name, bdf, machines, events, limits, keepAlive, clock = events.clock } = options;
    using undo = new Cleanup();
    this.#events = undo.use(events.source(name));
    this.#server = undo.use(
      new VfioUserServer({
        name,
        device: bdf,
        events,
        clock,
        open: (peer, vfToken, adopt) => this.#adopt(this.#moves.takeWaiting(adopt), peer) ?? this.#open(peer, vfToken ?? this.#ownToken()),
        heldBy: (peer) => this.#heldBy(peer),
        ...(limits === undefined ? {} : { limits }),
        ...(keepAlive === undefined ? {} : { keepAlive }),
      }),
    );
    const own = new MachineDesk({ machine: () => machines.current, stays: false, model: modelOf, events: this.#events });
    const { desk = own } = options;
    this.#moves = undo.use(
      new Moves({
        name,
        clock,
        log: (level, text) => this.#log(level, 'moves', text),
        sessions: () => this.sessions,
        mayLeave: () => {
          const vfs = machines.current.function(bdf).sriov?.numVfs ?? 0;
          if (vfs > 0)
            throw new VfioError('EBUSY', `${name} has ${vfs} virtual functions, which would stay behind`, { fix: 'Disable them first.' });
          this.#use()?.checkAlone();
        },
        administer: (link, request) => serveAdmin(link, request, desk, bdf),
        open: () => this.#openForNobody(),
        domainOf: (device) => (device as OpenedDevice).container.domains[0]!,
      }),
    );
    undo.use(options.processes.groups.onFree(() => this.#server.admitWaiting()));
    this.#owns = undo.move();
  }

  /** Clients that are served now. */
  get sessions(): readonly Session[] {
    return this.#server.sessions;
  }

  /** Serve the client at the other end of `stream`. The server takes the stream over. */
  serve(stream: ByteStream): Session {
    return this.#server.serve(stream);
  }

  /** Serve a client of the door. */
  manage(stream: ByteStream): void {
    void this.#moves.serve(stream);
  }

  /** How the function's group is used. */
  #use(): GroupUse | null {
    const { machines, bdf, processes } = this.#options;
    const group = machines.current.functions.get(bdf)?.group ?? null;
    return group === null ? null : processes.groups.of(group);
  }

  /** The process that has the group and so keeps `peer` from using the function. */
  #heldBy(peer: PeerCredentials | null): string | null {
    const { machines, bdf, processes } = this.#options;
    // A device that waits for its client, or that is being moved, decides before the group does.
    if (this.#moves.state !== 'idle' && this.#moves.state !== 'in use') return null;
    const group = machines.current.functions.get(bdf)?.group ?? null;
    return group === null ? null : processes.groups.heldBy(group, processes.find(peer));
  }

  /**
   * While the function is being moved away, its mappings move as well: no other connection may add
   * mappings.
   */
  #mayShare(): void {
    if (this.#moves.state === 'idle' || this.#moves.state === 'in use') return;
    const { name } = this.#options;
    const state = this.#moves.state === 'in doubt' ? 'part of a move in doubt' : this.#moves.state;
    throw new VfioError('EBUSY', `${name}, of the same group, is ${state}`, {
      fix: 'Connect when the move is over.',
    });
  }

  /**
   * The token of this socket, where the function opens with one. A token for a VF that needs none
   * is an error.
   */
  #ownToken(): Uint8Array | null {
    const { vfToken, machines, bdf } = this.#options;
    const needed = machines.current.functions.get(bdf)?.vfio?.physical?.token != null;
    return vfToken === undefined || !needed ? null : parseVfToken(vfToken);
  }

  #open(peer: PeerCredentials | null, vfToken: Uint8Array | null): Device {
    const { bdf, machines, processes } = this.#options;
    const { device, process } = openForPeer(machines.next(), bdf, processes, peer, vfToken, () => this.#mayShare());
    const { pid, uid, memlockLimit, mayLockFreely } = process;
    const limit =
      mayLockFreely || memlockLimit === Number.POSITIVE_INFINITY ? 'any amount of memory' : `${memlockLimit / 1024} KiB of memory`;
    this.#log('info', 'client', `pid ${pid}, uid ${uid} has the device; it may map ${limit}`);
    return device;
  }

  /**
   * The process of a device that arrives. The memory is the server's, and every user who may move a
   * device here may fill it.
   */
  #openForNobody(): Device {
    const { bdf, machines, processes } = this.#options;
    using undo = new Cleanup();
    const { process } = undo.use(new PeerProcesses(Number.POSITIVE_INFINITY).acquire(null));
    const device = openForProcess(machines.next(), bdf, process, processes.groups);
    device.keep(undo.move());
    this.#arrivals.set(device, process);
    return device;
  }

  /**
   * Memory that arrived with the device may stay mapped. Further mappings count against the
   * client's own limit.
   */
  #adopt(moved: MovedDevice | null, peer: PeerCredentials | null): MovedDevice | null {
    const process = moved === null ? undefined : this.#arrivals.get(moved.device);
    if (process === undefined) return moved;
    const theirs = this.#options.processes.acquire(peer);
    const device = moved!.device as OpenedDevice;
    device.keep(theirs);
    // Other resources of the group that the client opens are the client's as well.
    device.use.user = theirs.process;
    process.memlockLimit = Math.max(theirs.process.memlockLimit, process.lockedBytes);
    if (!theirs.process.mayLockFreely) process.capabilities.delete('CAP_IPC_LOCK');
    this.#log('info', 'client', 'a client has taken over the device that was moved here');
    return moved;
  }

  #log(level: LogLevel, about: string, text: string): void {
    this.#events.note(level, about, `${this.#options.name}: ${text}`);
  }

  /** Disconnects every client and ends all moves. */
  [Symbol.dispose](): void {
    this.#owns[Symbol.dispose]();
  }
}

/**
 * The door beside the socket at `path`; null where the door's own path would be too long for a
 * socket.
 *
 * @throws VfioError EADDRINUSE, EACCES
 */
export function openDoor(path: string, serve: (stream: ByteStream) => void, keepAlive: boolean): UnixListener | null {
  const door = managePathOf(path);
  if (!fitsSocket(door)) return null;
  const listener = UnixListener.listen(door);
  listener.onConnection(serve, { keepAlive });
  return listener;
}
