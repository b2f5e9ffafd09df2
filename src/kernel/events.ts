/**
 * Events of a device of Linux's VFIO: 'request' and 'error' are the interrupts REQ and ERR, which
 * the kernel signals while a listener hears of them; 'gone' follows an answer ENODEV. Linux has no
 * notice of a sleep of the computer.
 */
import type { DeviceEvent, DeviceEventKind } from '../abi/device.ts';
import { IrqIndex } from '../abi/vfio.ts';
import { VfioError } from '../base/errno.ts';
import { textOf } from '../base/foreign.ts';
import { DeviceEvents } from '../device/device-events.ts';
import type { KernelPort } from './device-port.ts';

export class KernelEvents {
  readonly #port: KernelPort;
  readonly #setInterrupts: (indexes: ReadonlySet<number>) => void;
  readonly #events: DeviceEvents;
  #closed = false;

  /**
   * @param setInterrupts has the kernel signal these interrupts, and no others of ERR and REQ.
   *   Throws the kernel's refusal
   */
  constructor(port: KernelPort, setInterrupts: (indexes: ReadonlySet<number>) => void) {
    this.#port = port;
    this.#setInterrupts = setInterrupts;
    this.#events = new DeviceEvents(({ kind }, error) =>
      port.source.note('error', 'listeners', `${port.name}: a listener failed on '${kind}': ${textOf(error)}`),
    );
  }

  /** @throws VfioError EINVAL for a kind that does not exist */
  on(listener: (event: DeviceEvent) => void, kinds: readonly DeviceEventKind[]): Disposable {
    const listening = this.#events.on(listener, kinds);
    this.#listen();
    return {
      [Symbol.dispose]: () => {
        listening[Symbol.dispose]();
        if (!this.#closed) this.#listen();
      },
    };
  }

  emit(event: DeviceEvent): void {
    this.#events.emit(event);
  }

  /** No listener hears of anything more. */
  close(): void {
    this.#closed = true;
    this.#events.close();
  }

  /** A kernel that refuses makes no such events. */
  #listen(): void {
    const indexes = new Set<number>();
    if (this.#events.hears('error')) indexes.add(IrqIndex.ERR);
    if (this.#events.hears('request')) indexes.add(IrqIndex.REQ);
    try {
      this.#setInterrupts(indexes);
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      this.#port.source.note('info', 'notices', `${this.#port.name}: no events 'error' and 'request': ${error.message}`);
    }
  }
}
