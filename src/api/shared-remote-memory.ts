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

/** @param isOnly there is no other way to the bytes now */
type Act = (memory: RemoteMemory, at: number, isOnly: boolean) => Promise<void>;

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
    return this.#try(offset, requester, (memory, at) => memory.read(at, into, requester, lands));
  }

  write(offset: number, from: Uint8Array, requester?: string): Promise<void> {
    let bytes = from;
    return this.#try(offset, requester, (memory, at, isOnly) => {
      // The other way would need them when the caller has used the buffer again.
      if (bytes === from && !(isOnly && memory.takesAtOnce === true)) bytes = from.slice();
      return memory.write(at, bytes, requester);
    });
  }

  /**
   * A connection may end in the middle of an access while others remain: then the same bytes are
   * read or written again.
   */
  async #try(offset: number, requester: string | undefined, act: Act): Promise<void> {
    const pages = Math.floor(offset / PAGE);
    const page = this.#firstPage + pages;
    let tried: Set<object> | null = null;
    let failure: unknown = null;
    for (;;) {
      const ways = this.#ways(page, offset - pages * PAGE, requester);
      const way = tried === null ? ways[0] : ways.find(({ connection }) => !tried!.has(connection));
      if (way === undefined) throw failure ?? new VfioError('EFAULT', `nothing is mapped at ${hex(this.base + BigInt(offset))} any more`);
      try {
        await act(way.memory, way.at, ways.length === 1);
        return;
      } catch (error) {
        if (ways.length === 1 || !(error instanceof VfioError) || error.code !== 'ENODEV') throw error;
        failure = error;
        tried ??= new Set();
        tried.add(way.connection);
      }
    }
  }
}
