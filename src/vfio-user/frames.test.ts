import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryStream } from '../../tests/kit/memory-stream.ts';
import { openDescriptors } from '../../tests/kit/open-descriptors.ts';
import { HEADER_BYTES } from '../abi/vfio-user.ts';
import { EventFd } from '../sys/eventfd.ts';
import type { OwnedFd } from '../sys/owned-fd.ts';
import { closeAll, FrameReader } from './frames.ts';
import { Command, encodeMessage } from './messages.ts';

/** A message whose payload is `length` times its id. */
const message = (id: number, length: number) => encodeMessage(id, Command.REGION_WRITE, new Uint8Array(length).fill(id));

function sendAll(stream: MemoryStream, bytes: Uint8Array, fds: readonly OwnedFd[] = []): void {
  for (let at = 0; at < bytes.length; ) at += stream.send(bytes, at, bytes.length, at === 0 ? fds : []);
}

/** Receive until nothing comes; what each message was. */
function drain(reader: FrameReader): { id: number; size: number; fds: number; kind: string }[] {
  const seen: { id: number; size: number; fds: number; kind: string }[] = [];
  for (;;) {
    const got = reader.fill();
    if (got <= 0) return seen;
    while (reader.next()) {
      const kind = reader.oversize ? 'oversize' : reader.broken ? 'broken' : reader.tooManyFds ? 'too many fds' : 'whole';
      const fds = reader.takeFds();
      closeAll(fds);
      seen.push({ id: reader.view.getUint16(reader.start, true), size: reader.size, fds: fds.length, kind });
    }
  }
}

describe('frames', () => {
  it('come out whole, however they arrive', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ length: fc.integer({ min: 0, max: 300 }), fds: fc.integer({ min: 0, max: 2 }) }), { maxLength: 20 }),
        fc.integer({ min: 1, max: 64 }),
        fc.integer({ min: 1, max: 700 }),
        fc.integer({ min: 16, max: 128 }),
        (list, maxSend, maxReceive, bufferBytes) => {
          const [a, b] = MemoryStream.pair({ maxSend, maxReceive });
          const reader = new FrameReader(b, { maxMessageBytes: 4096, bufferBytes });
          const event = EventFd.create();
          list.forEach(({ length, fds }, id) => {
            const given = Array.from({ length: fds }, () => event.duplicateFd());
            sendAll(a, message(id, length), given);
            closeAll(given);
          });
          const expected = list.map(({ length, fds }, id) => ({ id, size: HEADER_BYTES + length, fds, kind: 'whole' }));
          expect(drain(reader)).toEqual(expected);
          expect(reader.partial).toBe(false);
          for (const each of [reader, a, b, event]) each[Symbol.dispose]();
        },
      ),
      { numRuns: 300 },
    );
  });

  it('payloads are what was sent', () => {
    const [a, b] = MemoryStream.pair({ maxReceive: 7 });
    const reader = new FrameReader(b, { maxMessageBytes: 4096, bufferBytes: 32 });
    sendAll(a, message(1, 50));
    sendAll(a, message(2, 3));
    const payloads: number[][] = [];
    while (reader.fill() > 0)
      while (reader.next()) payloads.push([...reader.bytes.subarray(reader.start + 16, reader.start + reader.size)]);
    expect(payloads).toEqual([new Array(50).fill(1), [2, 2, 2]]);
  });

  it('too large ones are dropped as they arrive: the buffer stays as it is, and the next message is found', () => {
    const [a, b] = MemoryStream.pair({ maxReceive: 100 });
    const reader = new FrameReader(b, { maxMessageBytes: 64, bufferBytes: 64 });
    sendAll(a, message(1, 10));
    sendAll(a, message(2, 100_000));
    sendAll(a, message(3, 49));
    sendAll(a, message(4, 48));
    expect(drain(reader)).toEqual([
      { id: 1, size: 26, fds: 0, kind: 'whole' },
      { id: 2, size: 16, fds: 0, kind: 'oversize' },
      { id: 3, size: 16, fds: 0, kind: 'oversize' },
      { id: 4, size: 64, fds: 0, kind: 'whole' },
    ]);
    expect(reader.bytes.length).toBe(64);
  });

  it('a size below the header: the header is given, the next message is what follows it', () => {
    const [a, b] = MemoryStream.pair();
    const reader = new FrameReader(b, { maxMessageBytes: 64 });
    for (const size of [0, 4, 15]) {
      const bad = message(9, 0);
      new DataView(bad.buffer).setUint32(4, size, true);
      sendAll(a, bad);
    }
    sendAll(a, message(1, 0));
    expect(drain(reader).map(({ id, kind }) => [id, kind])).toEqual([
      [9, 'broken'],
      [9, 'broken'],
      [9, 'broken'],
      [1, 'whole'],
    ]);
  });

  it('descriptors of a dropped message are closed, those behind it arrive', () => {
    const before = openDescriptors();
    const [a, b] = MemoryStream.pair({ maxReceive: 50 });
    const reader = new FrameReader(b, { maxMessageBytes: 64, bufferBytes: 64 });
    const event = EventFd.create();
    const fd = event.duplicateFd();
    sendAll(a, message(1, 200), [fd]);
    sendAll(a, message(2, 0), [fd]);
    const seen: [number, number][] = [];
    while (reader.fill() > 0) {
      while (reader.next()) seen.push([reader.view.getUint16(reader.start, true), reader.hasFds ? 1 : 0]);
    }
    expect(seen).toEqual([
      [1, 1],
      [2, 1],
    ]);
    for (const each of [fd, event, reader, a, b]) each[Symbol.dispose]();
    expect(openDescriptors()).toBe(before);
  });

  it('descriptors that come in the middle of a body belong to that message; too many are closed as they arrive', () => {
    const before = openDescriptors();
    const [a, b] = MemoryStream.pair();
    const reader = new FrameReader(b, { maxMessageBytes: 4096, maxFds: 3 });
    const event = EventFd.create();
    const fd = event.duplicateFd();
    const bytes = message(1, 20);
    for (let at = 0; at < bytes.length; at++) a.send(bytes, at, at + 1, [fd]);
    let held = 0;
    while (reader.fill() > 0) held = Math.max(held, openDescriptors() - before);
    expect(held).toBeLessThan(3 + 36 + 3);
    expect(reader.next()).toBe(true);
    expect(reader.tooManyFds).toBe(true);
    const fds = reader.takeFds();
    expect(fds).toHaveLength(3);
    closeAll(fds);
    for (const each of [fd, event, reader, a, b]) each[Symbol.dispose]();
    expect(openDescriptors()).toBe(before);
  });

  it('descriptors that are not taken are closed with the next message, or with the reader', () => {
    const before = openDescriptors();
    const [a, b] = MemoryStream.pair();
    const reader = new FrameReader(b, { maxMessageBytes: 4096 });
    const event = EventFd.create();
    const fd = event.duplicateFd();
    sendAll(a, message(1, 4), [fd]);
    sendAll(a, message(2, 4), [fd]);
    sendAll(a, message(3, 4).subarray(0, 10), [fd]);
    for (const each of [fd, event, a]) each[Symbol.dispose]();
    while (reader.fill() > 0) while (reader.next()) expect(reader.hasFds).toBe(true);
    expect(reader.partial).toBe(true);
    expect(openDescriptors()).toBe(before + 1);
    for (const each of [reader, b]) each[Symbol.dispose]();
    expect(openDescriptors()).toBe(before);
  });

  it('the buffer grows to the message and no further', () => {
    const [a, b] = MemoryStream.pair({ capacity: 2 ** 21 });
    const reader = new FrameReader(b, { maxMessageBytes: 2 ** 20 + 4096 });
    sendAll(a, message(1, 2 ** 20));
    expect(drain(reader)).toEqual([{ id: 1, size: 2 ** 20 + 16, fds: 0, kind: 'whole' }]);
    expect(reader.bytes.length).toBeLessThanOrEqual(2 ** 20 + 4096);
  });
});
