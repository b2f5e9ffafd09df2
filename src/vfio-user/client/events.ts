/**
 * Listeners of a client's device: the client asks the server for the events that they hear of.
 * 'request' and 'error' come as the interrupts REQ and ERR, when the server has them; 'suspend',
 * 'asleep' and 'resume' by a feature of our servers (sleep.ts).
 */
import type { DeviceEvent, DeviceEventKind } from '../../abi/device.ts';
import { Feature, IrqIndex } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { textOf } from '../../base/foreign.ts';
import { DeviceEvents, SuspendRound } from '../../device/device-events.ts';
import type { EventSource } from '../../events/source.ts';
import type { EventFd } from '../../sys/eventfd.ts';
import type { ClientConnection } from './connection.ts';
import { ClientSleep } from './sleep.ts';

export interface ClientEventsOptions {
  /** The device's. */
  readonly name: string;
  readonly events: EventSource;
  readonly connection: ClientConnection;
  /** Hear of these interrupts as events. @throws VfioError the error that the server answers */
  setInterrupts(indexes: ReadonlySet<number>): void;
  /** SET a feature. @throws VfioError the error that the server answers */
  setFeature(feature: number, data: Uint8Array, eventFds: readonly EventFd[]): void;
}

export class ClientEvents implements Disposable {
  readonly #options: ClientEventsOptions;
  readonly #events: DeviceEvents;
  readonly #sleep: ClientSleep;
  #round: SuspendRound | null = null;
  #closed = false;

  constructor(options: ClientEventsOptions) {
    this.#options = options;
    const { name, events } = options;
    this.#events = new DeviceEvents(({ kind }, error) =>
      events.note('error', 'listeners', `${name}: a listener failed on '${kind}': ${textOf(error)}`),
    );
    this.#sleep = new ClientSleep({
      arm: (fds) => this.#armSleep(fds),
      acknowledge: (count) => {
        const data = new Uint8Array(8);
        new DataView(data.buffer).setBigUint64(0, count, true);
        options.setFeature(Feature.SYSTEM_SLEEP_ACK, data, []);
      },
      suspending: (done) => this.#suspending(done),
      asleep: () => this.emit({ kind: 'asleep' }),
      awake: () => this.emit({ kind: 'resume' }),
    });
  }

  /** Settles when the server's machine is awake; null while it is. */
  awake(): Promise<void> | null {
    return this.#sleep.awake();
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
    this.#round?.end();
    this.#events.close();
  }

  /** A server without ERR, REQ or sleep, or one that refuses the request, makes no such events. */
  #listen(): void {
    const { name, connection, setInterrupts } = this.#options;
    const events = this.#events;
    const indexes = new Set<number>();
    if (events.hears('error')) indexes.add(IrqIndex.ERR);
    if (events.hears('request')) indexes.add(IrqIndex.REQ);
    this.#ask(`${name}: no events 'error' and 'request'`, () => setInterrupts(indexes));
    if (!connection.carriesFds) return;
    const sleep = events.hears('suspend') || events.hears('asleep') || events.hears('resume');
    this.#ask(`${name}: no events 'suspend' and 'resume'`, () => this.#sleep.setWanted(sleep));
  }

  #ask(failed: string, ask: () => void): void {
    if (this.#options.connection.lost !== null) return;
    try {
      ask();
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      this.#options.events.note('info', 'notices', `${failed}: ${error.message}`);
    }
  }

  #armSleep(fds: readonly EventFd[] | null): void {
    const data = new Uint8Array(8);
    const view = new DataView(data.buffer);
    for (const at of [0, 4]) view.setInt32(at, fds === null ? -1 : 0, true);
    this.#options.setFeature(Feature.SYSTEM_SLEEP, data, fds ?? []);
  }

  #suspending(done: () => void): void {
    this.#round?.end();
    this.#round = new SuspendRound(done);
    this.#round.ask([this.#events]);
  }

  /** The connection has ended. Idempotent. */
  [Symbol.dispose](): void {
    this.#sleep[Symbol.dispose]();
  }
}
