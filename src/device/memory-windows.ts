/**
 * Plain memory behind a region, by width: one typed array a window and width. An aligned access is
 * one load or store of the processor, which a `DataView`'s access need not be.
 */
import type { Width } from '../abi/device-host.ts';
import { type DirectMemory, WINDOW_BYTES } from '../abi/memory.ts';
import { load, store } from './register-value.ts';

export class MemoryWindows {
  readonly #bytes: readonly Uint8Array[];
  /** Null for memory that begins at no multiple of 8: only the byte arrays can show such memory. */
  readonly #halves: readonly Uint16Array[] | null;
  readonly #words: readonly Uint32Array[] | null;
  readonly #longs: readonly BigUint64Array[] | null;

  constructor({ windows }: DirectMemory) {
    const aligned = windows.every((w) => w.byteOffset % 8 === 0);
    this.#bytes = windows;
    this.#halves = aligned ? windows.map((w) => new Uint16Array(w.buffer, w.byteOffset, w.length >>> 1)) : null;
    this.#words = aligned ? windows.map((w) => new Uint32Array(w.buffer, w.byteOffset, Math.floor(w.length / 4))) : null;
    this.#longs = aligned ? windows.map((w) => new BigUint64Array(w.buffer, w.byteOffset, Math.floor(w.length / 8))) : null;
  }

  /** `at` is a multiple of `width`, as in the methods below, and inside the memory. */
  load(at: number, width: Width): number {
    const window = at < WINDOW_BYTES ? 0 : Math.floor(at / WINDOW_BYTES);
    const within = at - window * WINDOW_BYTES;
    if (this.#words === null) return load(this.#bytes[window]!, within, width);
    if (width === 4) return this.#words[window]![within / 4]!;
    return width === 2 ? this.#halves![window]![within / 2]! : this.#bytes[window]![within]!;
  }

  load64(at: number): bigint {
    if (this.#longs === null) return BigInt(this.load(at, 4)) | (BigInt(this.load(at + 4, 4)) << 32n);
    return this.#longs[Math.floor(at / WINDOW_BYTES)]![(at % WINDOW_BYTES) / 8]!;
  }

  store(at: number, width: Width, value: number): void {
    const window = at < WINDOW_BYTES ? 0 : Math.floor(at / WINDOW_BYTES);
    const within = at - window * WINDOW_BYTES;
    if (this.#words === null) store(this.#bytes[window]!, within, width, value);
    else if (width === 4) this.#words[window]![within / 4] = value;
    else if (width === 2) this.#halves![window]![within / 2] = value;
    else this.#bytes[window]![within] = value;
  }

  store64(at: number, value: bigint): void {
    if (this.#longs === null) {
      this.store(at, 4, Number(value & 0xffff_ffffn));
      this.store(at + 4, 4, Number(value >> 32n));
    } else this.#longs[Math.floor(at / WINDOW_BYTES)]![(at % WINDOW_BYTES) / 8] = value;
  }
}
