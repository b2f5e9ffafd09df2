/**
 * The vector registers of a stopped thread, as `PTRACE_GETREGSET` gives them for NT_X86_XSTATE: the
 * standard format of XSAVE, whose parts the processor has places for.
 *
 * @see Intel SDM volume 1, 13.4 (format of the XSAVE area), volume 2, CPUID leaf 0Dh
 */

/** XSTATE_BV, behind the 512 bytes of FXSAVE: which parts are not in their initial state. */
const XSTATE_BV = 512;
const XMM = 160;
/** Numbers of the parts. */
const Part = { SSE: 1, AVX: 2, OPMASK: 5, ZMM_HI256: 6, HI16_ZMM: 7 } as const;

/**
 * Where the processor keeps the parts, from the start of the area; 0: it does not have the part.
 */
export interface VectorLayout {
  /** Bytes of the whole area. */
  readonly size: number;
  /** The upper halves of YMM0 to YMM15. */
  readonly ymm: number;
  /** The upper halves of ZMM0 to ZMM15. */
  readonly zmm: number;
  /** ZMM16 to ZMM31. */
  readonly more: number;
}

/** @param cpuid EAX to EDX of a leaf and subleaf; null where the processor has no such leaf */
export function vectorLayout(cpuid: (leaf: number, subleaf: number) => Int32Array | null): VectorLayout {
  // ECX: the size with all parts that the processor supports.
  const size = cpuid(0xd, 0)?.[2] ?? 0;
  const offset = (part: number) => cpuid(0xd, part)?.[1] ?? 0;
  return { size: Math.max(size, 4096), ymm: offset(Part.AVX), zmm: offset(Part.ZMM_HI256), more: offset(Part.HI16_ZMM) };
}

export class VectorRegisters {
  /** The area, which the kernel reads and writes. */
  readonly bytes: Uint8Array;
  readonly #layout: VectorLayout;

  constructor(layout: VectorLayout) {
    this.#layout = layout;
    this.bytes = new Uint8Array(layout.size);
  }

  /** Byte `at` of register `number`: its place in `bytes`. Marks the part that holds it as used. */
  #place(number: number, at: number): number {
    const { ymm, zmm, more } = this.#layout;
    if (number >= 16) {
      this.#use(Part.HI16_ZMM);
      return more + (number - 16) * 64 + at;
    }
    if (at < 16) {
      this.#use(Part.SSE);
      return XMM + number * 16 + at;
    }
    this.#use(at < 32 ? Part.AVX : Part.ZMM_HI256);
    return at < 32 ? ymm + number * 16 + at - 16 : zmm + number * 32 + at - 32;
  }

  /** A part in its initial state is all zeroes, whatever its bytes are. */
  #use(part: number): void {
    const bit = 1 << part;
    if ((this.bytes[XSTATE_BV]! & bit) !== 0) return;
    this.bytes[XSTATE_BV] = this.bytes[XSTATE_BV]! | bit;
    const { ymm, zmm, more } = this.#layout;
    if (part === Part.SSE) this.bytes.fill(0, XMM, XMM + 256);
    else if (part === Part.AVX) this.bytes.fill(0, ymm, ymm + 256);
    else if (part === Part.ZMM_HI256) this.bytes.fill(0, zmm, zmm + 512);
    else this.bytes.fill(0, more, more + 1024);
  }

  /** Four bytes from byte `at`, a multiple of 4, on. */
  word(number: number, at: number): number {
    const place = this.#place(number, at);
    const { bytes } = this;
    return (bytes[place]! | (bytes[place + 1]! << 8) | (bytes[place + 2]! << 16) | (bytes[place + 3]! << 24)) >>> 0;
  }

  setWord(number: number, at: number, value: number): void {
    const place = this.#place(number, at);
    this.bytes[place] = value;
    this.bytes[place + 1] = value >>> 8;
    this.bytes[place + 2] = value >>> 16;
    this.bytes[place + 3] = value >>> 24;
  }

  /** Clear register `number` from byte `from`, a multiple of 4, to byte `end`, or to its end. */
  clear(number: number, from: number, end = Number.POSITIVE_INFINITY): void {
    const { ymm, zmm } = this.#layout;
    const size = number >= 16 || zmm !== 0 ? 64 : ymm !== 0 ? 32 : 16;
    for (let at = from; at < Math.min(size, end); at += 4) this.setWord(number, at, 0);
  }
}
