/** Reads and writes of one region by messages; a client's regions and mappings use them. */
import type { Width } from '../../abi/device-host.ts';
import { RegionIndex } from '../../abi/vfio.ts';
import { HEADER_BYTES } from '../../abi/vfio-user.ts';
import { hex } from '../../base/check.ts';
import { errnoName, type VfioError } from '../../base/errno.ts';
import { regionName } from '../../device/file-window.ts';
import { seeAccess, seeRefusedAccess } from '../../events/seen-access.ts';
import type { EventSource } from '../../events/source.ts';
import { Command, RegionAccess } from '../messages.ts';
import type { ClientConnection } from './connection.ts';

const FIXED = RegionAccess.structSize;
/** Where the data of a write goes. */
export const OUT_DATA = HEADER_BYTES + FIXED;
/** One access to a register is at most this wide. */
const WIDEST = 8;

export interface TransferLimits {
  /** Bytes that one REGION_READ and one REGION_WRITE may carry. */
  readonly readBytes: number;
  readonly writeBytes: number;
  /** Writes of registers are not answered, BARs only. */
  readonly posted: boolean;
}

export class ClientRegionIo {
  readonly connection: ClientConnection;
  readonly index: number;
  /** Called after a write to config space; the bytes that were written are still at OUT_DATA. */
  onWritten: (offset: number, count: number) => void = () => {};
  readonly #limits: TransferLimits;
  readonly #posted: boolean;
  readonly #events: EventSource;

  constructor(connection: ClientConnection, index: number, limits: TransferLimits) {
    this.connection = connection;
    this.#events = connection.messages.source;
    this.index = index;
    this.#limits = limits;
    this.#posted = limits.posted && index < RegionIndex.ROM;
  }

  /** Where in `connection.reply` the bytes are that `load` read. */
  get loaded(): number {
    return this.connection.replyAt + FIXED;
  }

  /** The register that `load` read. */
  loadedRegister(width: Width): number {
    const { reply } = this.connection;
    return width === 4
      ? reply.getUint32(this.loaded, true)
      : width === 2
        ? reply.getUint16(this.loaded, true)
        : reply.getUint8(this.loaded);
  }

  /** The register that `store` is to write. */
  putRegister(width: Width, value: number): void {
    const { out } = this.connection;
    if (width === 4) out.setUint32(OUT_DATA, value, true);
    else if (width === 2) out.setUint16(OUT_DATA, value, true);
    else out.setUint8(OUT_DATA, value);
  }

  /**
   * Read `width` bytes, all or nothing.
   *
   * @returns 0, and the bytes are in `connection.reply` at `loaded`; else a positive errno
   */
  load(offset: number, width: number): number {
    return this.#events.on ? this.#seenRegister(false, offset, width) : this.#load(offset, width);
  }

  #load(offset: number, width: number): number {
    const { connection } = this;
    this.#address(offset, width);
    const errno = connection.request(Command.REGION_READ, FIXED);
    if (errno === 0 && (connection.replySize !== FIXED + width || connection.reply.getUint32(connection.replyAt + 12, true) !== width)) {
      throw connection.badReply(Command.REGION_READ, `${connection.replySize} bytes for ${width} of data`);
    }
    return errno;
  }

  /**
   * Write the `width` bytes that stand in `connection.out` at OUT_DATA.
   * @returns 0, or a positive errno; always 0 when writes are posted
   */
  store(offset: number, width: number): number {
    return this.#events.on ? this.#seenRegister(true, offset, width) : this.#store(offset, width);
  }

  #store(offset: number, width: number): number {
    const { connection } = this;
    this.#address(offset, width);
    if (this.#posted && width <= WIDEST) {
      connection.post(Command.REGION_WRITE, FIXED + width);
      return 0;
    }
    const errno = connection.request(Command.REGION_WRITE, FIXED + width);
    if (errno === 0) this.#written(offset, width);
    return errno;
  }

  /**
   * Fill `into`, in as many pieces as it takes.
   *
   * @returns bytes read: fewer only when the server gives fewer
   * @throws VfioError of the first piece that fails
   */
  read(offset: number, into: Uint8Array): number {
    return this.#events.on ? this.#seenBytes(false, offset, into) : this.#read(offset, into);
  }

  #read(offset: number, into: Uint8Array): number {
    const { connection } = this;
    for (let done = 0; done < into.length; ) {
      const count = Math.min(into.length - done, this.#limits.readBytes);
      this.#address(offset + done, count);
      const errno = connection.request(Command.REGION_READ, FIXED);
      if (errno !== 0) throw this.failure(errno, 'reading', offset + done, count);
      const got = connection.replySize - FIXED;
      if (got < 0 || got > count || connection.reply.getUint32(connection.replyAt + 12, true) !== got) {
        throw connection.badReply(Command.REGION_READ, `${connection.replySize} bytes for ${count} of data`);
      }
      into.set(connection.replyBytes.subarray(this.loaded, this.loaded + got), done);
      done += got;
      if (got < count) return done;
    }
    return into.length;
  }

  /**
   * As `read`, for a write. Config space goes in pieces of a register: some servers look at one
   * register at a time.
   */
  write(offset: number, from: Uint8Array): number {
    return this.#events.on ? this.#seenBytes(true, offset, from) : this.#write(offset, from);
  }

  #write(offset: number, from: Uint8Array): number {
    const { connection } = this;
    for (let done = 0; done < from.length; ) {
      const at = offset + done;
      const left = from.length - done;
      const count = this.index === RegionIndex.CONFIG ? naturalWidth(at, left) : Math.min(left, this.#limits.writeBytes);
      this.#address(at, count);
      connection.outBytes.set(from.subarray(done, done + count), OUT_DATA);
      const errno = connection.request(Command.REGION_WRITE, FIXED + count);
      if (errno !== 0) throw this.failure(errno, 'writing', at, count);
      this.#written(at, count);
      done += count;
    }
    return from.length;
  }

  /** An access that this side refuses, without a message. */
  refused(write: boolean, offset: number, size: number, error: unknown): void {
    if (this.#events.on) seeRefusedAccess(this.#events, this.#access(write, offset, size), error);
  }

  #seenRegister(write: boolean, offset: number, width: number): number {
    const { connection } = this;
    const { outBytes } = connection;
    const written = write ? outBytes.slice(OUT_DATA, OUT_DATA + width) : null;
    let errno = 0;
    this.#seen(write, offset, width, () => {
      errno = write ? this.#store(offset, width) : this.#load(offset, width);
      if (errno !== 0) return errnoName(errno) ?? `errno ${errno}`;
      return written ?? connection.replyBytes.subarray(this.loaded, this.loaded + width);
    });
    return errno;
  }

  #seenBytes(write: boolean, offset: number, bytes: Uint8Array): number {
    let done = 0;
    this.#seen(write, offset, bytes.length, () => {
      done = write ? this.#write(offset, bytes) : this.#read(offset, bytes);
      return bytes.subarray(0, done);
    });
    return done;
  }

  /** @param act gives the bytes that were moved, or the name of the errno */
  #seen(write: boolean, offset: number, size: number, act: () => Uint8Array | string): void {
    const { isMemory } = this.connection.messages;
    seeAccess(this.#events, this.#access(write, offset, size), isMemory(this.index, offset), act);
  }

  #access(write: boolean, offset: number, size: number) {
    return { op: write ? 'write' : 'read', region: this.index, offset, size } as const;
  }

  failure(errno: number, doing: string, offset: number, count: number): VfioError {
    return this.connection.failure(errno, `${doing} ${count} bytes at ${hex(offset)} of ${regionName(this.index)}`);
  }

  #address(offset: number, count: number): void {
    const { out } = this.connection;
    out.setUint32(HEADER_BYTES, offset, true);
    out.setUint32(HEADER_BYTES + 4, offset / 2 ** 32, true);
    out.setUint32(HEADER_BYTES + 8, this.index, true);
    out.setUint32(HEADER_BYTES + 12, count, true);
  }

  #written(offset: number, count: number): void {
    const { connection } = this;
    if (connection.replySize !== FIXED || connection.reply.getUint32(connection.replyAt + 12, true) !== count) {
      throw connection.badReply(Command.REGION_WRITE, `not all of ${count} bytes`);
    }
    if (this.index === RegionIndex.CONFIG) this.onWritten(offset, count);
  }
}

/** The widest naturally aligned access of up to 4 bytes that fits. */
function naturalWidth(at: number, left: number): number {
  if (left >= 4 && at % 4 === 0) return 4;
  return left >= 2 && at % 2 === 0 ? 2 : 1;
}
