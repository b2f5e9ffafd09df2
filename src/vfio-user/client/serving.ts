/**
 * Answers the server's own commands, DMA_READ and DMA_WRITE, out of the memory that was mapped for
 * it.
 */
import { Access } from '../../abi/memory.ts';
import { HEADER_BYTES, HeaderFlags } from '../../abi/vfio-user.ts';
import { Errno, VfioError } from '../../base/errno.ts';
import { Way } from '../../events/source.ts';
import { Command, DmaAccess, putHeader, viewOf } from '../messages.ts';
import type { ClientChannel } from './channel.ts';
import type { ClientConnection } from './connection.ts';
import { Found, type MappedMemory } from './mapped-memory.ts';

/** Bytes that may be in flight to or from remote memory at once. */
const LATER_BYTES = 16 * 2 ** 20;
const FIXED = HEADER_BYTES + DmaAccess.structSize;

export class ClientServing {
  readonly #connection: ClientConnection;
  readonly #memory: MappedMemory;
  #laterBytes = 0;

  constructor(connection: ClientConnection, memory: MappedMemory) {
    this.#connection = connection;
    this.#memory = memory;
    connection.onCommand = (channel, command, flags) => this.#command(channel, command, flags);
  }

  #command(channel: ClientChannel, command: number, flags: number): void {
    const { view, start, size } = channel.reader;
    const quiet = (flags & HeaderFlags.NO_REPLY) !== 0;
    const id = view.getUint16(start, true);
    if (command !== Command.DMA_READ && command !== Command.DMA_WRITE) {
      if (!quiet) this.#fail(channel, id, command, Errno.ENOSYS);
      return;
    }
    const write = command === Command.DMA_WRITE;
    const at = start + HEADER_BYTES;
    const data = size - FIXED;
    if (data < 0) {
      if (!quiet) this.#fail(channel, id, command, Errno.EINVAL);
      return;
    }
    const low = view.getUint32(at, true);
    const high = view.getUint32(at + 4, true);
    const count = view.getUint32(at + 8, true);
    const tooLarge = view.getUint32(at + 12, true) !== 0 || count > this.#connection.maxDataBytes;
    let errno = 0;
    if (tooLarge || data !== (write ? count : 0)) errno = Errno.EINVAL;
    else {
      const found = this.#memory.look(high, low, count, write ? Access.WRITE : Access.READ);
      if (found === Found.REMOTE) {
        this.#later(channel, id, command, high, low, count, quiet);
        return;
      }
      if (found !== Found.DIRECT) errno = Errno.EFAULT;
    }
    if (errno === 0 && write) {
      this.#memory.copy(high, low, count, channel.reader.bytes, start + FIXED, true);
      this.#memory.wrote(high, low, count);
      this.#landed(true, high, low, count, channel.reader.bytes, start + FIXED);
    }
    if (quiet) return;
    if (errno !== 0) {
      this.#fail(channel, id, command, errno);
      return;
    }
    const total = write ? FIXED : FIXED + count;
    const bytes = this.#connection.answerBuffer(channel, total);
    putAccess(viewOf(bytes), id, command, total, high, low, count);
    if (!write) {
      this.#memory.copy(high, low, count, bytes, FIXED, false);
      this.#landed(false, high, low, count, bytes, FIXED);
    }
    this.#connection.answer(channel, bytes, total);
  }

  /** The device has read or written memory of this client. */
  #landed(write: boolean, high: number, low: number, count: number, bytes: Uint8Array, at: number): void {
    const { source } = this.#connection.messages;
    if (!source.on) return;
    const data = source.data ? bytes.subarray(at, at + count) : null;
    source.dma(write, high * 2 ** 20 + Math.floor(low / 4096), low % 4096, count, Way.remote, data);
  }

  #fail(channel: ClientChannel, id: number, command: number, errno: number): void {
    const bytes = this.#connection.answerBuffer(channel, HEADER_BYTES);
    putHeader(viewOf(bytes), 0, id, command, HEADER_BYTES, HeaderFlags.REPLY | HeaderFlags.ERROR, errno);
    this.#connection.answer(channel, bytes, HEADER_BYTES);
  }

  /** Memory that answers later: the server gets this reply then, and others before it. */
  #later(channel: ClientChannel, id: number, command: number, high: number, low: number, count: number, quiet: boolean): void {
    if (this.#laterBytes + count > LATER_BYTES) {
      if (!quiet) this.#fail(channel, id, command, Errno.ENOMEM);
      return;
    }
    const write = command === Command.DMA_WRITE;
    const bytes = new Uint8Array(FIXED + count);
    const { reader } = channel;
    if (write) bytes.set(reader.bytes.subarray(reader.start + FIXED, reader.start + FIXED + count), FIXED);
    this.#laterBytes += count;
    const { source } = this.#connection.messages;
    const { cause } = source;
    const settled = (errno: number): void => {
      this.#laterBytes -= count;
      if (quiet || this.#connection.lost !== null) return;
      const size = errno !== 0 ? HEADER_BYTES : write ? FIXED : FIXED + count;
      if (errno === 0) putAccess(viewOf(bytes), id, command, size, high, low, count);
      else putHeader(viewOf(bytes), 0, id, command, size, HeaderFlags.REPLY | HeaderFlags.ERROR, errno);
      try {
        source.during(cause, () => {
          if (errno === 0) this.#landed(write, high, low, count, bytes, FIXED);
          this.#connection.answerLater(channel, bytes.subarray(0, size));
        });
      } catch (error) {
        // The connection is lost; `onLost` has reported it.
        if (!(error instanceof VfioError)) throw error;
      }
    };
    // Noted before and after: a log that is read meanwhile may see the bytes too early, and never
    // misses them.
    if (write) this.#memory.wrote(high, low, count);
    this.#memory.copyLater(high, low, count, bytes.subarray(FIXED), write).then(
      () => {
        if (write) this.#memory.wrote(high, low, count);
        settled(0);
      },
      () => settled(Errno.EIO),
    );
  }
}

function putAccess(view: DataView, id: number, command: number, size: number, high: number, low: number, count: number): void {
  putHeader(view, 0, id, command, size, HeaderFlags.REPLY);
  view.setUint32(HEADER_BYTES, low, true);
  view.setUint32(HEADER_BYTES + 4, high, true);
  view.setUint32(HEADER_BYTES + 8, count, true);
  view.setUint32(HEADER_BYTES + 12, 0, true);
}
