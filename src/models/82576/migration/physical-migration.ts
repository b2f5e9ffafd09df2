/**
 * Moves a card while it works (B.11). Packets that wait in queues, and frames in the packet buffer,
 * go along; frames on the wire do not, as when a cable is moved. Virtual functions keep it where it
 * is: each of them moves by itself.
 */
import type { ModelMigration, ModelPeerToPeer } from '../../../abi/device-host.ts';
import { VfioError } from '../../../base/errno.ts';
import type { Card } from '../card.ts';
import { loadCard, saveCard } from './card-state.ts';
import { wrong } from './plain.ts';

export const STATE_VERSION = 1;

export class PhysicalMigration implements ModelMigration {
  readonly version = STATE_VERSION;
  readonly stateSize = 64 * 1024;
  readonly p2p: ModelPeerToPeer = { enter: () => this.#set('quiet', true), leave: () => this.#set('quiet', false) };
  readonly #card: Card;
  readonly #reasons = { stopped: false, quiet: false };
  #timerNs = 0;

  constructor(card: Card) {
    this.#card = card;
  }

  stop(): void {
    this.#set('stopped', true);
  }

  start(): void {
    this.#set('stopped', false);
  }

  /** @throws VfioError EBUSY while virtual functions are enabled */
  save(): Uint8Array {
    this.#alone();
    return saveCard(this.#card, this.#timerNs);
  }

  load(bytes: Uint8Array, version: number): void {
    if (version !== STATE_VERSION) throw wrong(`version ${version}, not ${STATE_VERSION}`);
    this.#alone();
    this.#timerNs = loadCard(this.#card, bytes);
  }

  #alone(): void {
    const { virtualFunctions } = this.#card;
    if (virtualFunctions === 0) return;
    throw new VfioError('EBUSY', `the 82576 has ${virtualFunctions} virtual functions, and cannot be moved with them`, {
      fix: 'Disable them first: write 0 to sriov_numvfs, or vfio admin numvfs.',
    });
  }

  /** In a halt nothing leaves by DMA; in a stop time stands still, too. */
  #set(reason: 'stopped' | 'quiet', value: boolean): void {
    const was = this.#reasons.stopped;
    this.#reasons[reason] = value;
    const { stopped, quiet } = this.#reasons;
    this.#card.holdDma(stopped || quiet);
    if (stopped === was) return;
    if (stopped) this.#timerNs = this.#card.pause();
    else this.#card.goOn(this.#timerNs);
  }
}
