/** Events of a machine, for its listeners. */
import { Emitter } from '../../base/emitter.ts';
import { textOf } from '../../base/foreign.ts';
import type { EngineContext } from '../context.ts';

/**
 * Events come in the order in which things happen. At `add` the group is known, and no driver has
 * been asked yet (S1-03).
 */
export type MachineEvent =
  | { readonly kind: 'add' | 'remove'; readonly bdf: string; readonly groupId: number | null }
  | { readonly kind: 'bind' | 'unbind'; readonly bdf: string; readonly driver: string; readonly groupId: number | null };

export class MachineEvents {
  readonly #events: Emitter<MachineEvent>;

  constructor({ events }: Pick<EngineContext, 'events'>) {
    this.#events = new Emitter(({ kind, bdf }, error) =>
      events.note('error', 'machine listener', `a listener of the machine failed at ${kind} of ${bdf}: ${textOf(error)}`),
    );
  }

  on(listener: (event: MachineEvent) => void): Disposable {
    return this.#events.on(listener);
  }

  tell(event: MachineEvent): void {
    this.#events.emit(event);
  }

  clear(): void {
    this.#events.clear();
  }
}
