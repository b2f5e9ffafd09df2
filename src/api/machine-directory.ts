/** The directory of a served machine: its sockets are in it, and the door of its administrator. */
import { existsSync, mkdirSync, rmdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { Cleanup } from '../base/cleanup.ts';
import type { Clock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import type { EventSource } from '../events/source.ts';
import { fromNode } from '../sys/system-error.ts';
import type { AdminDesk } from './admin/desk.ts';
import { type JoinMachine, MachineDoor } from './admin/machine-door.ts';
import { openDoor } from './function-server.ts';
import { machinePathOf } from './migrate/door.ts';
import { makeSocketDirectory } from './socket-path.ts';

/** The desk behind the door of a machine, and the door's surroundings. */
export interface MachineDoorPlace {
  readonly desk: AdminDesk;
  /** Serves a program. Null: the machine runs in several threads, and none has all of it. */
  readonly join: JoinMachine | null;
  /** The door's events, which belong to no single function. */
  readonly events: EventSource;
  readonly clock: Clock;
  /** Whether listening keeps this process alive. */
  readonly keepAlive: boolean;
}

export class MachineDirectory implements Disposable {
  readonly #path: string;
  readonly #owns = new Cleanup();
  /** The constructor made the directory. Dispose then removes it, if it is empty. */
  readonly #made: boolean;

  /**
   * The constructor makes the directory when the directory above exists.
   *
   * @throws VfioError ENOENT without the directory above; EINVAL, EACCES, EROFS
   */
  constructor(path: string) {
    this.#path = path;
    makeSocketDirectory(dirname(path));
    this.#made = makeDirectory(path);
  }

  /** There is no door when another machine that is served in the same directory came first. */
  openDoor({ desk, join, events, clock, keepAlive }: MachineDoorPlace): void {
    using undo = new Cleanup();
    const door = undo.use(new MachineDoor({ desk, join, events, clock }));
    try {
      const listener = openDoor(machinePathOf(this.#path), (socket) => void door.serve(socket), keepAlive);
      if (listener === null) return;
      undo.use(listener);
      this.#owns.use(undo.move());
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'EADDRINUSE') throw error;
      events.note('info', 'door', `another machine is served in ${this.#path}, and vfio show ${this.#path} shows that one`);
    }
  }

  /** The door is closed, and the directory is gone if it was made here. Idempotent. */
  [Symbol.dispose](): void {
    this.#owns[Symbol.dispose]();
    if (!this.#made) return;
    try {
      rmdirSync(this.#path);
    } catch {
      // The directory holds other files by now: a record, a token.
    }
  }
}

/**
 * Make `path` when it is missing.
 *
 * @returns whether the directory was made
 */
function makeDirectory(path: string): boolean {
  if (existsSync(path)) return false;
  try {
    mkdirSync(path, { mode: 0o700 });
    return true;
  } catch (cause) {
    const above = dirname(path);
    if (!existsSync(above))
      throw fromNode(cause, `the directory ${path} cannot be made in ${above}`, { fix: `Make it first: mkdir -p ${above}` });
    throw fromNode(cause, `the directory ${path} cannot be made`, {
      fix: 'Give --socket-path DIRECTORY, in a directory that exists.',
    });
  }
}
