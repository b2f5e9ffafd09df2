/**
 * An interrupt line between this process and its peer, which is a server or the kernel: the eventfd
 * that the peer has, and the end of its signals here.
 */
import type { InterruptSink, InterruptSource } from '../abi/device.ts';
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import { callForeign, type Failed } from '../base/foreign.ts';
import { EventFd } from './eventfd.ts';

const SIGNALLED = 'an interrupt sink failed when it was signalled';
const PUT = 'an interrupt sink failed when it was put';

export class EventFdLine implements Disposable {
  /** The peer has a descriptor of this one. */
  readonly fd: EventFd;
  #release: (() => void) | null;

  constructor(fd: EventFd, release: () => void) {
    this.fd = fd;
    this.#release = release;
  }

  /** The peer has it no more. Idempotent. */
  [Symbol.dispose](): void {
    const release = this.#release;
    this.#release = null;
    release?.();
  }
}

/**
 * A line that ends at `sink`; null for none. Holds the sink until disposed.
 *
 * @param failed reports that the sink throws or rejects, which its contract forbids
 * @param onSignal gets each signal that comes through this process, and calls `pass`. A sink that
 *   is an eventfd is signalled by the peer itself.
 * @throws VfioError EINVAL when it cannot be signalled
 */
export function sinkLine(
  sink: InterruptSink | null,
  what: string,
  failed: Failed,
  onSignal: (pass: () => void) => void = (pass) => pass(),
): EventFdLine | null {
  if (sink === null) return null;
  if (sink instanceof EventFd) {
    sink.get();
    return new EventFdLine(sink, () => sink.put());
  }
  if (typeof sink?.signal !== 'function' || typeof sink.get !== 'function' || typeof sink.put !== 'function') {
    throw new VfioError('EINVAL', `${what} cannot be signalled`);
  }
  using undo = new Cleanup();
  const fd = undo.use(EventFd.create());
  sink.get();
  const put = () => void callForeign(PUT, () => sink.put(), failed);
  undo.defer(put);
  const pass = () => void callForeign(SIGNALLED, () => sink.signal(), failed);
  const listening = fd.listen(() => onSignal(pass));
  undo.move();
  return new EventFdLine(fd, () => {
    // A signal that has not been read is not lost.
    if (fd.read() !== null) onSignal(pass);
    listening[Symbol.dispose]();
    fd[Symbol.dispose]();
    put();
  });
}

/**
 * A line that starts at `source`; null for none. Listens until disposed.
 * @throws VfioError EINVAL when it cannot be listened to
 */
export function sourceLine(source: InterruptSource | null, what: string): EventFdLine | null {
  if (source === null) return null;
  if (source instanceof EventFd) {
    source.get();
    return new EventFdLine(source, () => source.put());
  }
  if (typeof source?.listen !== 'function') throw new VfioError('EINVAL', `${what} cannot be listened to`);
  using undo = new Cleanup();
  const fd = undo.use(EventFd.create());
  const listening = source.listen(() => fd.signal());
  undo.move();
  return new EventFdLine(fd, () => {
    listening[Symbol.dispose]();
    fd[Symbol.dispose]();
  });
}

/** A line of a private eventfd that ends at `onSignal`, for each turn in which it was signalled. */
export function listeningLine(onSignal: () => void): EventFdLine {
  using undo = new Cleanup();
  const fd = undo.use(EventFd.create());
  const listening = fd.listen(onSignal);
  undo.move();
  return new EventFdLine(fd, () => {
    listening[Symbol.dispose]();
    fd[Symbol.dispose]();
  });
}

/** Lines that are released unless they are moved. */
export class LineSet implements Disposable {
  all: (EventFdLine | null)[] = [];

  /** Have dispose release `line`. */
  add(line: EventFdLine | null): void {
    this.all.push(line);
  }

  /** Moves the lines to `held`, from vector `start` on. They replace, and close, older lines. */
  moveTo(held: Map<number, EventFdLine>, start: number): void {
    this.all.forEach((line, i) => {
      const old = held.get(start + i);
      if (line === null) held.delete(start + i);
      else held.set(start + i, line);
      old?.[Symbol.dispose]();
    });
    this.all = [];
  }

  /** Releases the lines. Idempotent. */
  [Symbol.dispose](): void {
    for (const line of this.all) line?.[Symbol.dispose]();
    this.all = [];
  }
}
