/**
 * The contents of an overlay, as blocks for a move: the blocks in memory, and behind them a map of
 * the blocks that hide the base. The base does not move.
 */
import type { ModelBulk } from '../../abi/device-host.ts';
import { type GranuleSet, NUMBERS_OF_TABLE } from './granule-set.ts';

export class OverlayBulk implements ModelBulk {
  readonly size: number;
  readonly blockSize: number;
  readonly #memory: ModelBulk;
  readonly #written: GranuleSet;
  readonly #granules: number;

  /** @param memory  in blocks as large as a granule   @param granules  that there are */
  constructor(memory: ModelBulk, written: GranuleSet, granules: number) {
    this.#memory = memory;
    this.#written = written;
    this.#granules = granules;
    this.blockSize = memory.blockSize;
    this.size = (granules + Math.ceil(granules / NUMBERS_OF_TABLE)) * memory.blockSize;
  }

  present(block: number): boolean {
    return block < this.#granules ? this.#memory.present(block) : this.#written.holds(block - this.#granules);
  }

  read(block: number, into: Uint8Array): void {
    if (block < this.#granules) this.#memory.read(block, into);
    else this.#written.readTable(block - this.#granules, into);
  }

  write(block: number, from: Uint8Array): void {
    if (block < this.#granules) this.#memory.write(block, from);
    else this.#written.writeTable(block - this.#granules, from);
  }

  startTracking(): void {
    this.#memory.startTracking();
    this.#written.changed.clear();
    this.#written.noting = true;
  }

  stopTracking(): void {
    this.#memory.stopTracking();
    this.#written.noting = false;
    this.#written.changed.clear();
  }

  takeDirty(from: number): number {
    const block = from < this.#granules ? this.#memory.takeDirty(from) : -1;
    if (block >= 0) return block;
    let least = -1;
    for (const table of this.#written.changed) if (table + this.#granules >= from && (least < 0 || table < least)) least = table;
    if (least < 0) return -1;
    this.#written.changed.delete(least);
    return least + this.#granules;
  }
}
