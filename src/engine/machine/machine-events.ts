/** What a machine tells whoever listens. */
import type { EngineContext } from '../context.ts';

/** Told in the order in which things happen. At `add` the group is known and no driver has been asked yet (S1-03). */
export type MachineEvent =
  | { readonly kind: 'add' | 'remove'; readonly bdf: string; readonly groupId: number | null }
  | { readonly kind: 'bind' | 'unbind'; readonly bdf: string; readonly driver: string; readonly groupId: number | null };

/** Listeners; one that throws hurts nobody. */
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
      try {
        listener(event);
      } catch (error) {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
        this.#ctx.log.log('error', 'machine listener', `a listener of the machine threw at ${event.kind} of ${event.bdf}: ${text}`);
      }
    }
  }

  clear(): void {
    this.#listeners.clear();
  }
}
