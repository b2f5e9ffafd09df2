/**
 * Listeners, with one rule for all of them. A listener that throws or rejects does not keep the
 * event from the others; its failure goes to `failed`. A listener that is disposed during an
 * emission hears nothing more; a listener that is added during one hears the next event.
 *
 * An emission allocates nothing.
 */
import { settle } from './foreign.ts';

/** One registration by `on`. The same function may be registered twice. */
export class Listening<E> {
  readonly call: (event: E) => unknown;
  active = true;

  constructor(call: (event: E) => unknown) {
    this.call = call;
  }
}

export class Emitter<E> {
  /**
   * A change makes a new array, so that an emission goes on over the listeners that it began with.
   */
  #listeners: readonly Listening<E>[] = [];
  readonly #failed: (event: E, error: unknown) => void;

  /** @param failed reports the failure of a listener. It must not throw */
  constructor(failed: (event: E, error: unknown) => void) {
    this.#failed = failed;
  }

  get listeners(): readonly Listening<E>[] {
    return this.#listeners;
  }

  on(listener: (event: E) => void): Disposable {
    const own = new Listening(listener);
    this.add(own);
    return {
      [Symbol.dispose]: () => {
        own.active = false;
        this.remove(own);
      },
    };
  }

  add(listening: Listening<E>): void {
    this.#listeners = [...this.#listeners, listening];
  }

  remove(listening: Listening<E>): void {
    this.#listeners = this.#listeners.filter((each) => each !== listening);
  }

  emit(event: E): void {
    const listeners = this.#listeners;
    for (let i = 0; i < listeners.length; i++) this.tell(listeners[i]!, event);
  }

  /** Call one listener. */
  tell(listening: Listening<E>, event: E): void {
    if (!listening.active) return;
    try {
      const result = listening.call(event);
      if (result !== undefined) settle('a listener', result, (_what, error) => this.#failed(event, error));
    } catch (error) {
      this.#failed(event, error);
    }
  }

  /** Remove all listeners. An emission under way goes on to its end. */
  clear(): void {
    this.#listeners = [];
  }
}
