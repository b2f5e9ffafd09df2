/**
 * Limits the speed of a namespace, for testing drivers: commands per second, bytes per second, and
 * a latency for each command. Commands wait in order, on the host's clock. Other namespaces do not
 * wait.
 */
import type { Clock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import type { Command } from './command.ts';

export interface NamespaceLimits {
  /** Commands per second. */
  readonly iops?: number;
  readonly bytesPerSecond?: number;
  /** Added to each command, in milliseconds. */
  readonly latencyMs?: number;
}

/**
 * The most time that later commands may catch up, so that a late timer or a short pause of the
 * driver costs no throughput.
 */
const BURST_NS = 10e6;

/** @throws VfioError EINVAL for a limit that is no positive number */
export function checkLimits(limits: NamespaceLimits): void {
  for (const [name, value] of Object.entries(limits)) {
    if (value === undefined) continue;
    if (typeof value !== 'number' || !Number.isFinite(value) || value < 0 || (value === 0 && name !== 'latencyMs')) {
      throw new VfioError('EINVAL', `the limit ${name} is ${String(value)}; it must be a positive number`);
    }
  }
}

/** A command that waits, and for how long still. */
export interface LimitedCommand {
  readonly command: Command;
  readonly leftNs: number;
}

export class Limiter {
  readonly #clock: Clock;
  readonly #run: (command: Command) => void;
  /** Called when a timer has let commands go: what they queued is to be begun. */
  readonly #released: () => void;
  readonly #commandNs: number;
  readonly #byteNs: number;
  readonly #latencyNs: number;
  /** When the next command may begin, by each of the two buckets. */
  #commandsAt = Number.NEGATIVE_INFINITY;
  #bytesAt = Number.NEGATIVE_INFINITY;
  readonly #waiting: Command[] = [];
  readonly #due: number[] = [];
  #head = 0;
  #timer: Disposable | null = null;

  /** @param limits  checked already */
  constructor(limits: NamespaceLimits, clock: Clock, run: (command: Command) => void, released: () => void) {
    this.#clock = clock;
    this.#run = run;
    this.#released = released;
    this.#commandNs = limits.iops === undefined ? 0 : 1e9 / limits.iops;
    this.#byteNs = limits.bytesPerSecond === undefined ? 0 : 1e9 / limits.bytesPerSecond;
    this.#latencyNs = (limits.latencyMs ?? 0) * 1e6;
  }

  /** Commands that wait. */
  get waiting(): number {
    return this.#waiting.length - this.#head;
  }

  /** Run `command`, which moves `bytes`, when it may: maybe now. */
  add(command: Command, bytes: number): void {
    const now = this.#clock.nowNs();
    const earliest = now - BURST_NS;
    if (this.#commandsAt < earliest) this.#commandsAt = earliest;
    if (this.#bytesAt < earliest) this.#bytesAt = earliest;
    const due = Math.max(now, this.#commandsAt, this.#bytesAt) + this.#latencyNs;
    this.#commandsAt += this.#commandNs;
    this.#bytesAt += bytes * this.#byteNs;
    if (due <= now && this.waiting === 0) {
      this.#run(command);
      return;
    }
    this.#waiting.push(command);
    this.#due.push(due);
    if (this.#timer === null) this.#arm();
  }

  /** Take `command` from those that wait: it is not run any more. False: it does not wait. */
  remove(command: Command): boolean {
    const at = this.#waiting.indexOf(command, this.#head);
    if (at < 0) return false;
    this.#waiting.splice(at, 1);
    this.#due.splice(at, 1);
    return true;
  }

  /**
   * How far ahead of now the two buckets are, in nanoseconds; below zero: time that commands may
   * catch up.
   */
  get ahead(): readonly [commands: number, bytes: number] {
    const now = this.#clock.nowNs();
    return [Math.max(this.#commandsAt - now, -BURST_NS), Math.max(this.#bytesAt - now, -BURST_NS)];
  }

  set ahead([commands, bytes]: readonly [commands: number, bytes: number]) {
    const now = this.#clock.nowNs();
    this.#commandsAt = now + commands;
    this.#bytesAt = now + bytes;
  }

  /** Those that wait, in order: they do not any more. */
  take(): LimitedCommand[] {
    const now = this.#clock.nowNs();
    const taken = this.#waiting.slice(this.#head).map((command, i) => ({ command, leftNs: Math.max(0, this.#due[this.#head + i]! - now) }));
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    this.#waiting.length = 0;
    this.#due.length = 0;
    this.#head = 0;
    return taken;
  }

  /** One that was taken waits again, behind all others. */
  put({ command, leftNs }: LimitedCommand): void {
    this.#waiting.push(command);
    this.#due.push(this.#clock.nowNs() + leftNs);
    if (this.#timer === null) this.#arm();
  }

  /** Forget who waits and what was used up. */
  reset(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    this.#waiting.length = 0;
    this.#due.length = 0;
    this.#head = 0;
    this.#commandsAt = Number.NEGATIVE_INFINITY;
    this.#bytesAt = Number.NEGATIVE_INFINITY;
  }

  #arm(): void {
    const delayNs = Math.max(0, this.#due[this.#head]! - this.#clock.nowNs());
    this.#timer = this.#clock.after(delayNs / 1e6, () => this.#expired());
  }

  #expired(): void {
    this.#timer = null;
    // One nanosecond makes up for the rounding of milliseconds.
    const now = this.#clock.nowNs() + 1;
    // Serve only the commands that wait now: commands that the driver adds meanwhile wait for the
    // next turn.
    for (let count = this.waiting; count > 0 && this.waiting > 0 && this.#due[this.#head]! <= now; count--) {
      const command = this.#waiting[this.#head++]!;
      if (this.#head >= 64 && 2 * this.#head >= this.#waiting.length) this.#compact();
      this.#run(command);
    }
    if (this.waiting === 0) this.#compact();
    else if (this.#timer === null) this.#arm();
    this.#released();
  }

  #compact(): void {
    this.#waiting.splice(0, this.#head);
    this.#due.splice(0, this.#head);
    this.#head = 0;
  }
}
