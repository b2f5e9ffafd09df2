/** Calls of a client's device as events: what the call leads to names it as its cause. */
import type { EventDetails } from '../../abi/event.ts';
import { errnoOf } from '../../base/errno.ts';
import type { EventSource } from '../../events/source.ts';
import { Irq } from '../../events/source.ts';

/** The longest reason: texts of a server are in it. */
const REASON_LENGTH = 200;

type Refusable = 'dma-map' | 'dma-unmap' | 'set-irqs' | 'reset' | 'migration' | 'feature';

/**
 * Does `act`, which is an event of the kind, and gives its result. When it throws, the event has
 * the errno.
 *
 * @param details asked for once `act` is done, only while there is a reader
 */
export function seen<K extends Refusable, T>(events: EventSource, kind: K, act: () => T, details: () => EventDetails<K>): T {
  if (!events.on) return act();
  const seq = events.begin(kind);
  try {
    const result = events.during(seq, act);
    events.end(seq, kind, details());
    return result;
  } catch (error) {
    events.end(seq, kind, { ...details(), errno: errnoOf(error), reason: reasonOf(error) });
    throw error;
  }
}

/** The message of an error, as events have it. */
export function reasonOf(error: unknown): string {
  return (error instanceof Error ? error.message : 'it failed').slice(0, REASON_LENGTH);
}

/** The name of an index, as events have it. IRQ indexes and the numbers of `Irq` are the same. */
export const irqWords = Object.keys(Irq) as (keyof typeof Irq)[];

/** The name of a number in a table of `abi/vfio.ts`; the number where it has none. */
export function nameIn(table: Readonly<Record<string, number>>, number: number): string {
  return Object.keys(table).find((name) => table[name] === number) ?? String(number);
}
