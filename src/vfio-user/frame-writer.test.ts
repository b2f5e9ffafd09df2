import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryStream } from '../../tests/kit/memory-stream.ts';
import { openDescriptors } from '../../tests/kit/open-descriptors.ts';
import { EventFd } from '../sys/eventfd.ts';
import type { OwnedFd } from '../sys/owned-fd.ts';
import { FrameWriter } from './frame-writer.ts';
import { closeAll, FrameReader } from './frames.ts';
import { Command, encodeMessage } from './messages.ts';

function put(writer: FrameWriter, id: number, length: number, fds?: readonly OwnedFd[]): void {
  const bytes = encodeMessage(id, Command.REGION_READ, new Uint8Array(length).fill(id));
  const at = writer.begin(bytes.length);
  writer.bytes.set(bytes, at);
  writer.commit(bytes.length, fds);
}

describe('a writer', () => {
  it('sends everything once and in order, however little the stream takes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            length: fc.integer({ min: 0, max: 400 }),
            fds: fc.integer({ min: 0, max: 2 }),
            flush: fc.boolean(),
            read: fc.boolean(),
          }),
          { maxLength: 20 },
        ),
        fc.integer({ min: 1, max: 500 }),
        fc.integer({ min: 64, max: 600 }),
        async (list, maxSend, capacity) => {
          const [a, b] = MemoryStream.pair({ maxSend, capacity });
          const writer = new FrameWriter(a, { bufferBytes: 64, keepBytes: 256 });
          const reader = new FrameReader(b, { maxMessageBytes: 4096 });
          const event = EventFd.create();
          const seen: (readonly [number, number, number])[] = [];
          const take = () => {
            while (reader.fill() > 0) {
              while (reader.next()) {
                const fds = reader.takeFds();
                closeAll(fds);
                seen.push([reader.view.getUint16(reader.start, true), reader.size - 16, fds.length]);
              }
            }
          };
          for (const [id, { length, fds, flush, read }] of list.entries()) {
            put(
              writer,
              id,
              length,
              Array.from({ length: fds }, () => event.duplicateFd()),
            );
            if (flush) writer.flush();
            if (read) take();
          }
          writer.flush();
          for (let turns = 0; turns < 2000 && seen.length < list.length; turns++) {
            take();
            await Promise.resolve();
          }
          expect(seen).toEqual(list.map(({ length, fds }, id) => [id, length, fds]));
          expect(writer.queued).toBe(0);
          for (const each of [writer, reader, a, b, event]) each[Symbol.dispose]();
        },
      ),
      { numRuns: 200 },
    );
  });

  it('puts messages that are ready together into one call, and one with descriptors into a call of its own', () => {
    const [a] = MemoryStream.pair();
    const writer = new FrameWriter(a);
    const event = EventFd.create();
    for (let id = 0; id < 10; id++) put(writer, id, 4);
    writer.flush();
    expect(a.sends).toBe(1);
    put(writer, 10, 4);
    put(writer, 11, 4, [event.duplicateFd()]);
    put(writer, 12, 4);
    writer.flush();
    expect(a.sends).toBe(4);
    event[Symbol.dispose]();
    a[Symbol.dispose]();
  });

  it('reports when all has gone, and keeps no more room than it may', async () => {
    const [a, b] = MemoryStream.pair({ capacity: 1000 });
    let drained = 0;
    const writer = new FrameWriter(a, { bufferBytes: 100, keepBytes: 200, onDrained: () => drained++ });
    put(writer, 1, 5000);
    expect(writer.flush()).toBe(false);
    expect([writer.blocked, writer.queued]).toEqual([true, 4016]);
    const into = new Uint8Array(600);
    while (drained === 0) {
      b.receive(into, 0, 600, []);
      for (let i = 0; i < 5; i++) await Promise.resolve();
    }
    expect([writer.blocked, writer.queued, writer.bytes.length]).toEqual([false, 0, 100]);
  });

  it('a peer that is gone: the error comes out of flush, or goes to onError', async () => {
    const [a, b] = MemoryStream.pair({ capacity: 100 });
    const errors: unknown[] = [];
    const writer = new FrameWriter(a, { onError: (error) => errors.push(error) });
    put(writer, 1, 500);
    writer.flush();
    b[Symbol.dispose]();
    for (let i = 0; i < 5; i++) await Promise.resolve();
    expect(errors).toMatchObject([{ code: 'EPIPE' }]);
    expect(() => writer.flush()).toThrow(expect.objectContaining({ code: 'EPIPE' }));
  });

  it('closes the descriptors it has not sent', () => {
    const before = openDescriptors();
    const [a, b] = MemoryStream.pair({ capacity: 10 });
    const writer = new FrameWriter(a);
    const event = EventFd.create();
    for (let id = 0; id < 4; id++) put(writer, id, 4, [event.duplicateFd(), event.duplicateFd()]);
    writer.flush();
    writer[Symbol.dispose]();
    put(writer, 5, 4, [event.duplicateFd()]);
    for (const each of [event, a, b]) each[Symbol.dispose]();
    expect(openDescriptors()).toBe(before);
  });
});
