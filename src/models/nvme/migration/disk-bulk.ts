/**
 * The contents of a disk that move with it: the contents of its namespaces' storages, one after the
 * other.
 */
import type { ModelBulk } from '../../../abi/device-host.ts';
import type { Storage } from '../../../abi/storage.ts';

const BLOCK_BYTES = 4096;

interface Part {
  readonly bulk: ModelBulk;
  /** Blocks before it. */
  readonly first: number;
  readonly blocks: number;
}

export class DiskBulk implements ModelBulk {
  readonly blockSize = BLOCK_BYTES;
  readonly size: number;
  readonly #parts: readonly Part[];

  /** @param storages  those without bulk are left out: their contents stay where they are */
  constructor(storages: readonly Storage[]) {
    const parts: Part[] = [];
    let first = 0;
    for (const { bulk, name } of storages) {
      if (bulk === undefined) continue;
      if (bulk.blockSize !== BLOCK_BYTES)
        throw new Error(`${name} is sent in blocks of ${bulk.blockSize} bytes; it must be ${BLOCK_BYTES}`);
      const blocks = bulk.size / BLOCK_BYTES;
      parts.push({ bulk, first, blocks });
      first += blocks;
    }
    this.#parts = parts;
    this.size = first * BLOCK_BYTES;
  }

  present(block: number): boolean {
    const part = this.#part(block);
    return part.bulk.present(block - part.first);
  }

  read(block: number, into: Uint8Array): void {
    const part = this.#part(block);
    part.bulk.read(block - part.first, into);
  }

  write(block: number, from: Uint8Array): void {
    const part = this.#part(block);
    part.bulk.write(block - part.first, from);
  }

  startTracking(): void {
    for (const { bulk } of this.#parts) bulk.startTracking();
  }

  stopTracking(): void {
    for (const { bulk } of this.#parts) bulk.stopTracking();
  }

  takeDirty(from: number): number {
    for (const { bulk, first, blocks } of this.#parts) {
      if (from >= first + blocks) continue;
      const block = bulk.takeDirty(Math.max(0, from - first));
      if (block >= 0) return first + block;
    }
    return -1;
  }

  #part(block: number): Part {
    const parts = this.#parts;
    let i = 0;
    while (i < parts.length - 1 && block >= parts[i]!.first + parts[i]!.blocks) i++;
    return parts[i]!;
  }
}

/**
 * Whether a disk with these namespaces can be moved. Data written to a storage that is not sent
 * would stay behind.
 */
export function canBeMoved(storages: readonly Storage[]): boolean {
  return storages.every(({ bulk, readOnly }) => bulk !== undefined || readOnly);
}
