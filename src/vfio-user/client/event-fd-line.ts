/**
 * An interrupt line between this process and a server: the eventfd that the server has, and the end
 * of its signals here.
 */
import type { InterruptSink, InterruptSource } from '../../abi/device.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { EventFd } from '../../sys/eventfd.ts';

export class EventFdLine implements Disposable {
  /** The server has a descriptor of this one. */
  readonly fd: EventFd;
  #release: (() => void) | null;

  constructor(fd: EventFd, release: () => void) {
    this.fd = fd;
    this.#release = release;
  }

  /** The server has it no more. Idempotent. */
  [Symbol.dispose](): void {
    const release = this.#release;
    this.#release = null;
    release?.();
  }
}

/**
 * A line that ends at `sink`; null for none. Holds the sink until disposed.
 *
 * @param onSignal gets each signal that comes through this process, and calls `pass`. A sink that
 *   is an eventfd is signalled by the server itself.
 * @throws VfioError EINVAL when it cannot be signalled
 */
export function sinkLine(
  sink: InterruptSink | null,
  what: string,
  onSignal: (pass: () => void) => void = (pass) => pass(),
): EventFdLine | null {
  if (sink === null) return null;
  if (sink instanceof EventFd) {
    sink.get();
    return new EventFdLine(sink, () => sink.put());
  }
  if (typeof sink.signal !== 'function' || typeof sink.get !== 'function' || typeof sink.put !== 'function') {
    throw new VfioError('EINVAL', `${what} cannot be signalled`);
  }
  using undo = new Cleanup();
  const fd = undo.use(EventFd.create());
  sink.get();
  undo.defer(() => sink.put());
  const pass = (): void => sink.signal();
  const listening = fd.listen(() => onSignal(pass));
  undo.move();
  return new EventFdLine(fd, () => {
    // A signal that has not been read is not lost.
    if (fd.read() !== null) onSignal(pass);
    listening[Symbol.dispose]();
    fd[Symbol.dispose]();
    sink.put();
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
  if (typeof source.listen !== 'function') throw new VfioError('EINVAL', `${what} cannot be listened to`);
  using undo = new Cleanup();
  const fd = undo.use(EventFd.create());
  const listening = source.listen(() => fd.signal());
  undo.move();
  return new EventFdLine(fd, () => {
    listening[Symbol.dispose]();
    fd[Symbol.dispose]();
  });
}
