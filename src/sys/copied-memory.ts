/**
 * The memory of another process, which each access copies. It answers at once; where the process
 * has unmapped it, or has ended, the access fails.
 */
import type { RemoteMemory } from '../abi/memory.ts';
import { Counted } from '../base/counted.ts';
import { VfioError } from '../base/errno.ts';
import { readFrom, writeTo } from './other-process.ts';

/** User addresses end there. */
const ADDRESSES = 2 ** 47;

/** Offsets are addresses of the process. */
export class CopiedMemory extends Counted implements RemoteMemory {
  readonly kind = 'remote';
  readonly takesAtOnce = true;
  readonly size = ADDRESSES;
  readonly #pid: number;

  constructor(pid: number) {
    super('the memory');
    this.#pid = pid;
  }

  async read(offset: number, into: Uint8Array, _requester?: string, lands?: () => boolean): Promise<void> {
    if (lands !== undefined && !lands()) return;
    if (readFrom(this.#pid, offset, into) < into.length) throw this.#gone(offset);
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    if (writeTo(this.#pid, offset, from) < from.length) throw this.#gone(offset);
  }

  #gone(offset: number): VfioError {
    return new VfioError('EFAULT', `process ${this.#pid} has unmapped its memory at 0x${offset.toString(16)}`);
  }
}
