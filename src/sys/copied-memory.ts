/**
 * The memory of another process, which each access copies. It answers at once; where the process
 * has unmapped it, or has ended, the access fails.
 */
import type { CopiedAtOnce, RemoteMemory } from '../abi/memory.ts';
import { Counted } from '../base/counted.ts';
import { VfioError } from '../base/errno.ts';
import { addon } from './addon.ts';

/** User addresses end there. */
const ADDRESSES = 2 ** 47;

/** Offsets are addresses of the process. */
export class CopiedMemory extends Counted implements RemoteMemory {
  readonly kind = 'remote';
  readonly takesAtOnce = true;
  readonly size = ADDRESSES;
  readonly #pid: number;

  readonly atOnce: CopiedAtOnce;
  #lost = false;
  #isStill: (() => boolean) | null = null;

  constructor(pid: number) {
    super('the memory');
    this.#pid = pid;
    const sys = addon();
    this.atOnce = {
      read: (offset, into, at, size) => this.#isThere() && sys.processRead(pid, offset, into, at, at + size) === size,
      write: (offset, from, at, size) => this.#isThere() && sys.processWrite(pid, offset, from, at, at + size) === size,
    };
  }

  /** The process may have another memory from now on: each access asks `isStill` first. */
  doubt(isStill: () => boolean): void {
    this.#isStill = isStill;
  }

  /** The process has ended, or has another memory. */
  lose(): void {
    this.#lost = true;
  }

  #isThere(): boolean {
    if (!this.#lost && this.#isStill !== null && !this.#isStill()) this.#lost = true;
    return !this.#lost;
  }

  async read(offset: number, into: Uint8Array, _requester?: string, lands?: () => boolean): Promise<void> {
    if (lands !== undefined && !lands()) return;
    if (!this.atOnce.read(offset, into, 0, into.length)) throw this.#gone(offset);
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    if (!this.atOnce.write(offset, from, 0, from.length)) throw this.#gone(offset);
  }

  #gone(offset: number): VfioError {
    return new VfioError('EFAULT', `process ${this.#pid} has unmapped its memory at 0x${offset.toString(16)}, or has ended`);
  }
}
