/**
 * DMA to and from memory that answers only by messages (a vfio-user client's). A transfer takes
 * time, in which mappings may go: it lands only through mappings that are there from its beginning
 * to its end.
 */
import type { DmaFault, Iova } from '../abi/device-host.ts';
import type { DmaFaultReason } from '../abi/event.ts';
import { Access, type RemoteMemory } from '../abi/memory.ts';
import { IOMMU_UNIT, type IommuDomain, Reach, readDirect, Translation, writeDirect } from './iommu-domain.ts';

type Direction = 'read' | 'write';

/**
 * The DMA port of the device, as its remote transfers see it. `cause` is the event that led to the
 * transfer.
 */
export interface RemoteDma {
  /** The device's name, for the other end of the memory. */
  readonly name: string;
  /**
   * The gates of a new transfer, and the place where it begins.
   *
   * @throws DmaFault while a gate is closed
   */
  begin(iova: Iova, direction: Direction, cause: number): { readonly domain: IommuDomain; readonly pfn: number; readonly byte: number };
  /** The gate that is closed now for a transfer that has begun; null when all are open. */
  closed(): DmaFaultReason | null;
  /** The domain that translates for the device now. */
  domain(): IommuDomain | null;
  /** Count a fault; returns the error for the model. */
  fault(reason: DmaFaultReason, iova: Iova, direction: Direction, cause: number): DmaFault;
  /** The machine sleeps. */
  asleep(): boolean;
  /** Whether there is a reader of events. */
  watched(): boolean;
  /**
   * Null while the machine is awake. Rejects when the function was reset or closed during the
   * sleep.
   */
  awake(iova: Iova, direction: Direction, cause: number): Promise<void> | null;
  /** The device has written pages [first, last]. */
  wrote(first: number, last: number): void;
  /** A write is over, for its event. */
  landed(iova: Iova, from: Uint8Array, cause: number): void;
}

/** A part of a transfer that lies in one mapping. */
interface Piece {
  readonly domain: IommuDomain;
  readonly pfn: number;
  readonly byte: number;
  /** Where the piece starts in the device's buffer. */
  readonly start: number;
  readonly size: number;
  readonly memory: NonNullable<Translation['memory']>;
  readonly offset: number;
}

export class RemoteTransfers {
  readonly #dma: RemoteDma;
  readonly #out = new Translation();

  constructor(dma: RemoteDma) {
    this.#dma = dma;
  }

  /**
   * The device gets bytes when every mapping that they came through is still there: those of one
   * piece when the memory has all of them; those of several after they have arrived in a buffer of
   * their own.
   */
  async read(iova: Iova, into: Uint8Array, cause: number): Promise<void> {
    const pieces = this.#pieces(iova, into.length, 'read', cause);
    try {
      const [first] = pieces;
      if (pieces.length === 1 && first!.memory.kind === 'remote') await this.#fetch(iova, first!, first!.memory, into, cause);
      else await this.#collect(iova, pieces, into, cause);
    } finally {
      for (const piece of pieces) piece.memory.put();
    }
  }

  async #fetch(iova: Iova, piece: Piece, memory: RemoteMemory, into: Uint8Array, cause: number): Promise<void> {
    const dma = this.#dma;
    let landed: boolean | null = null;
    const lands = (): boolean => {
      landed = !dma.asleep() && this.#live(piece, Access.READ);
      return landed;
    };
    for (;;) {
      try {
        await memory.read(piece.offset, into, dma.name, lands);
      } catch (error) {
        throw this.#failed(iova, piece, 'read', cause, error);
      }
      if (landed === true) return;
      const sleep = dma.awake(iova, 'read', cause);
      if (sleep !== null) await sleep;
      if ((sleep === null && landed === false) || !this.#live(piece, Access.READ)) throw this.#gone(iova, piece, 'read', cause);
      // Memory that does not ask has stored them.
      if (landed === null) return;
      // Bytes that arrived in a sleep are read again after it.
      landed = null;
    }
  }

  async #collect(iova: Iova, pieces: readonly Piece[], into: Uint8Array, cause: number): Promise<void> {
    const dma = this.#dma;
    const arrived = new Uint8Array(into.length);
    for (const piece of pieces) {
      if (piece.memory.kind === 'direct') continue;
      const sleep = dma.awake(iova, 'read', cause);
      if (sleep !== null) await sleep;
      if (!this.#live(piece, Access.READ)) throw this.#gone(iova, piece, 'read', cause);
      await this.#fetch(iova, piece, piece.memory, arrived.subarray(piece.start, piece.start + piece.size), cause);
    }
    const sleep = dma.awake(iova, 'read', cause);
    if (sleep !== null) await sleep;
    for (const piece of pieces) if (!this.#live(piece, Access.READ)) throw this.#gone(iova, piece, 'read', cause);
    for (const piece of pieces)
      if (piece.memory.kind === 'direct') readDirect(piece.memory, piece.offset, arrived, piece.start, piece.size);
    into.set(arrived);
  }

  /**
   * Bytes leave piece by piece, in order; each only while its mapping is there. A mapping that goes
   * while its bytes are under way makes a fault: it is not known whether they landed.
   */
  async write(iova: Iova, from: Uint8Array, cause: number): Promise<void> {
    const dma = this.#dma;
    const pieces = this.#pieces(iova, from.length, 'write', cause);
    try {
      // The caller may reuse its buffer as soon as it has called.
      const isTaken = pieces.length === 1 && takesAtOnce(pieces[0]!.memory) && !dma.asleep() && !dma.watched();
      const bytes = isTaken ? from : from.slice();
      for (const piece of pieces) {
        const sleep = dma.awake(iova, 'write', cause);
        if (sleep !== null) await sleep;
        if (!this.#live(piece, Access.WRITE)) throw this.#gone(iova, piece, 'write', cause);
        if (piece.memory.kind === 'direct') {
          writeDirect(piece.memory, piece.offset, bytes, piece.start, piece.size);
          this.#markWritten(piece);
        } else await this.#send(iova, piece, piece.memory, bytes, cause);
      }
      dma.landed(iova, bytes, cause);
    } finally {
      for (const piece of pieces) piece.memory.put();
    }
  }

  async #send(iova: Iova, piece: Piece, memory: RemoteMemory, bytes: Uint8Array, cause: number): Promise<void> {
    const dma = this.#dma;
    // Marked before and after: a log that is read while the bytes are under way may see them too
    // early, and never misses them. A write that failed may have landed, too.
    this.#markWritten(piece);
    try {
      const part = piece.size === bytes.length ? bytes : bytes.subarray(piece.start, piece.start + piece.size);
      await memory.write(piece.offset, part, dma.name);
    } catch (error) {
      throw this.#failed(iova, piece, 'write', cause, error);
    } finally {
      this.#markWritten(piece);
    }
    const sleep = dma.awake(iova, 'write', cause);
    if (sleep !== null) await sleep;
    if (!this.#live(piece, Access.WRITE)) throw this.#gone(iova, piece, 'write', cause);
  }

  /**
   * The pieces that [iova, + size) is made of now, each with a reference on its memory until `put`.
   *
   * @throws DmaFault when any of it cannot be reached
   */
  #pieces(iova: Iova, size: number, direction: Direction, cause: number): Piece[] {
    const access = direction === 'read' ? Access.READ : Access.WRITE;
    const { domain, pfn, byte } = this.#dma.begin(iova, direction, cause);
    const reach = domain.reach(pfn, byte, size, access);
    if (reach !== Reach.OK && reach !== Reach.REMOTE) {
      throw this.#dma.fault(reach === Reach.PERMISSION ? 'permission' : 'not-mapped', iova, direction, cause);
    }
    const out = this.#out;
    const pieces: Piece[] = [];
    let at = pfn;
    let within = byte;
    for (let done = 0; done < size; ) {
      domain.translate(at, within, access, out);
      const piece = Math.min(out.bytes, size - done);
      pieces.push({ domain, pfn: at, byte: within, start: done, size: piece, memory: out.memory!, offset: out.offset });
      done += piece;
      at += (within + out.bytes) / IOMMU_UNIT;
      within = 0;
    }
    for (const piece of pieces) piece.memory.get();
    return pieces;
  }

  /** Whether the gates are open and `piece` still is the mapping at its address. */
  #live(piece: Piece, access: Access): boolean {
    if (this.#dma.closed() !== null || this.#dma.domain() !== piece.domain) return false;
    const out = this.#out;
    return (
      piece.domain.translate(piece.pfn, piece.byte, access, out) === Reach.OK &&
      out.memory === piece.memory &&
      out.offset === piece.offset &&
      out.bytes >= piece.size
    );
  }

  /** The reason why `piece` is not live, counted. */
  #gone(iova: Iova, piece: Piece, direction: Direction, cause: number): DmaFault {
    return this.#dma.fault(this.#dma.closed() ?? 'not-mapped', BigInt(iova) + BigInt(piece.start), direction, cause);
  }

  #failed(iova: Iova, piece: Piece, direction: Direction, cause: number, error: unknown): DmaFault {
    return Object.assign(this.#dma.fault('remote-failed', BigInt(iova) + BigInt(piece.start), direction, cause), { cause: error });
  }

  #markWritten({ domain, pfn, byte, size }: Piece): void {
    const last = pfn + Math.floor((byte + size - 1) / IOMMU_UNIT);
    domain.dirty?.mark(pfn, last);
    this.#dma.wrote(pfn, last);
  }
}

function takesAtOnce(memory: Piece['memory']): boolean {
  return memory.kind === 'remote' && memory.takesAtOnce === true;
}
