/**
 * The port's clock and time stamps of packets (7.9, 8.16). SYSTIM grows by TIMINCA's value in each
 * of its periods of 16 ns; it is worked out when software reads it.
 */
import { Icr, Reg, Timinca, Tsyncctl } from '../../../abi/82576.ts';
import type { Clock } from '../../../base/clock.ts';
import type { InterruptPort, TimePort } from '../parts.ts';
import type { RegisterSpace } from '../register-space.ts';

const CYCLE_NS = 16n;
const MASK = 0xffff_ffff_ffff_ffffn;
/** TIMADJH: the sign of the adjustment (8.16.12). */
const NEGATIVE = 0x8000_0000;
/** TSYNCRXCTL.TYPE (8.16.1): which messages of the protocol are stamped. */
const Type = { L2_V2: 0, L4_V1: 2, L2_L4_V2: 4, ALL: 8, EVENT_V2: 10 } as const;

export class SystemTime implements TimePort {
  readonly #words: Uint32Array;
  readonly #clock: Clock;
  readonly #interrupts: InterruptPort;
  /** SYSTIM at `#sinceNs`. */
  #base = 0n;
  #sinceNs = 0n;

  constructor(registers: RegisterSpace, clock: Clock, interrupts: InterruptPort) {
    this.#words = registers.words;
    this.#clock = clock;
    this.#interrupts = interrupts;
    const { words } = registers;
    const clears = (control: number) => (_: number, stored: number) => {
      words[control >>> 2]! &= ~Tsyncctl.VALID;
      return stored;
    };
    registers.declare([
      // A read of the low half takes both (8.16.6).
      { name: 'SYSTIML', offset: Reg.SYSTIML, section: '8.16.6', read: () => this.#latch(), write: () => this.#written() },
      { name: 'SYSTIMH', offset: Reg.SYSTIMH, section: '8.16.7', write: () => this.#written() },
      // The write of the new value comes after the time until now has been counted by the old one.
      { name: 'TIMINCA', offset: Reg.TIMINCA, section: '8.16.10', writable: 0, write: (_, __, written) => this.#setIncrement(written) },
      { name: 'TIMADJL', offset: Reg.TIMADJL, section: '8.16.11' },
      { name: 'TIMADJH', offset: Reg.TIMADJH, section: '8.16.12', write: () => this.#adjust() },
      { name: 'TSYNCTXCTL', offset: Reg.TSYNCTXCTL, section: '8.16.2', writable: Tsyncctl.EN },
      { name: 'TXSTMPL', offset: Reg.TXSTMPL, section: '8.16.8', writable: 0 },
      { name: 'TXSTMPH', offset: Reg.TXSTMPH, section: '8.16.9', writable: 0, read: clears(Reg.TSYNCTXCTL) },
      { name: 'TSYNCRXCTL', offset: Reg.TSYNCRXCTL, section: '8.16.1', writable: Tsyncctl.EN | Tsyncctl.TYPE },
      { name: 'RXSTMPL', offset: Reg.RXSTMPL, section: '8.16.3', writable: 0 },
      { name: 'RXSTMPH', offset: Reg.RXSTMPH, section: '8.16.4', writable: 0, read: clears(Reg.TSYNCRXCTL) },
      { name: 'RXSATRL', offset: Reg.RXSATRL, section: '8.16.5', writable: 0 },
      { name: 'RXSATRH', offset: Reg.RXSATRH, section: '8.16.5', writable: 0 },
      { name: 'TSYNCRXCFG', offset: Reg.TSYNCRXCFG, section: '8.16.26', writable: 0xffff },
      { name: 'TSAUXC', offset: Reg.TSAUXC, section: '8.16.13' },
      { name: 'TRGTTIM', offset: Reg.TRGTTIML0, count: 4, section: '8.16.14' },
      { name: 'AUXSTMP', offset: Reg.AUXSTMPL0, count: 4, section: '8.16.18', writable: 0 },
    ]);
  }

  get now(): bigint {
    const inca = this.#words[Reg.TIMINCA >>> 2]!;
    const period = BigInt(inca >>> Timinca.INCPERIOD_SHIFT);
    if (period === 0n) return this.#base;
    const elapsed = this.#ns() - this.#sinceNs;
    return (this.#base + (elapsed / (CYCLE_NS * period)) * BigInt(inca & Timinca.INCVALUE)) & MASK;
  }

  #ns(): bigint {
    return BigInt(Math.trunc(this.#clock.nowNs()));
  }

  #set(value: bigint): void {
    this.#base = value & MASK;
    this.#sinceNs = this.#ns();
  }

  #latch(): number {
    const { now } = this;
    this.#words[Reg.SYSTIMH >>> 2] = Number(now >> 32n);
    this.#words[Reg.SYSTIML >>> 2] = Number(now & 0xffff_ffffn);
    return this.#words[Reg.SYSTIML >>> 2]!;
  }

  #written(): void {
    this.#set((BigInt(this.#words[Reg.SYSTIMH >>> 2]!) << 32n) | BigInt(this.#words[Reg.SYSTIML >>> 2]!));
  }

  #setIncrement(written: number): void {
    this.#set(this.now);
    this.#words[Reg.TIMINCA >>> 2] = written;
  }

  #adjust(): void {
    const high = this.#words[Reg.TIMADJH >>> 2]!;
    const amount = (BigInt(high & ~NEGATIVE) << 32n) | BigInt(this.#words[Reg.TIMADJL >>> 2]!);
    this.#set(this.now + ((high & NEGATIVE) === 0 ? amount : -amount));
  }

  transmitted(): void {
    const control = this.#words[Reg.TSYNCTXCTL >>> 2]!;
    if ((control & Tsyncctl.EN) === 0 || (control & Tsyncctl.VALID) !== 0) return;
    this.#stamp(Reg.TXSTMPL, Reg.TSYNCTXCTL);
  }

  received(bytes: Uint8Array, ptp: number): void {
    const control = this.#words[Reg.TSYNCRXCTL >>> 2]!;
    if ((control & Tsyncctl.EN) === 0 || (control & Tsyncctl.VALID) !== 0) return;
    if (!this.#wanted(control & Tsyncctl.TYPE, bytes, ptp)) return;
    // 8.16.5: bytes of the sequence number and the source identity, as they came.
    this.#words[Reg.RXSATRL >>> 2] = quad(bytes, ptp + 22);
    this.#words[Reg.RXSATRH >>> 2] =
      ((bytes[ptp + 30]! << 24) | (bytes[ptp + 31]! << 16) | (bytes[ptp + 26]! << 8) | bytes[ptp + 27]!) >>> 0;
    this.#stamp(Reg.RXSTMPL, Reg.TSYNCRXCTL);
  }

  /** TSYNCRXCFG (8.16.26): the message of version 1 at 7:0, of version 2 at 11:8. */
  #wanted(type: number, bytes: Uint8Array, ptp: number): boolean {
    const config = this.#words[Reg.TSYNCRXCFG >>> 2]!;
    const version = bytes[ptp + 1]! & 0xf;
    const message = bytes[ptp]! & 0xf;
    switch (type) {
      case Type.L4_V1:
        return version === 1 && bytes[ptp + 32] === (config & 0xff);
      case Type.L2_V2:
      case Type.L2_L4_V2:
        return version === 2 && message === ((config >>> 8) & 0xf);
      case Type.EVENT_V2:
        return version === 2 && message < 8;
      default:
        return type === Type.ALL;
    }
  }

  #stamp(low: number, control: number): void {
    const { now } = this;
    this.#words[low >>> 2] = Number(now & 0xffff_ffffn);
    this.#words[(low >>> 2) + 1] = Number(now >> 32n);
    this.#words[control >>> 2]! |= Tsyncctl.VALID;
    this.#interrupts.cause(Icr.TS);
  }

  reset(): void {
    this.#set(0n);
  }

  save(): unknown {
    return this.now;
  }

  load(now: bigint): void {
    this.#set(now);
  }
}

function quad(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}
