/**
 * When the controller looks at doorbells that the host maps: all the time while commands come, then
 * ever more rarely.
 *
 * A turn of the event loop looks in vain for `VAIN_NS`, or works for about `TURN_NS`; then
 * everything else of this thread has its turn. Where the clock stands still, `LOOKS_MAX` and
 * `FINDS_MAX` end a turn.
 *
 * After work the poller is eager for up to `EAGER_TURNS` turns in vain, a few milliseconds. Then it
 * sleeps between looks: 1 ms at first, `SLEEP_MAX_MS` after seconds. Eagerness has to pay. When
 * it finds nothing, or only after other programs had the processor, the next one is half as long,
 * down to none. One that finds something makes the next one whole. Where host and controller share
 * a processor, the host cannot ring while the controller looks.
 */
import type { Clock } from '../../base/clock.ts';

/** A turn ends after so long in vain, or so much work. */
const VAIN_NS = 20_000;
const TURN_NS = 1e6;
/** Looks between two readings of the clock, and in one turn: in vain, and with work. */
const VAIN_STRIDE = 64;
const LOOKS_MAX = 4096;
const STRIDE = 4;
const FINDS_MAX = 4096;
/** In vain, before the first sleep. */
const EAGER_TURNS = 128;
/** While eagerness does not pay, one time of so many tries it. */
const PROBE_EVERY = 8;
/** So much longer than usual between two readings: other programs had the processor. */
const TAKEN_NS = 10_000;
/** Sleeps of one length. */
const SLEEPS = 64;
const SLEEP_MAX_MS = 10;

export class DoorbellPoller {
  readonly #clock: Clock;
  readonly #look: (everywhere: boolean) => boolean;
  readonly #turn: () => void;
  #on = false;
  #timer: Disposable | null = null;
  /** Turns in vain since there was work, sleeps included; those before the first sleep. */
  #vain = 0;
  #eager = EAGER_TURNS;
  /** The eagerness that has paid; 0: none has. */
  #budget = EAGER_TURNS;
  #probes = 0;
  /** Other programs had the processor since there was work. */
  #taken = false;
  /** The shortest time between two readings of the clock. */
  #strideNs = Number.POSITIVE_INFINITY;

  /**
   * @param look does the work that there is; false: there was none. `everywhere` once a turn: also
   *   where there is seldom any
   * @param guarded calls a turn, and catches its errors
   */
  constructor(clock: Clock, look: (everywhere: boolean) => boolean, guarded: (turn: () => void) => void) {
    this.#clock = clock;
    this.#look = look;
    const work = () => this.#work();
    this.#turn = () => {
      this.#timer = null;
      guarded(work);
      this.#arm();
    };
  }

  /** Idempotent, as is `stop`. */
  start(): void {
    if (this.#on) return;
    this.#on = true;
    this.#vain = 0;
    this.#eager = EAGER_TURNS;
    this.#arm();
  }

  stop(): void {
    this.#on = false;
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
  }

  #arm(): void {
    if (!this.#on || this.#timer !== null) return;
    const sleeps = this.#vain - this.#eager;
    this.#timer = this.#clock.after(sleeps < 0 ? 0 : Math.min(SLEEP_MAX_MS, 1 + Math.floor(sleeps / SLEEPS)), this.#turn);
  }

  #work(): void {
    let finds = 0;
    let until = 0;
    let everywhere = true;
    // After a sleep one look is enough to see that there is nothing.
    let looks = this.#vain < this.#eager ? LOOKS_MAX : 1;
    let vain = 0;
    let vainUntil = 0;
    let lastNs = 0;
    while (vain < looks) {
      const found = this.#look(everywhere);
      everywhere = false;
      if (!found) {
        if (++vain % VAIN_STRIDE !== 0) continue;
        const now = this.#clock.nowNs();
        if (vain === VAIN_STRIDE) vainUntil = now + VAIN_NS;
        else this.#seeStride(now - lastNs);
        lastNs = now;
        if (now >= vainUntil) break;
        continue;
      }
      this.#found(finds > 0 || this.#vain < this.#eager);
      looks = LOOKS_MAX;
      vain = 0;
      finds++;
      if (!this.#on) return;
      if (finds % STRIDE !== 0) continue;
      const now = this.#clock.nowNs();
      if (until === 0) until = now + TURN_NS;
      else if (now >= until || finds >= FINDS_MAX) return;
    }
    if (finds === 0 && ++this.#vain === this.#eager) this.#budget >>>= 1;
  }

  /**
   * There was work, and it is done: how eager to be for more.
   *
   * @param eagerly it was found without a sleep before it
   */
  #found(eagerly: boolean): void {
    if (eagerly) this.#budget = this.#taken ? this.#budget >>> 1 : EAGER_TURNS;
    this.#taken = false;
    this.#vain = 0;
    this.#eager = this.#budget > 0 || this.#probes++ % PROBE_EVERY !== 0 ? this.#budget : EAGER_TURNS;
  }

  #seeStride(ns: number): void {
    if (ns > this.#strideNs + TAKEN_NS) this.#taken = true;
    else if (ns < this.#strideNs) this.#strideNs = ns;
  }
}
