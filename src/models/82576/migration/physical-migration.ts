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

/** The window of BAR 2: the offset of the register that it reaches (8.1.2). */
export interface IoWindow {
  address: number;
}

export class PhysicalMigration implements ModelMigration {
  readonly version = STATE_VERSION;
  readonly stateSize = 64 * 1024;
  readonly p2p: ModelPeerToPeer = { enter: () => this.#set('quiet', true), leave: () => this.#set('quiet', false) };
  readonly #card: Card;
  readonly #io: IoWindow;
  readonly #reasons = { stopped: false, quiet: false };
  #timerNs = 0;

  constructor(card: Card, io: IoWindow) {
    this.#card = card;
    this.#io = io;
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
    return saveCard(this.#card, { timerNs: this.#timerNs, address: this.#io.address });
  }

  load(bytes: Uint8Array, version: number): void {
    if (version !== STATE_VERSION) throw wrong(`version ${version}, not ${STATE_VERSION}`);
    this.#alone();
    const { timerNs, address } = loadCard(this.#card, bytes);
    this.#timerNs = timerNs;
    this.#io.address = address;
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
