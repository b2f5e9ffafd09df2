/**
 * The mailbox between the PF and each VF (7.10.2.9.1, 8.14): 16 words that either side takes by a
 * bit, and a bell on either side. A message that a VF writes again and again sets bits that are
 * set, and rings a bell that its interrupt throttles: a storm costs the PF nothing else.
 */
import { Icr, Mbvficr, Reg } from '../../../abi/82576.ts';
import { MAILBOX_WORDS, PfMailbox, VfMailbox } from '../../../abi/82576-mailbox.ts';
import { type CardPart, type InterruptPort, POOLS, type ResetKind } from '../parts.ts';
import type { RegisterSpace } from '../register-space.ts';

/** Owners of the memory stand in PFMAILBOX, whose bits VFMAILBOX shares. */
const OWNERS = VfMailbox.VFU | VfMailbox.PFU;
/** Bits of VFMAILBOX that are its own. */
const OWN = VfMailbox.PFSTS | VfMailbox.PFACK | VfMailbox.RSTI | VfMailbox.RSTD;

/** Bits of MBVFICR that VF 0 sets; those of VF `n` are `n` higher. */
const NEWS = 1 | (1 << Mbvficr.VFACK_SHIFT);

export class Mailbox implements CardPart {
  readonly #words: Uint32Array;
  readonly #interrupts: InterruptPort;
  /** The bits of VFMAILBOX that no register of the PF has. */
  readonly #own = new Uint8Array(POOLS);

  constructor(registers: RegisterSpace, interrupts: InterruptPort) {
    this.#words = registers.words;
    this.#interrupts = interrupts;
    registers.declare([
      {
        name: 'PFMAILBOX',
        offset: Reg.PFMAILBOX,
        count: POOLS,
        section: '8.14.2',
        writable: 0,
        write: (vf, _, written) => this.#writtenByPf(vf, written),
      },
      { name: 'VMBMEM', offset: Reg.VMBMEM, count: POOLS * MAILBOX_WORDS, section: '8.14.4' },
      {
        name: 'MBVFICR',
        offset: Reg.MBVFICR,
        section: '8.14.5',
        writable: 0,
        writeOneClears: Mbvficr.VFREQ | Mbvficr.VFACK,
      },
      { name: 'MBVFIMR', offset: Reg.MBVFIMR, section: '8.14.6', reset: 0xff, writable: 0xff },
    ]);
  }

  // ---- The PF's side

  #writtenByPf(vf: number, written: number): void {
    const at = (Reg.PFMAILBOX >>> 2) + vf;
    let owners = this.#words[at]!;
    if ((written & PfMailbox.RVFU) !== 0) {
      // The VF is stuck: its requests are void (8.14.2).
      owners &= ~PfMailbox.VFU;
      this.#words[Reg.MBVFICR >>> 2]! &= ~(NEWS << vf);
    }
    if ((written & PfMailbox.PFU) === 0) owners &= ~PfMailbox.PFU;
    else if ((owners & PfMailbox.VFU) === 0) owners |= PfMailbox.PFU;
    this.#words[at] = owners;
    const news = ((written & PfMailbox.STS) === 0 ? 0 : VfMailbox.PFSTS) | ((written & PfMailbox.ACK) === 0 ? 0 : VfMailbox.PFACK);
    if (news !== 0) this.#ring(vf, news);
  }

  #ring(vf: number, news: number): void {
    this.#own[vf]! |= news;
    this.#interrupts.causeOfVf(vf);
  }

  /** CTRL_EXT.PFRSTD: the PF's driver is there, and VFs may go on (4.6.11.2.1). */
  pfResetDone(): void {
    for (let vf = 0; vf < POOLS; vf++) {
      this.#own[vf]! &= ~VfMailbox.RSTI;
      this.#ring(vf, VfMailbox.RSTD);
    }
  }

  // ---- The VF's side

  /** A read of VFMAILBOX, which clears news. */
  readByVf(vf: number): number {
    const value = (this.#words[(Reg.PFMAILBOX >>> 2) + vf]! & OWNERS) | this.#own[vf]!;
    this.#own[vf]! &= ~VfMailbox.READ_CLEARS;
    return value;
  }

  writtenByVf(vf: number, written: number): void {
    const at = (Reg.PFMAILBOX >>> 2) + vf;
    if ((written & VfMailbox.VFU) === 0) this.#words[at]! &= ~VfMailbox.VFU;
    else if ((this.#words[at]! & VfMailbox.PFU) === 0) this.#words[at]! |= VfMailbox.VFU;
    const request = (written & VfMailbox.REQ) === 0 ? 0 : 1 << vf;
    const answer = (written & VfMailbox.ACK) === 0 ? 0 : 1 << (vf + Mbvficr.VFACK_SHIFT);
    if ((request | answer) === 0) return;
    this.#ringPf(vf, request | answer);
  }

  #ringPf(vf: number, news: number): void {
    this.#words[Reg.MBVFICR >>> 2]! |= news;
    if ((this.#words[Reg.MBVFIMR >>> 2]! & (1 << vf)) !== 0) this.#interrupts.cause(Icr.VMMB);
  }

  // ---- Resets and migration

  /** A VF's reset ends its half of a talk; the PF's reset ends all, and VFs see RSTI. */
  reset(reset: ResetKind): void {
    if (reset.kind === 'vf') {
      this.#own[reset.vf]! &= ~(VfMailbox.PFSTS | VfMailbox.PFACK);
      this.#words[(Reg.PFMAILBOX >>> 2) + reset.vf]! &= ~PfMailbox.VFU;
      return;
    }
    for (let vf = 0; vf < POOLS; vf++) {
      this.#own[vf] = 0;
      this.#ring(vf, VfMailbox.RSTI);
    }
  }

  save(of: number): unknown {
    return of < 0 ? [...this.#own] : this.#own[of]!;
  }

  /** A VF's request and acknowledgement that the PF has not read, for `bring`. */
  unread(vf: number): number {
    return (this.#words[Reg.MBVFICR >>> 2]! >>> vf) & NEWS;
  }

  /** The VF has come from another card with `unread` of there: this PF hears of it. */
  bring(vf: number, unread: number): void {
    this.#words[Reg.MBVFICR >>> 2]! &= ~(NEWS << vf);
    const news = unread & NEWS;
    if (news !== 0) this.#ringPf(vf, news << vf);
  }

  load(of: number, state: unknown): void {
    const states: readonly unknown[] = Array.isArray(state) ? state : [state];
    for (let i = 0; i < states.length && Math.max(of, 0) + i < POOLS; i++) this.#own[Math.max(of, 0) + i] = Number(states[i]) & OWN;
  }
}
