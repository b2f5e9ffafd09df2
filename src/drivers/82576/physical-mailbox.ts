/**
 * The physical function's end of the mailboxes: 16 words for each virtual function, and who may
 * use them at the moment (7.8.2.9, 8.14).
 */
import { Mbvficr, Reg } from '../../abi/82576.ts';
import { MAILBOX_WORDS, PfMailbox } from '../../abi/82576-mailbox.ts';
import type { RegisterAccess } from '../../abi/device.ts';

/** Tries to own the memory, while a virtual function writes its message. */
const TRIES = 16;

export class PhysicalMailbox {
  readonly #registers: RegisterAccess;

  constructor(registers: RegisterAccess) {
    this.#registers = registers;
  }

  /**
   * Causes since the last call, which are cleared.
   * @returns MBVFICR: who has sent a message, and who has read one
   */
  takeCauses(): number {
    const causes = this.#registers.read32(Reg.MBVFICR);
    if (causes !== 0) this.#registers.write32(Reg.MBVFICR, causes);
    return causes;
  }

  /** Virtual functions that were reset since the last call: bits. */
  takeResets(): number {
    const resets = this.#registers.read32(Reg.VFLRE) & Mbvficr.VFREQ;
    if (resets !== 0) this.#registers.write32(Reg.VFLRE, resets);
    return resets;
  }

  /**
   * A message of virtual function `vf`, which is acknowledged.
   * @returns false while the virtual function owns the memory
   */
  read(vf: number, into: Uint32Array): boolean {
    if (!this.#own(vf)) return false;
    for (let i = 0; i < MAILBOX_WORDS; i++) into[i] = this.#registers.read32(memoryOf(vf) + 4 * i);
    this.#registers.write32(registerOf(vf), PfMailbox.ACK);
    return true;
  }

  /** @returns false while the virtual function owns the memory */
  write(vf: number, message: ArrayLike<number>): boolean {
    if (!this.#own(vf)) return false;
    for (let i = 0; i < message.length; i++) this.#registers.write32(memoryOf(vf) + 4 * i, message[i]! >>> 0);
    this.#registers.write32(registerOf(vf), PfMailbox.STS);
    return true;
  }

  /**
   * The same for a message that is no answer: one of the function's that waits stays.
   * @returns false while the virtual function owns the memory, or has sent a message
   */
  notify(vf: number, message: ArrayLike<number>): boolean {
    if (!this.#own(vf)) return false;
    // The function can send none from here on: it waits for the memory.
    if ((this.#registers.read32(Reg.MBVFICR) & (1 << vf)) === 0) return this.write(vf, message);
    this.#registers.write32(registerOf(vf), 0);
    return false;
  }

  /** Takes the memory from a virtual function that keeps it. */
  reclaim(vf: number): void {
    this.#registers.write32(registerOf(vf), PfMailbox.RVFU);
  }

  #own(vf: number): boolean {
    for (let i = 0; i < TRIES; i++) {
      this.#registers.write32(registerOf(vf), PfMailbox.PFU);
      if ((this.#registers.read32(registerOf(vf)) & PfMailbox.PFU) !== 0) return true;
    }
    return false;
  }
}

function registerOf(vf: number): number {
  return Reg.PFMAILBOX + 4 * vf;
}

function memoryOf(vf: number): number {
  return Reg.VMBMEM + 4 * MAILBOX_WORDS * vf;
}
