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
import { type EventSource, Irq, Reason, Step } from '../events/source.ts';
import type { ConfigSpace } from '../pci/config-space.ts';
import { dropReasons, type InterruptDrops } from './interrupt-drops.ts';
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
  /** Messages handed to the listener, and assertions of the pin. */
  delivered = 0;
  asserted = 0;

  readonly #config: ConfigSpace;
  readonly #bytes: Uint8Array;
  readonly #msi: MsiRegisters | null;
  readonly #msix: MsixTable | null;
  /** Where the function emits. */
  readonly events: EventSource;
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
    this.events = events;
    this.#bdf = bdf;
    this.#powered = powered ?? (() => !config.sleeping);
    this.#msixAt = config.findCapability(CapId.MSIX);
    this.#hasPin = config.bytes[Config.INTERRUPT_PIN] !== 0;
    if (msix !== null) msix.onUnmasked = (vector) => this.#sendPendingMsix(vector);
    config.onWrite((offset, width) => {
      if (this.#concerns(offset, offset + width)) this.update();
    });
  }

  /** Interrupts that never reached a listener, by cause. */
  get dropped(): InterruptDrops {
    const counts = Object.entries(dropReasons).map(([drop, reason]) => [drop, this.events.counted(`irq ${reason}`)]);
    return Object.fromEntries(counts) as InterruptDrops;
  }

  /** @returns false, as the trigger that it ends */
  #drop(drop: keyof InterruptDrops, irq: 'intx' | 'msi' | 'msix', vector: number): false {
    const reason = dropReasons[drop];
    this.events.count(`irq ${reason}`);
    if (this.events.on || drop === 'remapped') this.events.emit('interrupt', { step: 'dropped', irq, vector, reason });
    return false;
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
      this.#drop('noPin', 'intx', 0);
      return;
    }
    if (this.events.on && !this.#level) {
      this.#raiseSeen();
      return;
    }
    this.#level = true;
    this.update();
  }

  #raiseSeen(): void {
    const { events } = this;
    const { asserted } = this;
    const before = events.cause;
    events.cause = events.interrupt(Step.raised, Irq.intx, 0);
    this.#level = true;
    this.update();
    // A handler masks the pin at once.
    if (!this.#pin && this.asserted === asserted) events.interrupt(Step.pending, Irq.intx, 0, this.#whyQuiet);
    events.cause = before;
  }

  /** The reason why a level does not reach the wire. */
  get #whyQuiet(): number {
    if (this.#waiting !== null) return Reason.standstill;
    return this.#config.intxDisabled ? Reason['COMMAND.InterruptDisable'] : Reason.messages;
  }

  lower(): void {
    if (this.events.on && this.#level) this.events.interrupt(Step.lowered, Irq.intx, 0);
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
      this.#failed('intx', 0, error);
    }
  }

  trigger(vector: number): boolean {
    return this.events.on ? this.#triggerSeen(vector) : this.#send(vector);
  }

  #triggerSeen(vector: number): boolean {
    const { events } = this;
    const before = events.cause;
    events.cause = events.interrupt(Step.raised, Irq[this.#messageKind], vector);
    const sent = this.#send(vector);
    events.cause = before;
    return sent;
  }

  /** The kind of messages that the function sends, or would send. */
  get #messageKind(): 'msi' | 'msix' {
    return this.#msixEnabled || (this.#msix !== null && this.#msi?.enabled !== true) ? 'msix' : 'msi';
  }

  #send(vector: number): boolean {
    if (this.#waiting !== null) return this.#wait(vector);
    if (!this.#powered()) return this.#drop('notPowered', this.#messageKind, vector);
    if (this.#msixEnabled) return this.#triggerMsix(vector);
    if (this.#msi?.enabled === true) return this.#triggerMsi(this.#msi, vector);
    return this.#drop('notEnabled', this.#messageKind, vector);
  }

  /** Keep the message until the function goes on. */
  #wait(vector: number): boolean {
    if (vector >>> 0 !== vector || vector >= this.vectors) return this.#drop('badVector', this.#messageKind, vector);
    this.#pends(this.#messageKind, vector, Reason.standstill);
    this.#waiting!.add(vector);
    return true;
  }

  #pends(irq: 'msi' | 'msix', vector: number, reason: number): void {
    if (this.events.on) this.events.interrupt(Step.pending, Irq[irq], vector, reason);
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
    for (const vector of waiting) this.#send(vector);
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
    if (table === null || vector >>> 0 !== vector || vector >= table.vectors) return this.#drop('badVector', 'msix', vector);
    if (table.isMasked(vector) || this.#msixFunctionMasked) {
      table.setPending(vector);
      this.#pends('msix', vector, this.#msixFunctionMasked ? Reason['function mask'] : Reason.mask);
      return false;
    }
    if (!this.#config.busMaster) return this.#drop('busMasterOff', 'msix', vector);
    return this.#sendMsix(table, vector);
  }

  get #msixFunctionMasked(): boolean {
    return (this.#bytes[this.#msixAt + Msix.FLAGS + 1]! & MSIX_MASKALL_HIGH) !== 0;
  }

  #sendMsix(table: MsixTable, vector: number): boolean {
    return table.matches(vector) ? this.#deliver('msix', vector) : this.#drop('remapped', 'msix', vector);
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
    if (vector >>> 0 !== vector || vector >= msi.vectors) return this.#drop('badVector', 'msi', vector);
    if (msi.isMasked(vector)) {
      msi.setPending(vector);
      this.#pends('msi', vector, Reason.mask);
      return false;
    }
    if (!this.#config.busMaster) return this.#drop('busMasterOff', 'msi', vector);
    return this.#sendMsi(msi, vector);
  }

  #sendMsi(msi: MsiRegisters, vector: number): boolean {
    return msi.matches(vector) ? this.#deliver('msi', vector) : this.#drop('remapped', 'msi', vector);
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

  #deliver(irq: 'msi' | 'msix', vector: number): boolean {
    if (this.#listener === null) return this.#drop('noListener', irq, vector);
    this.delivered++;
    try {
      this.#listener.message(vector);
    } catch (error) {
      this.#failed(irq, vector, error);
    }
    return true;
  }

  #failed(irq: 'intx' | 'msi' | 'msix', vector: number, error: unknown): void {
    this.#drop('listenerFailed', irq, vector);
    this.events.note('error', 'interrupt listener', `${this.#bdf}: interrupt handler failed: ${textOf(error)}`);
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
