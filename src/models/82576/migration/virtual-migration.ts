/**
 * Moves one virtual function (B.11): its registers, its packets, its half of the mailbox, and its
 * place in the switch, so that frames reach it at the target as before. The driver of the target's
 * PF hears of no reset; the function's own driver goes on.
 */
import { Reg } from '../../../abi/82576.ts';
import type { ModelMigration } from '../../../abi/device-host.ts';
import { decodePlain, encodePlain } from '../../kit/plain-data.ts';
import type { Card } from '../card.ts';
import { fieldsOf, flagOf, loadRoom, numberOf, wordsOf, wrong } from './plain.ts';
import { addAddresses, addressesOf, addVlans, removePool, vlansOf } from './pool-filters.ts';

export const VF_STATE_VERSION = 1;
const U32 = 0xffff_ffff;
/** Registers of the pool that the PF writes. */
const ofPool = [Reg.VMOLR, Reg.VMVIR] as const;

export class VirtualMigration implements ModelMigration {
  readonly version = VF_STATE_VERSION;
  readonly stateSize = 8 * 1024;
  readonly #card: Card;
  readonly #vf: number;
  /** Places of the card's registers that are the function's alone, by offset / 4. */
  readonly #places: Uint32Array;
  #stopped = false;
  #reset = false;

  constructor(card: Card, vf: number, places: Uint32Array) {
    this.#card = card;
    this.#vf = vf;
    this.#places = places;
  }

  get #bit(): number {
    return 1 << this.#vf;
  }

  /** Its queues do no DMA, and frames for it wait. VFRE and VFTE stay the PF's. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#card.rings.halt(this.#vf);
    this.#card.interrupts.flushOf(this.#vf);
  }

  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    if (this.#reset) this.#card.reset({ kind: 'vf', vf: this.#vf });
    this.#reset = false;
    this.#card.rings.goOn(this.#vf);
  }

  /** As the PF of the source had it; the PF of the target may disable the function at any time. */
  #enable(register: number, on: boolean): void {
    const { words } = this.#card.registers;
    words[register >>> 2] = on ? words[register >>> 2]! | this.#bit : words[register >>> 2]! & ~this.#bit;
  }

  /**
   * A reset while the function stands still makes room for a state that arrives. The PF hears of it
   * when none has. @returns whether it is such a reset
   */
  takesReset(): boolean {
    this.#reset = this.#stopped;
    return this.#stopped;
  }

  save(): Uint8Array {
    const { registers, interrupts, mailbox, rings } = this.#card;
    const { words } = registers;
    return encodePlain({
      words: Uint32Array.from(this.#places, (at) => words[at]!),
      pool: Uint32Array.from(ofPool, (register) => words[(register >>> 2) + this.#vf]!),
      causes: interrupts.saveOf(this.#vf),
      owners: words[(Reg.PFMAILBOX >>> 2) + this.#vf]!,
      mailbox: mailbox.save(this.#vf),
      unread: mailbox.unread(this.#vf),
      rings: rings.save(this.#vf),
      receives: (words[Reg.VFRE >>> 2]! & this.#bit) !== 0,
      transmits: (words[Reg.VFTE >>> 2]! & this.#bit) !== 0,
      addresses: addressesOf(words, this.#vf),
      vlans: vlansOf(words, this.#vf),
    });
  }

  load(bytes: Uint8Array, version: number): void {
    if (version !== VF_STATE_VERSION) throw wrong(`version ${version}, not ${VF_STATE_VERSION}`);
    const state = fieldsOf(decodePlain(bytes), 'fields');
    const own = wordsOf(state, 'words', this.#places.length);
    const pool = wordsOf(state, 'pool', ofPool.length);
    const causes = wordsOf(state, 'causes', 4);
    const { owners, mailbox } = state;
    if (typeof owners !== 'number' || typeof mailbox !== 'number') throw wrong('a wrong mailbox');
    const unread = numberOf(state, 'unread', U32);
    const receives = flagOf(state, 'receives');
    const transmits = flagOf(state, 'transmits');
    const addresses = wordsOf(state, 'addresses');
    const vlans = wordsOf(state, 'vlans');
    const { registers, interrupts, rings } = this.#card;
    const { words } = registers;
    for (const [i, at] of this.#places.entries()) words[at] = own[i]!;
    for (const [i, register] of ofPool.entries()) words[(register >>> 2) + this.#vf] = pool[i]!;
    words[(Reg.PFMAILBOX >>> 2) + this.#vf] = owners & 0xc;
    this.#card.mailbox.load(this.#vf, mailbox);
    removePool(words, this.#vf);
    addAddresses(words, this.#vf, addresses);
    addVlans(words, this.#vf, vlans);
    interrupts.loadOf(this.#vf, causes);
    loadRoom(() => rings.load(this.#vf, state.rings));
    this.#enable(Reg.VFRE, receives);
    this.#enable(Reg.VFTE, transmits);
    this.#card.refresh();
    this.#reset = false;
    // Last: a PF that answers at once finds the function whole.
    this.#card.mailbox.bring(this.#vf, unread);
  }
}
