/**
 * A BAR through the device file: the gate, the split into naturally aligned accesses, and the
 * hidden MSI-X table.
 *
 * The register accesses (`read32` and its like) are the hot path: a few compares, then the model.
 * All other accesses (misaligned, at the end of the region, behind a closed gate, to the MSI-X
 * table) go the long way, which also knows the errno.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_rdwr.c, vfio_pci_core_do_io_rw()
 */
import type { MappableArea, MappingMemory, RegionInfo, RegionMapping } from '../../abi/device.ts';
import { WINDOW_BYTES } from '../../abi/memory.ts';
import { checkU64 } from '../../base/check.ts';
import { checkMapRange } from '../../device/map-range.ts';
import { fitsWidth, load, store } from '../../device/register-value.ts';
import type { FunctionHost } from '../../hardware/function-host.ts';
import { FileRegion } from './region-io.ts';
import { BarMapping } from './region-mapping.ts';
import type { RegionFile } from './region-ports.ts';

const TABLE_HIDDEN = 'the MSI-X table is hidden: SET_IRQS programs it';

export class BarRegion extends FileRegion {
  readonly #host: FunctionHost;
  readonly #bar: number;
  readonly #size: number;
  /** Memory BARs answer only while memory decoding is on; I/O BARs are not gated. */
  readonly #gated: boolean;
  /** Widest access: I/O space has no 64-bit cycles. */
  readonly #widest: 4 | 8;
  /**
   * Bytes [start, end) hold the MSI-X table: reads give ones, writes are dropped. Never rounded to
   * pages (S2-34).
   */
  readonly #hiddenStart: number;
  readonly #hiddenEnd: number;
  readonly #windows: readonly Uint8Array<ArrayBufferLike>[] | null;
  /** Parts of registers that are memory to users who map them. */
  readonly #areas: readonly MappableArea[] | undefined;

  constructor(file: RegionFile, info: RegionInfo) {
    super(file, info);
    this.#host = file.device.host;
    this.#bar = info.index;
    this.#size = info.size;
    const bar = this.#host.bar(info.index)!;
    this.#gated = bar.type !== 'io';
    this.#widest = bar.type === 'io' ? 4 : 8;
    const { msix } = this.#host;
    const hides = msix !== null && msix.bar === info.index;
    this.#hiddenStart = hides ? msix.start : Number.POSITIVE_INFINITY;
    this.#hiddenEnd = hides ? msix.end : Number.POSITIVE_INFINITY;
    const plain = bar.backing === 'memory' && msix?.bar !== info.index && msix?.pbaBar !== info.index;
    this.#windows = plain ? this.#host.barMemory(info.index).windows : null;
    this.#areas = bar.sparseAreas;
  }

  /**
   * Whether an aligned access of `width` bytes can go straight to the function. False also for
   * offsets that are no integers or no numbers.
   */
  #straight(offset: number, width: number): boolean {
    return (
      !this.device.slow &&
      !this.file.closed &&
      typeof offset === 'number' &&
      offset >>> 0 === offset &&
      (offset & (width - 1)) === 0 &&
      offset + width <= this.#size &&
      (offset + width <= this.#hiddenStart || offset >= this.#hiddenEnd) &&
      (!this.#gated || this.vconfig.memoryEnabled)
    );
  }

  override read8(offset: number): number {
    return this.#straight(offset, 1) ? this.#host.read(this.#bar, offset, 1) : this.readRegister(offset, 1);
  }

  override read16(offset: number): number {
    return this.#straight(offset, 2) ? this.#host.read(this.#bar, offset, 2) : this.readRegister(offset, 2);
  }

  override read32(offset: number): number {
    return this.#straight(offset, 4) ? this.#host.read(this.#bar, offset, 4) : this.readRegister(offset, 4);
  }

  override read64(offset: number): bigint {
    return this.#widest === 8 && this.#straight(offset, 8) ? this.#host.read64(this.#bar, offset) : super.read64(offset);
  }

  override write8(offset: number, value: number): void {
    if (fitsWidth(1, value) && this.#straight(offset, 1)) this.#host.write(this.#bar, offset, 1, value);
    else super.write8(offset, value);
  }

  override write16(offset: number, value: number): void {
    if (fitsWidth(2, value) && this.#straight(offset, 2)) this.#host.write(this.#bar, offset, 2, value);
    else super.write16(offset, value);
  }

  override write32(offset: number, value: number): void {
    if (fitsWidth(4, value) && this.#straight(offset, 4)) this.#host.write(this.#bar, offset, 4, value);
    else super.write32(offset, value);
  }

  override write64(offset: number, value: bigint): void {
    checkU64(value, 'value');
    if (this.#widest === 8 && this.#straight(offset, 8)) this.#host.write64(this.#bar, offset, value);
    else super.write64(offset, value);
  }

  protected readAwake(offset: number, into: Uint8Array): number {
    const count = this.clip(offset, into.length);
    for (let done = 0; done < count; ) {
      const hidden = this.#hiddenFor(offset + done, count - done);
      if (hidden > 0) {
        into.fill(0xff, done, done + hidden);
        if (this.events.on) this.see(false, offset + done, into.subarray(done, done + hidden), 'dropped', TABLE_HIDDEN);
        done += hidden;
        continue;
      }
      const run = this.#runFor(offset + done, count - done);
      this.#gate();
      done += this.#windows === null ? this.#readOne(offset + done, run, into, done) : this.#copy(offset + done, run, into, done, false);
    }
    if (this.events.on && this.plain) this.seeMemory(false, offset, into.subarray(0, count));
    return count;
  }

  protected writeAwake(offset: number, from: Uint8Array): number {
    const count = this.clip(offset, from.length);
    for (let done = 0; done < count; ) {
      const hidden = this.#hiddenFor(offset + done, count - done);
      if (hidden > 0) {
        if (this.events.on) this.see(true, offset + done, from.subarray(done, done + hidden), 'dropped', TABLE_HIDDEN);
        done += hidden;
        continue;
      }
      const run = this.#runFor(offset + done, count - done);
      this.#gate();
      done += this.#windows === null ? this.#writeOne(offset + done, run, from, done) : this.#copy(offset + done, run, from, done, true);
    }
    if (this.events.on && this.plain) this.seeMemory(true, offset, from.subarray(0, count));
    return count;
  }

  override get plain(): boolean {
    return this.#windows !== null;
  }

  /**
   * The number of bytes, of `left` from `at` on, that lie in the hidden range before the first that
   * does not.
   */
  #hiddenFor(at: number, left: number): number {
    return at >= this.#hiddenStart && at < this.#hiddenEnd ? Math.min(left, this.#hiddenEnd - at) : 0;
  }

  #runFor(at: number, left: number): number {
    return at < this.#hiddenStart ? Math.min(left, this.#hiddenStart - at) : left;
  }

  /** Checked before each access: when the gate closes half-way, the whole call fails (B.8). */
  #gate(): void {
    this.file.checkLive();
    if (this.device.standing || (this.#gated && !this.vconfig.memoryEnabled)) throw this.device.closedGate(this.name);
  }

  #widthFor(at: number, run: number): 1 | 2 | 4 | 8 {
    if (this.#widest === 8 && run >= 8 && at % 8 === 0) return 8;
    if (run >= 4 && at % 4 === 0) return 4;
    return run >= 2 && at % 2 === 0 ? 2 : 1;
  }

  #readOne(at: number, run: number, into: Uint8Array, done: number): number {
    const width = this.#widthFor(at, run);
    if (width === 8) {
      const value = this.#host.read64(this.#bar, at);
      store(into, done, 4, Number(value & 0xffff_ffffn));
      store(into, done + 4, 4, Number(value >> 32n));
    } else store(into, done, width, this.#host.read(this.#bar, at, width));
    return width;
  }

  #writeOne(at: number, run: number, from: Uint8Array, done: number): number {
    const width = this.#widthFor(at, run);
    if (width === 8) {
      this.#host.write64(this.#bar, at, BigInt(load(from, done, 4)) | (BigInt(load(from, done + 4, 4)) << 32n));
    } else this.#host.write(this.#bar, at, width, load(from, done, width));
    return width;
  }

  /** Plain memory has no side effects: copy as much as one window holds at once. */
  #copy(at: number, run: number, buffer: Uint8Array, done: number, write: boolean): number {
    const window = this.#windows![Math.floor(at / WINDOW_BYTES)]!;
    const start = at % WINDOW_BYTES;
    const length = Math.min(run, window.length - start);
    if (write) window.set(buffer.subarray(done, done + length), start);
    else buffer.set(window.subarray(start, start + length), done);
    return length;
  }

  /** @param offset of a mapping; in a BAR with areas every mapping is inside one */
  #memoryBehind(offset: number): MappingMemory | null {
    if (this.#windows === null && this.#areas === undefined) return null;
    const memory = this.#host.barMemory(this.#bar);
    return this.#areas === undefined ? { memory, offset } : { memory, offset, holds: this.#areas };
  }

  /**
   * @param offset  multiple of the page size  @param size  bytes, rounded up to whole pages
   * @see vfio_pci_core_mmap()
   */
  override map(offset = 0, size?: number): RegionMapping {
    this.file.checkLive();
    const length = checkMapRange(this.name, this.info, offset, size, this.device.ctx.pageSize);
    const range = { offset, size: length, backed: Math.min(length, this.#size - offset) };
    return new BarMapping(this.file, this.#bar, range, this.#memoryBehind(offset), this.#windows !== null);
  }
}
