/** Events as tests compare them. */
import type { EventKind, VfioEvent } from '../../src/abi/event.ts';
import { EventDigest, type EventDigests } from '../../src/events/digest.ts';
import { wordsOf } from '../../src/events/kinds.ts';
import type { EventStream } from '../../src/events/stream.ts';

/** The events that `act` makes. */
export function eventsOf(stream: EventStream, act: () => void, kinds?: readonly EventKind[], data = false): VfioEvent[] {
  using reader = stream.read({ data, ...(kinds === undefined ? {} : { kinds }) });
  act();
  return reader.take();
}

/** The words of each, and `(after N)` where event number N of the list is the cause. */
export function causedWords(events: readonly VfioEvent[]): string[] {
  return events.map((event) => {
    const cause = events.findIndex(({ seq }) => seq === event.cause);
    return `${wordsOf(event)}${cause < 0 ? '' : ` (after ${cause})`}`;
  });
}

/** As `causedWords`, of the events that `act` makes. */
export function linesOf(stream: EventStream, act: () => void, kinds?: readonly EventKind[]): string[] {
  return causedWords(eventsOf(stream, act, kinds));
}

/** As `causedWords`, with the device in front. */
export function eventLines(events: readonly VfioEvent[]): string[] {
  return causedWords(events).map((words, i) => `${events[i]!.device}: ${words}`);
}

/** The digests of these events. */
export function digestOf(events: Iterable<VfioEvent>): EventDigests {
  const digest = new EventDigest();
  for (const event of events) digest.add(event);
  return digest.digests();
}
