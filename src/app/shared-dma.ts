/**
 * The DMA mappings of a container that several connections of one process use: each maps and unmaps for itself. A mapping that another connection has
 * made already, of the same memory, is counted for each, and goes with the last of them; a different one over the same addresses is EEXIST. Memory that
 * came without a descriptor is reached by messages, on the connection of the device that asks where that has mapped it, else on another's.
 */
import type { DirtyTracking, DmaSpace, IovaRange } from '../abi/device.ts';
import { Access, type DirectMemory, type Memory, type RemoteMemory } from '../abi/memory.ts';
import { hex } from '../base/check.ts';
import { Counted } from '../base/counted.ts';
import { VfioError } from '../base/errno.ts';
import { IntervalMap } from '../base/interval-map.ts';
import { Slots } from '../base/slots.ts';
import { DirtyPages } from '../engine/dma/dirty-pages.ts';
import { MemfdMemory } from '../sys/memfd.ts';

/** A connection that has the mapping, and the memory that it gave. */
interface Holder {
  readonly view: DmaView;
  readonly memory: Memory;
  readonly offset: number;
}

interface Entry {
  /** Pages of 4096 bytes. */
  readonly first: number;
  readonly last: number;
  readonly access: Access;
  /** In the order in which they came. */
  readonly holders: Holder[];
}

type MapRequest = Parameters<DmaSpace['map']>[0];

/** One object stands for so many bytes of I/O addresses: 70000 mappings cost no memory objects. */
const SPAN_BITS = 52n;
const PAGE = 4096;

export class SharedDma {
  readonly #index = new IntervalMap();
  readonly #slots = new Slots();
  readonly #entries: (Entry | undefined)[] = [];
  readonly #spans = new Map<bigint, AnyHoldersMemory>();
  /** Connections that want to know what is written. Reading the container's log clears it: what the others have not read is kept for them. */
  readonly #tracking = new Map<DmaView, DirtyPages>();

  /** The space as one connection sees it. @param space  the container's, charged to the connection's process   @param requester  the BDF of its device */
  view(space: DmaSpace, requester: string): DmaView {
    return new DmaView(this, space, requester);
  }

  get size(): number {
    return this.#index.size;
  }

  // --- for the views

  map(view: DmaView, request: MapRequest): void {
    const { iova, memory } = request;
    const offset = request.offset ?? 0;
    const size = request.size ?? memory.size - offset;
    const access = request.access ?? Access.READ_WRITE;
    const known = this.#same(iova, size, access, memory, offset);
    if (known !== null && !known.holders.some((holder) => holder.view === view)) {
      known.holders.push({ view, memory: memory.get(), offset });
      return;
    }
    memory.get();
    try {
      if (memory.kind === 'direct') view.space.map(request);
      else this.#mapRemote(view, iova, size, access);
    } catch (error) {
      memory.put();
      throw error;
    }
    const first = Number(iova >> 12n);
    const last = first + size / PAGE - 1;
    const slot = this.#slots.take();
    this.#entries[slot] = { first, last, access, holders: [{ view, memory, offset }] };
    this.#index.insert(first, last, slot);
  }

  /** The mapping of exactly these bytes, with these rights; null when there is none, and what there is is in the way. */
  #same(iova: bigint, size: number, access: Access, memory: Memory, offset: number): Entry | null {
    if (typeof iova !== 'bigint' || iova < 0n || iova % BigInt(PAGE) !== 0n) return null;
    const entry = this.#at(Number(iova >> 12n));
    if (entry === null || BigInt(entry.first) << 12n !== iova || (entry.last - entry.first + 1) * PAGE !== size) return null;
    return entry.access === access && samePages(entry.holders[0]!, memory, offset) ? entry : null;
  }

  #at(page: number): Entry | null {
    const slot = this.#index.find(page);
    return slot < 0 ? null : this.#entries[slot]!;
  }

  /** @returns bytes of which `view` has let go   @throws VfioError EINVAL when it would cut one of its mappings in two */
  unmap(view: DmaView, first: number, last: number): number {
    for (const page of [first, last]) {
      const entry = this.#at(page);
      if (entry === null || !entry.holders.some((holder) => holder.view === view)) continue;
      if (entry.first >= first && entry.last <= last) continue;
      throw new VfioError('EINVAL', `UNMAP_DMA would cut the mapping at ${hex(BigInt(entry.first) << 12n)} in two`, {
        fix: 'Name whole mappings; a mapping cannot be unmapped in part.',
      });
    }
    let pages = 0;
    // Neighbours that go together are unmapped in one step.
    let run: { readonly first: number; last: number } | null = null;
    const end = (): void => {
      if (run !== null) view.space.unmap(BigInt(run.first) << 12n, BigInt(run.last - run.first + 1) << 12n);
      run = null;
    };
    for (let slot = this.#index.seek(first); slot >= 0 && this.#index.foundFirst <= last; ) {
      const entry = this.#entries[slot]!;
      const at = entry.holders.findIndex((holder) => holder.view === view);
      if (at >= 0) {
        const [mine] = entry.holders.splice(at, 1);
        pages += entry.last - entry.first + 1;
        if (entry.holders.length === 0) {
          this.#index.remove(entry.first);
          this.#entries[slot] = undefined;
          this.#slots.give(slot);
          if (run !== null && (run as { last: number }).last + 1 !== entry.first) end();
          if (run === null) run = { first: entry.first, last: entry.last };
          else (run as { last: number }).last = entry.last;
        }
        mine!.memory.put();
      }
      slot = this.#index.seek(entry.last + 1);
    }
    end();
    return pages * PAGE;
  }

  /** [iova, + size) is reached by messages. */
  #mapRemote(view: DmaView, iova: bigint, size: number, access: Access): void {
    const span = iova >> SPAN_BITS;
    if ((iova + BigInt(size) - 1n) >> SPAN_BITS !== span) {
      using memory = new AnyHoldersMemory(this, iova, size);
      view.space.map({ iova, memory, size, access });
      return;
    }
    let memory = this.#spans.get(span);
    if (memory === undefined) {
      memory = new AnyHoldersMemory(this, span << SPAN_BITS, 2 ** Number(SPAN_BITS));
      this.#spans.set(span, memory);
    }
    view.space.map({ iova, memory, offset: Number(iova - memory.base), size, access });
  }

  /** Ways to the byte at `iova`: the requester's own first. */
  waysTo(
    iova: bigint,
    requester: string | undefined,
  ): readonly { readonly memory: RemoteMemory; readonly at: number; readonly view: DmaView }[] {
    const entry = this.#at(Number(iova >> 12n));
    if (entry === null) return [];
    const within = Number(iova - (BigInt(entry.first) << 12n));
    const ways = entry.holders.flatMap(({ view, memory, offset }) =>
      memory.kind === 'remote' ? [{ memory, at: offset + within, view }] : [],
    );
    return ways.sort((a, b) => Number(b.view.requester === requester) - Number(a.view.requester === requester));
  }

  // --- dirty pages

  startTracking(view: DmaView): void {
    if (this.#tracking.size === 0) view.space.dirty!.start();
    if (!this.#tracking.has(view)) this.#tracking.set(view, new DirtyPages());
  }

  stopTracking(view: DmaView): void {
    if (this.#tracking.delete(view) && this.#tracking.size === 0) view.space.dirty!.stop();
  }

  report(view: DmaView, iova: bigint, size: bigint, pageSize: bigint, data: Uint8Array): void {
    const unread = this.#tracking.get(view);
    if (unread === undefined) throw new VfioError('EINVAL', 'dirty tracking is off', { fix: 'Start it first.' });
    if (this.#tracking.size === 1) {
      view.space.dirty!.report(iova, size, pageSize, data);
    } else {
      const now = new Uint8Array(data.length);
      view.space.dirty!.report(iova, size, pageSize, now);
      const unit = Number(pageSize) / PAGE;
      const first = Number(iova >> 12n);
      for (let i = 0; i < now.length; i++) {
        if (now[i] === 0) continue;
        data[i]! |= now[i]!;
        for (let bit = 0; bit < 8; bit++) {
          if (((now[i]! >> bit) & 1) === 0) continue;
          const page = first + (8 * i + bit) * unit;
          for (const [other, pages] of this.#tracking) if (other !== view) pages.mark(page, page + unit - 1);
        }
      }
    }
    const from = Number(iova >> 12n);
    const to = from + Number(size >> 12n) - 1;
    unread.report(from, to, Number(pageSize) / PAGE, data);
    unread.forget(from, to);
  }
}

/** What one connection has mapped of the container. */
export class DmaView implements DmaSpace, Disposable {
  readonly space: DmaSpace;
  readonly requester: string;
  readonly dirty: DirtyTracking | undefined;
  readonly #shared: SharedDma;

  constructor(shared: SharedDma, space: DmaSpace, requester: string) {
    this.#shared = shared;
    this.space = space;
    this.requester = requester;
    this.dirty =
      space.dirty === undefined
        ? undefined
        : {
            start: () => shared.startTracking(this),
            stop: () => shared.stopTracking(this),
            report: (iova, size, pageSize, data) => shared.report(this, iova, size, pageSize, data),
            unmap: (iova, size, pageSize, data) => {
              shared.report(this, iova, size, pageSize, data);
              return this.unmap(iova, size);
            },
          };
  }

  get pageSizes(): bigint {
    return this.space.pageSizes;
  }

  get ranges(): readonly IovaRange[] {
    return this.space.ranges;
  }

  get available(): number {
    return this.space.available;
  }

  allocate(size: number): DirectMemory {
    return this.space.allocate(size);
  }

  map(request: MapRequest): void {
    this.#shared.map(this, request);
  }

  unmap(iova: bigint, size: bigint): bigint {
    if (size <= 0n) return this.space.unmap(iova, size);
    return BigInt(this.#shared.unmap(this, Number(iova >> 12n), Number((iova + size - 1n) >> 12n)));
  }

  /** Of this connection. */
  unmapAll(): bigint {
    return BigInt(this.#shared.unmap(this, 0, Number.MAX_SAFE_INTEGER));
  }

  /** The connection is over. */
  [Symbol.dispose](): void {
    if (this.dirty !== undefined) this.#shared.stopTracking(this);
    this.unmapAll();
  }
}

/** Memory of the process, reached through whichever of its connections has it mapped. */
class AnyHoldersMemory extends Counted implements RemoteMemory {
  readonly kind = 'remote';
  readonly size: number;
  /** I/O address of byte 0. */
  readonly base: bigint;
  readonly #shared: SharedDma;

  constructor(shared: SharedDma, base: bigint, size: number) {
    super('the memory');
    this.#shared = shared;
    this.base = base;
    this.size = size;
  }

  read(offset: number, into: Uint8Array, requester?: string): Promise<void> {
    return this.#try(offset, requester, (memory, at) => memory.read(at, into));
  }

  write(offset: number, from: Uint8Array, requester?: string): Promise<void> {
    return this.#try(offset, requester, (memory, at) => memory.write(at, from));
  }

  /** A connection that goes meanwhile leaves the others: the same bytes may be read and written once more. */
  async #try(offset: number, requester: string | undefined, act: (memory: RemoteMemory, at: number) => Promise<void>): Promise<void> {
    const iova = this.base + BigInt(offset);
    const tried = new Set<DmaView>();
    let failure: unknown = new VfioError('EFAULT', `nothing is mapped at ${hex(iova)} any more`);
    for (;;) {
      const way = this.#shared.waysTo(iova, requester).find(({ view }) => !tried.has(view));
      if (way === undefined) throw failure;
      tried.add(way.view);
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

/** Whether a mapping of `memory` from `offset` on reaches the same bytes as `holder`'s does: those of one file, or the process's own by its addresses. */
function samePages(holder: Holder, memory: Memory, offset: number): boolean {
  if (holder.memory.kind === 'remote' || memory.kind === 'remote') return holder.memory.kind === memory.kind;
  if (holder.memory === memory) return holder.offset === offset;
  if (!(holder.memory instanceof MemfdMemory) || !(memory instanceof MemfdMemory)) return false;
  return holder.memory.fileOffset + holder.offset === memory.fileOffset + offset && holder.memory.file === memory.file;
}
