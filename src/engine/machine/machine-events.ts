/**
 * Changes of a machine's functions: each goes to the listeners of the machine and into the stream
 * of events, with the change of the group that follows from it.
 */
import type { EventDetails } from '../../abi/event.ts';
import { Emitter } from '../../base/emitter.ts';
import { textOf } from '../../base/foreign.ts';
import { refusalOf } from '../../events/source.ts';
import type { EngineContext } from '../context.ts';
import type { FunctionGroup, PciFunction } from './pci-function.ts';

/**
 * Events come in the order in which things happen. At `add` the group is known, and no driver has
 * been asked yet (S1-03).
 */
export type MachineEvent =
  | { readonly kind: 'add' | 'remove'; readonly bdf: string; readonly groupId: number | null }
  | { readonly kind: 'bind' | 'unbind'; readonly bdf: string; readonly driver: string; readonly groupId: number | null };

export class MachineEvents {
  readonly #ctx: Pick<EngineContext, 'events'>;
  readonly #listeners: Emitter<MachineEvent>;
  /** Groups that no user could have, as they were last seen. */
  readonly #notViable = new WeakSet<FunctionGroup>();

  constructor(ctx: Pick<EngineContext, 'events'>) {
    this.#ctx = ctx;
    this.#listeners = new Emitter(({ kind, bdf }, error) =>
      ctx.events.note('error', 'machine listener', `a listener of the machine failed at ${kind} of ${bdf}: ${textOf(error)}`),
    );
  }

  on(listener: (event: MachineEvent) => void): Disposable {
    return this.#listeners.on(listener);
  }

  /** The function is there, in its group. */
  added(fn: PciFunction): void {
    const { events } = fn.host;
    const seq = events.on ? events.emit('plug', { step: 'added', name: fn.name }) : 0;
    this.#changed(seq, fn.group, { kind: 'add', bdf: fn.bdf, groupId: fn.group?.id ?? null });
  }

  /** `takeOut` takes the function out of its group and its bus. */
  removed(fn: PciFunction, takeOut: () => void): void {
    const { bdf, group, host } = fn;
    const seq = host.events.on ? host.events.emit('plug', { step: 'removed', name: fn.name }) : 0;
    this.#ctx.events.during(seq, takeOut);
    this.#changed(seq, group, { kind: 'remove', bdf, groupId: group?.id ?? null });
  }

  /** `driver` has the function. */
  bound(fn: PciFunction, driver: string): void {
    const seq = emitBind(fn, { driver, was: null });
    this.#changed(seq, fn.group, { kind: 'bind', bdf: fn.bdf, driver, groupId: fn.group?.id ?? null });
  }

  /** `driver` has the function no more. */
  unbound(fn: PciFunction, driver: string): void {
    const seq = emitBind(fn, { driver: null, was: driver });
    this.#changed(seq, fn.group, { kind: 'unbind', bdf: fn.bdf, driver, groupId: fn.group?.id ?? null });
  }

  /** The function keeps its driver: it was not given to `driver`, for `error`. */
  refused(fn: PciFunction, driver: string | null, error: unknown): void {
    emitBind(fn, { driver: typeof driver === 'string' ? driver.slice(0, 64) : null, was: fn.driver, ...refusalOf(error) });
  }

  #changed(seq: number, group: FunctionGroup | null, event: MachineEvent): void {
    this.#ctx.events.during(seq, () => {
      if (group !== null) this.#seeViability(group);
      this.#listeners.emit(event);
    });
  }

  #seeViability(group: FunctionGroup): void {
    const { viable } = group;
    if (viable !== this.#notViable.has(group)) return;
    if (viable) this.#notViable.delete(group);
    else this.#notViable.add(group);
    const { events } = this.#ctx;
    if (events.on) events.emit('group', { group: group.id, step: viable ? 'viable' : 'not viable' });
  }

  clear(): void {
    this.#listeners.clear();
  }
}

/** @returns the event's `seq`; 0 without a reader */
function emitBind(fn: PciFunction, details: EventDetails<'bind'>): number {
  const { events } = fn.host;
  return events.on ? events.emit('bind', details) : 0;
}
