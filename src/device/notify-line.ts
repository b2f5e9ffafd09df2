/**
 * ERR or REQ of a device that signals a private eventfd: the signal is passed on to the caller's
 * sink and to the device's events. The other side (a server, or the kernel) has the eventfd as long
 * as one of the two wants it.
 * @see linux/drivers/vfio/pci/vfio_pci_intrs.c, vfio_pci_set_ctx_trigger_single()
 */
import type { InterruptSink, SetIrqs } from '../abi/device.ts';
import { callForeign, type Failed } from '../base/foreign.ts';
import { checkedSink, notifyAct } from './set-irqs.ts';

/** The surroundings of one of the two interrupts. `L`: a line from the other side. */
export interface NotifyLineOptions<L extends Disposable> {
  /** The device's, for messages. */
  readonly name: string;
  /** Makes a line that calls `onSignal` when the other side signals it. */
  makeLine(onSignal: () => void): L;
  /**
   * Gives the other side a line, or with null takes it away.
   * @throws VfioError the error that the other side answers
   */
  arm(line: L | null): void;
  /** Reports that a sink throws or rejects, which its contract forbids. */
  readonly failed: Failed;
  /** Called for each signal while the device's events are wanted. */
  onEvent(): void;
  /** Gets each signal of the other side, and calls `pass`. */
  onSignal(pass: () => void): void;
}

export class NotifyLine<L extends Disposable> implements Disposable {
  readonly #options: NotifyLineOptions<L>;
  #sink: InterruptSink | null = null;
  #events = false;
  #line: L | null = null;

  constructor(options: NotifyLineOptions<L>) {
    this.#options = options;
  }

  /**
   * Whether each signal calls `onEvent`.
   * @throws VfioError the error that the other side answers
   */
  setEvents(wanted: boolean): void {
    if (this.#events === wanted) return;
    this.#update(this.#sink, wanted);
  }

  /** @throws VfioError ENOTTY for masks; EINVAL as the matrix says (B.9) */
  set(request: SetIrqs): void {
    const { name } = this.#options;
    const act = notifyAct(name, request, this.#sink !== null);
    switch (act.act) {
      case 'signal':
        this.#signal();
        return;
      case 'release':
        this.#update(null, this.#events);
        return;
      case 'assign':
        this.#update(checkedSink(name, act.sinks, 0), this.#events);
        return;
      default:
    }
  }

  /** Does all of it or, when the other side refuses, nothing. */
  #update(sink: InterruptSink | null, events: boolean): void {
    const wanted = sink !== null || events;
    sink?.get();
    try {
      if (wanted && this.#line === null) this.#line = this.#armed();
      else if (!wanted && this.#line !== null) {
        this.#options.arm(null);
        this.#disarm();
      }
    } catch (error) {
      this.#put(sink);
      throw error;
    }
    const old = this.#sink;
    this.#sink = sink;
    this.#events = events;
    this.#put(old);
  }

  #armed(): L {
    const line = this.#options.makeLine(() => this.#signalled());
    try {
      this.#options.arm(line);
    } catch (error) {
      line[Symbol.dispose]();
      throw error;
    }
    return line;
  }

  #disarm(): void {
    this.#line?.[Symbol.dispose]();
    this.#line = null;
  }

  #signalled(): void {
    this.#options.onSignal(() => {
      this.#signal();
      if (this.#events) this.#options.onEvent();
    });
  }

  /** The other side is gone. Idempotent. */
  [Symbol.dispose](): void {
    this.#disarm();
    const sink = this.#sink;
    this.#sink = null;
    this.#events = false;
    this.#put(sink);
  }

  #signal(): void {
    const sink = this.#sink;
    if (sink !== null) callForeign('an interrupt sink failed when it was signalled', () => sink.signal(), this.#options.failed);
  }

  #put(sink: InterruptSink | null): void {
    if (sink !== null) callForeign('an interrupt sink failed when it was put', () => sink.put(), this.#options.failed);
  }
}
