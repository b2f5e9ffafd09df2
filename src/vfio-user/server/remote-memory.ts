/**
 * Memory of a client that came without a descriptor: reached by the server's DMA commands, one
 * message and one answer at a time, never at once.
 *
 * One object stands for 2^52 bytes of I/O addresses, and a mapping is a range of it, so that 70000
 * mappings cost no memory objects.
 */
import type { RemoteMemory } from '../../abi/memory.ts';
import { Counted } from '../../base/counted.ts';
import type { DmaCommands } from './dma-commands.ts';

const PAGE = 4096;
const PAGE_BITS = 12n;
const SPAN_BITS = 52n;
const SPAN = 1n << SPAN_BITS;

class ClientMemory extends Counted implements RemoteMemory {
  readonly kind = 'remote';
  readonly takesAtOnce = true;
  readonly size: number;
  readonly #firstPage: number;
  readonly #commands: DmaCommands;

  /** @param base  I/O address of byte 0, which begins a page */
  constructor(commands: DmaCommands, base: bigint, size: number) {
    super('the memory');
    this.#commands = commands;
    this.#firstPage = Number(base >> PAGE_BITS);
    this.size = size;
  }

  read(offset: number, into: Uint8Array, _requester?: string, lands: (() => boolean) | null = null): Promise<void> {
    const pages = Math.floor(offset / PAGE);
    return this.#commands.read(this.#firstPage + pages, offset - pages * PAGE, into, lands);
  }

  write(offset: number, from: Uint8Array): Promise<void> {
    const pages = Math.floor(offset / PAGE);
    return this.#commands.write(this.#firstPage + pages, offset - pages * PAGE, from);
  }
}

export class RemoteRanges implements Disposable {
  readonly #commands: DmaCommands;
  readonly #spans = new Map<bigint, ClientMemory>();

  constructor(commands: DmaCommands) {
    this.#commands = commands;
  }

  /**
   * [address, address + size) as a range of memory. The memory's creator's reference stays here,
   * except for what straddles two spans.
   */
  range(address: bigint, size: number): { readonly memory: ClientMemory; readonly offset: number; readonly owned: boolean } {
    const span = address >> SPAN_BITS;
    if ((address + BigInt(size) - 1n) >> SPAN_BITS !== span) {
      return { memory: new ClientMemory(this.#commands, address, size), offset: 0, owned: true };
    }
    let memory = this.#spans.get(span);
    if (memory === undefined) {
      memory = new ClientMemory(this.#commands, span << SPAN_BITS, Number(SPAN));
      this.#spans.set(span, memory);
    }
    return { memory, offset: Number(address & (SPAN - 1n)), owned: false };
  }

  [Symbol.dispose](): void {
    for (const memory of this.#spans.values()) memory[Symbol.dispose]();
    this.#spans.clear();
  }
}
