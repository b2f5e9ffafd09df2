/**
 * An eventfd: a counter in the kernel that other processes, KVM and other threads can signal and
 * wait for.
 */
import type { InterruptSink, InterruptSource } from '../abi/device.ts';
import { acrossCopies } from '../base/across-copies.ts';
import { checkIndex } from '../base/check.ts';
import { Cleanup } from '../base/cleanup.ts';
import { Counted } from '../base/counted.ts';
import { VfioError } from '../base/errno.ts';
import { type Addon, addon, checked, Sys, sysError } from './addon.ts';
import { waitFor } from './fd-watch.ts';
import { OwnedFd } from './owned-fd.ts';

interface Listener {
  readonly call: (count: bigint) => void;
  readonly keepAlive: boolean;
}

/**
 * Counted references: the creator holds one until `dispose`, a holder of the sink holds one from
 * `get` to `put`, and each listener holds one. The last reference closes the descriptor, as Linux's
 * eventfd_ctx outlives its descriptors.
 */
export class EventFd extends Counted implements InterruptSink, InterruptSource {
  readonly #fd: OwnedFd;
  readonly #sys: Addon = addon();
  readonly #listeners = new Set<Listener>();
  /** Other processes have the open file, too, and make it blocking or not, at any time. */
  #shared: 0 | 1;
  #watching = false;

  private constructor(fd: OwnedFd, shared: 0 | 1) {
    super('the eventfd');
    this.#fd = fd;
    this.#shared = shared;
  }

  /**
   * @param initial the counter's first value, 32 bits
   * @throws VfioError EINVAL; EMFILE when this process has no descriptor left
   */
  static create(initial = 0): EventFd {
    checkIndex(initial, 0xffff_ffff, 'the initial count');
    const made = addon().eventfd(initial, Sys.EFD_CLOEXEC | Sys.EFD_NONBLOCK);
    return new EventFd(OwnedFd.own(made, 'creating an eventfd'), 0);
  }

  /**
   * The eventfd behind a descriptor number of this process; the number stays its owner's. SET_IRQS
   * takes numbers this way.
   *
   * @throws VfioError EBADF when the number is not open; EINVAL when it is not an eventfd
   * @see linux/fs/eventfd.c, eventfd_ctx_fdget()
   */
  static fromNumber(fd: number): EventFd {
    return EventFd.fromFd(OwnedFd.duplicate(fd));
  }

  /**
   * Takes `fd` over and closes it when it is refused.
   * @throws VfioError EINVAL when it is not an eventfd
   */
  static fromFd(fd: OwnedFd): EventFd {
    using undo = new Cleanup();
    undo.use(fd);
    const kind = fd.describe();
    if (kind !== 'anon_inode:[eventfd]') throw new VfioError('EINVAL', `the descriptor is ${kind}, not an eventfd`);
    undo.move();
    return new EventFd(fd.move(), 1);
  }

  /**
   * Add one. Never waits. A full counter stays full, as when the kernel signals for VFIO; a closed
   * one stays closed.
   */
  signal(): void {
    if (this.#fd.closed) return;
    this.#sys.eventfdSignal(this.#fd.number, this.#shared);
  }

  /**
   * The counter, which is zero afterwards; null when it was zero.
   * @throws VfioError EBADF once closed
   */
  read(): bigint | null {
    const value = this.#sys.eventfdRead(this.#fd.number);
    if (typeof value === 'bigint') return value;
    const error = sysError(value, 'reading an eventfd');
    if (error.code === 'EAGAIN') return null;
    throw error;
  }

  /**
   * Block this thread until the counter is not zero. The counter keeps its value.
   *
   * @param timeoutMs -1 waits for ever
   * @returns false when the time passed first
   */
  waitSync(timeoutMs: number): boolean {
    return waitFor(this.#fd, Sys.POLLIN, timeoutMs);
  }

  /**
   * Call `listener` from the event loop whenever the counter is not zero, with its value, and empty
   * it. Signals that come together make one call; so do signals that came before. Does not keep the
   * process alive unless `keepAlive` is set. Holds a reference until disposed.
   *
   * @throws VfioError EBADF once closed
   */
  listen(listener: (count: bigint) => void, options: { readonly keepAlive?: boolean } = {}): Disposable {
    const entry: Listener = { call: listener, keepAlive: options.keepAlive ?? false };
    const fd = this.#fd.number;
    if (!this.#watching) {
      checked(
        this.#sys.watchStart(fd, Sys.READABLE, () => this.#readable()),
        'watching an eventfd',
      );
      this.#watching = true;
    }
    this.get();
    this.#listeners.add(entry);
    this.#updateKeepAlive();
    return { [Symbol.dispose]: () => this.#unlisten(entry) };
  }

  /** For calls of this room only. @throws VfioError EBADF once closed */
  get number(): number {
    return this.#fd.number;
  }

  protected override released(): void {
    this.#fd[Symbol.dispose]();
  }

  /**
   * Another descriptor for the same counter; the caller owns it.
   * @throws VfioError EBADF once closed
   */
  duplicateFd(): OwnedFd {
    this.#shared = 1;
    return this.#fd.duplicate();
  }

  #readable(): void {
    // Another process may have read the counter in between.
    const count = this.read();
    if (count === null) return;
    for (const listener of [...this.#listeners]) if (this.#listeners.has(listener)) listener.call(count);
  }

  #unlisten(entry: Listener): void {
    if (!this.#listeners.delete(entry)) return;
    if (this.#listeners.size === 0) {
      // Before the descriptor may close: a reused number would get no events.
      this.#sys.watchStop(this.#fd.number, Sys.READABLE);
      this.#watching = false;
    } else {
      this.#updateKeepAlive();
    }
    this.put();
  }

  #updateKeepAlive(): void {
    let keepAlive = false;
    for (const listener of this.#listeners) keepAlive ||= listener.keepAlive;
    this.#sys.watchRef(this.#fd.number, keepAlive);
  }
}

acrossCopies(EventFd, 'EventFd');
