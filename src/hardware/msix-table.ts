/**
 * A function's MSI-X table and pending bits, as hardware holds them, and the messages that
 * interrupt remapping lets through (S2-33, S2-36).
 *
 * The table is the device's own memory: a user who maps the BAR may write it (since Linux 4.16), so
 * nothing here trusts an entry. The messages that the engine programmed stand beside the table, as
 * an IOMMU's remapping entries do; a message leaves only while the entry holds the same.
 *
 * @see PCI Local Bus 3.0, 6.8.2 (MSI-X structures) and 6.8.2.9 (vector control)
 */

import { CapId, Msix } from '../abi/pci.ts';
import type { ConfigSpace } from '../pci/config-space.ts';

const WORDS_PER_ENTRY = 4;
const CONTROL = 3;
const MASKED = Msix.ENTRY_CONTROL_MASKBIT;

export class MsixTable {
  /** Entries: QSIZE + 1, from 1 to 2048. */
  readonly vectors: number;
  /**
   * The BAR that holds the table, and the bytes [start, end) of it that the table takes: never
   * rounded to pages (S2-34).
   */
  readonly bar: number;
  readonly start: number;
  readonly end: number;
  /** The BAR and the bytes of the pending bits. */
  readonly pbaBar: number;
  readonly pbaStart: number;
  readonly pbaEnd: number;
  /** Called when a pending vector loses its mask: the host sends the message then. */
  onUnmasked: ((vector: number) => void) | null = null;

  readonly #config: ConfigSpace;
  readonly #entries: Uint32Array;
  readonly #pending: Uint32Array;
  #pendingCount = 0;
  /** The message that each vector may send, three words each; valid where #routed is 1. */
  readonly #routes: Uint32Array;
  readonly #routed: Uint8Array;

  /** The table that the MSI-X capability describes; null when the function has none. */
  static of(config: ConfigSpace): MsixTable | null {
    const capability = config.findCapability(CapId.MSIX);
    return capability === 0 ? null : new MsixTable(config, capability);
  }

  private constructor(config: ConfigSpace, capability: number) {
    const table = config.read(capability + Msix.TABLE, 4);
    const pba = config.read(capability + Msix.PBA, 4);
    this.#config = config;
    this.vectors = (config.read(capability + Msix.FLAGS, 2) & Msix.FLAGS_QSIZE) + 1;
    this.bar = table & Msix.BIR_MASK;
    this.start = (table & ~Msix.BIR_MASK) >>> 0;
    this.end = this.start + this.vectors * Msix.ENTRY_SIZE;
    this.pbaBar = pba & Msix.BIR_MASK;
    this.pbaStart = (pba & ~Msix.BIR_MASK) >>> 0;
    const pendingWords = Math.ceil(this.vectors / 64) * 2;
    this.pbaEnd = this.pbaStart + pendingWords * 4;
    this.#entries = new Uint32Array(this.vectors * WORDS_PER_ENTRY);
    this.#pending = new Uint32Array(pendingWords);
    this.#routes = new Uint32Array(this.vectors * 3);
    this.#routed = new Uint8Array(this.vectors);
    this.reset();
  }

  /**
   * Whether any of the bytes [offset, offset + size) of BAR `bar` belongs to the table: those are
   * hidden from read and write (S2-07).
   */
  contains(bar: number, offset: number, size: number): boolean {
    return bar === this.bar && size > 0 && offset < this.end && offset + size > this.start;
  }

  /** As `contains`, for the pending bits, which every user may read. */
  containsPending(bar: number, offset: number, size: number): boolean {
    return bar === this.pbaBar && size > 0 && offset < this.pbaEnd && offset + size > this.pbaStart;
  }

  /**
   * A load that reached the table or the pending bits; all ones elsewhere. `offset` is in the BAR
   * and aligned to `width`.
   */
  read(bar: number, offset: number, width: 1 | 2 | 4): number {
    let word: number;
    if (this.contains(bar, offset, width)) word = this.#entries[(offset - this.start) >>> 2]!;
    else if (this.containsPending(bar, offset, width)) word = this.#pending[(offset - this.pbaStart) >>> 2]!;
    else word = 0xffff_ffff;
    return width === 4 ? word : (word >>> ((offset & 3) * 8)) & (width === 2 ? 0xffff : 0xff);
  }

  /**
   * A store that reached the table. Pending bits are read-only, and so are the reserved bits of an
   * entry.
   */
  write(bar: number, offset: number, width: 1 | 2 | 4, value: number): void {
    if (!this.contains(bar, offset, width)) return;
    const word = (offset - this.start) >>> 2;
    const shift = (offset & 3) * 8;
    const lanes = width === 4 ? 0xffff_ffff : ((width === 2 ? 0xffff : 0xff) << shift) >>> 0;
    this.#store(word, ((this.#entries[word]! & ~lanes) | ((value << shift) & lanes)) >>> 0);
  }

  #store(word: number, value: number): void {
    const field = word % WORDS_PER_ENTRY;
    if (field === 0) {
      this.#entries[word] = value & ~3;
    } else if (field === CONTROL) {
      const was = this.#entries[word]!;
      this.#entries[word] = value & MASKED;
      if ((was & MASKED) !== 0 && (value & MASKED) === 0) {
        const vector = (word - CONTROL) / WORDS_PER_ENTRY;
        if (this.isPending(vector)) this.onUnmasked?.(vector);
      }
    } else {
      this.#entries[word] = value;
    }
  }

  isMasked(vector: number): boolean {
    return (this.#entries[vector * WORDS_PER_ENTRY + CONTROL]! & MASKED) !== 0;
  }

  isPending(vector: number): boolean {
    return (this.#pending[vector >>> 5]! & (1 << (vector & 31))) !== 0;
  }

  get pendingCount(): number {
    return this.#pendingCount;
  }

  setPending(vector: number): void {
    if (this.isPending(vector)) return;
    this.#pending[vector >>> 5]! |= 1 << (vector & 31);
    this.#pendingCount++;
  }

  clearPending(vector: number): void {
    if (!this.isPending(vector)) return;
    this.#pending[vector >>> 5]! &= ~(1 << (vector & 31));
    this.#pendingCount--;
  }

  clearAllPending(): void {
    this.#pending.fill(0);
    this.#pendingCount = 0;
  }

  /** Whether the entry holds the programmed message: interrupt remapping drops every other. */
  matches(vector: number): boolean {
    const entry = vector * WORDS_PER_ENTRY;
    const route = vector * 3;
    return (
      this.#routed[vector] === 1 &&
      this.#entries[entry] === this.#routes[route] &&
      this.#entries[entry + 1] === this.#routes[route + 1] &&
      this.#entries[entry + 2] === this.#routes[route + 2]
    );
  }

  /**
   * Allow `vector` to send this message (an interrupt remapping entry). Does not touch the device.
   */
  route(vector: number, addressLow: number, addressHigh: number, data: number): void {
    const route = vector * 3;
    this.#routes[route] = addressLow;
    this.#routes[route + 1] = addressHigh;
    this.#routes[route + 2] = data;
    this.#routed[vector] = 1;
  }

  unroute(vector: number): void {
    this.#routed[vector] = 0;
  }

  isRouted(vector: number): boolean {
    return this.#routed[vector] === 1;
  }

  /**
   * Write the routed message into the entry, as the host does before it enables a vector, so that a
   * reset that the host did not see does no harm (B.9). These are register accesses: they are lost
   * while memory decoding is off.
   */
  program(vector: number): void {
    if (!this.#decodes) return;
    const entry = vector * WORDS_PER_ENTRY;
    const route = vector * 3;
    this.#store(entry, this.#routes[route]!);
    this.#store(entry + 1, this.#routes[route + 1]!);
    this.#store(entry + 2, this.#routes[route + 2]!);
  }

  /** Set or clear the vector's mask bit; a register access too. */
  setMasked(vector: number, masked: boolean): void {
    if (this.#decodes) this.#store(vector * WORDS_PER_ENTRY + CONTROL, masked ? MASKED : 0);
  }

  get #decodes(): boolean {
    return this.#config.memoryEnabled;
  }

  /**
   * Power-on: every entry zero and masked, nothing pending. Routes are not the device's, so they
   * stay.
   */
  reset(): void {
    this.#entries.fill(0);
    for (let word = CONTROL; word < this.#entries.length; word += WORDS_PER_ENTRY) this.#entries[word] = MASKED;
    this.clearAllPending();
  }
}
