/** Events of a device as tests compare them. */
import type { EventKind, VfioEvent } from '../../src/abi/event.ts';
import { rowOf } from '../../src/events/kinds.ts';
import type { EventStream } from '../../src/events/stream.ts';

/** The events that `act` makes. */
export function eventsOf(stream: EventStream, act: () => void, kinds?: readonly EventKind[], data = false): VfioEvent[] {
  using reader = stream.read({ data, ...(kinds === undefined ? {} : { kinds }) });
  act();
  return reader.take();
}

/** The same as lines: the words of each, and the place of its cause among them. */
export function linesOf(stream: EventStream, act: () => void, kinds?: readonly EventKind[]): string[] {
  const events = eventsOf(stream, act, kinds);
  return events.map((event) => {
    const cause = events.findIndex(({ seq }) => seq === event.cause);
    return `${rowOf(event.kind).words(event as never)}${cause < 0 ? '' : ` (by ${cause})`}`;
  });
}
