/**
 * Memory without a descriptor that several connections of one process have mapped. The server
 * reaches it by messages: on the connection of the device that reads or writes, where that
 * connection has mapped the memory, else on another connection.
 */
import type { RemoteMemory } from '../abi/memory.ts';
import { hex } from '../base/check.ts';
import { Counted } from '../base/counted.ts';
import { VfioError } from '../base/errno.ts';

/** A mapping through which a byte can be reached. */
export interface Way {
  readonly memory: RemoteMemory;
  /** The byte's offset in `memory`. */
  readonly at: number;
  /** The identity of the connection that has the mapping. */
  readonly connection: object;
}

/** The mappings through which the byte at `iova` can be reached, the requester's own first. */
export type Ways = (iova: bigint, requester: string | undefined) => readonly Way[];

export class SharedRemoteMemory extends Counted implements RemoteMemory {
  readonly kind = 'remote';
  readonly size: number;
  /** I/O address of byte 0. */
  readonly base: bigint;
  readonly #ways: Ways;

  constructor(ways: Ways, base: bigint, size: number) {
    super('the memory');
    this.#ways = ways;
    this.base = base;
    this.size = size;
  }

  read(offset: number, into: Uint8Array, requester?: string): Promise<void> {
    return this.#try(offset, requester, (memory, at) => memory.read(at, into));
  }

  write(offset: number, from: Uint8Array, requester?: string): Promise<void> {
    return this.#try(offset, requester, (memory, at) => memory.write(at, from));
  }

  /**
   * A connection may end in the middle of an access while others remain: then the same bytes are
   * read or written again.
   */
  async #try(offset: number, requester: string | undefined, act: (memory: RemoteMemory, at: number) => Promise<void>): Promise<void> {
    const iova = this.base + BigInt(offset);
    const tried = new Set<object>();
    let failure: unknown = new VfioError('EFAULT', `nothing is mapped at ${hex(iova)} any more`);
    for (;;) {
      const way = this.#ways(iova, requester).find(({ connection }) => !tried.has(connection));
      if (way === undefined) throw failure;
      tried.add(way.connection);
      try {
        await act(way.memory, way.at);
        return;
      } catch (error) {
        if (!(error instanceof VfioError) || error.code !== 'ENODEV') throw error;
        failure = error;
      }
    }
  }
}
