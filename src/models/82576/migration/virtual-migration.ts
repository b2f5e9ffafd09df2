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
  #receives = false;
  #transmits = false;
  #reset = false;

  constructor(card: Card, vf: number, places: Uint32Array) {
    this.#card = card;
    this.#vf = vf;
    this.#places = places;
  }

  get #bit(): number {
    return 1 << this.#vf;
  }

  /** Its queues stand still as if the PF had disabled the function (8.14.8). */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    const { words } = this.#card.registers;
    this.#receives = (words[Reg.VFRE >>> 2]! & this.#bit) !== 0;
    this.#transmits = (words[Reg.VFTE >>> 2]! & this.#bit) !== 0;
    words[Reg.VFRE >>> 2]! &= ~this.#bit;
    words[Reg.VFTE >>> 2]! &= ~this.#bit;
    this.#card.interrupts.flushOf(this.#vf);
  }

  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    const { words } = this.#card.registers;
    if (this.#receives) words[Reg.VFRE >>> 2]! |= this.#bit;
    if (this.#transmits) words[Reg.VFTE >>> 2]! |= this.#bit;
    this.#card.refresh();
    this.#card.rings.wake();
    if (this.#reset) this.#card.reset({ kind: 'vf', vf: this.#vf });
    this.#reset = false;
  }

  /**
   * A reset while the function stands still makes room for a state that arrives. The PF hears of it
   * when none has. @returns whether it is such a reset
   */
  takesReset(): boolean {
    this.#reset = this.#stopped;
    if (this.#stopped) this.#receives = this.#transmits = false;
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
      receives: this.#receives,
      transmits: this.#transmits,
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
    this.#card.refresh();
    this.#receives = receives;
    this.#transmits = transmits;
    this.#reset = false;
    // Last: a PF that answers at once finds the function whole.
    this.#card.mailbox.bring(this.#vf, unread);
  }
}
