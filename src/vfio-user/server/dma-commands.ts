/**
 * The server's own commands: DMA_READ and DMA_WRITE, by which a model reaches memory that the
 * client has not shared. Nothing here waits. Transfers are cut into messages, a number of which are
 * in flight at a time, and each transfer's promise settles when its last reply is there. The server
 * serves the client's own requests meanwhile.
 *
 * The client sends the replies to DMA_READ, and QEMU loses the rest of a reply that its socket
 * takes only in part (qemu/hw/vfio-user/proxy.c, vfio_user_send_qio(): nothing is left of a message
 * that went in part). So the server asks a client that does not say how much it can send for little
 * at a time, in small pieces. Reads take turns: a short one does not wait for a long one.
 *
 * Longer than 400 lines because transfers, their messages and the replies share one window and one
 * table of ids.
 */
import { HEADER_BYTES, Header, HeaderFlags } from '../../abi/vfio-user.ts';
import { hex } from '../../base/check.ts';
import type { Clock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import type { FrameWriter } from '../frame-writer.ts';
import type { FrameReader } from '../frames.ts';
import { Command, DmaAccess, putHeader, replyError } from '../messages.ts';
import { DMA_FIXED_BYTES, type DmaLayout, dataAt, layoutOfReadReply } from './dma-layout.ts';
import type { CommandEvents, Pending, Transfer } from './dma-transfer.ts';

/** Bytes of a page, and pages of the 64-bit space. */
const PAGE = 4096;
const PAGES = 2 ** 52;
/** The most messages in flight, and the most bytes of data in messages that wait to be sent. */
const WINDOW = 64;
const WINDOW_BYTES = 4 * 2 ** 20;
/**
 * For a client that does not say: QEMU's socket takes 212992 bytes (net.core.wmem_default), with
 * the kernel's overhead for each message.
 */
const CAREFUL_BYTES = 128 * 1024;
const CAREFUL_PIECE_BYTES = 64 * 1024;
/** Of a reply, besides its data, in that account. */
const REPLY_COST_BYTES = 4096;
/**
 * Replies that never came: so many ids are remembered, so that a late reply is not taken for
 * another's. A client with more of them is broken.
 */
const LATE_MAX = 256;

export interface DmaCommandsOptions {
  readonly events: CommandEvents;
  readonly writer: FrameWriter;
  readonly clock: Clock;
  /** Bytes of data in one message at most: what the client takes. */
  readonly maxDataBytes: number;
  /** Bytes of replies to DMA_READ that the client can have in flight; null when it does not say. */
  readonly readBytes: number | null;
  /**
   * Ask by a write of no bytes before the first transfer. Without: the specification's layout,
   * until a reply shows the other.
   */
  readonly askLayout: boolean;
  /** Something was put into the writer: send it at the end of the current step. */
  readonly onQueued: () => void;
}

export class DmaCommands {
  readonly #writer: FrameWriter;
  readonly #events: CommandEvents;
  readonly #clock: Clock;
  readonly #maxData: number;
  /** Bytes of data in one DMA_READ, and of all that are in flight, with `#readCost` for each. */
  readonly #maxRead: number;
  readonly #readWindow: number;
  readonly #readCost: number;
  readonly #onQueued: () => void;
  readonly #pending = new Map<number, Pending>();
  readonly #late = new Set<number>();
  /** Transfers that still have messages to make, in order. */
  #queue: Transfer[] = [];
  #layout: DmaLayout = 'spec';
  /**
   * 'ask' before the first transfer, 'asked' while the answer is awaited; 'guess' while no reply
   * has shown anything.
   */
  #state: 'ask' | 'asked' | 'guess' | 'known';
  #askId = -1;
  #askedNs = 0;
  #nextId = 0;
  #pendingBytes = 0;
  #pendingReadBytes = 0;
  #failed: VfioError | null = null;

  constructor(options: DmaCommandsOptions) {
    this.#writer = options.writer;
    this.#events = options.events;
    this.#clock = options.clock;
    this.#maxData = options.maxDataBytes;
    const { readBytes } = options;
    this.#readWindow = Math.min(readBytes ?? CAREFUL_BYTES, WINDOW_BYTES);
    this.#readCost = readBytes === null ? REPLY_COST_BYTES : 0;
    const piece = Math.min(this.#readWindow - this.#readCost, readBytes === null ? CAREFUL_PIECE_BYTES : WINDOW_BYTES);
    this.#maxRead = Math.max(1, Math.min(this.#maxData, piece));
    this.#state = options.askLayout ? 'ask' : 'guess';
    this.#onQueued = options.onQueued;
  }

  /** The layout now, for tests and logs. */
  get layout(): DmaLayout {
    return this.#layout;
  }

  /** Whether transfers wait for room in the window, or in the writer. */
  get waiting(): boolean {
    return this.#queue.length > 0;
  }

  /** Replies that are awaited. */
  get underWay(): number {
    return this.#pending.size + (this.#state === 'asked' ? 1 : 0);
  }

  /** When the oldest message in flight was sent; null when no message is in flight. */
  get oldestNs(): number | null {
    if (this.#state === 'asked') return this.#askedNs;
    for (const { sentNs } of this.#pending.values()) return sentNs;
    return null;
  }

  /**
   * Read what is at byte `byte` of page `page`.
   *
   * @param lands asked once, when all bytes are there: whether they may be stored, at once, in
   *   `into`. Where it says no, none is, and the promise resolves all the same
   * @throws VfioError (rejects) the client's error; ETIMEDOUT; ENODEV when it is gone; EPROTO for
   *   an answer that does not fit; EOVERFLOW past the last 64-bit address; EFAULT when `into` is
   *   gone
   */
  read(page: number, byte: number, into: Uint8Array, lands: (() => boolean) | null = null): Promise<void> {
    return this.#start(false, page, byte, into, lands);
  }

  /** `from` may be used again after the call. @throws VfioError (rejects) as `read` */
  write(page: number, byte: number, from: Uint8Array): Promise<void> {
    return this.#start(true, page, byte, from, null);
  }

  #start(write: boolean, page: number, byte: number, bytes: Uint8Array, lands: (() => boolean) | null): Promise<void> {
    if (this.#failed !== null) return Promise.reject(this.#failed);
    const size = bytes.length;
    if (page < 0 || page + Math.ceil((byte + size) / PAGE) > PAGES) {
      return Promise.reject(new VfioError('EOVERFLOW', `DMA at ${hex(addressOf(page, byte))} goes past the last 64-bit address`));
    }
    if (size === 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const buffer = write || size <= this.#maxRead ? bytes : new Uint8Array(size);
      const transfer: Transfer = {
        write,
        page,
        byte,
        buffer,
        size,
        started: 0,
        finished: 0,
        error: null,
        cause: this.#events.cause,
        resolve:
          buffer === bytes
            ? resolve
            : () => {
                const wrong = lands === null || lands() ? store(bytes, 0, buffer) : null;
                if (wrong === null) resolve();
                else reject(wrong);
              },
        reject,
        lands: buffer === bytes ? lands : null,
      };
      this.#queue.push(transfer);
      // At once where one message does, unless a reply comes first.
      if (this.#queue.length === 1 && this.#pieceOf(transfer) === size && !this.#writer.answering && this.#state !== 'ask') this.pump();
      // A peer whose layout is not known yet may need the bytes again.
      if (write && (transfer.started < size || this.#state !== 'known')) transfer.buffer = bytes.slice();
      this.#onQueued();
    });
  }

  /**
   * Makes as many messages as may be in flight. Call it only while no message is being built in the
   * writer.
   */
  pump(): void {
    if (this.#queue.length === 0 || this.#failed !== null || this.#state === 'asked') return;
    if (this.#state === 'ask') {
      this.#ask();
      return;
    }
    let at = 0;
    for (; at < this.#queue.length; ) {
      const transfer = this.#queue[at]!;
      if (transfer.error === null && transfer.started < transfer.size) {
        if (!this.#mayStart(transfer)) break;
        this.#send(transfer);
      }
      if (transfer.error !== null || transfer.started === transfer.size) at++;
      else if (!transfer.write) this.#takeTurns(at);
    }
    if (at === this.#queue.length) this.#queue.length = 0;
    else if (at > 0) this.#queue = this.#queue.slice(at);
  }

  /**
   * A read has had its piece: it goes behind the reads that are not behind a write. Writes stay in
   * order, with reads, too.
   */
  #takeTurns(at: number): void {
    let end = at + 1;
    while (end < this.#queue.length && !this.#queue[end]!.write) end++;
    if (end === at + 1) return;
    const [transfer] = this.#queue.splice(at, 1);
    this.#queue.splice(end - 1, 0, transfer!);
  }

  #mayStart(transfer: Transfer): boolean {
    if (this.#writer.blocked || this.#pending.size >= WINDOW) return false;
    if (transfer.write) return this.#pendingBytes < WINDOW_BYTES || this.#pending.size === 0;
    const next = this.#readCost + this.#pieceOf(transfer);
    return this.#pendingReadBytes + next <= this.#readWindow || this.#pendingReadBytes === 0;
  }

  #pieceOf({ write, size, started }: Transfer): number {
    return Math.min(write ? this.#maxData : this.#maxRead, size - started);
  }

  #freeId(): number {
    do this.#nextId = (this.#nextId + 1) & 0xffff;
    while (this.#pending.has(this.#nextId) || this.#late.has(this.#nextId) || (this.#state === 'asked' && this.#nextId === this.#askId));
    return this.#nextId;
  }

  #send(transfer: Transfer): void {
    const { write, page, buffer, started } = transfer;
    const layout = this.#layout;
    const count = this.#pieceOf(transfer);
    const id = this.#freeId();
    const size = DMA_FIXED_BYTES + (write ? count : 0);
    const from = transfer.byte + started;
    const pages = Math.floor(from / PAGE);
    const low = lowOf(page + pages, from - pages * PAGE);
    const high = highOf(page + pages);
    const at = this.#writer.begin(size);
    const { view, bytes } = this.#writer;
    putHeader(view, at, id, write ? Command.DMA_WRITE : Command.DMA_READ, size, HeaderFlags.COMMAND);
    view.setUint32(at + HEADER_BYTES, low, true);
    view.setUint32(at + HEADER_BYTES + 4, high, true);
    view.setUint32(at + HEADER_BYTES + 8, count, true);
    view.setUint32(at + HEADER_BYTES + 12, 0, true);
    if (write) {
      const data = at + dataAt(layout);
      bytes.set(count === buffer.length ? buffer : buffer.subarray(started, started + count), data);
      if (layout === 'qemu') view.setUint32(data + count, 0, true);
    }
    const event = this.#commit(size, transfer.cause);
    this.#pending.set(id, { transfer, start: started, count, low, high, layout, sentNs: this.#clock.nowNs(), event });
    this.#account(transfer, count, 1);
    transfer.started += count;
  }

  /** @returns `seq` of the message's event */
  #commit(size: number, cause: number): number {
    const events = this.#events;
    if (!events.on) {
      this.#writer.commit(size);
      return 0;
    }
    const before = events.cause;
    events.cause = cause;
    this.#writer.commit(size);
    events.cause = before;
    return events.last;
  }

  /** `seq` of the event of the command that the reply `id` answers; 0: none is known. */
  eventOf(id: number): number {
    return this.#pending.get(id)?.event ?? 0;
  }

  /** In flight, or no longer. */
  #account({ write }: Transfer, count: number, sign: 1 | -1): void {
    this.#pendingBytes += sign * count;
    if (!write) this.#pendingReadBytes += sign * (count + this.#readCost);
  }

  /** A write of no bytes touches nothing, and QEMU answers it with a header alone. */
  #ask(): void {
    this.#state = 'asked';
    this.#askId = this.#freeId();
    this.#askedNs = this.#clock.nowNs();
    const at = this.#writer.begin(DMA_FIXED_BYTES);
    const { view } = this.#writer;
    putHeader(view, at, this.#askId, Command.DMA_WRITE, DMA_FIXED_BYTES, HeaderFlags.COMMAND);
    const { page, byte, cause } = this.#queue[0]!;
    DmaAccess.address.set(view, at + HEADER_BYTES, addressOf(page, byte));
    DmaAccess.count.set(view, at + HEADER_BYTES, 0n);
    this.#commit(DMA_FIXED_BYTES, cause);
  }

  /**
   * The current message of `reader` is a reply: false when it answers no command of this server.
   */
  reply(reader: FrameReader): boolean {
    const { view, start } = reader;
    const id = Header.id.get(view, start);
    if (this.#state === 'asked' && id === this.#askId) {
      this.#told(reader);
      return true;
    }
    const pending = this.#pending.get(id);
    if (pending === undefined) return this.#late.delete(id);
    const { transfer, count } = pending;
    const command = transfer.write ? Command.DMA_WRITE : Command.DMA_READ;
    if (Header.command.get(view, start) !== command) return false;
    this.#pending.delete(id);
    this.#account(transfer, count, -1);
    const what = transfer.write ? 'DMA_WRITE' : 'DMA_READ';
    const error = replyError(view, start, what);
    if (error !== null) this.#fail(transfer, error);
    else if (reader.oversize || reader.broken) {
      this.#fail(transfer, new VfioError('EPROTO', `${what}: a reply of ${view.getUint32(start + 4, true)} bytes`));
    } else if (transfer.write) this.#written(pending, reader);
    else this.#read(pending, reader);
    return true;
  }

  #told(reader: FrameReader): void {
    const { view, start, size } = reader;
    const failed = (Header.flags.get(view, start) & HeaderFlags.ERROR) !== 0 || reader.oversize || reader.broken;
    this.#state = failed ? 'guess' : 'known';
    if (!failed && size === HEADER_BYTES) this.#layout = 'qemu';
  }

  #written(pending: Pending, reader: FrameReader): void {
    const { transfer, start, count, layout } = pending;
    if (reader.size !== HEADER_BYTES) {
      if (!this.#checkEcho(pending, reader)) return;
      if (layout === 'spec') this.#state = 'known';
      this.#finish(transfer, count);
    } else if (layout === 'qemu') this.#finish(transfer, count);
    else if (this.#state === 'known' && this.#layout === 'spec') {
      this.#fail(transfer, new VfioError('EPROTO', 'DMA_WRITE: a reply without its fields'));
    } else {
      this.#layout = 'qemu';
      this.#state = 'known';
      this.#writeAgain(transfer, start, count);
    }
  }

  /**
   * The peer took the data four bytes too early and wrote wrong bytes: writes that part again, in
   * the layout that the peer reads.
   */
  #writeAgain(transfer: Transfer, start: number, count: number): void {
    if (transfer.error !== null) return;
    this.#queue.unshift({
      write: true,
      page: transfer.page,
      byte: transfer.byte + start,
      buffer: transfer.buffer.subarray(start, start + count),
      size: count,
      started: 0,
      finished: 0,
      error: null,
      cause: transfer.cause,
      resolve: () => this.#finish(transfer, count),
      reject: (error) => this.#fail(transfer, error),
      lands: null,
    });
  }

  #read(pending: Pending, reader: FrameReader): void {
    const { transfer, start, count } = pending;
    const { view, bytes, start: at, size } = reader;
    if (size !== DMA_FIXED_BYTES + count) {
      this.#fail(transfer, new VfioError('EPROTO', `DMA_READ: a reply of ${size} bytes, ${DMA_FIXED_BYTES + count} expected`));
      return;
    }
    if (this.#state !== 'known') {
      const layout = layoutOfReadReply(view, at);
      if (layout !== null) {
        this.#layout = layout;
        this.#state = 'known';
      }
    }
    if (!this.#checkEcho(pending, reader)) return;
    if (transfer.error === null && (transfer.lands === null || transfer.lands())) {
      const data = at + dataAt(this.#layout);
      const wrong = store(transfer.buffer, start, bytes.subarray(data, data + count));
      if (wrong !== null) this.#fail(transfer, wrong);
    }
    this.#finish(transfer, count);
  }

  #checkEcho({ transfer, count, low, high }: Pending, { view, start, size }: FrameReader): boolean {
    if (size >= DMA_FIXED_BYTES) {
      const at = start + HEADER_BYTES;
      const upper = this.#layout === 'spec' ? view.getUint32(at + 12, true) : 0;
      const isSame = view.getUint32(at, true) === low && view.getUint32(at + 4, true) === high;
      if (isSame && view.getUint32(at + 8, true) === count && upper === 0) return true;
    }
    const address = (BigInt(high) << 32n) | BigInt(low);
    this.#fail(transfer, new VfioError('EPROTO', `DMA at ${hex(address)}: the reply is for another address or count`));
    return false;
  }

  #finish(transfer: Transfer, count: number): void {
    transfer.finished += count;
    if (transfer.error === null && transfer.finished === transfer.size) transfer.resolve();
  }

  /** Replies to what is in flight may still come; they are ignored. */
  #fail(transfer: Transfer, error: VfioError): void {
    if (transfer.error !== null) return;
    transfer.error = error;
    transfer.reject(error);
  }

  /**
   * Gives up messages that were sent at `beforeNs` or earlier. False when so many replies are
   * outstanding that the client must be broken.
   */
  expire(beforeNs: number): boolean {
    if (this.#state === 'asked' && this.#askedNs <= beforeNs) {
      this.#late.add(this.#askId);
      this.#state = 'guess';
      this.#failQueued();
    }
    for (const [id, pending] of this.#pending) {
      if (pending.sentNs > beforeNs) break;
      this.#pending.delete(id);
      this.#account(pending.transfer, pending.count, -1);
      this.#late.add(id);
      this.#fail(pending.transfer, silent());
    }
    return this.#late.size <= LATE_MAX;
  }

  #failQueued(): void {
    for (const transfer of this.#queue.splice(0)) this.#fail(transfer, silent());
  }

  /** The client is gone: everything fails, now and from now on. */
  fail(error: VfioError): void {
    if (this.#failed !== null) return;
    this.#failed = error;
    for (const { transfer } of this.#pending.values()) this.#fail(transfer, error);
    this.#pending.clear();
    for (const transfer of this.#queue.splice(0)) this.#fail(transfer, error);
  }
}

/**
 * Store what was read. The buffer is the device's: one that was transferred to another thread
 * meanwhile fails this DMA, and the client keeps its connection.
 *
 * @returns the error of the DMA: EFAULT; null: all bytes are there
 */
function store(into: Uint8Array, at: number, from: Uint8Array): VfioError | null {
  try {
    into.set(from, at);
    return null;
  } catch (cause) {
    return new VfioError('EFAULT', 'DMA_READ: the buffer is gone', { cause, fix: 'Keep the buffer until the read has ended.' });
  }
}

const addressOf = (page: number, byte: number): bigint => (BigInt(page) << 12n) + BigInt(byte);
/** The halves of an address of 64 bits; `byte` is less than a page. */
const lowOf = (page: number, byte: number): number => (page % 2 ** 20) * PAGE + byte;
const highOf = (page: number): number => Math.floor(page / 2 ** 20);

function silent(): VfioError {
  return new VfioError('ETIMEDOUT', 'the client did not answer a DMA in time');
}
