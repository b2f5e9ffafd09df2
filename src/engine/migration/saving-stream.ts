/**
 * The data of a device that leaves: while it runs, everything in its store once, then the blocks
 * that have changed since; when it stands still, the rest. A read makes the sections, so the stream
 * has the newest bytes, and no data piles up.
 */
import type { MigrationStream, PrecopyInfo } from '../../abi/device.ts';
import { Bitmap } from '../../base/bitmap.ts';
import { checkBytes } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { BLOCKS_BYTES, Blocks, End, MODEL_STORE, ModelState, Section, Store, ZERO_BLOCKS_MAX, ZeroBlocks } from './sections.ts';
import { encodePreamble, SECTION_BYTES, SectionWriter } from './stream-format.ts';
import { blocksOf, type MigrationTarget, type TargetStore } from './target.ts';

/**
 * The most blocks of a store that are counted at the start; in a larger store all blocks count as
 * present until the walk reaches them.
 */
const COUNTED = 2 ** 20;
/** Estimated bytes beside stores and model state. */
const REST_BYTES = 12 * 1024;

/** The place of the walk over the stores. */
interface Walk {
  readonly stores: readonly TargetStore[];
  store: number;
  block: number;
}

export class SavingStream implements MigrationStream {
  readonly #target: MigrationTarget;
  readonly #writer = new SectionWriter();
  /** Sections that wait to be read, from `#at` of the first on. */
  #ready: Uint8Array<ArrayBuffer>[] = [];
  #at = 0;
  readonly #onBug: (what: string, error: unknown) => void;
  #running: boolean;
  /** The reason why the stream is over; null while it is not. */
  #over: string | null = null;
  #closed = false;
  /** First over the tracked store; over the others when the device stands still. */
  #walk: Walk;
  #untracked: Walk;
  /**
   * Blocks of the tracked store that the model has reported as written, and that are not sent yet.
   */
  readonly #dirty = new Bitmap();
  #dirtyBlocks = 0;
  /**
   * Present blocks that the first walk has not reached; of a store too large to count, all of them.
   */
  #initialBlocks: number;
  #sentBlocks = 0;
  /** The sections among CONFIG, INTERRUPTS, MODEL, END that are left. */
  #tail: (() => Uint8Array<ArrayBuffer>)[];
  #tracking = false;
  #flags = false;

  /** @param running the device runs meanwhile: the model notes writes from now on */
  constructor(target: MigrationTarget, running: boolean, onBug: (what: string, error: unknown) => void) {
    this.#target = target;
    this.#onBug = onBug;
    this.#running = running;
    const tracked = target.stores.filter((store) => store.tracked);
    if (running && tracked.length > 0) {
      target.model.bulk!.startTracking();
      this.#tracking = true;
    }
    this.#walk = { stores: tracked, store: 0, block: 0 };
    this.#untracked = { stores: target.stores.filter((store) => !store.tracked), store: 0, block: 0 };
    this.#initialBlocks = tracked.reduce((sum, store) => sum + presentBlocks(store), 0);
    this.#ready.push(encodePreamble(), this.#writer.section(Section.IDENTITY, 1, target.identity));
    for (const store of target.stores) this.#ready.push(this.#storeSection(store));
    this.#tail = [
      () => this.#writer.section(Section.CONFIG, 1, target.saveConfig()),
      () => this.#writer.section(Section.INTERRUPTS, 1, target.saveInterrupts()),
      () => this.#modelSection(),
      () => this.#endSection(),
    ];
  }

  /**
   * The user reads the flags of `precopyInfo`. They are 0: a walk knows all stores when it begins.
   */
  reportFlags(): void {
    this.#flags = true;
  }

  /** The device has stopped: the last sections follow. */
  stopped(): void {
    this.#running = false;
  }

  /** The device has left the states in which it is copied. Idempotent. */
  end(reason: string): void {
    if (this.#over !== null) return;
    this.#over = reason;
    this.#ready = [];
    if (this.#tracking) this.#target.model.bulk!.stopTracking();
    this.#tracking = false;
  }

  read(into: Uint8Array): number {
    this.#check();
    checkBytes(into, 'the buffer for migration data');
    let got = 0;
    while (got < into.length) {
      let bytes: Uint8Array<ArrayBuffer> | null;
      try {
        bytes = this.#ready[0] ?? this.#next();
      } catch (error) {
        // The bytes that were copied count; the next read gets the error.
        if (got > 0) break;
        if (error instanceof VfioError) throw error;
        this.#onBug('telling its state', error);
        throw new VfioError('EIO', `${this.#target.name}: the model does not tell its state`, { cause: error });
      }
      if (bytes === null) break;
      if (this.#ready.length === 0) this.#ready.push(bytes);
      const piece = Math.min(bytes.length - this.#at, into.length - got);
      into.set(bytes.subarray(this.#at, this.#at + piece), got);
      got += piece;
      this.#at += piece;
      if (this.#at < bytes.length) break;
      this.#ready.shift();
      this.#at = 0;
    }
    if (got === 0 && into.length > 0 && this.#running) {
      throw new VfioError('ENOMSG', `${this.#target.name}: nothing is left to send while the device runs`);
    }
    return got;
  }

  write(): number {
    this.#check();
    throw new VfioError('EINVAL', `${this.#target.name}: this data is read; it is written where the device arrives`);
  }

  precopyInfo(): PrecopyInfo {
    this.#check();
    if (!this.#running) throw new VfioError('EINVAL', `${this.#target.name} is stopped: PRECOPY_INFO is for a device in PRE_COPY`);
    this.#collect();
    const [store] = this.#walk.stores;
    const blockSize = store?.bulk.blockSize ?? 0;
    const flags = this.#flags ? { flags: 0 } : {};
    return { initialBytes: this.#readyBytes + this.#initialBlocks * blockSize, dirtyBytes: this.#dirtyBlocks * blockSize, ...flags };
  }

  /** An estimate of the bytes that are still to come. */
  get remainingBytes(): number {
    if (this.#tracking) this.#collect();
    const blockSize = this.#walk.stores[0]?.bulk.blockSize ?? 0;
    const stores =
      (this.#initialBlocks + this.#dirtyBlocks) * blockSize + this.#untracked.stores.reduce((sum, { bulk }) => sum + bulk.size, 0);
    return this.#readyBytes + (this.#tail.length === 0 ? 0 : stores + (this.#target.model.stateSize ?? 4096) + REST_BYTES);
  }

  close(): void {
    this.#closed = true;
    this.#ready = [];
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #check(): void {
    const { name } = this.#target;
    if (this.#closed) throw new VfioError('EBADF', `${name}: this stream is closed`);
    if (this.#over !== null) throw new VfioError('ENODEV', `${name}: this stream is over: ${this.#over}`);
  }

  get #readyBytes(): number {
    return this.#ready.reduce((sum, bytes) => sum + bytes.length, 0) - this.#at;
  }

  /** The next section; null when there is none now. */
  #next(): Uint8Array<ArrayBuffer> | null {
    // DMA that still arrives may change the blocks of the walk, and no log would note it.
    if (!this.#running && !this.#tracking) this.#checkArrived();
    const first = this.#walkOn(this.#walk);
    if (first !== null) return first;
    const written = this.#writtenAgain();
    if (written !== null || this.#running) return written;
    this.#checkArrived();
    const rest = this.#walkOn(this.#untracked);
    if (rest !== null) return rest;
    const [make] = this.#tail;
    if (make === undefined) return null;
    const section = make();
    this.#tail.shift();
    return section;
  }

  #checkArrived(): void {
    if (this.#target.draining) throw new VfioError('EAGAIN', `${this.#target.name}: DMA of before the stop is still under way`);
  }

  /** A section of blocks or of zeroes, from the walk's place on; null at its end. */
  #walkOn(walk: Walk): Uint8Array<ArrayBuffer> | null {
    const store = walk.stores[walk.store];
    if (store === undefined) return null;
    const { bulk } = store;
    const blocks = blocksOf(bulk);
    if (walk.block >= blocks) {
      walk.store++;
      walk.block = 0;
      return this.#walkOn(walk);
    }
    const first = walk.block;
    const present = bulk.present(first);
    const most = first + Math.min(blocks - first, present ? batch(store) : ZERO_BLOCKS_MAX);
    let end = first + 1;
    while (end < most && bulk.present(end) === present) end++;
    walk.block = end;
    if (store.tracked && (present || blocks > COUNTED)) this.#initialBlocks = Math.max(0, this.#initialBlocks - (end - first));
    return present ? this.#blocksSection(store, first, end - first) : this.#zeroSection(store, first, end - first);
  }

  /** Take over the blocks that the model has noted. */
  #collect(): void {
    const bulk = this.#target.model.bulk;
    if (!this.#tracking || bulk === undefined) return;
    const blocks = blocksOf(bulk);
    for (let from = 0; from < blocks; ) {
      const block = bulk.takeDirty(from);
      if (block === -1) return;
      if (!Number.isInteger(block) || block < from || block >= blocks) {
        throw new Error(`takeDirty(${from}) of a store of ${blocks} blocks gave ${block}`);
      }
      if (!this.#dirty.test(block)) {
        this.#dirty.mark(block, block);
        this.#dirtyBlocks++;
      }
      from = block + 1;
    }
  }

  #writtenAgain(): Uint8Array<ArrayBuffer> | null {
    const [store] = this.#walk.stores;
    if (store === undefined || !this.#tracking) return null;
    const last = blocksOf(store.bulk) - 1;
    if (this.#dirtyBlocks === 0) this.#collect();
    const first = this.#dirtyBlocks === 0 ? -1 : this.#dirty.next(0, last);
    if (first < 0) return null;
    const present = store.bulk.present(first);
    const most = first + Math.min(last + 1 - first, present ? batch(store) : ZERO_BLOCKS_MAX);
    let end = first + 1;
    while (end < most && this.#dirty.test(end) && store.bulk.present(end) === present) end++;
    this.#dirty.clear(first, end - 1);
    this.#dirtyBlocks -= end - first;
    return present ? this.#blocksSection(store, first, end - first) : this.#zeroSection(store, first, end - first);
  }

  // --- sections

  #storeSection({ id, bulk }: TargetStore): Uint8Array<ArrayBuffer> {
    const payload = new Uint8Array(Store.structSize);
    Store.encode(new DataView(payload.buffer), 0, { store: id, block_size: bulk.blockSize, size: BigInt(bulk.size) });
    return this.#writer.section(Section.STORE, 1, payload);
  }

  #blocksSection({ id, bulk }: TargetStore, first: number, count: number): Uint8Array<ArrayBuffer> {
    const head = SECTION_BYTES + Blocks.structSize;
    const section = new Uint8Array(head + count * bulk.blockSize);
    Blocks.encode(new DataView(section.buffer), SECTION_BYTES, { store: id, count, first: BigInt(first) });
    for (let i = 0; i < count; i++) bulk.read(first + i, section.subarray(head + i * bulk.blockSize, head + (i + 1) * bulk.blockSize));
    this.#sentBlocks += count;
    return this.#writer.seal(Section.BLOCKS, 1, section);
  }

  #zeroSection({ id }: TargetStore, first: number, count: number): Uint8Array<ArrayBuffer> {
    const payload = new Uint8Array(ZeroBlocks.structSize);
    ZeroBlocks.encode(new DataView(payload.buffer), 0, { store: id, first: BigInt(first), count: BigInt(count) });
    return this.#writer.section(Section.ZERO_BLOCKS, 1, payload);
  }

  #modelSection(): Uint8Array<ArrayBuffer> {
    const { model } = this.#target;
    const state = model.save();
    const section = new Uint8Array(SECTION_BYTES + ModelState.structSize + state.length);
    ModelState.version.set(new DataView(section.buffer), SECTION_BYTES, model.version);
    section.set(state, SECTION_BYTES + ModelState.structSize);
    return this.#writer.seal(Section.MODEL, 1, section);
  }

  #endSection(): Uint8Array<ArrayBuffer> {
    const payload = new Uint8Array(End.structSize);
    End.blocks.set(new DataView(payload.buffer), 0, BigInt(this.#sentBlocks));
    return this.#writer.section(Section.END, 1, payload);
  }
}

function batch({ bulk }: TargetStore): number {
  return Math.max(1, Math.floor(BLOCKS_BYTES / bulk.blockSize));
}

function presentBlocks({ bulk }: TargetStore): number {
  const blocks = blocksOf(bulk);
  if (blocks > COUNTED) return blocks;
  let count = 0;
  for (let block = 0; block < blocks; block++) if (bulk.present(block)) count++;
  return count;
}

/** An estimate of the bytes that a device would send while it stands still, made outside a move. */
export function stopCopyEstimate(target: MigrationTarget): number {
  let bytes = REST_BYTES + (target.model.stateSize ?? 4096);
  for (const store of target.stores) bytes += store.id === MODEL_STORE ? presentBlocks(store) * store.bulk.blockSize : store.bulk.size;
  return bytes;
}
