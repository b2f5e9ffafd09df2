/**
 * The registry of mediators. Mediators may come before any machine and go after it (S0-17). The
 * engine counts the uses of each; a mediator has nothing to count (S0-14, S0-16).
 */
import type { Accepted, MediatedDevice, Mediator } from '../../abi/mediator.ts';
import { VfioError } from '../../base/errno.ts';
import { callForeign, type Failed, isThenable, settle, textOf } from '../../base/foreign.ts';
import type { EventSource } from '../../events/source.ts';
import { Mediation } from './mediation.ts';

interface Registered {
  // biome-ignore lint/suspicious/noExplicitAny: the mediator chooses the type of its handle
  readonly mediator: Mediator<any>;
  /** Its name at registration. */
  readonly name: string;
  /** Open devices that it mediates. */
  users: number;
}

/** A mediator's registration: dispose it to leave. */
export interface MediatorRegistration extends Disposable {
  /** Devices that are open with it. */
  readonly users: number;
  /** @throws VfioError EBUSY while a device is open with it; nothing has changed then */
  unregister(): void;
}

/** The mediators of a machine, in the order in which a first open calls them. */
export class Mediators {
  readonly #registered: Registered[] = [];

  /** In the order in which they are asked (S0-01). */
  get names(): readonly string[] {
    return this.#registered.map((r) => r.name);
  }

  /**
   * From now on the engine asks `mediator` at each first open of a device, after those that
   * registered before.
   *
   * @throws VfioError EEXIST when it, or another of its name, is registered (S0-12); EINVAL for a
   * value that is no mediator
   */
  // biome-ignore lint/suspicious/noExplicitAny: as above
  register(mediator: Mediator<any>): MediatorRegistration {
    if (typeof mediator?.name !== 'string' || typeof mediator.open !== 'function' || typeof mediator.release !== 'function') {
      throw new VfioError('EINVAL', 'a mediator has a name, open and release');
    }
    if (this.#registered.some((r) => r.mediator === mediator || r.name === mediator.name)) {
      throw new VfioError('EEXIST', `a mediator '${mediator.name}' is registered already`);
    }
    const entry: Registered = { mediator, name: mediator.name, users: 0 };
    this.#registered.push(entry);
    const unregister = () => this.#unregister(entry);
    return {
      get users() {
        return entry.users;
      },
      unregister,
      [Symbol.dispose]: unregister,
    };
  }

  /** The mediation of the first mediator that accepts; null when none does. */
  open(device: MediatedDevice, events: EventSource): Mediation | null {
    for (const entry of [...this.#registered]) {
      if (!this.#registered.includes(entry)) continue;
      // A mediator cannot leave while it is asked.
      entry.users++;
      const mediation = ask(entry, device, events);
      if (mediation !== null) return mediation;
      entry.users--;
    }
    return null;
  }

  #unregister(entry: Registered): void {
    const at = this.#registered.indexOf(entry);
    if (at < 0) return;
    if (entry.users > 0) {
      throw new VfioError(
        'EBUSY',
        `mediator '${entry.name}' is in use by ${entry.users} open ${entry.users === 1 ? 'device' : 'devices'}`,
        {
          fix: 'Close them first.',
        },
      );
    }
    this.#registered.splice(at, 1);
  }
}

function ask(entry: Registered, device: MediatedDevice, events: EventSource): Mediation | null {
  const { mediator } = entry;
  const refused = (error: unknown) => {
    // A VfioError is a refusal with a reason; every other error is a bug of the mediator.
    const level = error instanceof VfioError ? 'info' : 'error';
    events.note(level, `mediator ${entry.name} open`, `${device.name}: mediator '${entry.name}' did not take it: ${textOf(error)}`);
    return null;
  };
  const failed: Failed = (what, error) =>
    events.note('error', `mediator ${entry.name} ${what}`, `${device.name}: mediator '${entry.name}': ${what} failed: ${textOf(error)}`);
  const release = (handle: unknown) => void callForeign('release', () => mediator.release(handle), failed);
  let accepted: Accepted<unknown> | null;
  try {
    accepted = mediator.open(device);
  } catch (error) {
    return refused(error);
  }
  if (accepted === null) return null;
  if (isThenable(accepted)) {
    // The device is open before the hook answers. An acceptance that comes too late is released, as
    // each acceptance is.
    const late = Promise.resolve(accepted as PromiseLike<Accepted<unknown> | null>);
    settle(
      'async open',
      late.then((answer) => {
        if (typeof answer === 'object' && answer !== null) release(answer.handle);
      }),
      failed,
    );
    return refused(new Error('its open is async; a mediator answers when open returns'));
  }
  if (typeof accepted !== 'object')
    return refused(new Error(`it answered ${String(accepted)}, which is neither null nor what it accepts with`));
  try {
    return new Mediation(mediator, accepted, device.name, events, () => void entry.users--, device.numRegions);
  } catch (error) {
    refused(error);
  }
  release(accepted.handle);
  return null;
}
