/**
 * Listeners of a `Device`: each hears of the kinds of events that it asked for. The rule for
 * listeners that fail or come and go is the emitter's (base/emitter.ts).
 */
import { type DeviceEvent, type DeviceEventKind, deviceEventKinds } from '../abi/device.ts';
import { Emitter, Listening } from '../base/emitter.ts';
import { VfioError } from '../base/errno.ts';

export class DeviceEvents {
  readonly #emitters: ReadonlyMap<DeviceEventKind, Emitter<DeviceEvent>>;
  /** The last suspend that its listeners were asked about. */
  #round: SuspendRound | null = null;

  /** @param failed reports the failure of a listener. Must not throw */
  constructor(failed: (event: DeviceEvent, error: unknown) => void) {
    this.#emitters = new Map(deviceEventKinds.map((kind) => [kind, new Emitter(failed)]));
  }

  /** @throws VfioError EINVAL for a kind that does not exist */
  on(listener: (event: DeviceEvent) => void, kinds: readonly DeviceEventKind[]): Disposable {
    const strange = kinds.find((kind) => !deviceEventKinds.includes(kind));
    if (strange !== undefined) {
      throw new VfioError('EINVAL', `there are no events '${String(strange)}'`, { fix: `Kinds: ${deviceEventKinds.join(', ')}.` });
    }
    const own = new Listening(listener);
    const emitters = [...new Set(kinds)].map((kind) => this.#emitters.get(kind)!);
    for (const emitter of emitters) emitter.add(own);
    return {
      [Symbol.dispose]: () => {
        own.active = false;
        for (const emitter of emitters) emitter.remove(own);
        this.#round?.forget(own);
      },
    };
  }

  /** Whether a listener hears of events of this kind. */
  hears(kind: DeviceEventKind): boolean {
    return this.#emitters.get(kind)!.listeners.length > 0;
  }

  emit(event: DeviceEvent): void {
    this.#emitters.get(event.kind)!.emit(event);
  }

  /** The listeners that `round` asks; those that leave are out of the round. */
  join(round: SuspendRound): Emitter<DeviceEvent> {
    this.#round = round;
    return this.#emitters.get('suspend')!;
  }

  /** No listener hears of a later event, and no suspend waits for one. */
  close(): void {
    const asked = this.#emitters.get('suspend')!.listeners;
    for (const emitter of this.#emitters.values()) emitter.clear();
    for (const listening of asked) this.#round?.forget(listening);
  }
}

/**
 * One suspend (S2-42): asks every listener for 'suspend', and is over when all of them have
 * acknowledged or are gone. An acknowledgement of a suspend that is over does nothing.
 */
export class SuspendRound {
  readonly #waiting = new Set<Listening<DeviceEvent>>();
  #done: (() => void) | null;

  /** @param done called once, from `ask` when nothing is to be waited for */
  constructor(done: () => void) {
    this.#done = done;
  }

  /** Listeners whose acknowledgement is missing. */
  get missing(): number {
    return this.#waiting.size;
  }

  ask(devices: readonly DeviceEvents[]): void {
    const asked = devices.flatMap((events) => {
      const emitter = events.join(this);
      return emitter.listeners.map((listening) => ({ emitter, listening }));
    });
    for (const { listening } of asked) this.#waiting.add(listening);
    for (const { emitter, listening } of asked) {
      if (this.#done === null) return;
      emitter.tell(listening, { kind: 'suspend', acknowledge: () => this.forget(listening) });
    }
    if (this.#waiting.size === 0) this.#finish();
  }

  /** The suspend does not wait for this listener: it has acknowledged, or is gone. */
  forget(listening: Listening<DeviceEvent>): void {
    if (this.#waiting.delete(listening) && this.#waiting.size === 0) this.#finish();
  }

  /** Wait no longer; `done` is not called any more. */
  end(): void {
    this.#done = null;
    this.#waiting.clear();
  }

  #finish(): void {
    const done = this.#done;
    this.#done = null;
    done?.();
  }
}
