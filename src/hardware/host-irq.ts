/**
 * Interrupts as the function's own hardware makes them: the INTx pin, MSI and MSI-X messages, and everything in config space that holds them
 * back. Nothing a model does here throws; what cannot leave the device is counted.
 *
 * @see PCI Local Bus 3.0, 6.2.2 (COMMAND bit 10), 6.2.3 (STATUS bit 3), 6.8 (message signalled interrupts)
 */

import type { IrqPort } from '../abi/device-host.ts';
import { CapId, Config, Msi, Msix } from '../abi/pci.ts';
import { textOf } from '../base/foreign.ts';
import type { RateLimitedLogger } from '../base/log.ts';
import type { ConfigSpace } from '../pci/config-space.ts';
import type { MsixTable } from './msix-table.ts';

/** Who handles the function's interrupts. Called synchronously; must not throw. */
export interface IrqListener {
  /** The pin went from quiet to asserted, or was asserted already when the listener was attached. Level: ask `pinAsserted` for now. */
  intxAsserted(): void;
  /** Message `vector` arrived. */
  message(vector: number): void;
}

/** Interrupts that never reached a listener, by cause. */
export interface InterruptDrops {
  /** A message while neither MSI nor MSI-X is enabled in hardware. */
  notEnabled: number;
  /** A vector the device does not have, or that software did not give it. */
  badVector: number;
  /** COMMAND.BusMaster is off: the device may not write messages. */
  busMasterOff: number;
  /** The function sleeps. */
  notPowered: number;
  /** The message was not the one programmed: stopped by interrupt remapping. */
  remapped: number;
  /** INTx raised by a function without a pin. */
  noPin: number;
  /** It arrived and nobody handles this function's interrupts. */
  noListener: number;
  /** The listener threw: a bug of its own. */
  listenerFailed: number;
}

export interface HostIrqOptions {
  readonly config: ConfigSpace;
  readonly msix: MsixTable | null;
  readonly log: RateLimitedLogger;
  readonly bdf: string;
  /** Whether the function may use the bus now. Default: unless it is in D3hot. */
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
  readonly #msix: MsixTable | null;
  readonly #log: RateLimitedLogger;
  readonly #bdf: string;
  readonly #powered: () => boolean;
  readonly #msiAt: number;
  readonly #msixAt: number;
  /** Offsets of the MSI data, mask and pending registers; mask 0 = it has none. */
  readonly #msiDataAt: number;
  readonly #msiMaskAt: number;
  readonly #msiPendingAt: number;
  readonly #msi64: boolean;
  readonly #hasPin: boolean;
  #listener: IrqListener | null = null;
  /** What the device wants of its pin, and what the pin does once config space has had its say. */
  #level = false;
  #pin = false;
  /** The remapping entries for MSI: this base message, and the vectors after it. */
  #routedVectors = 0;
  #routeLow = 0;
  #routeHigh = 0;
  #routeData = 0;
  /** Messages that wait while the function stands still; null while it does not. */
  #waiting: Set<number> | null = null;
  readonly #holders = new Set<Holder>();

  constructor({ config, msix, log, bdf, powered }: HostIrqOptions) {
    this.#config = config;
    this.#bytes = config.bytes;
    this.#msix = msix;
    this.#log = log;
    this.#bdf = bdf;
    this.#powered = powered ?? (() => !config.sleeping);
    this.#msiAt = config.findCapability(CapId.MSI);
    this.#msixAt = config.findCapability(CapId.MSIX);
    const flags = this.#msiAt === 0 ? 0 : config.read(this.#msiAt + Msi.FLAGS, 2);
    this.#msi64 = (flags & Msi.FLAGS_64BIT) !== 0;
    this.#msiDataAt = this.#msiAt + (this.#msi64 ? Msi.DATA_64 : Msi.DATA_32);
    const maskable = (flags & Msi.FLAGS_MASKBIT) !== 0;
    this.#msiMaskAt = maskable ? this.#msiAt + (this.#msi64 ? Msi.MASK_64 : Msi.MASK_32) : 0;
    this.#msiPendingAt = maskable ? this.#msiAt + (this.#msi64 ? Msi.PENDING_64 : Msi.PENDING_32) : 0;
    this.#hasPin = config.bytes[Config.INTERRUPT_PIN] !== 0;
    if (msix !== null) msix.onUnmasked = (vector) => this.#sendPendingMsix(vector);
    config.onWrite((offset, width) => {
      if (this.#concerns(offset, offset + width)) this.update();
    });
  }

  /** Whether a write to config bytes [first, end) can change which interrupts leave. */
  #concerns(first: number, end: number): boolean {
    if (first < Config.COMMAND + 2 && end > Config.COMMAND) return true;
    const { SIZE_64_MASKED } = Msi;
    if (this.#msiAt !== 0 && first < this.#msiAt + SIZE_64_MASKED && end > this.#msiAt) return true;
    return this.#msixAt !== 0 && first < this.#msixAt + Msix.TABLE && end > this.#msixAt;
  }

  get listener(): IrqListener | null {
    return this.#listener;
  }

  /** Attach or detach the handler. INTx is a level: one that is asserted already is told at once. */
  set listener(listener: IrqListener | null) {
    this.#listener = listener;
    if (listener !== null && this.#pin) this.#assert();
  }

  get mode(): 'intx' | 'msi' | 'msix' {
    return this.#msixEnabled ? 'msix' : this.#msiEnabled ? 'msi' : 'intx';
  }

  get vectors(): number {
    if (this.#msixEnabled) return this.#msix === null ? 0 : this.#msix.vectors;
    return this.#msiEnabled ? this.#msiVectors : 1;
  }

  get #msixEnabled(): boolean {
    return this.#msixAt !== 0 && (this.#bytes[this.#msixAt + Msix.FLAGS + 1]! & MSIX_ENABLE_HIGH) !== 0;
  }

  get #msiEnabled(): boolean {
    return this.#msiAt !== 0 && (this.#bytes[this.#msiAt + Msi.FLAGS]! & Msi.FLAGS_ENABLE) !== 0;
  }

  get #msiVectors(): number {
    return 1 << ((this.#bytes[this.#msiAt + Msi.FLAGS]! & Msi.FLAGS_QSIZE) >>> Msi.FLAGS_QSIZE_SHIFT);
  }

  #dword(at: number): number {
    const b = this.#bytes;
    return (b[at]! | (b[at + 1]! << 8) | (b[at + 2]! << 16) | (b[at + 3]! << 24)) >>> 0;
  }

  /** The level on the wire: what a host without COMMAND.InterruptDisable sees. */
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

  /** Work out again what may leave: called for config writes that matter, and when the function is powered again. */
  update(): void {
    const msixEnabled = this.#msixEnabled;
    const messages = msixEnabled || this.#msiEnabled;
    const was = this.#pin;
    this.#config.interruptStatus = this.#level;
    // While it stands still the pin may go quiet, and asserts when it goes on.
    this.#pin = this.#level && !messages && !this.#config.intxDisabled && (this.#waiting === null || was);
    if (this.#pin && !was) this.#assert();
    if (this.#msix !== null && this.#msix.pendingCount > 0) {
      if (!msixEnabled) this.#msix.clearAllPending();
      else for (let vector = 0; this.#msix.pendingCount > 0 && vector < this.#msix.vectors; vector++) this.#sendPendingMsix(vector);
    }
    if (this.#msiPendingAt !== 0 && this.#dword(this.#msiPendingAt) !== 0) this.#sendPendingMsi();
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
    if (this.#msiEnabled) return this.#triggerMsi(vector);
    this.dropped.notEnabled++;
    return false;
  }

  /** It goes out when the function goes on. */
  #wait(vector: number): boolean {
    if (vector >>> 0 !== vector || vector >= this.vectors) {
      this.dropped.badVector++;
      return false;
    }
    this.#waiting!.add(vector);
    return true;
  }

  /** Nothing leaves until `release` for everything that holds it: messages wait, and the pin is not asserted anew. Idempotent. */
  hold(holder: Holder = 'migration'): void {
    this.#holders.add(holder);
    this.#waiting ??= new Set();
  }

  /** What has waited goes out now, as if it were sent now. Idempotent. */
  release(holder: Holder = 'migration'): void {
    this.#holders.delete(holder);
    if (this.#holders.size > 0) return;
    const waiting = this.#waiting;
    this.#waiting = null;
    if (waiting === null) return;
    this.update();
    for (const vector of waiting) this.trigger(vector);
  }

  /** What is not signalled yet: the pin's level as the device drives it, and messages that wait or are masked. */
  saveUnsent(): { readonly level: boolean; readonly vectors: readonly number[] } {
    const vectors = new Set(this.#waiting);
    const table = this.#msix;
    if (table !== null && table.pendingCount > 0) {
      for (let vector = 0; vector < table.vectors; vector++) if (table.isPending(vector)) vectors.add(vector);
    }
    const pending = this.#msiPendingAt === 0 ? 0 : this.#dword(this.#msiPendingAt);
    for (let vector = 0; vector < 32; vector++) if ((pending & (1 << vector)) !== 0) vectors.add(vector);
    return { level: this.#level, vectors: [...vectors].sort((a, b) => a - b) };
  }

  /** While held: have this to be signalled, and nothing else. Vectors that nobody has enabled by then are dropped when they go out. */
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
      this.#log.log(
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

  #triggerMsi(vector: number): boolean {
    if (vector >>> 0 !== vector || vector >= this.#msiVectors) {
      this.dropped.badVector++;
      return false;
    }
    if (this.#msiMaskAt !== 0 && (this.#dword(this.#msiMaskAt) & (1 << vector)) !== 0) {
      this.#bytes[this.#msiPendingAt + (vector >>> 3)]! |= 1 << (vector & 7);
      return false;
    }
    if (!this.#config.busMaster) {
      this.dropped.busMasterOff++;
      return false;
    }
    return this.#sendMsi(vector);
  }

  #sendMsi(vector: number): boolean {
    const b = this.#bytes;
    const high = this.#msi64 ? this.#dword(this.#msiAt + Msi.ADDRESS_HI) : 0;
    const data = b[this.#msiDataAt]! | (b[this.#msiDataAt + 1]! << 8);
    if (
      vector >= this.#routedVectors ||
      this.#dword(this.#msiAt + Msi.ADDRESS_LO) !== this.#routeLow ||
      high !== this.#routeHigh ||
      data !== this.#routeData
    ) {
      this.dropped.remapped++;
      this.#log.log('warn', `${this.#bdf} remapped`, `${this.#bdf}: MSI vector ${vector} sent a message that was not programmed; dropped`);
      return false;
    }
    return this.#deliver(vector);
  }

  #sendPendingMsi(): void {
    if (!this.#msiEnabled) {
      this.#bytes.fill(0, this.#msiPendingAt, this.#msiPendingAt + 4);
      return;
    }
    if (!this.#mayWrite) return;
    const vectors = this.#msiVectors;
    for (let vector = 0; vector < vectors; vector++) {
      const bit = 1 << vector;
      if ((this.#dword(this.#msiPendingAt) & bit) === 0 || (this.#dword(this.#msiMaskAt) & bit) !== 0) continue;
      this.#bytes[this.#msiPendingAt + (vector >>> 3)]! &= ~(1 << (vector & 7));
      this.#sendMsi(vector);
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
    this.#log.log('error', `${this.#bdf} listener`, `${this.#bdf}: interrupt handler failed: ${textOf(error)}`);
  }

  /** Remapping entries for MSI: `vectors` messages from this base message on may pass. */
  routeMsi(vectors: number, addressLow: number, addressHigh: number, data: number): void {
    this.#routedVectors = vectors;
    this.#routeLow = addressLow;
    this.#routeHigh = addressHigh;
    this.#routeData = data;
  }

  unrouteMsi(): void {
    this.#routedVectors = 0;
  }

  /** The function was reset: its pin is quiet and nothing is pending. */
  reset(): void {
    this.#msix?.reset();
    this.#clearPending();
    this.lower();
  }

  #clearPending(): void {
    this.#msix?.clearAllPending();
    if (this.#msiPendingAt !== 0) this.#bytes.fill(0, this.#msiPendingAt, this.#msiPendingAt + 4);
    this.#waiting?.clear();
  }
}
