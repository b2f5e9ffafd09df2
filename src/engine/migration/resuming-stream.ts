/**
 * The data of a device that arrives. Blocks are stored as they come, because no other place may
 * have room for them. All other sections are checked as they come, and taken when all of them are
 * there. The writer gets an error at the first byte that shows one.
 */

import type { MigrationStream, PrecopyInfo } from '../../abi/device.ts';
import { checkBytes } from '../../base/check.ts';
import { viewOf } from '../../base/data-view.ts';
import { VfioError } from '../../base/errno.ts';
import { Blocks, checkIdentity, ModelState, Section, Store, sectionKinds, ZERO_BLOCKS_MAX, ZeroBlocks } from './sections.ts';
import { invalid, SectionReader } from './stream-format.ts';
import { blocksOf, type MigrationTarget, type TargetStore } from './target.ts';

/** Sections that come once. */
const ONCE: ReadonlySet<number> = new Set([Section.IDENTITY, Section.CONFIG, Section.INTERRUPTS, Section.MODEL, Section.END]);
const NEEDED = [Section.CONFIG, Section.INTERRUPTS, Section.MODEL] as const;

/** Sections that are taken at the end. */
export interface Arrived {
  readonly config: Uint8Array;
  readonly interrupts: Uint8Array;
  readonly model: Uint8Array;
  readonly modelVersion: number;
}

export class ResumingStream implements MigrationStream {
  readonly #target: MigrationTarget;
  readonly #reader: SectionReader;
  readonly #onBroken: (error: VfioError) => void;
  readonly #seen = new Map<number, Uint8Array>();
  /** Stores whose size is known. */
  readonly #stores = new Map<number, TargetStore>();
  #zeroes = new Uint8Array(0);
  #over: string | null = null;
  #closed = false;

  /** @param onBroken called once, when the stream cannot be the data of this device */
  constructor(target: MigrationTarget, onBroken: (error: VfioError) => void) {
    this.#target = target;
    this.#onBroken = onBroken;
    this.#reader = new SectionReader({
      kind: (type) => sectionKinds.get(type) ?? null,
      onSection: (type, _version, payload) => this.#section(type, payload),
    });
  }

  end(reason: string): void {
    this.#over ??= reason;
    this.#seen.clear();
  }

  write(from: Uint8Array): number {
    this.#check();
    checkBytes(from, 'the migration data');
    const before = this.#reader.failed;
    try {
      this.#reader.push(from);
    } catch (error) {
      if (before === null) this.#onBroken(error as VfioError);
      throw error;
    }
    return from.length;
  }

  read(): number {
    this.#check();
    throw new VfioError('EINVAL', `${this.#target.name}: this data is written; it is read where the device comes from`);
  }

  precopyInfo(): PrecopyInfo {
    this.#check();
    throw new VfioError('EINVAL', `${this.#target.name} arrives: there is no PRECOPY_INFO`);
  }

  close(): void {
    this.#closed = true;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #check(): void {
    const { name } = this.#target;
    if (this.#closed) throw new VfioError('EBADF', `${name}: this stream is closed`);
    // A stream that is wrong throws the same error at each further write.
    if (this.#over !== null && this.#reader.failed === null) throw new VfioError('ENODEV', `${name}: this stream is over: ${this.#over}`);
  }

  /**
   * Check that all required sections have arrived.
   *
   * @throws VfioError EINVAL when one is missing, or when the stream was wrong
   */
  finish(): Arrived {
    if (this.#reader.failed !== null) throw this.#reader.failed;
    if (!this.#seen.has(Section.END) || !this.#reader.atBoundary) throw invalid('it ended too early, or goes on after its end');
    const model = this.#seen.get(Section.MODEL)!;
    return {
      config: this.#seen.get(Section.CONFIG)!,
      interrupts: this.#seen.get(Section.INTERRUPTS)!,
      model: model.subarray(ModelState.structSize),
      modelVersion: ModelState.version.get(viewOf(model), 0),
    };
  }

  #section(type: number, payload: Uint8Array): void {
    const kind = sectionKinds.get(type)!;
    if (this.#seen.has(Section.END)) throw invalid(`a section ${kind.name} comes after the end`);
    if (ONCE.has(type) && this.#seen.has(type)) throw invalid(`section ${kind.name} comes twice`);
    if (type !== Section.IDENTITY && !this.#seen.has(Section.IDENTITY)) throw invalid('it does not begin with whose it is');
    switch (type as Section) {
      case Section.IDENTITY:
        checkIdentity(payload, this.#target.identity);
        break;
      case Section.STORE:
        this.#store(payload);
        break;
      case Section.BLOCKS:
        this.#blocks(payload);
        break;
      case Section.ZERO_BLOCKS:
        this.#zeroBlocks(payload);
        break;
      case Section.CONFIG:
        this.#target.checkConfig(payload);
        break;
      case Section.INTERRUPTS:
        this.#target.checkInterrupts(payload);
        break;
      case Section.MODEL:
        this.#model(payload);
        break;
      case Section.END:
        for (const needed of NEEDED) if (!this.#seen.has(needed)) throw invalid(`it has no section ${sectionKinds.get(needed)!.name}`);
        for (const { id } of this.#target.stores) if (!this.#stores.has(id)) throw invalid(`it has nothing of store ${id}`);
        break;
    }
    if (ONCE.has(type)) this.#seen.set(type, payload);
  }

  #store(payload: Uint8Array): void {
    if (payload.length < Store.structSize) throw invalid('a section STORE is cut short');
    const { store, block_size: blockSize, size } = Store.decode(viewOf(payload));
    const own = this.#target.stores.find(({ id }) => id === store);
    if (own === undefined) throw invalid(`it has a store ${store}, and this device has none`);
    if (this.#stores.has(store)) throw invalid(`store ${store} is described twice`);
    if (own.bulk.blockSize !== blockSize || BigInt(own.bulk.size) !== size) {
      throw invalid(
        `its store ${store} has ${size} bytes in blocks of ${blockSize}; here it has ${own.bulk.size} in blocks of ${own.bulk.blockSize}`,
      );
    }
    this.#stores.set(store, own);
  }

  #range(store: number, first: bigint, count: bigint): { readonly at: TargetStore; readonly first: number; readonly count: number } {
    const at = this.#stores.get(store);
    if (at === undefined) throw invalid(`it has blocks of store ${store} before its size`);
    const blocks = BigInt(blocksOf(at.bulk));
    if (count === 0n || first >= blocks || count > blocks - first) {
      throw invalid(`blocks ${first} to ${first + count - 1n} of store ${store}, which has ${blocks}`);
    }
    return { at, first: Number(first), count: Number(count) };
  }

  #blocks(payload: Uint8Array): void {
    if (payload.length < Blocks.structSize) throw invalid('a section BLOCKS is cut short');
    const head = Blocks.decode(viewOf(payload));
    const { at, first, count } = this.#range(head.store, head.first, BigInt(head.count));
    const { bulk } = at;
    if (payload.length !== Blocks.structSize + count * bulk.blockSize)
      throw invalid(`a section of ${count} blocks has ${payload.length} bytes`);
    for (let i = 0; i < count; i++) {
      const from = Blocks.structSize + i * bulk.blockSize;
      bulk.write(first + i, payload.subarray(from, from + bulk.blockSize));
    }
  }

  #zeroBlocks(payload: Uint8Array): void {
    if (payload.length < ZeroBlocks.structSize) throw invalid('a section ZERO_BLOCKS is cut short');
    const head = ZeroBlocks.decode(viewOf(payload));
    if (head.count > ZERO_BLOCKS_MAX) throw invalid(`a section of ${head.count} blocks of zeroes; at most ${ZERO_BLOCKS_MAX}`);
    const { at, first, count } = this.#range(head.store, head.first, head.count);
    const { bulk } = at;
    if (this.#zeroes.length !== bulk.blockSize) this.#zeroes = new Uint8Array(bulk.blockSize);
    for (let block = first; block < first + count; block++) if (bulk.present(block)) bulk.write(block, this.#zeroes);
  }

  #model(payload: Uint8Array): void {
    if (payload.length < ModelState.structSize) throw invalid('a section MODEL is cut short');
    const version = ModelState.version.get(viewOf(payload), 0);
    const { model } = this.#target;
    if (version > model.version) throw invalid(`the model's state has version ${version}; up to ${model.version} is understood`);
  }
}
