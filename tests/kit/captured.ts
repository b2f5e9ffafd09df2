/** Messages as events, and as the capture that `vfio trace --write` makes of them. */
import type { EventOf } from '../../src/abi/event.ts';
import { ManualClock } from '../../src/base/clock.ts';
import { viewOf } from '../../src/base/data-view.ts';
import { formatNamed } from '../../src/events/printers/formats.ts';
import { EventStream } from '../../src/events/stream.ts';
import { MessageEvents } from '../../src/vfio-user/message-events.ts';

export interface CapturedOptions {
  /** Default: `unix:/tmp/x.sock`. */
  readonly device?: string;
  /** Names of the descriptors of the second message. */
  readonly descriptors?: string;
  /** Default: true. */
  readonly data?: boolean;
}

/** Each message as the event of it, on its way to the server. */
export function asEvents(
  messages: readonly Uint8Array[],
  { device = 'unix:/tmp/x.sock', descriptors, data = true }: CapturedOptions = {},
): EventOf<'message'>[] {
  const stream = new EventStream({ clock: new ManualClock() });
  using reader = stream.read({ data });
  const events = new MessageEvents(stream.source(device));
  messages.forEach((each, i) => {
    const fds: [number, string?] = i === 1 && descriptors !== undefined ? [1, descriptors] : [0];
    events.emit(true, false, each, viewOf(each), 0, each.length, ...fds);
  });
  return reader.take().filter((event) => event.kind === 'message');
}

/** A pcapng file. */
export function captureOf(messages: readonly Uint8Array[], options?: CapturedOptions): Buffer {
  const printer = formatNamed('pcapng').make({ about: { program: 'vfio-ts', epochNs: 0n } });
  const packets = asEvents(messages, options).map((event) => Buffer.from(printer.event(event)));
  return Buffer.concat([Buffer.from(printer.begin()), ...packets, Buffer.from(printer.end())]);
}
