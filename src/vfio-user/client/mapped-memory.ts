/**
 * The memory that a client has mapped for the server's DMA, by I/O address. The server asks for it
 * by message when it cannot, or does not want to, reach it itself.
 */
import { type Access, type DirectMemory, type Memory, WINDOW_BYTES } from '../../abi/memory.ts';
import { Bitmap } from '../../base/bitmap.ts';
import { MappingTable } from '../../device/mapping-table.ts';

/** The result of a search for bytes. */
export const Found = { DIRECT: 0, NOT_MAPPED: 1, PERMISSION: 2, REMOTE: 3 } as const;
export type Found = (typeof Found)[keyof typeof Found];

/** Copies up to this many bytes go byte by byte: making the sub-array for `set` costs more. */
const BYTEWISE = 32;

export class MappedMemory extends MappingTable {
  /** The result of `#step`: the memory, and how many bytes of it are in a row. */
  #memory: Memory | null = null;
  #offset = 0.5;
  #bytes = 0.5;
  /** Pages that the server has written by messages; null while they are not logged. */
  #written: Bitmap | null = null;

  /** Logs what the server writes by messages, or stops. */
  logWrites(on: boolean): void {
    this.#written = on ? new Bitmap() : null;
  }

  /**
   * Sets the bits of written pages from first to last in `into`, one bit per `unit` pages, and
   * forgets them.
   */
  takeWrites(first: number, last: number, unit: number, into: Uint8Array): void {
    this.#written?.take(first, last, into, 0, unit);
  }

  /** The server says that it has written these pages. */
  markWritten(first: number, last: number): void {
    this.#written?.mark(first, last);
  }

  /** The server has written `count` bytes, or is about to. */
  wrote(high: number, low: number, count: number): void {
    if (this.#written === null || count === 0) return;
    const page = high * 2 ** 20 + (low >>> 12);
    this.#written.mark(page, page + Math.floor(((low & 0xfff) + count - 1) / 4096));
  }

  /**
   * Whether the device may reach `count` bytes, and whether they are here. `high` and `low` are the
   * halves of the address. REMOTE when any of them is remote.
   */
  look(high: number, low: number, count: number, access: Access): Found {
    let page = high * 2 ** 20 + (low >>> 12);
    let within = low & 0xfff;
    let found: Found = Found.DIRECT;
    for (let left = count; left > 0; ) {
      const slot = this.index.find(page);
      if (slot < 0) return Found.NOT_MAPPED;
      const entry = this.entries[slot]!;
      if ((entry.access & access) !== access) return Found.PERMISSION;
      if (entry.memory.kind === 'remote') found = Found.REMOTE;
      left -= (this.index.foundLast + 1 - page) * 4096 - within;
      page = this.index.foundLast + 1;
      within = 0;
    }
    return found;
  }

  /** Copies what `look` has found DIRECT into `buffer` at `at`, or with `write` out of it. */
  copy(high: number, low: number, count: number, buffer: Uint8Array, at: number, write: boolean): void {
    for (let done = 0; done < count; ) {
      this.#step(high, low, done);
      const { windows } = this.#memory as DirectMemory;
      let length = Math.min(this.#bytes, count - done);
      const window = windows[Math.floor(this.#offset / WINDOW_BYTES)]!;
      const start = this.#offset % WINDOW_BYTES;
      if (length > window.length - start) length = window.length - start;
      if (length <= BYTEWISE) {
        if (write) for (let i = 0; i < length; i++) window[start + i] = buffer[at + done + i];
        else for (let i = 0; i < length; i++) buffer[at + done + i] = window[start + i];
      } else if (write) window.set(buffer.subarray(at + done, at + done + length), start);
      else buffer.set(window.subarray(start, start + length), at + done);
      done += length;
    }
  }

  /**
   * The same where some of the memory answers later. Holds the memories meanwhile. Rejects as they
   * reject.
   */
  async copyLater(high: number, low: number, count: number, buffer: Uint8Array, write: boolean): Promise<void> {
    const parts: { readonly memory: Memory; readonly offset: number; readonly bytes: Uint8Array }[] = [];
    for (let done = 0; done < count; ) {
      this.#step(high, low, done);
      const length = Math.min(this.#bytes, count - done, WINDOW_BYTES - (this.#offset % WINDOW_BYTES));
      parts.push({ memory: this.#memory!.get(), offset: this.#offset, bytes: buffer.subarray(done, done + length) });
      done += length;
    }
    try {
      // Not from within a request that waits: the memory's code may need this thread.
      await null;
      await Promise.all(parts.map(({ memory, offset, bytes }) => transfer(memory, offset, bytes, write)));
    } finally {
      for (const { memory } of parts) memory.put();
    }
  }

  /** Finds the memory that is `done` bytes behind an address. */
  #step(high: number, low: number, done: number): void {
    const within = (low & 0xfff) + done;
    const page = high * 2 ** 20 + (low >>> 12) + Math.floor(within / 4096);
    const entry = this.entries[this.index.find(page)]!;
    const ahead = (page - this.index.foundFirst) * 4096 + (within % 4096);
    this.#memory = entry.memory;
    this.#offset = entry.offset + ahead;
    this.#bytes = (this.index.foundLast + 1 - this.index.foundFirst) * 4096 - ahead;
  }
}

async function transfer(memory: Memory, offset: number, bytes: Uint8Array, write: boolean): Promise<void> {
  if (memory.kind === 'remote') {
    await (write ? memory.write(offset, bytes) : memory.read(offset, bytes));
    return;
  }
  const window = memory.windows[Math.floor(offset / WINDOW_BYTES)]!;
  const start = offset % WINDOW_BYTES;
  if (write) window.set(bytes, start);
  else bytes.set(window.subarray(start, start + bytes.length));
}
