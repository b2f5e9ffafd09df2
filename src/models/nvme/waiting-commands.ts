/** Commands that wait for room or for others, in order. */
import type { Command } from './command.ts';

/** So many places that are used up are given back at once. */
const SPENT_MAX = 1024;

export class WaitingCommands {
  readonly #commands: Command[] = [];
  #head = 0;
  /** How often all were forgotten. */
  #era = 0;

  get any(): boolean {
    return this.#commands.length > this.#head;
  }

  push(command: Command): void {
    this.#commands.push(command);
  }

  /**
   * Execute commands from the oldest on, until one has to keep waiting, or `execute` resets the
   * list.
   * @param execute false: the command keeps waiting
   */
  retry(execute: (command: Command) => boolean): void {
    const era = this.#era;
    while (this.any) {
      const done = execute(this.#commands[this.#head++]!);
      if (this.#era !== era) return;
      if (!done) {
        this.#head--;
        break;
      }
    }
    if (this.any && this.#head < SPENT_MAX) return;
    this.#commands.splice(0, this.#head);
    this.#head = 0;
  }

  /** False: `command` does not wait. */
  remove(command: Command): boolean {
    const at = this.#commands.indexOf(command, this.#head);
    if (at >= 0) this.#commands.splice(at, 1);
    return at >= 0;
  }

  /** All that wait: none does any more. */
  take(): Command[] {
    const taken = this.#commands.slice(this.#head);
    this.clear();
    return taken;
  }

  clear(): void {
    this.#era++;
    this.#commands.length = 0;
    this.#head = 0;
  }
}
