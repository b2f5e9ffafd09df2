/**
 * The data that type1 keeps for each mapping besides its place: its process, its vaddr and its
 * charge. Parallel arrays by slot, 21 bytes for each mapping and 4 for the slot: 65535 objects
 * would take several times as much.
 */
import type { Access } from '../../abi/memory.ts';
import { resized, Slots } from '../../base/slots.ts';
import type { Process } from './process.ts';

/** CAP_IPC_LOCK at the time when the mapping was made. */
const VADDR_INVALID = 8;

export class MappingTable {
  readonly #slots = new Slots();
  #flags = new Uint8Array(Slots.initialCapacity);
  #owner = new Uint32Array(Slots.initialCapacity);
  #lockedBytes = new Float64Array(Slots.initialCapacity);
  /** vaddr in pages of 4096 bytes; -1: the mapping came as memory, without an address. */
  #vaddrPage = new Float64Array(Slots.initialCapacity);
  /** Processes with mappings here. They are few, so each has an index. */
  readonly #owners: { process: Process | null; mappings: number }[] = [];
  #invalid = 0;

  /** Mappings whose vaddr is invalid. */
  get invalid(): number {
    return this.#invalid;
  }

  /** Distinct processes that own mappings here. */
  get processes(): number {
    return this.#owners.reduce((n, o) => n + (o.process === null ? 0 : 1), 0);
  }

  add(process: Process, access: Access, lockedBytes: number, vaddrPage: number): number {
    const slot = this.#slots.take();
    this.#resize();
    this.#flags[slot] = access;
    this.#owner[slot] = this.#join(process);
    this.#lockedBytes[slot] = lockedBytes;
    this.#vaddrPage[slot] = vaddrPage;
    return slot;
  }

  remove(slot: number): void {
    this.setInvalid(slot, false);
    this.#leave(this.#owner[slot]);
    this.#slots.give(slot);
    this.#resize();
  }

  process(slot: number): Process {
    return this.#owners[this.#owner[slot]].process!;
  }

  access(slot: number): Access {
    return (this.#flags[slot] & 3) as Access;
  }

  lockedBytes(slot: number): number {
    return this.#lockedBytes[slot];
  }

  /** In pages of 4096 bytes, -1 when it has none. */
  vaddrPage(slot: number): number {
    return this.#vaddrPage[slot];
  }

  isInvalid(slot: number): boolean {
    return (this.#flags[slot] & VADDR_INVALID) !== 0;
  }

  setInvalid(slot: number, invalid: boolean): void {
    if (this.isInvalid(slot) === invalid) return;
    this.#flags[slot] ^= VADDR_INVALID;
    this.#invalid += invalid ? 1 : -1;
  }

  /** The mapping changes hands (MAP with FLAG_VADDR). The caller has moved the accounting. */
  setOwner(slot: number, process: Process): void {
    const before = this.#owner[slot];
    this.#owner[slot] = this.#join(process);
    this.#leave(before);
  }

  setVaddrPage(slot: number, vaddrPage: number): void {
    this.#vaddrPage[slot] = vaddrPage;
  }

  #join(process: Process): number {
    let free = -1;
    for (let i = this.#owners.length - 1; i >= 0; i--) {
      const owner = this.#owners[i];
      if (owner.process === process) {
        owner.mappings++;
        return i;
      }
      if (owner.process === null) free = i;
    }
    if (free < 0) free = this.#owners.push({ process: null, mappings: 0 }) - 1;
    this.#owners[free].process = process;
    this.#owners[free].mappings = 1;
    return free;
  }

  #leave(index: number): void {
    const owner = this.#owners[index];
    if (--owner.mappings === 0) owner.process = null;
  }

  #resize(): void {
    const capacity = this.#slots.capacity;
    if (capacity === this.#flags.length) return;
    this.#flags = resized(this.#flags, capacity);
    this.#owner = resized(this.#owner, capacity);
    this.#lockedBytes = resized(this.#lockedBytes, capacity);
    this.#vaddrPage = resized(this.#vaddrPage, capacity);
  }
}
