/**
 * The DMA mappings of a container that several connections of one process use. Each connection maps
 * and unmaps for itself, and an address stays mapped until the last connection that mapped it has
 * unmapped it. A second connection that maps an address must map the same memory, byte for byte. It
 * may cut the memory into mappings differently, because a hypervisor changes the layout of its
 * guest's memory for one device after the other. Other memory over the same addresses is EEXIST.
 * For memory without a descriptor the server sends messages on the connection of the device that
 * asks, where that connection has mapped the memory, else on another connection.
 */
import type { DirtyTracking, DmaSpace, IovaRange } from '../abi/device.ts';
import { Access, type DirectMemory, type Memory, type RemoteMemory } from '../abi/memory.ts';
import { DIRTY_BITMAP_SIZE_MAX } from '../abi/vfio.ts';
import { hex } from '../base/check.ts';
import { Cleanup } from '../base/cleanup.ts';
import { Counted } from '../base/counted.ts';
import { VfioError } from '../base/errno.ts';
import { IntervalMap } from '../base/interval-map.ts';
import { Slots } from '../base/slots.ts';
import { DirtyPages } from '../hardware/dirty-pages.ts';
import { MemfdMemory } from '../sys/memfd.ts';

/** Pages of 4096 bytes, `last` inclusive. */
interface Range {
  readonly first: number;
  readonly last: number;
}

/** A mapping of one connection. */
interface Mapping extends Range {
  readonly view: DmaView;
  readonly access: Access;
  readonly memory: Memory;
  readonly offset: number;
}

/** An entry of the container: a mapping, or the part of a mapping that no other covers. */
interface Piece extends Range {
  readonly of: Mapping;
}

type MapRequest = Parameters<DmaSpace['map']>[0];

/** One object stands for so many bytes of I/O addresses: 70000 mappings cost no memory objects. */
const SPAN_BITS = 52n;
const PAGE = 4096;

/** Ranges that do not overlap, each with what belongs to it. */
class RangeTable<T extends Range> {
  readonly #index = new IntervalMap();
  readonly #slots = new Slots();
  readonly #entries: (T | undefined)[] = [];

  get size(): number {
    return this.#index.size;
  }

  add(entry: T): void {
    const slot = this.#slots.take();
    this.#entries[slot] = entry;
    this.#index.insert(entry.first, entry.last, slot);
  }

  remove({ first }: T): void {
    const slot = this.#index.remove(first);
    this.#entries[slot] = undefined;
    this.#slots.give(slot);
  }

  at(page: number): T | null {
    const slot = this.#index.find(page);
    return slot < 0 ? null : this.#entries[slot]!;
  }

  overlaps({ first, last }: Range): boolean {
    return this.#index.overlaps(first, last);
  }

  /** Those that have a page in the range, in order. */
  within({ first, last }: Range): T[] {
    const found: T[] = [];
    const before = this.at(first);
    if (before !== null) found.push(before);
    for (let from = before === null ? first : before.last + 1; from <= last; ) {
      const slot = this.#index.seek(from);
      if (slot < 0 || this.#index.foundFirst > last) break;
      found.push(this.#entries[slot]!);
      from = this.#index.foundLast + 1;
    }
    return found;
  }

  /** The parts of the range that no entry covers. */
  gaps(range: Range): Range[] {
    const gaps: Range[] = [];
    let from = range.first;
    for (const { first, last } of this.within(range)) {
      if (first > from) gaps.push({ first: from, last: first - 1 });
      from = last + 1;
    }
    if (from <= range.last) gaps.push({ first: from, last: range.last });
    return gaps;
  }
}

export class SharedDma {
  readonly #pieces = new RangeTable<Piece>();
  readonly #views = new Set<DmaView>();
  readonly #spans = new Map<bigint, AnyHoldersMemory>();
  /**
   * Connections that read a log of writes. Reading the container's log clears it, so each
   * connection has a copy of its unread part.
   */
  readonly #tracking = new Map<DmaView, DirtyPages>();

  /**
   * The space as one connection sees it.
   * @param space the container's, charged to the connection's process
   * @param requester the BDF of its device
   */
  view(space: DmaSpace, requester: string): DmaView {
    const view = new DmaView(this, space, requester);
    this.#views.add(view);
    return view;
  }

  // --- for the views

  leave(view: DmaView): void {
    this.stopTracking(view);
    this.unmap(view, { first: 0, last: Number.MAX_SAFE_INTEGER });
    this.#views.delete(view);
  }

  map(view: DmaView, request: MapRequest): void {
    const { iova, memory } = request;
    const offset = request.offset ?? 0;
    const size = request.size ?? memory.size - offset;
    const access = request.access ?? Access.READ_WRITE;
    const first = Number(iova >> 12n);
    const mapping: Mapping = { view, first, last: first + size / PAGE - 1, access, memory, offset };
    using undo = new Cleanup();
    memory.get();
    undo.defer(() => memory.put());
    if (!isWhole(request, size, offset)) refuse(view, request);
    if (this.#pieces.overlaps(mapping)) this.#mapBeside(mapping, request, undo);
    else this.#install(mapping, mapping);
    view.own.add(mapping);
    undo.move();
  }

  /** Other connections have mapped some of the range. Nothing has changed when it throws. */
  #mapBeside(mapping: Mapping, request: MapRequest, undo: Cleanup): void {
    const { view, access } = mapping;
    const there = this.#pieces.within(mapping);
    const fits = ({ of }: Piece) => sameBytes(of, mapping) && ((of.access | access) === of.access || (of.access | access) === access);
    if (view.own.overlaps(mapping) || !there.every(fits)) refuse(view, request);
    for (const gap of this.#pieces.gaps(mapping)) {
      this.#install(mapping, gap);
      undo.defer(() => this.#uninstall([this.#pieces.at(gap.first)!]));
    }
    for (const piece of there) {
      if ((piece.of.access | access) === piece.of.access) continue;
      // The new mapping allows more: the mappings of other connections give way, and come back when
      // this one ends.
      this.#uninstall([piece]);
      undo.defer(() => this.#install(piece.of, piece));
      for (const rest of outside(piece, mapping)) {
        this.#install(piece.of, rest);
        undo.defer(() => this.#uninstall([this.#pieces.at(rest.first)!]));
      }
      const mine = common(piece, mapping);
      this.#install(mapping, mine);
      undo.defer(() => this.#uninstall([this.#pieces.at(mine.first)!]));
    }
  }

  /**
   * @returns bytes that `view` has unmapped
   * @throws VfioError EINVAL when the range would cut one of its mappings in two
   */
  unmap(view: DmaView, range: Range): number {
    const mine = view.own.within(range);
    const cut = mine.find(({ first, last }) => first < range.first || last > range.last);
    if (cut !== undefined) {
      throw new VfioError('EINVAL', `UNMAP_DMA would cut the mapping at ${hex(BigInt(cut.first) << 12n)} in two`, {
        fix: 'Name whole mappings; a mapping cannot be unmapped in part.',
      });
    }
    if (mine.length === 0) return 0;
    let pages = 0;
    for (const mapping of mine) {
      view.own.remove(mapping);
      pages += mapping.last - mapping.first + 1;
    }
    const gone = new Set(mine);
    const pieces = this.#pieces.within({ first: mine[0]!.first, last: mine.at(-1)!.last }).filter(({ of }) => gone.has(of));
    try {
      this.#uninstall(pieces);
      if (this.#views.size > 1) for (const piece of pieces) this.#fill(piece);
    } finally {
      for (const { memory } of mine) memory.put();
    }
    return pages * PAGE;
  }

  /** The range has lost its mapping: map it again for the other connections that have it mapped. */
  #fill(range: Range): void {
    const others = [...this.#views].flatMap((view) => view.own.within(range));
    // Mappings that allow more go first: where they are, those that allow less need nothing.
    for (const mapping of others.sort((a, b) => b.access - a.access)) {
      for (const gap of this.#pieces.gaps(common(range, mapping))) this.#install(mapping, gap);
    }
  }

  /** @throws VfioError as `DmaSpace.map` */
  #install(of: Mapping, { first, last }: Range): void {
    const { view, memory, access } = of;
    const iova = BigInt(first) << 12n;
    const size = (last - first + 1) * PAGE;
    if (memory.kind === 'direct') view.space.map({ iova, memory, offset: of.offset + (first - of.first) * PAGE, size, access });
    else this.#installRemote(view, iova, size, access);
    this.#pieces.add({ of, first, last });
  }

  /** Neighbours go together: the usual client has mapped all its memory in small pieces. */
  #uninstall(pieces: readonly Piece[]): void {
    for (let i = 0; i < pieces.length; ) {
      const { first, of } = pieces[i]!;
      let last = first - 1;
      for (; i < pieces.length && pieces[i]!.first === last + 1; i++) {
        last = pieces[i]!.last;
        this.#pieces.remove(pieces[i]!);
      }
      this.#keepDirty({ first, last }, of.view.space);
      of.view.space.unmap(BigInt(first) << 12n, BigInt(last - first + 1) << 12n);
    }
  }

  /** [iova, + size) is reached by messages. */
  #installRemote(view: DmaView, iova: bigint, size: number, access: Access): void {
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
    const ways = [...this.#views].flatMap((view) => {
      const mapping = view.own.at(Number(iova >> 12n));
      if (mapping === null || mapping.memory.kind !== 'remote') return [];
      return [{ memory: mapping.memory, at: mapping.offset + Number(iova - (BigInt(mapping.first) << 12n)), view }];
    });
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

  /**
   * The container forgets the log of a range that it unmaps; connections that have not read that
   * part keep it.
   */
  #keepDirty({ first, last }: Range, { dirty, pageSizes }: DmaSpace): void {
    if (this.#tracking.size === 0 || this.#views.size < 2) return;
    // More than a bitmap holds: no client can ask for this range either.
    if (last - first >= 8 * DIRTY_BITMAP_SIZE_MAX) return;
    const pageSize = pageSizes & -pageSizes;
    const unit = Number(pageSize) / PAGE;
    const written = new Uint8Array(8 * Math.ceil((last - first + 1) / unit / 64));
    dirty!.report(BigInt(first) << 12n, BigInt(last - first + 1) << 12n, pageSize, written);
    forEachPage(written, first, unit, (page) => {
      for (const unread of this.#tracking.values()) unread.mark(page, page + unit - 1);
    });
  }

  report(view: DmaView, iova: bigint, size: bigint, pageSize: bigint, data: Uint8Array): void {
    const unread = this.#tracking.get(view);
    if (unread === undefined) throw new VfioError('EINVAL', 'dirty tracking is off', { fix: 'Start it first.' });
    if (this.#tracking.size === 1) {
      view.space.dirty!.report(iova, size, pageSize, data);
    } else {
      const now = new Uint8Array(data.length);
      view.space.dirty!.report(iova, size, pageSize, now);
      for (let i = 0; i < now.length; i++) data[i]! |= now[i]!;
      const unit = Number(pageSize) / PAGE;
      forEachPage(now, Number(iova >> 12n), unit, (page) => {
        for (const [other, pages] of this.#tracking) if (other !== view) pages.mark(page, page + unit - 1);
      });
    }
    const from = Number(iova >> 12n);
    const to = from + Number(size >> 12n) - 1;
    unread.report(from, to, Number(pageSize) / PAGE, data);
    unread.forget(from, to);
  }
}

/** The container as one connection has mapped it. */
export class DmaView implements DmaSpace, Disposable {
  readonly space: DmaSpace;
  readonly requester: string;
  readonly dirty: DirtyTracking | undefined;
  /** The mappings of this connection, whichever connection put them into the container. */
  readonly own = new RangeTable<Mapping>();
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
    return BigInt(this.#shared.unmap(this, { first: Number(iova >> 12n), last: Number((iova + size - 1n) >> 12n) }));
  }

  /** Of this connection. */
  unmapAll(): bigint {
    return BigInt(this.#shared.unmap(this, { first: 0, last: Number.MAX_SAFE_INTEGER }));
  }

  /** The connection is over. */
  [Symbol.dispose](): void {
    this.#shared.leave(this);
  }
}

/** Memory of the process, on any of its connections that has the memory mapped. */
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

  /**
   * A connection may end in the middle, and the others remain: then the same bytes are read or
   * written once more.
   */
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

/**
 * Whether both reach the same bytes wherever they overlap: bytes of one file, or the process's own
 * bytes by their addresses.
 */
function sameBytes(a: Mapping, b: Mapping): boolean {
  if (a.memory.kind === 'remote' || b.memory.kind === 'remote') return a.memory.kind === b.memory.kind;
  const start = ({ first, offset }: Mapping): number => offset - first * PAGE;
  if (a.memory === b.memory) return start(a) === start(b);
  if (!(a.memory instanceof MemfdMemory) || !(b.memory instanceof MemfdMemory)) return false;
  return a.memory.fileOffset + start(a) === b.memory.fileOffset + start(b) && a.memory.file === b.memory.file;
}

/**
 * The container names the fault of the request: EEXIST over an existing mapping.
 *
 * @throws VfioError
 */
function refuse({ space }: DmaView, request: MapRequest): never {
  space.map(request);
  throw new Error('a mapping that cannot be was made');
}

/**
 * Whether the mapping is whole pages inside its memory. The container refuses any other mapping,
 * whatever is mapped there.
 */
function isWhole({ iova, memory }: MapRequest, size: number, offset: number): boolean {
  const wholePages = [size, offset, Number(iova & 4095n)].every((value) => Number.isSafeInteger(value) && value >= 0 && value % PAGE === 0);
  return wholePages && size > 0 && offset + size <= memory.size && memory.references > 0;
}

const common = (a: Range, b: Range): Range => ({ first: Math.max(a.first, b.first), last: Math.min(a.last, b.last) });

/** The parts of `range` that are not in `other`, with which it overlaps. */
function outside(range: Range, other: Range): Range[] {
  const rest: Range[] = [];
  if (range.first < other.first) rest.push({ first: range.first, last: other.first - 1 });
  if (range.last > other.last) rest.push({ first: other.last + 1, last: range.last });
  return rest;
}

function forEachPage(bitmap: Uint8Array, first: number, unit: number, visit: (page: number) => void): void {
  for (let i = 0; i < bitmap.length; i++) {
    for (let bits = bitmap[i]!, bit = 0; bits !== 0; bits >>= 1, bit++) if ((bits & 1) !== 0) visit(first + (8 * i + bit) * unit);
  }
}
