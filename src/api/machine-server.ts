/**
 * A whole machine behind sockets: each function that vfio-pci drives has one, called after its
 * address, for as long as it is bound. Clients come and go, the machine stays: what a physical
 * function's driver did, its VF token above all, holds for those who use its virtual functions.
 */

import { existsSync, mkdirSync, rmdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Cleanup } from '../base/cleanup.ts';
import type { Clock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import { INSPECT } from '../base/inspect.ts';
import type { Logger } from '../base/log.ts';
import type { Machine } from '../engine/machine/machine.ts';
import { fromNode } from '../sys/system-error.ts';
import { UnixListener } from '../sys/unix-listener.ts';
import { UnixSocket } from '../sys/unix-socket.ts';
import type { ServerLimits } from '../vfio-user/limits.ts';
import type { AdminAnswer, AdminArguments } from './admin/commands.ts';
import { askAdmin } from './admin/door.ts';
import { MachineDoor } from './admin/machine-door.ts';
import { modelOf } from './admin/model.ts';
import { FunctionServer, openDoor } from './function-server.ts';
import type { MachineDocument } from './machine-document.ts';
import { machinePathOf, managePathOf } from './migrate/door.ts';
import { Kind } from './migrate/frames.ts';
import { Link } from './migrate/link.ts';
import { PeerProcesses } from './peer-processes.ts';
import { makeSocketDirectory } from './serve.ts';
import { shellQuoted } from './shell-quoted.ts';
import { stderrLogger } from './simulation.ts';

/** Where and how a machine is served. */
export interface MachineServerOptions {
  readonly log?: Logger;
  readonly clock?: Clock;
  readonly limits?: Partial<ServerLimits>;
  /**
   * Bytes that a client may have mapped for DMA, instead of its own RLIMIT_MEMLOCK; Infinity for no
   * limit.
   */
  readonly memlockLimit?: number;
  /** Whether clients, and waiting for them, keep this process alive. Default true. */
  readonly keepAlive?: boolean;
  /**
   * A second socket beside each, through which the function can be moved (docs/moving.md). Default
   * true.
   */
  readonly manage?: boolean;
}

/** A machine whose functions stand behind sockets, and the conversation that administers it. */
export class MachineServer implements Disposable {
  readonly #machine: Machine;
  readonly #directory: string;
  readonly #options: MachineServerOptions;
  readonly #processes: PeerProcesses;
  readonly #served = new Map<string, Disposable>();
  readonly #events: Disposable;
  /** Through which it tells how it is. */
  readonly #door: Disposable | null;
  /** The directory was missing, and goes again when it is empty. */
  readonly #madeDirectory: boolean;
  #disposed = false;

  /**
   * Listen in `directory`, which is made if it alone is missing. The machine stays the caller's.
   *
   * @throws VfioError EADDRINUSE when a process listens at one of the sockets; ENOENT without the
   *   directory above; EINVAL, EACCES, EROFS
   */
  constructor(machine: Machine, directory: string, options: MachineServerOptions = {}) {
    this.#machine = machine;
    this.#directory = directory;
    this.#options = options;
    this.#processes = new PeerProcesses(options.memlockLimit);
    makeSocketDirectory(dirname(directory));
    this.#madeDirectory = madeDirectory(directory);
    using undo = new Cleanup();
    undo.defer(() => this[Symbol.dispose]());
    this.#events = machine.on(({ kind, bdf }) => {
      if (kind === 'bind') this.#serve(bdf);
      else if (kind === 'unbind' || kind === 'remove') this.#stop(bdf);
    });
    for (const fn of machine.functions.values()) this.#serve(fn.bdf);
    this.#door = options.manage === false ? null : this.#openDoor();
    undo.move();
  }

  /** Null where another machine, served in the same directory, was first. */
  #openDoor(): Disposable | null {
    const { log = stderrLogger, keepAlive = true } = this.#options;
    using undo = new Cleanup();
    const { clock } = this.#options;
    const door = undo.use(new MachineDoor({ machine: this.#machine, model: modelOf, log, ...(clock === undefined ? {} : { clock }) }));
    try {
      const listener = openDoor(machinePathOf(this.#directory), (socket) => void door.serve(socket), keepAlive);
      if (listener === null) return null;
      undo.use(listener);
      return undo.move();
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'EADDRINUSE') throw error;
      log.log('info', `another machine is served in ${this.#directory}: vfio show ${this.#directory} is of that one`);
      return null;
    }
  }

  [INSPECT](): string {
    return `MachineServer of ${this.#machine.name} in ${this.#directory}${this.#disposed ? ', closed' : `: ${this.functions.join(', ')}`}`;
  }

  /** Functions that are served now. */
  get functions(): readonly string[] {
    return [...this.#served.keys()].sort();
  }

  /** Where the socket of `bdf` is, or would be. */
  pathOf(bdf: string): string {
    return join(this.#directory, `${bdf}.sock`);
  }

  #serve(bdf: string): void {
    if (this.#disposed || this.#served.has(bdf) || this.#machine.function(bdf).vfio === null) return;
    const { log = stderrLogger, clock, limits, keepAlive = true, manage = true } = this.#options;
    const path = this.pathOf(bdf);
    using undo = new Cleanup();
    const server = undo.use(
      new FunctionServer({
        name: bdf,
        bdf,
        machines: { current: this.#machine, next: () => this.#machine },
        processes: this.#processes,
        stays: true,
        log,
        keepAlive,
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

  /** Stops listening and disconnects everybody. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#events?.[Symbol.dispose]();
    this.#door?.[Symbol.dispose]();
    for (const bdf of this.functions) this.#stop(bdf);
    if (!this.#madeDirectory) return;
    try {
      rmdirSync(this.#directory);
    } catch {
      // Other files are in the directory by now: a record, a token.
    }
  }
}

/** Whether it had to be made. */
function madeDirectory(path: string): boolean {
  if (existsSync(path)) return false;
  try {
    mkdirSync(path, { mode: 0o700 });
    return true;
  } catch (cause) {
    const above = dirname(path);
    if (!existsSync(above))
      throw fromNode(cause, `the directory ${path} cannot be made in ${above}`, { fix: `Make it first: mkdir -p ${above}` });
    throw fromNode(cause, `the directory ${path} cannot be made`, {
      fix: 'Say where with --socket-path DIRECTORY, in a directory that is there.',
    });
  }
}

const ANSWER_MS = 10_000;

/**
 * The machine that is served in `directory`, as it is now.
 * @throws VfioError (rejects) ENOENT when none is; EACCES; as `Link.expect`
 */
export async function askMachine(directory: string): Promise<MachineDocument> {
  using link = connectMachine(directory);
  return (await link.expect(Kind.STATUS, ANSWER_MS)) as unknown as MachineDocument;
}

/**
 * Have the machine that is served in `directory` carry out a row of `adminCommands`.
 *
 * @param progress gets the users that the machine waits for
 * @throws VfioError (rejects) as `askMachine`, and the error that the machine answers
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

function connectMachine(directory: string): Link {
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
