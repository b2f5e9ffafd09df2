/** The event of an open. */
import { type EventSource, refusalOf } from './source.ts';

/** An open is one event, whether it succeeds. All that it does to the function names it. */
export function seenOpen<T>(events: EventSource, pid: number, open: () => T): T {
  const seq = events.begin('open');
  try {
    const opened = events.during(seq, open);
    events.end(seq, 'open', { step: 'opened', pid });
    return opened;
  } catch (error) {
    events.end(seq, 'open', { step: 'refused', pid, ...refusalOf(error) });
    throw error;
  }
}
