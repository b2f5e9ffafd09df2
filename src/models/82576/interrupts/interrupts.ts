/**
 * Interrupts (7.3, 8.8). Without GPIE.Multiple_MSIX there is one interrupt for all causes: the pin,
 * an MSI, or message 0 of MSI-X. With it, IVAR gives each queue one of 25 vectors, of which virtual
 * functions own three each, from the top down; those are messages of MSI-X in either mode.
 *
 * Longer than 400 lines because a cause, an enable bit, and what has been signalled of both change
 * together, in each of the three modes.
 */
import { Eicr, Eitr, Gpie, Icr, Ivar, Reg } from '../../../abi/82576.ts';
import { Stat } from '../../../abi/82576-statistics.ts';
import type { DeviceHost } from '../../../abi/device-host.ts';
import { type CardPort, type InterruptPort, PF, POOLS, QUEUES, type ResetKind, type StatisticsPort } from '../parts.ts';
import type { RegisterSpace } from '../register-space.ts';
import { type InterruptControl, interruptRows } from './interrupt-rows.ts';
import { Moderation } from './moderation.ts';

/** Vectors of one virtual function. VF 0 has 22 to 24, VF 7 has 1 to 3. */
const VF_VECTORS = 3;
/** In the MSI-X table of the PF. */
const PF_MESSAGES = 10;
const ALL = Eicr.VECTORS;

const ICR = Reg.ICR >>> 2;
const IMS = Reg.IMS >>> 2;
const IAM = Reg.IAM >>> 2;
const GPIE = Reg.GPIE >>> 2;
const EICR = Reg.EICR >>> 2;
const EIMS = Reg.EIMS >>> 2;
const EIAC = Reg.EIAC >>> 2;
const EIAM = Reg.EIAM >>> 2;

/** Registers in which each function has bits of its own. */
const OWN = [EICR, EIMS, EIAC, EIAM];

/** The bit of vector 0 of VF `vf`. */
export function vectorsOf(vf: number): number {
  return 1 + VF_VECTORS * (POOLS - 1 - vf);
}

export class Interrupts implements InterruptPort, InterruptControl {
  readonly moderation: Moderation;
  readonly #words: Uint32Array;
  readonly #registers: RegisterSpace;
  readonly #card: CardPort;
  readonly #host: DeviceHost;
  readonly #statistics: StatisticsPort;
  /** The bit of EICR that each queue sets; 0: none. */
  readonly #receiveBit = new Uint32Array(QUEUES);
  readonly #transmitBit = new Uint32Array(QUEUES);
  /** Causes of EICR & EIMS, and of ICR & IMS, that have been signalled. */
  #seen = 0;
  #seenCauses = 0;
  /** Bits of EICR whose vectors are virtual functions'. */
  #lent = 0;
  #level = false;
  #paused = false;

  constructor(registers: RegisterSpace, card: CardPort, host: DeviceHost, statistics: StatisticsPort) {
    this.#registers = registers;
    this.#words = registers.words;
    this.#card = card;
    this.#host = host;
    this.#statistics = statistics;
    this.moderation = new Moderation(registers, host.clock, (vector) => this.#due(vector));
    registers.declare(interruptRows(this));
  }

  // ---- Causes

  received(queue: number): void {
    const words = this.#words;
    const bit = this.#receiveBit[queue]!;
    words[EICR]! |= bit;
    if ((bit & this.#lent) === 0) words[ICR]! |= Icr.RXDW;
    this.update();
  }

  transmitted(queue: number): void {
    const words = this.#words;
    const bit = this.#transmitBit[queue]!;
    words[EICR]! |= bit;
    if ((bit & this.#lent) === 0) words[ICR]! |= Icr.TXDW;
    this.update();
  }

  cause(icr: number): void {
    this.#words[ICR]! |= icr;
    this.update();
  }

  /** The TCP timer (8.15.4): a cause of EICR alone. */
  tcpTimer(): void {
    const words = this.#words;
    if (!this.multiple) words[EICR]! |= Eicr.TCP_TIMER;
    else words[EICR]! |= bitOf(words[Reg.IVAR_MISC >>> 2]! & 0xff);
    this.update();
  }

  causeOfVf(vf: number): void {
    const entry = this.#words[(Reg.VTIVAR_MISC >>> 2) + vf]!;
    if ((entry & Ivar.VALID) === 0) return;
    this.#words[EICR]! |= vfBit(vf, entry);
    this.update();
  }

  // ---- Registers (interrupt-rows.ts)

  get multiple(): boolean {
    return (this.#words[GPIE]! & Gpie.MULTIPLE_MSIX) !== 0;
  }

  /** ICR.INTA: an interrupt of the causes of ICR is asserted. */
  get #asserted(): boolean {
    return (this.#words[ICR]! & this.#words[IMS]!) !== 0;
  }

  /** Value of ICR without its side effects: ICS reads so. */
  get causes(): number {
    return this.#words[ICR]! | (this.#asserted ? Icr.INTA : 0);
  }

  /** 8.8.7: GPIE.NSICR clear: a read clears ICR when an interrupt was asserted, or IMS is 0. */
  readCauses(): number {
    const value = this.causes;
    const all = (this.#words[GPIE]! & Gpie.NSICR) !== 0 || this.#words[IMS] === 0 || this.#asserted;
    this.acknowledge(all ? 0xffff_ffff : 0);
    return value;
  }

  /** A read or write of ICR: IAM masks (8.8.11), then causes are cleared. */
  acknowledge(cleared: number): void {
    const words = this.#words;
    if ((words[GPIE]! & Gpie.NSICR) !== 0 || this.#asserted) words[IMS]! &= ~words[IAM]!;
    words[ICR]! &= ~cleared;
    this.update();
  }

  get mask(): number {
    return this.#words[IMS]!;
  }

  setMask(bits: number): void {
    this.#words[IMS]! |= bits;
    this.update();
  }

  clearMask(bits: number): void {
    this.#words[IMS]! &= ~bits;
    this.update();
  }

  /** Bits of EICR and its like that `of` reaches: a VF its own, the PF all that no VF owns. */
  #reach(of: number): number {
    if (of !== PF) return (7 << vectorsOf(of)) & this.#lent;
    return (this.multiple ? ALL : Eicr.QUEUES | Eicr.TCP_TIMER | Eicr.OTHER) & ~this.#lent;
  }

  /** From the PF's layout to that of function `of`, and back. */
  view(of: number, bits: number): number {
    return of === PF ? bits & this.#reach(PF) : ((bits & this.#lent) >>> vectorsOf(of)) & 7;
  }

  #toBits(of: number, value: number): number {
    return (of === PF ? value : (value & 7) << vectorsOf(of)) & this.#reach(of);
  }

  readExtendedCauses(of: number): number {
    const value = this.view(of, this.#words[EICR]!);
    // With many vectors a read would lose causes of others (8.8.17).
    if (of === PF && !this.multiple) this.acknowledgeExtended(of, value);
    return value >>> 0;
  }

  /** EICR: ones clear; EIAM masks, unless it does so when a message leaves (GPIE.EIAME). */
  acknowledgeExtended(of: number, value: number): void {
    const words = this.#words;
    const bits = this.#toBits(of, value);
    if ((words[GPIE]! & Gpie.EIAME) === 0) words[EIMS]! &= ~(words[EIAM]! & bits);
    // OTHER follows ICR.
    words[EICR]! &= ~bits | Eicr.OTHER;
    this.#seen &= ~bits;
    this.update();
  }

  setExtended(of: number, value: number): void {
    const words = this.#words;
    const bits = this.#toBits(of, value) & ~(this.multiple ? 0 : Eicr.OTHER);
    if ((words[GPIE]! & Gpie.EIAME) === 0) words[EIMS]! |= words[EIAM]! & bits;
    words[EICR]! |= bits;
    this.update();
  }

  setExtendedMask(of: number, value: number): void {
    this.#words[EIMS]! |= this.#toBits(of, value);
    this.update();
  }

  clearExtendedMask(of: number, value: number): void {
    this.#words[EIMS]! &= ~this.#toBits(of, value);
    this.update();
  }

  /** EIAC or EIAM of a function: its own bits are replaced. */
  replace(register: number, of: number, value: number): void {
    const at = register >>> 2;
    this.#words[at] = ((this.#words[at]! & ~this.#reach(of)) | this.#toBits(of, value)) >>> 0;
  }

  read(register: number, of: number): number {
    return this.view(of, this.#words[register >>> 2]!) >>> 0;
  }

  throttleWritten(vector: number, written: number): void {
    if ((written & Eitr.CNT_INGR) === 0) this.moderation.restart(vector);
  }

  // ---- Signals

  /** IVAR, VTIVAR, GPIE, or the functions that are there have changed. */
  remap(): void {
    const words = this.#words;
    this.#lent = 0;
    for (let vf = 0; vf < POOLS; vf++) if (this.#card.functionAt(vf) !== null) this.#lent |= 7 << vectorsOf(vf);
    for (let queue = 0; queue < QUEUES; queue++) {
      const pool = queue % POOLS;
      const second = queue >= POOLS ? 16 : 0;
      const vf = this.#card.functionAt(pool) !== null;
      const ivar = words[((vf ? Reg.VTIVAR : Reg.IVAR0) >>> 2) + pool]! >>> second;
      this.#receiveBit[queue] = vf ? vfBit(pool, ivar) : this.#ofPf(ivar);
      this.#transmitBit[queue] = vf ? vfBit(pool, ivar >>> 8) : this.#ofPf(ivar >>> 8);
    }
    this.update();
  }

  #ofPf(ivar: number): number {
    return bitOf(ivar) & (this.multiple ? ALL : Eicr.QUEUES) & ~this.#lent;
  }

  /** Signals what is to be signalled: after anything has changed. */
  update(): void {
    if (this.#paused) return;
    const words = this.#words;
    const multiple = (words[GPIE]! & Gpie.MULTIPLE_MSIX) !== 0;
    const causes = words[ICR]! & words[IMS]!;
    const freshCauses = causes & ~this.#seenCauses;
    this.#seenCauses = causes;
    let fresh = 0;
    if (multiple) {
      if (freshCauses !== 0) words[EICR]! |= bitOf((words[Reg.IVAR_MISC >>> 2]! >>> 8) & 0xff) & ~this.#lent;
      if (this.#level) this.#lower();
    } else {
      words[EICR] = causes === 0 ? words[EICR]! & ~Eicr.OTHER : words[EICR]! | Eicr.OTHER;
    }
    const active = words[EICR]! & words[EIMS]!;
    fresh = active & ~this.#seen;
    this.#seen = active;
    if (multiple) {
      if (fresh !== 0) this.#sendEach(fresh & ALL);
      return;
    }
    if ((fresh & this.#lent) !== 0) this.#sendEach(fresh & this.#lent);
    const own = active & ~this.#lent;
    if (this.#host.irq.mode === 'intx') {
      if (own === 0 && this.#level) this.#lower();
      else if (own !== 0 && !this.#level && this.moderation.open(0)) this.#raise();
      return;
    }
    if (this.#level) this.#lower();
    if ((fresh & ~this.#lent) !== 0 || (freshCauses !== 0 && (own & Eicr.OTHER) !== 0)) {
      if (this.moderation.open(0)) this.#sendSingle();
    }
  }

  #raise(): void {
    this.#level = true;
    this.#statistics.count(Stat.IAC);
    this.#host.irq.raise();
  }

  #lower(): void {
    this.#level = false;
    this.#host.irq.lower();
  }

  /** MSI, or MSI-X with one vector. */
  #sendSingle(): void {
    const words = this.#words;
    this.#statistics.count(Stat.IAC);
    if (this.#host.irq.mode === 'msix' && (words[GPIE]! & Gpie.EIAME) !== 0) words[EIMS]! &= ~words[EIAM]! | this.#lent;
    this.#host.irq.trigger(0);
  }

  #sendEach(bits: number): void {
    for (let left = bits; left !== 0; left &= left - 1) {
      const vector = 31 - Math.clz32(left & -left);
      if (this.moderation.open(vector)) this.#send(vector);
    }
  }

  /** The message leaves: EIAC clears its cause, and EIAM masks it (8.8.5, 8.8.6). */
  #send(vector: number): void {
    const words = this.#words;
    const bit = 1 << vector;
    words[EICR]! &= ~(words[EIAC]! & bit);
    if ((words[GPIE]! & Gpie.EIAME) !== 0 || (bit & this.#lent) !== 0) words[EIMS]! &= ~(words[EIAM]! & bit);
    this.#seen = words[EICR]! & words[EIMS]!;
    if ((bit & this.#lent) === 0) {
      if (vector >= PF_MESSAGES) return;
      this.#statistics.count(Stat.IAC);
      this.#host.irq.trigger(vector);
      return;
    }
    const vf = POOLS - 1 - Math.trunc((vector - 1) / VF_VECTORS);
    this.#card.functionAt(vf)?.host.irq.trigger((vector - 1) % VF_VECTORS);
  }

  /** The interval of a vector whose message had to wait is over. */
  #due(vector: number): void {
    if (this.#paused) return;
    const words = this.#words;
    const active = words[EICR]! & words[EIMS]!;
    if (this.multiple || ((1 << vector) & this.#lent) !== 0) {
      if ((active & (1 << vector)) !== 0 && this.moderation.open(vector)) this.#send(vector);
      return;
    }
    if (vector !== 0 || (active & ~this.#lent) === 0) return;
    if (this.#host.irq.mode === 'intx') this.update();
    else if (this.moderation.open(0)) this.#sendSingle();
  }

  /** The registers have their values after a reset. */
  reset(reset: ResetKind): void {
    if (reset.kind === 'vf') this.#resetVf(reset.vf);
    else {
      this.#seen = 0;
      this.#seenCauses = 0;
      this.moderation.reset();
      if (this.#level) this.#lower();
    }
    this.remap();
  }

  #resetVf(vf: number): void {
    const bits = 7 << vectorsOf(vf);
    for (const at of OWN) this.#words[at]! &= ~bits;
    this.#seen &= ~bits;
    this.#words[(Reg.VTIVAR >>> 2) + vf] = 0;
    this.#words[(Reg.VTIVAR_MISC >>> 2) + vf] = 0;
    for (let vector = 0; vector < VF_VECTORS; vector++) {
      this.#registers.resetAt(Reg.EITR + 4 * (vectorsOf(vf) + vector));
      this.moderation.restart(vectorsOf(vf) + vector);
    }
  }

  /** Messages of VF `vf` that wait for their interval leave now: for a migration. */
  flushOf(vf: number): void {
    for (let vector = 0; vector < VF_VECTORS; vector++) this.moderation.restart(vectorsOf(vf) + vector);
  }

  /** EICR, EIMS, EIAC and EIAM of VF `vf`. */
  saveOf(vf: number): Uint32Array {
    return Uint32Array.from(OWN, (at) => (this.#words[at]! >>> vectorsOf(vf)) & 7);
  }

  loadOf(vf: number, values: Uint32Array): void {
    const shift = vectorsOf(vf);
    for (const [i, at] of OWN.entries()) this.#words[at] = (this.#words[at]! & ~(7 << shift)) | ((values[i]! & 7) << shift);
    const bits = 7 << shift;
    // Its messages were sent, or wait in its host.
    this.#seen = (this.#seen & ~bits) | (this.#words[EICR]! & this.#words[EIMS]! & bits);
    this.remap();
  }

  /** No interrupt leaves from here on; causes are kept. */
  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.moderation.pause();
  }

  goOn(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.moderation.goOn();
    // The card may have moved here, to another pin.
    if (this.#level) this.#host.irq.raise();
    this.remap();
  }

  /** Causes that were signalled before, for the target of a migration. */
  save(): unknown {
    return {
      level: this.#level,
      seen: this.#seen >>> 0,
      seenCauses: this.#seenCauses >>> 0,
      waiting: this.moderation.waiting,
      left: this.moderation.left.slice(),
    };
  }

  /** Only while paused. */
  load(level: boolean, seen: number, seenCauses: number, waiting: number, left: Float64Array): void {
    this.#level = level;
    this.#seen = seen;
    this.#seenCauses = seenCauses;
    this.moderation.waiting = waiting;
    this.moderation.left.set(left);
  }
}

/** The bit of EICR of an entry of IVAR. */
function bitOf(entry: number): number {
  return (entry & Ivar.VALID) === 0 ? 0 : 1 << (entry & Ivar.VECTOR);
}

/** The same of an entry of VTIVAR: vectors 0 to 2 of the function. */
function vfBit(vf: number, entry: number): number {
  const vector = entry & 0x3;
  return (entry & Ivar.VALID) === 0 || vector >= VF_VECTORS ? 0 : 1 << (vectorsOf(vf) + vector);
}
