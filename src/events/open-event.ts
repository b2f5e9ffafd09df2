/** The event of an open. */
import type { EventDetails } from '../abi/event.ts';
import { type EventSource, refusalOf } from './source.ts';

/**
 * An open is one event, whether it succeeds. All that it does to the function names it.
 *
 * @param way more fields, from the result of an open that succeeds
 */
export function seenOpen<T>(events: EventSource, pid: number, open: () => T, way?: (opened: T) => Partial<EventDetails<'open'>>): T {
  const seq = events.begin('open');
  try {
    const opened = events.during(seq, open);
    events.end(seq, 'open', { step: 'opened', pid, ...way?.(opened) });
    return opened;
  } catch (error) {
    events.end(seq, 'open', { step: 'refused', pid, ...refusalOf(error) });
    throw error;
  }
}
