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

const SPAN_BITS = 52n;
const SPAN = 1n << SPAN_BITS;

class ClientMemory extends Counted implements RemoteMemory {
  readonly kind = 'remote';
  readonly size: number;
  readonly #base: bigint;
  readonly #commands: DmaCommands;

  /** @param base  I/O address of byte 0 */
  constructor(commands: DmaCommands, base: bigint, size: number) {
    super('the memory');
    this.#commands = commands;
    this.#base = base;
    this.size = size;
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    return this.#commands.read(this.#base + BigInt(offset), into);
  }

  write(offset: number, from: Uint8Array): Promise<void> {
    return this.#commands.write(this.#base + BigInt(offset), from);
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
