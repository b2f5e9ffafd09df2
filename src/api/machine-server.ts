/**
 * Serves a whole machine behind sockets. Each function that vfio-pci drives has a socket with its
 * address as name, for as long as it is bound. Clients come and go, and the machine stays: the VF
 * token that the driver of a physical function sets holds for the users of its virtual functions.
 */

import { join } from 'node:path';
import { parseVfToken } from '../abi/vf-token.ts';
import { Cleanup } from '../base/cleanup.ts';
import type { Clock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import { INSPECT } from '../base/inspect.ts';
import type { Logger } from '../base/log.ts';
import type { Machine } from '../engine/machine/machine.ts';
import type { EventSource } from '../events/source.ts';
import { type EventStream, streamOf } from '../events/stream.ts';
import type { DeviceModel } from '../pci/declaration.ts';
import { UnixListener } from '../sys/unix-listener.ts';
import { UnixSocket } from '../sys/unix-socket.ts';
import type { ServerLimits } from '../vfio-user/limits.ts';
import type { AdminAnswer, AdminArguments } from './admin/commands.ts';
import { type AdminDesk, MachineDesk } from './admin/desk.ts';
import { askAdmin } from './admin/door.ts';
import type { JoinMachine } from './admin/machine-door.ts';
import { modelOf } from './admin/model.ts';
import { FunctionServer, openDoor } from './function-server.ts';
import type { ProgramsDesk } from './join/programs-desk.ts';
import { MachineDirectory } from './machine-directory.ts';
import type { MachineDocument } from './machine-document.ts';
import { machinePathOf, managePathOf } from './migrate/door.ts';
import { Kind } from './migrate/frames.ts';
import { Link } from './migrate/link.ts';
import { PeerProcesses } from './peer-processes.ts';
import { shellQuoted } from './shell-quoted.ts';
import { stderrLogger } from './stderr-logger.ts';

/** Where and how a machine is served. */
export interface MachineServerOptions {
  /**
   * Receives lines of the server's own stream; a stream that is given has a log of its own.
   * Default: warnings and errors go to stderr.
   */
  readonly log?: Logger;
  /**
   * The stream to which the server emits. With the machine's own, one reader sees the messages and
   * what the devices do with them. The stream stays the caller's. Default: one of its own.
   */
  readonly events?: EventStream;
  /** Default: that of `events`, or the system's. */
  readonly clock?: Clock;
  readonly limits?: Partial<ServerLimits>;
  /**
   * Bytes that a client may map for DMA, in place of its own RLIMIT_MEMLOCK. Infinity: no limit.
   */
  readonly memlockLimit?: number;
  /** Whether clients, and listening for clients, keep this process alive. Default: true. */
  readonly keepAlive?: boolean;
  /**
   * Listen at a second socket beside each, through which the function can be moved
   * (docs/moving.md). Default: true.
   */
  readonly manage?: boolean;
  /**
   * VF token, a UUID, by which the sockets of virtual functions open them for clients that show
   * none, such as QEMU's vfio-user-pci. A user who may connect to such a socket has the function.
   * The driver of the physical function sets the token. Default: clients show the token.
   */
  readonly vfToken?: string;
  /** Makes the models that an administrator plugs in, by the text after `sim:`. */
  readonly model?: (device: string) => Promise<DeviceModel>;
}

/** A machine that several threads serve, as each of them sees it. */
export interface WholeMachine {
  /** Where requests of administrators go. */
  readonly desk: AdminDesk;
  /** The users of all threads. */
  readonly processes: PeerProcesses;
}

/** A machine whose functions stand behind sockets, and the conversation that administers it. */
export class MachineServer implements Disposable {
  readonly #machine: Machine;
  readonly #directory: string;
  readonly #options: MachineServerOptions;
  readonly #processes: PeerProcesses;
  readonly #stream: EventStream;
  /** The door's events, which belong to no single function. */
  readonly #source: EventSource;
  /** Where requests of administrators go. */
  readonly #desk: AdminDesk;
  readonly #served = new Map<string, Disposable>();
  readonly #events: Disposable;
  /** Programs that have joined; null while none has, so that the code is not loaded. */
  #programs: ProgramsDesk | null = null;
  /** Null: another thread has it. */
  readonly #own: MachineDirectory | null;
  #disposed = false;

  /**
   * Listen in `directory`. The constructor makes the directory when the directory above exists. The
   * machine stays the caller's.
   *
   * @param whole when other threads serve the rest of the machine, and `machine` is a part of it
   * @throws VfioError EADDRINUSE when a process listens at one of the sockets; ENOENT without the
   *   directory above; EINVAL, EACCES, EROFS
   */
  constructor(machine: Machine, directory: string, options: MachineServerOptions = {}, whole: WholeMachine | null = null) {
    const { vfToken } = options;
    if (vfToken !== undefined && parseVfToken(vfToken) === null) throw new VfioError('EINVAL', 'the VF token of the sockets is no UUID');
    this.#machine = machine;
    this.#directory = directory;
    this.#options = options;
    this.#processes = whole?.processes ?? new PeerProcesses(options.memlockLimit);
    const { clock, log = stderrLogger } = options;
    this.#stream = streamOf(options.events, { log, ...(clock === undefined ? {} : { clock }) });
    this.#source = this.#stream.source('machine');
    this.#desk =
      whole?.desk ?? new MachineDesk({ machine: () => machine, stays: true, model: options.model ?? modelOf, events: this.#source });
    this.#own = whole === null ? new MachineDirectory(directory) : null;
    using undo = new Cleanup();
    undo.defer(() => this[Symbol.dispose]());
    this.#events = machine.on(({ kind, bdf }) => {
      if (kind === 'bind') this.#serve(bdf);
      else if (kind === 'unbind' || kind === 'remove') this.#stop(bdf);
    });
    for (const fn of machine.functions.values()) this.#serve(fn.bdf);
    const { manage = true, keepAlive = true } = options;
    const join: JoinMachine = async (link, request, peer) => await (await this.#programsDesk()).join(link, request, peer);
    if (manage) this.#own?.openDoor({ desk: this.#desk, join, events: this.#source, clock: clock ?? this.#stream.clock, keepAlive });
    undo.move();
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    return `MachineServer of ${this.#machine.name} in ${this.#directory}${this.#disposed ? ', closed' : `: ${this.functions.join(', ')}`}`;
  }

  /** The functions that are served now. */
  get functions(): readonly string[] {
    return [...this.#served.keys()].sort();
  }

  /** The path of the socket of `bdf`, whether the function is served or not. */
  pathOf(bdf: string): string {
    return join(this.#directory, `${bdf}.sock`);
  }

  async #programsDesk(): Promise<ProgramsDesk> {
    const { ProgramsDesk } = await import('./join/programs-desk.ts');
    if (this.#disposed) throw new VfioError('ENODEV', 'the server is closed');
    const { memlockLimit } = this.#options;
    this.#programs ??= new ProgramsDesk({
      machine: this.#machine,
      events: this.#stream,
      memlockLimit,
      closed: () => this.#processes.groups.announceFree(),
    });
    return this.#programs;
  }

  #serve(bdf: string): void {
    if (this.#disposed || this.#served.has(bdf) || this.#machine.function(bdf).vfio === null) return;
    const { clock, limits, keepAlive = true, manage = true, vfToken } = this.#options;
    const path = this.pathOf(bdf);
    using undo = new Cleanup();
    const server = undo.use(
      new FunctionServer({
        name: bdf,
        bdf,
        machines: { current: this.#machine, next: () => this.#machine },
        processes: this.#processes,
        desk: this.#desk,
        events: this.#stream,
        keepAlive,
        vfToken,
        ...(clock === undefined ? {} : { clock }),
        ...(limits === undefined ? {} : { limits }),
      }),
    );
    const listener = undo.use(UnixListener.listen(path));
    const door = manage ? openDoor(path, (socket) => server.manage(socket), keepAlive) : null;
    if (door !== null) undo.use(door);
    listener.onConnection((socket) => void server.serve(socket), { keepAlive });
    this.#served.set(bdf, undo.move());
  }

  #stop(bdf: string): void {
    this.#served.get(bdf)?.[Symbol.dispose]();
    this.#served.delete(bdf);
  }

  /** Stops listening and disconnects every client. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#events?.[Symbol.dispose]();
    this.#programs?.[Symbol.dispose]();
    for (const bdf of this.functions) this.#stop(bdf);
    (this.#options.events === undefined ? this.#stream : this.#source)[Symbol.dispose]();
    this.#own?.[Symbol.dispose]();
  }
}

const ANSWER_MS = 10_000;

/**
 * The machine that is served in `directory`, as it is now.
 *
 * @throws VfioError (rejects) ENOENT when no machine is served there; EACCES; as `Link.expect`
 */
export async function askMachine(directory: string): Promise<MachineDocument> {
  using link = connectMachine(directory);
  return (await link.expect(Kind.STATUS, ANSWER_MS)) as unknown as MachineDocument;
}

/**
 * Ask the machine that is served in `directory` to carry out a row of `adminCommands`.
 *
 * @param progress gets the users that the machine waits for
 * @throws VfioError (rejects) as `askMachine`, and the error in the machine's answer
 */
export async function administerMachine(
  directory: string,
  command: string,
  given: AdminArguments = {},
  progress: (text: string) => void = () => {},
): Promise<AdminAnswer> {
  using link = connectMachine(directory);
  await link.expect(Kind.STATUS, ANSWER_MS);
  return await askAdmin(link, command, given, progress);
}

/** @throws VfioError ENOENT when no machine is served there; EACCES */
export function connectMachine(directory: string): Link {
  try {
    return new Link(UnixSocket.connect(managePathOf(machinePathOf(directory))));
  } catch (cause) {
    if (!(cause instanceof VfioError) || !['ENOENT', 'ENOTDIR', 'ECONNREFUSED'].includes(cause.code)) throw cause;
    throw new VfioError('ENOENT', `no machine is served in ${directory}`, {
      cause,
      fix: `Serve one there: vfio serve machine.yaml --socket-path ${shellQuoted(directory)}; or name a machine file.`,
    });
  }
}
