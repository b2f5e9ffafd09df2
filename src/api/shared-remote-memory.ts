/**
 * Memory without a descriptor that several connections of one process have mapped. The server
 * reaches it by messages: on the connection of the device that reads or writes, where that
 * connection has mapped the memory, else on another connection.
 */
import type { RemoteMemory } from '../abi/memory.ts';
import { hex } from '../base/check.ts';
import { Counted } from '../base/counted.ts';
import { VfioError } from '../base/errno.ts';

const PAGE = 4096;

/** A mapping through which a byte can be reached. */
export interface Way {
  readonly memory: RemoteMemory;
  /** The byte's offset in `memory`. */
  readonly at: number;
  /** The identity of the connection that has the mapping. */
  readonly connection: object;
}

/**
 * The mappings through which byte `byte` of the page `page` of 4096 bytes can be reached, the
 * requester's own first.
 */
export type Ways = (page: number, byte: number, requester: string | undefined) => readonly Way[];

export class SharedRemoteMemory extends Counted implements RemoteMemory {
  readonly kind = 'remote';
  readonly takesAtOnce = true;
  readonly size: number;
  /** I/O address of byte 0. */
  readonly base: bigint;
  readonly #firstPage: number;
  readonly #ways: Ways;

  constructor(ways: Ways, base: bigint, size: number) {
    super('the memory');
    this.#ways = ways;
    this.base = base;
    this.#firstPage = Number(base >> 12n);
    this.size = size;
  }

  read(offset: number, into: Uint8Array, requester?: string, lands?: () => boolean): Promise<void> {
    const ways = this.#waysTo(offset, requester);
    if (ways.length === 1) return ways[0]!.memory.read(ways[0]!.at, into, requester, lands);
    return this.#try(offset, requester, (memory, at) => memory.read(at, into, requester, lands));
  }

  write(offset: number, from: Uint8Array, requester?: string): Promise<void> {
    const ways = this.#waysTo(offset, requester);
    if (ways.length === 1 && ways[0]!.memory.takesAtOnce === true) return ways[0]!.memory.write(ways[0]!.at, from, requester);
    // Another way needs them when the caller has used the buffer again.
    const bytes = from.slice();
    return this.#try(offset, requester, (memory, at) => memory.write(at, bytes, requester));
  }

  /**
   * A connection may end in the middle of an access while others remain: then the same bytes are
   * read or written again.
   */
  async #try(offset: number, requester: string | undefined, act: (memory: RemoteMemory, at: number) => Promise<void>): Promise<void> {
    const tried = new Set<object>();
    let failure: unknown = null;
    for (;;) {
      const way = this.#waysTo(offset, requester).find(({ connection }) => !tried.has(connection));
      if (way === undefined) throw failure ?? new VfioError('EFAULT', `nothing is mapped at ${hex(this.base + BigInt(offset))} any more`);
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

  #waysTo(offset: number, requester: string | undefined): readonly Way[] {
    const pages = Math.floor(offset / PAGE);
    return this.#ways(this.#firstPage + pages, offset - pages * PAGE, requester);
  }
}
