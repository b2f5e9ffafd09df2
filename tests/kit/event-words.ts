/** Events as lines, for tests that say what a reader sees. */
import type { VfioEvent } from '../../src/abi/event.ts';
import { wordsOf } from '../../src/events/kinds.ts';

/** `device: words`, and `(after N)` where event number N of the list is the cause. */
export function eventLines(events: readonly VfioEvent[]): string[] {
  return events.map((event) => {
    const cause = events.findIndex(({ seq }) => seq === event.cause);
    return `${event.device}: ${wordsOf(event)}${cause < 0 ? '' : ` (after ${cause})`}`;
  });
}
