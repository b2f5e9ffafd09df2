/**
 * A function's MSI capability, as hardware holds it in config space, and the messages that
 * interrupt remapping lets through (S2-36).
 *
 * @see PCI Local Bus 3.0, 6.8.1 (MSI capability structure)
 */
import { CapId, Msi } from '../abi/pci.ts';
import type { ConfigSpace } from '../pci/config-space.ts';

export class MsiRegisters {
  readonly #bytes: Uint8Array;
  /** Offset of the capability. */
  readonly #at: number;
  readonly #has64: boolean;
  /**
   * Offsets of the data, mask and pending registers. Mask and pending 0: the function has neither.
   */
  readonly #dataAt: number;
  readonly #maskAt: number;
  readonly #pendingAt: number;
  /** The remapping entries: this base message, and the vectors after it. */
  #routedVectors = 0;
  #routeLow = 0;
  #routeHigh = 0;
  #routeData = 0;

  /** The registers of the function's MSI capability; null when the function has none. */
  static of(config: ConfigSpace): MsiRegisters | null {
    const capability = config.findCapability(CapId.MSI);
    return capability === 0 ? null : new MsiRegisters(config, capability);
  }

  private constructor(config: ConfigSpace, at: number) {
    this.#bytes = config.bytes;
    this.#at = at;
    const flags = config.read(at + Msi.FLAGS, 2);
    this.#has64 = (flags & Msi.FLAGS_64BIT) !== 0;
    this.#dataAt = at + (this.#has64 ? Msi.DATA_64 : Msi.DATA_32);
    const maskable = (flags & Msi.FLAGS_MASKBIT) !== 0;
    this.#maskAt = maskable ? at + (this.#has64 ? Msi.MASK_64 : Msi.MASK_32) : 0;
    this.#pendingAt = maskable ? at + (this.#has64 ? Msi.PENDING_64 : Msi.PENDING_32) : 0;
  }

  /** Whether config bytes [first, end) hold any of the registers. */
  overlaps(first: number, end: number): boolean {
    return first < this.#at + Msi.SIZE_64_MASKED && end > this.#at;
  }

  get enabled(): boolean {
    return (this.#bytes[this.#at + Msi.FLAGS]! & Msi.FLAGS_ENABLE) !== 0;
  }

  /** Vectors that software gave the function: 1, 2, 4, 8, 16 or 32. */
  get vectors(): number {
    return 1 << ((this.#bytes[this.#at + Msi.FLAGS]! & Msi.FLAGS_QSIZE) >>> Msi.FLAGS_QSIZE_SHIFT);
  }

  isMasked(vector: number): boolean {
    return this.#maskAt !== 0 && (this.#dword(this.#maskAt) & (1 << vector)) !== 0;
  }

  /** The pending bits, one a vector. */
  get pending(): number {
    return this.#pendingAt === 0 ? 0 : this.#dword(this.#pendingAt);
  }

  setPending(vector: number): void {
    this.#bytes[this.#pendingAt + (vector >>> 3)]! |= 1 << (vector & 7);
  }

  clearPending(vector: number): void {
    this.#bytes[this.#pendingAt + (vector >>> 3)]! &= ~(1 << (vector & 7));
  }

  clearAllPending(): void {
    if (this.#pendingAt !== 0) this.#bytes.fill(0, this.#pendingAt, this.#pendingAt + 4);
  }

  /** Whether the message that the registers hold for `vector` is one that may pass. */
  matches(vector: number): boolean {
    const high = this.#has64 ? this.#dword(this.#at + Msi.ADDRESS_HI) : 0;
    const data = this.#bytes[this.#dataAt]! | (this.#bytes[this.#dataAt + 1]! << 8);
    return (
      vector < this.#routedVectors &&
      this.#dword(this.#at + Msi.ADDRESS_LO) === this.#routeLow &&
      high === this.#routeHigh &&
      data === this.#routeData
    );
  }

  /** From now on `vectors` messages may pass, from this base message on. */
  route(vectors: number, addressLow: number, addressHigh: number, data: number): void {
    this.#routedVectors = vectors;
    this.#routeLow = addressLow;
    this.#routeHigh = addressHigh;
    this.#routeData = data;
  }

  unroute(): void {
    this.#routedVectors = 0;
  }

  #dword(at: number): number {
    const b = this.#bytes;
    return (b[at]! | (b[at + 1]! << 8) | (b[at + 2]! << 16) | (b[at + 3]! << 24)) >>> 0;
  }
}
