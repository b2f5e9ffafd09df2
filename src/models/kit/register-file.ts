/**
 * The registers of one map at run time: their values, and the effect of an access of any offset and
 * width.
 */
import type { Width } from '../../abi/device-host.ts';
import { allOnes } from './register.ts';
import { CHOICE, type RegisterLayout, type SlotPages } from './register-layout.ts';

/**
 * Called after a write has been stored. `written` is the whole register as the write would have it,
 * before masks; `before` what was stored.
 */
export type AfterWrite = (slot: number, written: number | bigint, before: number | bigint) => void;
/**
 * Gives the value that a read shows, for registers whose value the device makes up. `stored` is the
 * value there.
 */
export type BeforeRead = (slot: number, stored: number | bigint) => number | bigint;

const ones = [0, 0xff, 0xffff, 0, 0xffff_ffff] as const;
const ONES_64 = allOnes(8);

export class RegisterFile {
  readonly layout: RegisterLayout;
  readonly words: Uint32Array;
  readonly quads: BigUint64Array;
  /** The registers by name, as the model sees them. */
  readonly view: object;
  /** 1 where `afterWrite` or `beforeRead` is to be called for the slot. */
  readonly #handled: Uint8Array;
  readonly #computed: Uint8Array;
  /** As layout.plainRead, without the computed ones. */
  readonly #plainRead: Uint8Array;
  readonly #afterWrite: AfterWrite;
  readonly #beforeRead: BeforeRead;

  constructor(
    layout: RegisterLayout,
    hooks: { handled: Uint8Array; computed: Uint8Array; afterWrite: AfterWrite; beforeRead: BeforeRead },
  ) {
    this.layout = layout;
    this.words = layout.reset.slice();
    this.quads = new BigUint64Array(this.words.buffer);
    this.view = new layout.View(this.words, this.quads);
    this.#handled = hooks.handled;
    this.#computed = hooks.computed;
    this.#plainRead = layout.plainRead.map((bytes, slot) => (hooks.computed[slot] === 0 ? bytes : 0));
    this.#afterWrite = hooks.afterWrite;
    this.#beforeRead = hooks.beforeRead;
  }

  read(offset: number, width: Width): number {
    const slot = this.#slotAt(this.layout.readPages, offset);
    if (this.#plainRead[slot] === width && this.layout.offset[slot] === offset) return this.words[2 * slot]!;
    return this.#readParts(offset, width, width);
  }

  read64(offset: number): bigint {
    const slot = this.#slotAt(this.layout.readPages, offset);
    if (this.layout.offset[slot] === offset && this.layout.bytes[slot] === 8) {
      if (this.#plainRead[slot] === 8) return this.quads[slot]!;
      if ((this.layout.widths[slot]! & 8) === 0) return ONES_64;
      return this.layout.readable[slot] === 0 ? this.#hole64() : (this.#shown(slot) as bigint);
    }
    if (!this.#answers(this.layout.readPages, offset, 8)) return ONES_64;
    return BigInt(this.#readParts(offset, 4, 8)) | (BigInt(this.#readParts(offset + 4, 4, 8)) << 32n);
  }

  write(offset: number, width: Width, value: number): void {
    const slot = this.#slotAt(this.layout.writePages, offset);
    const { layout } = this;
    if (layout.offset[slot] === offset && layout.bytes[slot] === width && slot !== 0) {
      if ((layout.widths[slot]! & width) !== 0) this.#store(slot, value >>> 0, ones[width], 0, 0);
      return;
    }
    if (this.#answers(this.layout.writePages, offset, width)) this.#writeParts(offset, width, value >>> 0);
  }

  write64(offset: number, value: bigint): void {
    const slot = this.#slotAt(this.layout.writePages, offset);
    const low = Number(value & 0xffff_ffffn);
    const high = Number((value >> 32n) & 0xffff_ffffn);
    if (this.layout.offset[slot] === offset && this.layout.bytes[slot] === 8) {
      if ((this.layout.widths[slot]! & 8) !== 0) this.#store(slot, low, ones[4], high, ones[4]);
      return;
    }
    if (!this.#answers(this.layout.writePages, offset, 8)) return;
    this.#writeParts(offset, 4, low);
    this.#writeParts(offset + 4, 4, high);
  }

  /** The register that byte `offset` belongs to; 0 = none. */
  #slotAt(pages: SlotPages, offset: number): number {
    if (offset >= this.layout.end) return 0;
    const page = pages[offset >>> 12];
    if (page === undefined) return 0;
    const slot = page[offset & 0xfff]!;
    return slot < CHOICE ? slot : this.#choose(slot - CHOICE);
  }

  /** Of registers that share their bytes, the one that is there now. */
  #choose(choice: number): number {
    for (const slot of this.layout.choices[choice]!) {
      const { when } = this.layout.declarations[slot]!;
      if (when === null || when(this.view as never)) return slot;
    }
    return 0;
  }

  /** Do all registers that the access touches take its width? */
  #answers(pages: SlotPages, offset: number, width: number): boolean {
    for (let at = offset; at < offset + width; ) {
      const slot = this.#slotAt(pages, at);
      if (slot === 0) {
        at++;
        continue;
      }
      if ((this.layout.widths[slot]! & width) === 0) return false;
      at = this.layout.offset[slot]! + this.layout.bytes[slot]!;
    }
    return true;
  }

  /**
   * Reads 1, 2 or 4 bytes, gathered from whatever lies there. `width` is that of the whole access.
   */
  #readParts(offset: number, size: number, width: number): number {
    if (!this.#answers(this.layout.readPages, offset, width)) return ones[size as Width];
    const { layout } = this;
    let value = 0;
    for (let at = offset; at < offset + size; ) {
      const slot = this.#slotAt(this.layout.readPages, at);
      const start = layout.offset[slot]!;
      const hole = slot === 0 || layout.readable[slot] === 0 || (layout.zeroExtend[slot] === 1 && at === offset && at !== start);
      const end = Math.min(slot === 0 ? at + 1 : start + layout.bytes[slot]!, offset + size);
      const count = end - at;
      let part: number;
      if (hole) part = layout.holesReadOnes ? 0xffff_ffff : 0;
      else if (layout.bytes[slot] === 8) {
        const shown = this.#isPlain(slot) ? this.quads[slot]! : (this.#shown(slot) as bigint);
        part = Number(BigInt.asUintN(32, shown >> BigInt(8 * (at - start))));
      } else {
        const shown = this.#isPlain(slot) ? this.words[2 * slot]! : (this.#shown(slot) as number);
        part = shown >>> (8 * (at - start));
      }
      if (count < 4) part &= 2 ** (8 * count) - 1;
      value |= part << (8 * (at - offset));
      at = end;
    }
    return value >>> 0;
  }

  #isPlain(slot: number): boolean {
    return this.#computed[slot] === 0 && this.layout.declarations[slot]!.show === null;
  }

  /** The value a read sees, all of the register, cut to its size. */
  #shown(slot: number): number | bigint {
    const declaration = this.layout.declarations[slot]!;
    const eight = declaration.bytes === 8;
    let value: number | bigint = eight ? this.quads[slot]! : this.words[2 * slot]!;
    if (this.#computed[slot] === 1) value = this.#beforeRead(slot, value);
    if (declaration.show !== null) value = declaration.show(value as never);
    if (eight) return BigInt.asUintN(64, BigInt(value));
    return (Number(value) & ones[declaration.bytes as Width]) >>> 0;
  }

  #hole64(): bigint {
    return this.layout.holesReadOnes ? ONES_64 : 0n;
  }

  /** Writes 1, 2 or 4 bytes to whatever lies there; every register touched is stored once. */
  #writeParts(offset: number, size: number, value: number): void {
    const { layout } = this;
    for (let at = offset; at < offset + size; ) {
      const slot = this.#slotAt(layout.writePages, at);
      if (slot === 0) {
        at++;
        continue;
      }
      const start = layout.offset[slot]!;
      const end = Math.min(start + layout.bytes[slot]!, offset + size);
      const count = end - at;
      const part = (value >>> (8 * (at - offset))) & (count === 4 ? 0xffff_ffff : 2 ** (8 * count) - 1);
      if (layout.zeroExtend[slot] === 1) {
        if (at === start) this.#store(slot, part >>> 0, ones[4], 0, ones[4]);
      } else {
        const shift = 8 * (at - start);
        const mask = count === 4 ? ones[4] : 2 ** (8 * count) - 1;
        if (shift >= 32) this.#store(slot, 0, 0, part << (shift - 32), mask << (shift - 32));
        else this.#store(slot, part << shift, mask << shift, 0, 0);
      }
      at = end;
    }
  }

  /**
   * Stores the bits that the enables and the register's masks let through, then calls `afterWrite`.
   */
  #store(slot: number, low: number, enableLow: number, high: number, enableHigh: number): void {
    const { layout, words, quads } = this;
    const declaration = layout.declarations[slot]!;
    const l = 2 * slot;
    const h = l + 1;
    const beforeLow = words[l]!;
    const beforeHigh = words[h]!;
    const handled = this.#handled[slot] === 1;
    const eight = declaration.bytes === 8;
    const before = handled || declaration.store !== null ? (eight ? quads[slot]! : beforeLow) : 0;

    const writableLow = layout.writable[l]! & enableLow;
    const writableHigh = layout.writable[h]! & enableHigh;
    words[l] = ((beforeLow & ~writableLow) | (low & writableLow)) & ~(low & layout.writeOneClears[l]! & enableLow);
    words[h] = ((beforeHigh & ~writableHigh) | (high & writableHigh)) & ~(high & layout.writeOneClears[h]! & enableHigh);
    if (declaration.store !== null) {
      const stored = declaration.store((eight ? quads[slot] : words[l]) as never, before as never);
      if (eight) quads[slot] = BigInt(stored);
      else words[l] = Number(stored) & ones[declaration.bytes as Width];
    }
    if (!handled) return;
    const writtenLow = ((beforeLow & ~enableLow) | (low & enableLow)) >>> 0;
    const writtenHigh = ((beforeHigh & ~enableHigh) | (high & enableHigh)) >>> 0;
    this.#afterWrite(slot, eight ? (BigInt(writtenHigh) << 32n) | BigInt(writtenLow) : writtenLow, before);
  }
}
