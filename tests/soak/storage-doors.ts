/** Ways to an image: straight to the storage, or through driver and controller. */
import { openNvme } from '../../src/cli/nvme/open-nvme.ts';
import type { NvmeNamespace } from '../../src/drivers/nvme/namespace.ts';
import { FileStorage } from '../../src/sys/file-storage.ts';
import { SECTOR_BYTES } from './disk-journal.ts';

export interface Disk {
  readonly sectors: number;
  /** Each resolves when it has ended. @throws when it failed */
  write(first: number, bytes: Uint8Array, durable: boolean): Promise<void>;
  zero(first: number, count: number, discard: boolean): Promise<void>;
  flush(): Promise<void>;
}

const doors: Readonly<Record<string, (image: string) => Promise<Disk>>> = {
  storage: async (image) => new StorageDisk(FileStorage.open(image)),
  nvme: async (image) => new NvmeDisk((await openNvme(`sim:nvme,image=${image}`)).namespace(1)),
};

export const doorNames = Object.keys(doors);

export async function openDoor(name: string, image: string): Promise<Disk> {
  return await doors[name]!(image);
}

class StorageDisk implements Disk {
  readonly sectors: number;
  readonly #queue;
  readonly #waiting = new Map<number, (result: number) => void>();
  #tag = 0;
  #submitting = false;

  constructor(storage: FileStorage) {
    this.sectors = storage.size / SECTOR_BYTES;
    this.#queue = storage.open((tag, result) => {
      const told = this.#waiting.get(tag)!;
      this.#waiting.delete(tag);
      told(result);
    });
  }

  write(first: number, bytes: Uint8Array, durable: boolean): Promise<void> {
    return this.#do((tag) => this.#queue.write(first * SECTOR_BYTES, bytes, tag, durable));
  }

  zero(first: number, count: number, discard: boolean): Promise<void> {
    return this.#do((tag) => this.#queue.zero(first * SECTOR_BYTES, count * SECTOR_BYTES, tag, discard));
  }

  flush(): Promise<void> {
    return this.#do((tag) => this.#queue.flush(tag));
  }

  #do(put: (tag: number) => void): Promise<void> {
    const tag = this.#tag++;
    put(tag);
    this.#submitSoon();
    return new Promise((resolve, reject) => {
      this.#waiting.set(tag, (result) => (result === 0 ? resolve() : reject(new Error(`the storage answered ${result}`))));
    });
  }

  /** Operations of one turn are submitted together. */
  #submitSoon(): void {
    if (this.#submitting) return;
    this.#submitting = true;
    queueMicrotask(() => {
      this.#submitting = false;
      this.#queue.submit();
    });
  }
}

/** The driver, the controller and the storage in one process: all of them are killed. */
class NvmeDisk implements Disk {
  readonly sectors: number;
  readonly #namespace: NvmeNamespace;

  constructor(namespace: NvmeNamespace) {
    this.#namespace = namespace;
    this.sectors = namespace.blocks;
  }

  write(first: number, bytes: Uint8Array, durable: boolean): Promise<void> {
    return this.#namespace.write(first, bytes, { fua: durable });
  }

  zero(first: number, count: number, discard: boolean): Promise<void> {
    return this.#namespace.writeZeroes(first, count, { deallocate: discard });
  }

  flush(): Promise<void> {
    return this.#namespace.flush();
  }
}
