/**
 * The command objects of one life of the controller (enable to reset): made on demand, and reused.
 */
import { Command } from './command.ts';

export class CommandPool {
  #all: Command[] = [];
  #free: Command[] = [];

  /** One for what is fetched next, of life `life`. */
  take(life: number): Command {
    let command = this.#free.pop();
    if (command === undefined) {
      command = new Command(this.#all.length);
      this.#all.push(command);
    }
    command.life = life;
    command.sinceNs = -1;
    command.cause = 0;
    return command;
  }

  /** `command` is under way no more. */
  give(command: Command): void {
    command.life = -1;
    this.#free.push(command);
  }

  /** All that are under way. */
  underWay(): Command[] {
    return this.#all.filter(({ life }) => life >= 0);
  }

  /** The command `id` of submission queue `queueId` that is under way; null: there is none. */
  find(queueId: number, id: number): Command | null {
    for (const command of this.#all) if (command.life >= 0 && command.queueId === queueId && command.id === id) return command;
    return null;
  }

  /** A new life: a holder of an earlier command keeps it for itself. */
  clear(): void {
    this.#all = [];
    this.#free = [];
  }
}
