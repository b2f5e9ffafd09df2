/**
 * The DMA mappings of a container that several connections of one process use. Each connection maps
 * and unmaps for itself, and an address stays mapped until the last connection that mapped it has
 * unmapped it. A second connection that maps an address must map the same memory, byte for byte. It
 * may cut the memory into mappings differently, because a hypervisor changes the layout of its
 * guest's memory for one device after the other. Other memory over the same addresses is EEXIST.
 */
import type { DirtyTracking, DmaSpace, IovaRange } from '../abi/device.ts';
import { Access, type DirectMemory, type Memory } from '../abi/memory.ts';
import { DIRTY_BITMAP_SIZE_MAX } from '../abi/vfio.ts';
import { hex } from '../base/check.ts';
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import { DirtyPages } from '../hardware/dirty-pages.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import { common, outside, type Range, RangeTable } from './range-table.ts';
import { SharedRemoteMemory, type Way, type Ways } from './shared-remote-memory.ts';

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

/**
 * One memory object stands for 2⁵² bytes of I/O addresses: 70000 mappings cost no memory objects.
 */
const SPAN_BITS = 52n;
const PAGE = 4096;

export class SharedDma {
  readonly #pieces = new RangeTable<Piece>();
  readonly #views = new Set<DmaView>();
  readonly #spans = new Map<bigint, SharedRemoteMemory>();
  /**
   * Connections that read a log of writes. Reading the container's log clears it, so each
   * connection has a copy of its unread part.
   */
  readonly #tracking = new Map<DmaView, DirtyPages>();

  /**
   * The container as one connection sees it.
   *
   * @param space the container's space, charged to the connection's process
   * @param requester the BDF of the connection's device
   */
  view(space: DmaSpace, requester: string): DmaView {
    const view = new DmaView(this, space, requester);
    this.#views.add(view);
    return view;
  }

  // --- called by views

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

  /** Other connections have mapped some of the range. When the call throws, nothing has changed. */
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
      // The new mapping allows more. The mappings of other connections make room, and return when
      // the new mapping ends.
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

  /** The range has lost its mapping: map it again for the other connections that have mapped it. */
  #fill(range: Range): void {
    const others = [...this.#views].flatMap((view) => view.own.within(range));
    // Mappings that allow more come first: they make room for no other.
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

  /** Unmap neighbours in one call, because clients often map all their memory in small pieces. */
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

  /** Map [iova, iova + size), which the server reaches by messages. */
  #installRemote(view: DmaView, iova: bigint, size: number, access: Access): void {
    const span = iova >> SPAN_BITS;
    if ((iova + BigInt(size) - 1n) >> SPAN_BITS !== span) {
      using memory = new SharedRemoteMemory(this.#waysTo, iova, size);
      view.space.map({ iova, memory, size, access });
      return;
    }
    let memory = this.#spans.get(span);
    if (memory === undefined) {
      memory = new SharedRemoteMemory(this.#waysTo, span << SPAN_BITS, 2 ** Number(SPAN_BITS));
      this.#spans.set(span, memory);
    }
    view.space.map({ iova, memory, offset: Number(iova - memory.base), size, access });
  }

  /** The mappings through which a byte can be reached, the requester's own first. */
  readonly #waysTo: Ways = (page, byte, requester) => {
    const ways: (Way & { readonly connection: DmaView })[] = [];
    for (const view of this.#views) {
      const mapping = view.own.at(page);
      if (mapping === null || mapping.memory.kind !== 'remote') continue;
      ways.push({ memory: mapping.memory, at: mapping.offset + (page - mapping.first) * PAGE + byte, connection: view });
    }
    if (ways.length < 2) return ways;
    return ways.sort((a, b) => Number(b.connection.requester === requester) - Number(a.connection.requester === requester));
  };

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
    // The range is larger than a bitmap covers: no client can ask for it either.
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
  /**
   * The mappings of this connection, whether this or another connection put them into the
   * container.
   */
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

  /** Unmap all mappings of this connection. */
  unmapAll(): bigint {
    return BigInt(this.#shared.unmap(this, { first: 0, last: Number.MAX_SAFE_INTEGER }));
  }

  /** The connection has ended. */
  [Symbol.dispose](): void {
    this.#shared.leave(this);
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
 * Make the container refuse the request with its own error, such as EEXIST over an existing
 * mapping.
 *
 * @throws VfioError
 */
function refuse({ space }: DmaView, request: MapRequest): never {
  space.map(request);
  throw new Error('the container accepted a mapping that it must refuse');
}

/**
 * Whether the mapping is whole pages inside its memory. The container refuses any other mapping,
 * whatever is mapped there.
 */
function isWhole({ iova, memory }: MapRequest, size: number, offset: number): boolean {
  const wholePages = [size, offset, Number(iova & 4095n)].every((value) => Number.isSafeInteger(value) && value >= 0 && value % PAGE === 0);
  return wholePages && size > 0 && offset + size <= memory.size && memory.references > 0;
}

function forEachPage(bitmap: Uint8Array, first: number, unit: number, visit: (page: number) => void): void {
  for (let i = 0; i < bitmap.length; i++) {
    for (let bits = bitmap[i]!, bit = 0; bits !== 0; bits >>= 1, bit++) if ((bits & 1) !== 0) visit(first + (8 * i + bit) * unit);
  }
}
