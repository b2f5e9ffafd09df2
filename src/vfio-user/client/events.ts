/**
 * Listeners of a client's device: the client asks the server for the events that they hear of.
 * 'request' and 'error' come as the interrupts REQ and ERR, when the server has them; 'suspend',
 * 'asleep' and 'resume' by a feature of our servers (sleep.ts).
 */
import { type DeviceEvent, type DeviceEventKind, deviceEventKinds } from '../../abi/device.ts';
import { Feature, IrqIndex } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { callForeign, textOf } from '../../base/foreign.ts';
import type { Logger } from '../../base/log.ts';
import type { EventFd } from '../../sys/eventfd.ts';
import type { ClientConnection } from './connection.ts';
import { ClientSleep } from './sleep.ts';

interface Listener {
  readonly call: (event: DeviceEvent) => void;
  readonly kinds: ReadonlySet<DeviceEventKind>;
}

export interface ClientEventsOptions {
  /** The device's. */
  readonly name: string;
  readonly log: Logger;
  readonly connection: ClientConnection;
  /** Hear of these interrupts as events. @throws VfioError the error that the server answers */
  setInterrupts(indexes: ReadonlySet<number>): void;
  /** SET a feature. @throws VfioError the error that the server answers */
  setFeature(feature: number, data: Uint8Array, eventFds: readonly EventFd[]): void;
}

export class ClientEvents implements Disposable {
  readonly #options: ClientEventsOptions;
  readonly #listeners = new Set<Listener>();
  readonly #sleep: ClientSleep;
  /**
   * Listeners whose acknowledgement of a suspend is missing, and the callback after the last one.
   */
  #unacknowledged = new Set<Listener>();
  #acknowledged: () => void = () => {};
  #closed = false;

  constructor(options: ClientEventsOptions) {
    this.#options = options;
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
    const strange = kinds.find((kind) => !deviceEventKinds.includes(kind));
    if (strange !== undefined) throw new VfioError('EINVAL', `there are no events '${String(strange)}'`);
    const entry = { call: listener, kinds: new Set(kinds) };
    this.#listeners.add(entry);
    this.#listen();
    return {
      [Symbol.dispose]: () => {
        if (!this.#listeners.delete(entry)) return;
        this.#acknowledge(entry);
        if (!this.#closed) this.#listen();
      },
    };
  }

  emit(event: DeviceEvent): void {
    for (const entry of [...this.#listeners]) if (entry.kinds.has(event.kind)) this.#tell(entry, event);
  }

  /** No listener hears of anything more. */
  close(): void {
    this.#closed = true;
    this.#listeners.clear();
  }

  /** A server without ERR, REQ or sleep, or one that refuses the request, makes no such events. */
  #listen(): void {
    const { name, connection, setInterrupts } = this.#options;
    const wanted = new Set([...this.#listeners].flatMap(({ kinds }) => [...kinds]));
    const indexes = new Set<number>();
    if (wanted.has('error')) indexes.add(IrqIndex.ERR);
    if (wanted.has('request')) indexes.add(IrqIndex.REQ);
    this.#ask(`${name}: no events 'error' and 'request'`, () => setInterrupts(indexes));
    if (!connection.carriesFds) return;
    const sleep = wanted.has('suspend') || wanted.has('asleep') || wanted.has('resume');
    this.#ask(`${name}: no events 'suspend' and 'resume'`, () => this.#sleep.setWanted(sleep));
  }

  #ask(failed: string, ask: () => void): void {
    if (this.#options.connection.lost !== null) return;
    try {
      ask();
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      this.#options.log.log('info', `${failed}: ${error.message}`);
    }
  }

  #armSleep(fds: readonly EventFd[] | null): void {
    const data = new Uint8Array(8);
    const view = new DataView(data.buffer);
    for (const at of [0, 4]) view.setInt32(at, fds === null ? -1 : 0, true);
    this.#options.setFeature(Feature.SYSTEM_SLEEP, data, fds ?? []);
  }

  #suspending(done: () => void): void {
    const asked = [...this.#listeners].filter(({ kinds }) => kinds.has('suspend'));
    this.#acknowledged = done;
    // An acknowledgement of a suspend that is over does nothing.
    const round = new Set(asked);
    this.#unacknowledged = round;
    for (const entry of asked) {
      this.#tell(entry, { kind: 'suspend', acknowledge: () => this.#unacknowledged === round && this.#acknowledge(entry) });
    }
    if (asked.length === 0) done();
  }

  #acknowledge(entry: Listener): void {
    if (this.#unacknowledged.delete(entry) && this.#unacknowledged.size === 0) this.#acknowledged();
  }

  #tell(entry: Listener, event: DeviceEvent): void {
    const { name, log } = this.#options;
    callForeign(
      event.kind,
      () => entry.call(event),
      (kind, error) => log.log('error', `${name}: a listener failed on '${kind}': ${textOf(error)}`),
    );
  }

  /** The connection has ended. Idempotent. */
  [Symbol.dispose](): void {
    this.#sleep[Symbol.dispose]();
  }
}
