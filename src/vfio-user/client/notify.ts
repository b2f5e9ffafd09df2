/**
 * ERR or REQ of a device at the end of a connection: the server signals an eventfd of the client,
 * and the client passes the signal on to the caller's sink and to the device's events. The server
 * has the eventfd as long as one of the two wants it.
 * @see linux/drivers/vfio/pci/vfio_pci_intrs.c, vfio_pci_set_ctx_trigger_single()
 */
import type { InterruptSink, SetIrqs } from '../../abi/device.ts';
import { checkedSink, notifyAct } from '../../device/set-irqs.ts';
import { EventFd } from '../../sys/eventfd.ts';
import { EventFdLine } from './event-fd-line.ts';

export class ClientNotify implements Disposable {
  readonly #name: string;
  /**
   * Gives the server a line, or with null takes it away.
   * @throws VfioError the error that the server answers
   */
  readonly #arm: (line: EventFdLine | null) => void;
  readonly #onEvent: () => void;
  readonly #onSignal: (pass: () => void) => void;
  #sink: InterruptSink | null = null;
  #events = false;
  #line: EventFdLine | null = null;

  /** @param onSignal gets each signal of the server, and calls `pass` */
  constructor(name: string, arm: (line: EventFdLine | null) => void, onEvent: () => void, onSignal: (pass: () => void) => void) {
    this.#name = name;
    this.#arm = arm;
    this.#onEvent = onEvent;
    this.#onSignal = onSignal;
  }

  setEvents(wanted: boolean): void {
    if (this.#events === wanted) return;
    this.#update(this.#sink, wanted);
  }

  /** @throws VfioError ENOTTY for masks; EINVAL as the matrix says (B.9) */
  set(request: SetIrqs): void {
    const act = notifyAct(this.#name, request, this.#sink !== null);
    switch (act.act) {
      case 'signal':
        this.#sink?.signal();
        return;
      case 'release':
        this.#update(null, this.#events);
        return;
      case 'assign':
        this.#update(checkedSink(this.#name, act.sinks, 0), this.#events);
        return;
      default:
    }
  }

  /** Does all of it or, when the server refuses, nothing. */
  #update(sink: InterruptSink | null, events: boolean): void {
    const wanted = sink !== null || events;
    sink?.get();
    try {
      if (wanted && this.#line === null) this.#line = this.#armed();
      else if (!wanted && this.#line !== null) {
        this.#arm(null);
        this.#disarm();
      }
    } catch (error) {
      sink?.put();
      throw error;
    }
    const old = this.#sink;
    this.#sink = sink;
    this.#events = events;
    old?.put();
  }

  #armed(): EventFdLine {
    const fd = EventFd.create();
    const listening = fd.listen(() => this.#signalled());
    const line = new EventFdLine(fd, () => {
      listening[Symbol.dispose]();
      fd[Symbol.dispose]();
    });
    try {
      this.#arm(line);
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
    this.#onSignal(() => {
      this.#sink?.signal();
      if (this.#events) this.#onEvent();
    });
  }

  /** The connection has ended. Idempotent. */
  [Symbol.dispose](): void {
    this.#disarm();
    const sink = this.#sink;
    this.#sink = null;
    this.#events = false;
    sink?.put();
  }
}
