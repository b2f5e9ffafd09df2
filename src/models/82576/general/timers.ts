/** The free running timer, and the TCP timer (8.15). */
import { Reg } from '../../../abi/82576.ts';
import type { Clock } from '../../../base/clock.ts';
import type { RegisterSpace } from '../register-space.ts';

/** TCPTIMER (8.15.4). */
const Tcp = { DURATION: 0xff, KICK_START: 0x100, COUNT_EN: 0x200, FINISHED: 0x400, LOOP: 0x800 } as const;

export class Timers {
  readonly #words: Uint32Array;
  readonly #clock: Clock;
  readonly #expired: () => void;
  #timer: Disposable | null = null;
  #dueNs = 0;

  /** @param expired the TCP timer has counted down */
  constructor(registers: RegisterSpace, clock: Clock, expired: () => void) {
    this.#words = registers.words;
    this.#clock = clock;
    this.#expired = expired;
    registers.declare([
      { name: 'FRTIMER', offset: Reg.FRTIMER, section: '8.15.3', writable: 0, read: () => this.#free() },
      {
        name: 'TCPTIMER',
        offset: Reg.TCPTIMER,
        section: '8.15.4',
        writable: Tcp.DURATION | Tcp.COUNT_EN | Tcp.LOOP,
        write: (_, value, written) => this.#control(value, written),
      },
    ]);
  }

  /** Microseconds at 9:0, milliseconds at 19:10, seconds at 31:20. */
  #free(): number {
    const micros = Math.trunc(this.#clock.nowNs() / 1000);
    const millis = Math.trunc(micros / 1000);
    return ((Math.trunc(millis / 1000) % 4096) << 20) | ((millis % 1000) << 10) | (micros % 1000);
  }

  #control(value: number, written: number): void {
    if ((written & Tcp.KICK_START) === 0 && (value & Tcp.COUNT_EN) !== 0) return;
    this.stop();
    if ((written & Tcp.KICK_START) !== 0) this.#words[Reg.TCPTIMER >>> 2]! &= ~Tcp.FINISHED;
    if ((value & Tcp.COUNT_EN) !== 0) this.#arm((value & Tcp.DURATION) * 1e6);
  }

  #arm(leftNs: number): void {
    if (leftNs === 0) return;
    this.#dueNs = this.#clock.nowNs() + leftNs;
    this.#timer = this.#clock.after(leftNs / 1e6, () => {
      this.#timer = null;
      this.#dueNs = 0;
      const at = Reg.TCPTIMER >>> 2;
      this.#words[at]! |= Tcp.FINISHED;
      if ((this.#words[at]! & Tcp.LOOP) !== 0) this.#arm((this.#words[at]! & Tcp.DURATION) * 1e6);
      this.#expired();
    });
  }

  stop(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    this.#dueNs = 0;
  }

  /** @returns nanoseconds that are left; 0: the timer does not count */
  pause(): number {
    const left = this.#dueNs === 0 ? 0 : Math.max(1, this.#dueNs - this.#clock.nowNs());
    this.stop();
    return left;
  }

  goOn(leftNs: number): void {
    this.#arm(leftNs);
  }
}
