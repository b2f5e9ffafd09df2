/** What a machine tells whoever listens. */
import { callForeign, textOf } from '../../base/foreign.ts';
import type { EngineContext } from '../context.ts';

/** Told in the order in which things happen. At `add` the group is known and no driver has been asked yet (S1-03). */
export type MachineEvent =
  | { readonly kind: 'add' | 'remove'; readonly bdf: string; readonly groupId: number | null }
  | { readonly kind: 'bind' | 'unbind'; readonly bdf: string; readonly driver: string; readonly groupId: number | null };

/** Listeners; one that throws or rejects keeps no other from the event. */
export class MachineEvents {
  readonly #ctx: EngineContext;
  readonly #listeners = new Set<(event: MachineEvent) => void>();

  constructor(ctx: EngineContext) {
    this.#ctx = ctx;
  }

  on(listener: (event: MachineEvent) => void): Disposable {
    const own = (event: MachineEvent) => listener(event);
    this.#listeners.add(own);
    return { [Symbol.dispose]: () => void this.#listeners.delete(own) };
  }

  tell(event: MachineEvent): void {
    for (const listener of [...this.#listeners]) {
      callForeign(
        'machine listener',
        () => listener(event),
        (what, error) =>
          this.#ctx.log.log('error', what, `a listener of the machine failed at ${event.kind} of ${event.bdf}: ${textOf(error)}`),
      );
    }
  }

  clear(): void {
    this.#listeners.clear();
  }
}
