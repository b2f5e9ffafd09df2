/**
 * Interrupts as the function's own hardware makes them: the INTx pin, MSI and MSI-X messages, and
 * everything in config space that holds them back. No call of a model throws here; interrupts that
 * cannot leave the device are counted.
 *
 * @see PCI Local Bus 3.0, 6.2.2 (COMMAND bit 10), 6.2.3 (STATUS bit 3), 6.8 (message signalled
 * interrupts)
 */

import type { IrqPort } from '../abi/device-host.ts';
import { CapId, Config, Msix } from '../abi/pci.ts';
import { textOf } from '../base/foreign.ts';
import type { EventSource } from '../events/source.ts';
import type { ConfigSpace } from '../pci/config-space.ts';
import { MsiRegisters } from './msi-registers.ts';
import type { MsixTable } from './msix-table.ts';

/** The handler of the function's interrupts. Called synchronously; must not throw. */
export interface IrqListener {
  /**
   * The pin went from quiet to asserted, or was asserted already when the listener was attached.
   * The pin is a level: `pinAsserted` gives its present state.
   */
  intxAsserted(): void;
  /** Message `vector` arrived. */
  message(vector: number): void;
}

/** Interrupts that never reached a listener, by cause. */
export interface InterruptDrops {
  /** A message while neither MSI nor MSI-X is enabled in hardware. */
  notEnabled: number;
  /** A vector that the device does not have, or that software did not give it. */
  badVector: number;
  /** COMMAND.BusMaster is off: the device may not write messages. */
  busMasterOff: number;
  /** The function sleeps. */
  notPowered: number;
  /** The message was not the programmed one: interrupt remapping stopped it. */
  remapped: number;
  /** A function without a pin raised INTx. */
  noPin: number;
  /** It arrived, and this function's interrupts have no handler. */
  noListener: number;
  /** The listener threw: a bug of its own. */
  listenerFailed: number;
}

export interface HostIrqOptions {
  readonly config: ConfigSpace;
  readonly msix: MsixTable | null;
  readonly events: EventSource;
  readonly bdf: string;
  /** Whether the function may use the bus now. Default: true, except in D3hot. */
  readonly powered?: () => boolean;
}

/** The reasons that keep interrupts from leaving. */
type Holder = 'migration' | 'sleep';

const MSIX_ENABLE_HIGH = Msix.FLAGS_ENABLE >>> 8;
const MSIX_MASKALL_HIGH = Msix.FLAGS_MASKALL >>> 8;

export class HostIrq implements IrqPort {
  readonly dropped: InterruptDrops = {
    notEnabled: 0,
    badVector: 0,
    busMasterOff: 0,
    notPowered: 0,
    remapped: 0,
    noPin: 0,
    noListener: 0,
    listenerFailed: 0,
  };
  /** Messages handed to the listener, and assertions of the pin. */
  delivered = 0;
  asserted = 0;

  readonly #config: ConfigSpace;
  readonly #bytes: Uint8Array;
  readonly #msi: MsiRegisters | null;
  readonly #msix: MsixTable | null;
  readonly #events: EventSource;
  readonly #bdf: string;
  readonly #powered: () => boolean;
  readonly #msixAt: number;
  readonly #hasPin: boolean;
  #listener: IrqListener | null = null;
  /** The level that the device drives, and the pin's level after the bits of config space. */
  #level = false;
  #pin = false;
  /** Messages that wait while the function stands still; null while it does not. */
  #waiting: Set<number> | null = null;
  readonly #holders = new Set<Holder>();

  constructor({ config, msix, events, bdf, powered }: HostIrqOptions) {
    this.#config = config;
    this.#bytes = config.bytes;
    this.#msi = MsiRegisters.of(config);
    this.#msix = msix;
    this.#events = events;
    this.#bdf = bdf;
    this.#powered = powered ?? (() => !config.sleeping);
    this.#msixAt = config.findCapability(CapId.MSIX);
    this.#hasPin = config.bytes[Config.INTERRUPT_PIN] !== 0;
    if (msix !== null) msix.onUnmasked = (vector) => this.#sendPendingMsix(vector);
    config.onWrite((offset, width) => {
      if (this.#concerns(offset, offset + width)) this.update();
    });
  }

  /** Whether a write to config bytes [first, end) can change which interrupts leave. */
  #concerns(first: number, end: number): boolean {
    if (first < Config.COMMAND + 2 && end > Config.COMMAND) return true;
    if (this.#msi?.overlaps(first, end) === true) return true;
    return this.#msixAt !== 0 && first < this.#msixAt + Msix.TABLE && end > this.#msixAt;
  }

  get listener(): IrqListener | null {
    return this.#listener;
  }

  /**
   * Attach or detach the handler. INTx is a level: a new handler hears at once of a pin that is
   * asserted.
   */
  set listener(listener: IrqListener | null) {
    this.#listener = listener;
    if (listener !== null && this.#pin) this.#assert();
  }

  get mode(): 'intx' | 'msi' | 'msix' {
    return this.#msixEnabled ? 'msix' : this.#msi?.enabled === true ? 'msi' : 'intx';
  }

  get vectors(): number {
    if (this.#msixEnabled) return this.#msix === null ? 0 : this.#msix.vectors;
    return this.#msi?.enabled === true ? this.#msi.vectors : 1;
  }

  get #msixEnabled(): boolean {
    return this.#msixAt !== 0 && (this.#bytes[this.#msixAt + Msix.FLAGS + 1]! & MSIX_ENABLE_HIGH) !== 0;
  }

  /** The level on the wire. */
  get pinAsserted(): boolean {
    return this.#pin;
  }

  raise(): void {
    if (!this.#hasPin) {
      this.dropped.noPin++;
      return;
    }
    this.#level = true;
    this.update();
  }

  lower(): void {
    this.#level = false;
    this.update();
  }

  /**
   * Send what may leave now: called after config writes that matter, and when the function has
   * power again.
   */
  update(): void {
    const msixEnabled = this.#msixEnabled;
    const messages = msixEnabled || this.#msi?.enabled === true;
    const was = this.#pin;
    this.#config.interruptStatus = this.#level;
    // While the function stands still, the pin may go quiet, and asserts when the function goes on.
    this.#pin = this.#level && !messages && !this.#config.intxDisabled && (this.#waiting === null || was);
    if (this.#pin && !was) this.#assert();
    if (this.#msix !== null && this.#msix.pendingCount > 0) {
      if (!msixEnabled) this.#msix.clearAllPending();
      else for (let vector = 0; this.#msix.pendingCount > 0 && vector < this.#msix.vectors; vector++) this.#sendPendingMsix(vector);
    }
    if (this.#msi !== null && this.#msi.pending !== 0) this.#sendPendingMsi(this.#msi);
  }

  #assert(): void {
    this.asserted++;
    if (this.#listener === null) return;
    try {
      this.#listener.intxAsserted();
    } catch (error) {
      this.#failed(error);
    }
  }

  trigger(vector: number): boolean {
    if (this.#waiting !== null) return this.#wait(vector);
    if (!this.#powered()) {
      this.dropped.notPowered++;
      return false;
    }
    if (this.#msixEnabled) return this.#triggerMsix(vector);
    if (this.#msi?.enabled === true) return this.#triggerMsi(this.#msi, vector);
    this.dropped.notEnabled++;
    return false;
  }

  /** Keep the message until the function goes on. */
  #wait(vector: number): boolean {
    if (vector >>> 0 !== vector || vector >= this.vectors) {
      this.dropped.badVector++;
      return false;
    }
    this.#waiting!.add(vector);
    return true;
  }

  /**
   * Nothing leaves until every holder has called `release`: messages wait, and the pin is not
   * asserted anew. Idempotent.
   */
  hold(holder: Holder = 'migration'): void {
    this.#holders.add(holder);
    this.#waiting ??= new Set();
  }

  /** Messages that waited go out, as if the device sent them now. Idempotent. */
  release(holder: Holder = 'migration'): void {
    this.#holders.delete(holder);
    if (this.#holders.size > 0) return;
    const waiting = this.#waiting;
    this.#waiting = null;
    if (waiting === null) return;
    this.update();
    for (const vector of waiting) this.trigger(vector);
  }

  /**
   * Interrupts that are not signalled yet: the pin's level as the device drives it, and messages
   * that wait or are masked.
   */
  saveUnsent(): { readonly level: boolean; readonly vectors: readonly number[] } {
    const vectors = new Set(this.#waiting);
    const table = this.#msix;
    if (table !== null && table.pendingCount > 0) {
      for (let vector = 0; vector < table.vectors; vector++) if (table.isPending(vector)) vectors.add(vector);
    }
    const pending = this.#msi?.pending ?? 0;
    for (let vector = 0; vector < 32; vector++) if ((pending & (1 << vector)) !== 0) vectors.add(vector);
    return { level: this.#level, vectors: [...vectors].sort((a, b) => a - b) };
  }

  /**
   * While held: replace the interrupts that are to be signalled. Vectors that are not enabled when
   * they go out are dropped.
   */
  loadUnsent(level: boolean, vectors: readonly number[]): void {
    this.#clearPending();
    this.#waiting = new Set(vectors);
    this.#level = level && this.#hasPin;
    this.update();
  }

  #triggerMsix(vector: number): boolean {
    const table = this.#msix;
    if (table === null || vector >>> 0 !== vector || vector >= table.vectors) {
      this.dropped.badVector++;
      return false;
    }
    if (table.isMasked(vector) || this.#msixFunctionMasked) {
      table.setPending(vector);
      return false;
    }
    if (!this.#config.busMaster) {
      this.dropped.busMasterOff++;
      return false;
    }
    return this.#sendMsix(table, vector);
  }

  get #msixFunctionMasked(): boolean {
    return (this.#bytes[this.#msixAt + Msix.FLAGS + 1]! & MSIX_MASKALL_HIGH) !== 0;
  }

  #sendMsix(table: MsixTable, vector: number): boolean {
    if (!table.matches(vector)) {
      this.dropped.remapped++;
      this.#events.note(
        'warn',
        `${this.#bdf} remapped`,
        `${this.#bdf}: MSI-X vector ${vector} sent a message that was not programmed; dropped`,
      );
      return false;
    }
    return this.#deliver(vector);
  }

  /** Whether a pending message could go out; until it can, it stays pending. */
  get #mayWrite(): boolean {
    return this.#waiting === null && this.#config.busMaster && this.#powered();
  }

  #sendPendingMsix(vector: number): void {
    const table = this.#msix!;
    if (!table.isPending(vector) || table.isMasked(vector)) return;
    if (!this.#msixEnabled || this.#msixFunctionMasked || !this.#mayWrite) return;
    table.clearPending(vector);
    this.#sendMsix(table, vector);
  }

  #triggerMsi(msi: MsiRegisters, vector: number): boolean {
    if (vector >>> 0 !== vector || vector >= msi.vectors) {
      this.dropped.badVector++;
      return false;
    }
    if (msi.isMasked(vector)) {
      msi.setPending(vector);
      return false;
    }
    if (!this.#config.busMaster) {
      this.dropped.busMasterOff++;
      return false;
    }
    return this.#sendMsi(msi, vector);
  }

  #sendMsi(msi: MsiRegisters, vector: number): boolean {
    if (!msi.matches(vector)) {
      this.dropped.remapped++;
      this.#events.note(
        'warn',
        `${this.#bdf} remapped`,
        `${this.#bdf}: MSI vector ${vector} sent a message that was not programmed; dropped`,
      );
      return false;
    }
    return this.#deliver(vector);
  }

  #sendPendingMsi(msi: MsiRegisters): void {
    if (!msi.enabled) {
      msi.clearAllPending();
      return;
    }
    if (!this.#mayWrite) return;
    const { vectors } = msi;
    for (let vector = 0; vector < vectors; vector++) {
      if ((msi.pending & (1 << vector)) === 0 || msi.isMasked(vector)) continue;
      msi.clearPending(vector);
      this.#sendMsi(msi, vector);
    }
  }

  #deliver(vector: number): boolean {
    if (this.#listener === null) {
      this.dropped.noListener++;
      return false;
    }
    this.delivered++;
    try {
      this.#listener.message(vector);
    } catch (error) {
      this.#failed(error);
    }
    return true;
  }

  #failed(error: unknown): void {
    this.dropped.listenerFailed++;
    this.#events.note('error', `${this.#bdf} listener`, `${this.#bdf}: interrupt handler failed: ${textOf(error)}`);
  }

  /** Remapping entries for MSI: `vectors` messages from this base message on may pass. */
  routeMsi(vectors: number, addressLow: number, addressHigh: number, data: number): void {
    this.#msi?.route(vectors, addressLow, addressHigh, data);
  }

  unrouteMsi(): void {
    this.#msi?.unroute();
  }

  /** The function was reset: its pin is quiet and nothing is pending. */
  reset(): void {
    this.#msix?.reset();
    this.#clearPending();
    this.lower();
  }

  #clearPending(): void {
    this.#msix?.clearAllPending();
    this.#msi?.clearAllPending();
    this.#waiting?.clear();
  }
}
