/**
 * A whole machine behind sockets: each function that vfio-pci drives has one, called after its address, for as long as it is bound. Clients come and go,
 * the machine stays: what a physical function's driver did, its VF token above all, holds for those who use its virtual functions.
 */
import { dirname, join } from 'node:path';
import { Cleanup } from '../base/cleanup.ts';
import type { Clock } from '../base/clock.ts';
import type { Logger } from '../base/log.ts';
import type { Machine } from '../engine/machine/machine.ts';
import { UnixListener } from '../sys/unix-listener.ts';
import type { ServerLimits } from '../vfio-user/limits.ts';
import { FunctionServer, openDoor } from './function-server.ts';
import { PeerProcesses } from './peer-processes.ts';
import { makeDirectory } from './serve.ts';
import { stderrLogger } from './simulation.ts';

export interface MachineServerOptions {
  readonly log?: Logger;
  readonly clock?: Clock;
  readonly limits?: Partial<ServerLimits>;
  /** Bytes that a client may have mapped for DMA, instead of its own RLIMIT_MEMLOCK; Infinity for no limit. */
  readonly memlockLimit?: number;
  /** Whether clients, and waiting for them, keep this process alive. Default true. */
  readonly keepAlive?: boolean;
  /** A second socket beside each, through which the function can be moved (docs/moving.md). Default true. */
  readonly manage?: boolean;
}

export class MachineServer implements Disposable {
  readonly #machine: Machine;
  readonly #directory: string;
  readonly #options: MachineServerOptions;
  readonly #processes: PeerProcesses;
  readonly #served = new Map<string, Disposable>();
  readonly #events: Disposable;
  #disposed = false;

  /**
   * Listen in `directory`, which is made if it is missing. The machine stays the caller's.
   *
   * @throws VfioError EADDRINUSE when somebody listens at one of the sockets; EINVAL, EACCES
   */
  constructor(machine: Machine, directory: string, options: MachineServerOptions = {}) {
    this.#machine = machine;
    this.#directory = directory;
    this.#options = options;
    this.#processes = new PeerProcesses(options.memlockLimit);
    makeDirectory(dirname(this.pathOf('0000:00:00.0')));
    using undo = new Cleanup();
    undo.defer(() => this[Symbol.dispose]());
    this.#events = machine.on(({ kind, bdf }) => {
      if (kind === 'bind') this.#serve(bdf);
      else if (kind === 'unbind' || kind === 'remove') this.#stop(bdf);
    });
    for (const fn of machine.functions.values()) this.#serve(fn.bdf);
    undo.move();
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
    for (const bdf of this.functions) this.#stop(bdf);
  }
}
