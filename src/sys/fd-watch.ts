/**
 * Waiting for a descriptor from the event loop: its reader, the callbacks that wait for room, and
 * whether the process stays alive for them.
 */
import { VfioError } from '../base/errno.ts';
import { type Addon, addon, checked, Sys } from './addon.ts';
import type { ListenOptions } from './byte-stream.ts';
import type { OwnedFd } from './owned-fd.ts';

interface Reader {
  readonly callback: () => unknown;
  readonly keepAlive: boolean;
  /**
   * Set for a file. The kernel does not watch a file, which is always ready, so its listener is
   * called in every turn of the event loop.
   */
  turn: NodeJS.Immediate | null;
}

/**
 * One for each watched descriptor (libuv allows no more). It is disposed before the descriptor is
 * closed, since a reused number would get no events.
 */
export class FdWatch implements Disposable {
  readonly #fd: OwnedFd;
  readonly #sys: Addon = addon();
  #reader: Reader | null = null;
  #writers: { readonly callback: () => void }[] = [];
  #writableTurn: NodeJS.Immediate | null = null;
  #writableWatched = false;

  constructor(fd: OwnedFd) {
    this.#fd = fd;
  }

  /**
   * `onReadable` as `ByteStream.listen` says.
   * @throws VfioError EBUSY when the stream has a listener; EBADF once closed
   */
  listen(onReadable: () => unknown, options: ListenOptions = {}, spins = false): Disposable {
    const fd = this.#fd.number;
    if (this.#reader !== null) throw new VfioError('EBUSY', 'this stream has a listener already');
    const reader: Reader = { callback: onReadable, keepAlive: options.keepAlive ?? false, turn: null };
    const started = this.#sys.watchStart(fd, Sys.READABLE, onReadable, spins);
    this.#reader = reader;
    if (started === -1) this.#nextTurn(reader);
    else if (started < 0) this.#reader = null;
    if (started !== -1) checked(started, 'watching a descriptor');
    this.#updateKeepAlive();
    return {
      [Symbol.dispose]: () => {
        if (this.#reader === reader) this.stopListening();
      },
    };
  }

  /** Nothing more will come: a listener that stayed would be called for ever. */
  stopListening(): void {
    const reader = this.#reader;
    if (reader === null) return;
    this.#reader = null;
    if (reader.turn === null) this.#sys.watchStop(this.#fd.number, Sys.READABLE);
    else clearImmediate(reader.turn);
    this.#updateKeepAlive();
  }

  /** `callback` as `ByteStream.onWritable` says. @throws VfioError EBADF once closed */
  onWritable(callback: () => void): Disposable {
    const fd = this.#fd.number;
    const entry = { callback };
    if (!this.#writableWatched && this.#writableTurn === null) {
      const started = this.#sys.watchStart(fd, Sys.WRITABLE, () => this.#writable());
      if (started === -1) this.#writableTurn = setImmediate(() => this.#writable());
      else this.#writableWatched = checked(started, 'watching a descriptor') === 0;
    }
    this.#writers.push(entry);
    this.#updateKeepAlive();
    return {
      [Symbol.dispose]: () => {
        const at = this.#writers.indexOf(entry);
        if (at < 0) return;
        this.#writers.splice(at, 1);
        if (this.#writers.length === 0) this.#stopWritable();
      },
    };
  }

  [Symbol.dispose](): void {
    this.stopListening();
    this.#writers = [];
    this.#stopWritable();
  }

  #writable(): void {
    const writers = this.#writers;
    this.#writers = [];
    this.#stopWritable();
    for (const writer of writers) writer.callback();
  }

  #stopWritable(): void {
    if (this.#writableTurn !== null) clearImmediate(this.#writableTurn);
    this.#writableTurn = null;
    if (this.#writableWatched) this.#sys.watchStop(this.#fd.number, Sys.WRITABLE);
    this.#writableWatched = false;
    this.#updateKeepAlive();
  }

  #nextTurn(reader: Reader): void {
    reader.turn = setImmediate(() => {
      // A reader that throws is called again, as the others are.
      this.#nextTurn(reader);
      reader.callback();
    });
    if (!reader.keepAlive) reader.turn.unref();
  }

  #updateKeepAlive(): void {
    const watchesReading = this.#reader !== null && this.#reader.turn === null;
    if (!watchesReading && !this.#writableWatched) return;
    this.#sys.watchRef(this.#fd.number, this.#writableWatched || (watchesReading && this.#reader!.keepAlive));
  }
}

/**
 * How long one blocking wait may last. Between two waits V8 can end a worker that is being
 * terminated (V8 looks for that when a function is entered).
 */
const WAIT_SLICE_MS = 200;

/** `ByteStream.wait` of one descriptor. @param spins as `ByteStream.spins` */
export function waitFor(fd: OwnedFd, events: number, timeoutMs: number, spins = false): boolean {
  if (typeof timeoutMs !== 'number' || Number.isNaN(timeoutMs)) throw new VfioError('EINVAL', `the timeout is ${String(timeoutMs)}`);
  const sys = addon();
  const forever = timeoutMs < 0;
  const slice = forever || timeoutMs > WAIT_SLICE_MS ? WAIT_SLICE_MS : Math.ceil(timeoutMs);
  let ready = sys.poll(fd.number, events, slice, spins);
  if (ready > 0) return true;
  const until = forever ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs - slice;
  for (;;) {
    // A signal ends a poll early (EINTR). The time that is left then need not be known to the
    // microsecond.
    if (ready !== -4) checked(ready, 'polling a descriptor');
    const left = until - performance.now();
    if (ready === 0 && left <= 0) return false;
    ready = sys.poll(fd.number, events, Math.min(Math.max(Math.ceil(left), 0), WAIT_SLICE_MS));
    if (ready > 0) return true;
  }
}
