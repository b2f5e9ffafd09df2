/** Events of several threads in one stream; both ends are in this thread. */
import { expect, it } from 'vitest';
import { EventStream } from '../../events/stream.ts';
import { type EventBatch, EventMerger, EventSender } from './event-relay.ts';

/** A thread with a device that emits, and the batches that it has sent. */
function thread() {
  const stream = new EventStream();
  const source = stream.source('0000:01:00.0');
  const taken = new Int32Array(new SharedArrayBuffer(4));
  const batches: EventBatch[] = [];
  return { stream, source, taken, batches, send: () => new EventSender(stream, false, taken, (batch) => batches.push(batch)) };
}

it('events of threads stand in the order of the host’s clock, with their causes', () => {
  const stream = new EventStream();
  using reader = stream.read();
  using merger = new EventMerger(stream);
  const [a, b] = [thread(), thread()];
  const senders = [a.send(), b.send()];
  merger.add(0, a.taken);
  merger.add(1, b.taken);
  for (let i = 0; i < 3; i++) {
    const reset = a.source.emit('reset', { by: `a${i}` });
    b.source.emit('reset', { by: `b${i}` });
    a.source.during(reset, () => a.source.emit('power', { state: 'D0' }));
  }
  for (const sender of senders) sender[Symbol.dispose]();
  for (const batch of b.batches) merger.receive(1, batch);
  for (const batch of a.batches) merger.receive(0, batch);
  merger.remove(0);
  merger.remove(1);
  const events = reader.take();
  const words = events.map((event) => (event.kind === 'reset' ? event.by : event.kind));
  expect(words).toEqual(['a0', 'b0', 'power', 'a1', 'b1', 'power', 'a2', 'b2', 'power']);
  expect(events.map(({ cause }) => cause)).toEqual([0, 0, 1, 0, 0, 4, 0, 0, 7]);
});

it('events wait for a thread that has not come so far', () => {
  const stream = new EventStream();
  using reader = stream.read();
  using merger = new EventMerger(stream);
  const [a, b] = [thread(), thread()];
  const sender = a.send();
  merger.add(0, a.taken);
  merger.add(1, b.taken);
  a.source.emit('reset', { by: 'a' });
  sender[Symbol.dispose]();
  for (const batch of a.batches) merger.receive(0, batch);
  expect(reader.take()).toEqual([]);
  merger.remove(1);
  expect(reader.take()).toMatchObject([{ kind: 'reset', by: 'a' }]);
});

it('a receiver that takes nothing gets a bounded number of batches, and the newest events once it goes on', () => {
  const { source, batches, send, taken } = thread();
  using sender = send();
  for (let i = 0; i < 600_000; i++) source.emit('reset', { by: 'flood' });
  sender[Symbol.dispose]();
  const sent = batches.reduce((sum, { events }) => sum + events.length, 0);
  expect([batches.length <= 64, sent < 64 * 4096 + 1, sent > 0]).toEqual([true, true, true]);
  Atomics.add(taken, 0, batches.length);
  using again = send();
  source.emit('reset', { by: 'after' });
  again[Symbol.dispose]();
  expect(batches.at(-1)!.events.at(-1)).toMatchObject({ kind: 'reset', by: 'after' });
});
