import fc from 'fast-check';
import { expect, it } from 'vitest';
import { heapGrowth } from '../../tests/kit/heap-growth.ts';
import { samples } from '../../tests/kit/vfio-user-samples.ts';
import type { EventOf } from '../abi/event.ts';
import { Header, HeaderFlags } from '../abi/vfio-user.ts';
import { EventStream } from '../events/stream.ts';
import { MessageEvents } from './message-events.ts';
import { Command, encodeMessage, encodeRegionAccess, viewOf } from './messages.ts';

function emitted(message: Uint8Array, data: boolean, fds = 0): EventOf<'message'> {
  const stream = new EventStream();
  using reader = stream.read({ data });
  new MessageEvents(stream.source('x')).emit(true, false, message, viewOf(message), 0, message.length, fds);
  return reader.take()[0] as EventOf<'message'>;
}

const whole = ({ bytes, data }: EventOf<'message'>) => Uint8Array.from([...bytes, ...(data ?? [])]);

const accesses = fc
  .record({
    id: fc.nat(0xffff),
    command: fc.constantFrom(Command.REGION_READ, Command.REGION_WRITE, Command.DEVICE_RESET, Command.DMA_MAP, Command.REGION_WRITE_MULTI),
    flags: fc.constantFrom(0, 1, 0x10, 0x11, 0x21, 0x40, 7),
    offset: fc.bigInt(0n, 2n ** 64n - 1n),
    region: fc.oneof(fc.nat(9), fc.constantFrom(0xffff, 0x1_0000, 0xffff_ffff)),
    count: fc.oneof(fc.nat(12), fc.constant(0xffff_ffff)),
    value: fc.uint8Array({ maxLength: 12 }),
    error: fc.constantFrom(0, 0, 0, 5),
    cut: fc.constantFrom(0, 0, 4, 16, 20),
  })
  .map(({ id, command, flags, offset, region, count, value, error, cut }) => {
    const payload = encodeRegionAccess(offset, region, count, value);
    return encodeMessage(id, command, payload.subarray(0, payload.length - Math.min(cut, payload.length)), flags, error);
  });

it('a message is in its event as it was on the wire, whichever way the event is held', () => {
  fc.assert(
    fc.property(accesses, (message) => {
      const event = emitted(message, true);
      expect(whole(event)).toEqual(message);
      const { id, size } = Header.decode(viewOf(message));
      expect(event).toMatchObject({ id, size, fds: 0, twin: false, direction: 'to server' });
      // The other way: descriptors are not packed.
      const { fds: _, ...beside } = emitted(message, true, 1);
      expect(event).toMatchObject({ ...beside, seq: event.seq, timeNs: event.timeNs, hostNs: event.hostNs });
      const plain = emitted(message, false);
      expect([plain.bytes, 'data' in plain]).toEqual([event.bytes, false]);
    }),
    { numRuns: 500 },
  );
});

it('of each message of the protocol the structure is kept', () => {
  for (const { bytes } of samples) {
    const event = emitted(bytes, true);
    expect(whole(event)).toEqual(bytes);
    expect(event.size).toBe(bytes.length);
  }
});

it('an access and its reply make no object while a reader is there', () => {
  const stream = new EventStream();
  using reader = stream.read({}, () => void reader.take(0));
  const events = new MessageEvents(stream.source('x'));
  const access = encodeMessage(1, Command.REGION_WRITE, encodeRegionAccess(8n, 0, 4, Uint8Array.of(1, 2, 3, 0xff)));
  const reply = encodeMessage(1, Command.REGION_WRITE, encodeRegionAccess(8n, 0, 4), HeaderFlags.REPLY);
  const views = [viewOf(access), viewOf(reply)] as const;
  const round = () => {
    for (let i = 0; i < 100_000; i++) {
      events.emit(true, false, access, views[0], 0, access.length, 0);
      events.emit(false, false, reply, views[1], 0, reply.length, 0);
    }
  };
  round();
  // Numbers that do not fit 31 bits may be boxed, 16 bytes each; an event with its bytes is 300.
  expect(heapGrowth(round, 20_000_000)).toBeLessThan(20_000_000);
});

it('an error shows its reason; other bytes behind its header are data', () => {
  const error = (payload: Uint8Array) => encodeMessage(1, Command.DMA_READ, payload, HeaderFlags.REPLY | HeaderFlags.ERROR, 5);
  const reason = error(Buffer.from('{"message":"no"}'));
  expect(emitted(reason, false).bytes).toEqual(reason);
  const leak = error(new Uint8Array(64).fill(0xa5));
  expect(emitted(leak, false).bytes).toEqual(leak.subarray(0, 16));
  expect(whole(emitted(leak, true))).toEqual(leak);
});
