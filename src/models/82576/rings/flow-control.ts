/**
 * PAUSE frames (3.5.5, 8.5): sent when the packet buffer fills up, and honoured by the transmit
 * queues. Times are in units of 512 bits on the wire.
 */
import { Ctrl, Fcrth, Fcrtl, Rctl, Reg, Status } from '../../../abi/82576.ts';
import { Stat } from '../../../abi/82576-statistics.ts';
import type { Clock } from '../../../base/clock.ts';
import { type CardPart, type CardPort, PF, type ResetKind, type StatisticsPort } from '../parts.ts';
import type { RegisterRow, RegisterSpace } from '../register-space.ts';
import { fieldsOf, flagOf, timeOf } from './saved-state.ts';

/** A MAC control frame without its check sequence. */
const FRAME_BYTES = 60;
const OPCODE_PAUSE = 1;
const TIME = 0xffff;
const QUANTUM_BITS = 512;
/** Nanoseconds of a bit, by STATUS.SPEED. */
const BIT_NS = [100, 10, 1, 1] as const;
const SPEED_SHIFT = 6;
const ADDRESS = 6;

export interface FlowControlParts {
  readonly card: CardPort;
  readonly registers: RegisterSpace;
  readonly statistics: StatisticsPort;
  /** A frame goes to the wire, past queues and switch. */
  readonly sendControl: (bytes: Uint8Array, offset: number, length: number) => void;
  /** Transmit queues may go on. */
  readonly resumed: () => void;
}

/** State that no register shows, for migration. */
export interface FlowControlState {
  /** The partner was asked to pause. */
  readonly asked: boolean;
  /** How long the partner's pause still lasts. */
  readonly leftNs: number;
}

export class FlowControl implements CardPart {
  readonly #parts: FlowControlParts;
  readonly #words: Uint32Array;
  readonly #frame = new Uint8Array(FRAME_BYTES);
  #asked = false;
  #refresh: Disposable | null = null;
  #pausedUntilNs = 0;
  #paused = false;
  #resume: Disposable | null = null;

  constructor(parts: FlowControlParts) {
    this.#parts = parts;
    this.#words = parts.registers.words;
  }

  /** Address and type of PAUSE frames are declared with the general registers. */
  rows(): RegisterRow[] {
    return [
      { name: 'FCTTV', offset: Reg.FCTTV, section: '8.5.4', writable: TIME },
      { name: 'FCRTL0', offset: Reg.FCRTL0, section: '8.5.5', writable: Fcrtl.RTL | Fcrtl.XONE },
      { name: 'FCRTH0', offset: Reg.FCRTH0, section: '8.5.6', writable: Fcrth.RTH },
      { name: 'FCRTV', offset: Reg.FCRTV, section: '8.5.7', writable: TIME },
      { name: 'FCSTS0', offset: Reg.FCSTS0, section: '8.5.8', writable: 0, read: () => (this.#asked ? 1 : 0) },
    ];
  }

  /** Whether the partner's pause holds the port. */
  get paused(): boolean {
    if (!this.#paused) return false;
    if (this.#clock.nowNs() < this.#pausedUntilNs) return true;
    this.#end();
    return false;
  }

  /** The packet buffer holds `bytes`. */
  filled(bytes: number): void {
    const words = this.#words;
    if (!this.#asked) {
      const high = words[Reg.FCRTH0 >>> 2]! & Fcrth.RTH;
      if (high === 0 || bytes < high || (words[Reg.CTRL >>> 2]! & Ctrl.TFCE) === 0) return;
      this.#asked = true;
      this.#sendOff();
      return;
    }
    const low = words[Reg.FCRTL0 >>> 2]!;
    if (bytes > (low & Fcrtl.RTL)) return;
    this.#forget();
    if ((low & Fcrtl.XONE) !== 0) this.#send(0, Stat.XONTXC);
  }

  /** TCTL.SWXOFF: software asks the partner to pause (8.12.1). */
  sendOnce(): void {
    if ((this.#words[Reg.CTRL >>> 2]! & Ctrl.TFCE) !== 0) this.#send(this.#words[Reg.FCTTV >>> 2]!, Stat.XOFFTXC);
  }

  /**
   * A frame has come from the wire. @returns whether the card keeps it to itself: it is a MAC
   * control frame that no filter looks at (RCTL.DPF, RCTL.PMCF)
   */
  takes(bytes: Uint8Array, offset: number, length: number): boolean {
    const words = this.#words;
    const type = words[Reg.FCT >>> 2]!;
    if (length < 18 || bytes[offset + 13] !== (type & 0xff) || bytes[offset + 12] !== type >>> 8) return false;
    if (!this.#isAt(bytes, offset, Reg.FCAL) && !this.#isAt(bytes, offset, Reg.RAL)) return false;
    const rctl = words[Reg.RCTL >>> 2]!;
    // Without RFCE they are frames like others: a driver may leave FCAL and FCT at 0 then.
    const recognized = (words[Reg.CTRL >>> 2]! & Ctrl.RFCE) !== 0;
    if (((bytes[offset + 14]! << 8) | bytes[offset + 15]!) !== OPCODE_PAUSE) {
      if (recognized) this.#parts.statistics.count(Stat.FCRUC);
      return recognized && (rctl & Rctl.PMCF) === 0;
    }
    const time = (bytes[offset + 16]! << 8) | bytes[offset + 17]!;
    this.#parts.statistics.count(time === 0 ? Stat.XONRXC : Stat.XOFFRXC);
    if (recognized) this.#pause(time);
    return recognized && (rctl & Rctl.DPF) !== 0;
  }

  reset(reset: ResetKind): void {
    if (reset.kind === 'vf') return;
    this.#forget();
    this.#paused = false;
    this.#resume?.[Symbol.dispose]();
    this.#resume = null;
  }

  save(of: number): FlowControlState | null {
    if (of !== PF) return null;
    return { asked: this.#asked, leftNs: this.paused ? this.#pausedUntilNs - this.#clock.nowNs() : 0 };
  }

  load(of: number, state: unknown): void {
    if (of !== PF || state === null) return;
    const saved = fieldsOf(state, 'flow control');
    const asked = flagOf(saved.asked, 'pause');
    const leftNs = timeOf(saved.leftNs, 'pause', TIME * QUANTUM_BITS * BIT_NS[0]);
    this.reset({ kind: 'device' });
    this.#asked = asked;
    if (this.#asked) this.#refreshLater();
    if (leftNs > 0) this.#pauseFor(leftNs);
  }

  #isAt(bytes: Uint8Array, offset: number, register: number): boolean {
    const low = this.#words[register >>> 2]!;
    const high = this.#words[(register >>> 2) + 1]!;
    for (let i = 0; i < ADDRESS; i++) {
      if (bytes[offset + i] !== (((i < 4 ? low : high) >>> (8 * (i & 3))) & 0xff)) return false;
    }
    return true;
  }

  #pause(time: number): void {
    if (time === 0) this.#end();
    else this.#pauseFor(time * this.#quantumNs);
  }

  #pauseFor(ns: number): void {
    this.#paused = true;
    this.#words[Reg.STATUS >>> 2]! |= Status.TXOFF;
    this.#pausedUntilNs = this.#clock.nowNs() + ns;
    this.#resume?.[Symbol.dispose]();
    this.#resume = this.#clock.after(ns / 1e6, () => this.#end());
  }

  #end(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#words[Reg.STATUS >>> 2]! &= ~Status.TXOFF;
    this.#resume?.[Symbol.dispose]();
    this.#resume = null;
    this.#parts.resumed();
  }

  #forget(): void {
    this.#asked = false;
    this.#refresh?.[Symbol.dispose]();
    this.#refresh = null;
  }

  #sendOff(): void {
    this.#send(this.#words[Reg.FCTTV >>> 2]!, Stat.XOFFTXC);
    this.#refreshLater();
  }

  /** FCRTV: so long before the pause ends, it is asked for again (8.5.7). */
  #refreshLater(): void {
    const threshold = this.#words[Reg.FCRTV >>> 2]!;
    const wait = this.#words[Reg.FCTTV >>> 2]! - threshold;
    if (threshold === 0 || wait <= 0) return;
    this.#refresh?.[Symbol.dispose]();
    this.#refresh = this.#clock.after((wait * this.#quantumNs) / 1e6, () => {
      this.#refresh = null;
      if (this.#asked) this.#sendOff();
    });
  }

  #send(time: number, counter: number): void {
    const frame = this.#frame;
    const words = this.#words;
    for (let i = 0; i < ADDRESS; i++) {
      const half = i < 4 ? 0 : 1;
      frame[i] = words[(Reg.FCAL >>> 2) + half]! >>> (8 * (i & 3));
      frame[ADDRESS + i] = words[(Reg.RAL >>> 2) + half]! >>> (8 * (i & 3));
    }
    const type = words[Reg.FCT >>> 2]!;
    frame.set([type >>> 8, type, 0, OPCODE_PAUSE, time >>> 8, time], 2 * ADDRESS);
    this.#parts.statistics.count(counter);
    this.#parts.sendControl(frame, 0, FRAME_BYTES);
  }

  get #quantumNs(): number {
    return QUANTUM_BITS * BIT_NS[(this.#words[Reg.STATUS >>> 2]! >>> SPEED_SHIFT) & 3]!;
  }

  get #clock(): Clock {
    return this.#parts.card.functionAt(PF)!.host.clock;
  }
}
