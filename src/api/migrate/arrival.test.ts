/**
 * A link carries a stranger's bytes. For any bytes, only a whole device arrives, and every error
 * has an errno.
 */
import { afterEach, describe, expect, it } from 'vitest';
import { MigrationSide } from '../../../tests/kit/migration-rig.ts';
import { movable } from '../../../tests/kit/movable-model.ts';
import { Random } from '../../../tests/soak/random.ts';
import { VfioError } from '../../base/errno.ts';
import { type ByteStream, END_OF_STREAM, WOULD_BLOCK } from '../../sys/byte-stream.ts';
import { MemfdMemory } from '../../sys/memfd.ts';
import { UnixSocket } from '../../sys/unix-socket.ts';
import { arrive } from './arrival.ts';
import { ArrivingMemory } from './arriving-memory.ts';
import { Extent } from './extent.ts';
import { encodeJson, HEAD_BYTES, Kind, sealFrame } from './frames.ts';
import { Link } from './link.ts';
import { rangesToLog } from './memory-image.ts';
import { encodeExtents, encodeMappings, encodePagesHead, FORMAT, PAGE } from './wire.ts';

const opened: Disposable[] = [];

afterEach(() => {
  for (const each of opened.splice(0).reverse()) each[Symbol.dispose]();
});

/** A stream that gives nothing and takes nothing. */
const mute: ByteStream = {
  carriesFds: false,
  send: () => WOULD_BLOCK,
  receive: () => WOULD_BLOCK,
  wait: () => false,
  listen: () => ({ [Symbol.dispose]: () => {} }),
  onWritable: () => ({ [Symbol.dispose]: () => {} }),
  [Symbol.dispose]: () => {},
};

function frame(kind: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES + payload.length);
  bytes.set(payload, HEAD_BYTES);
  sealFrame(bytes, kind, payload.length);
  return bytes;
}

const offer = (change: object = {}): Uint8Array =>
  frame(Kind.OFFER, encodeJson({ format: FORMAT, version: 1, id: '0123456789abcdef', name: 'x', ids: 0, page: PAGE, ...change }));

/** @returns the code of the error with which the device did not arrive */
async function send(...frames: readonly Uint8Array[]): Promise<string> {
  const side = new MigrationSide(movable({ bulk: true }));
  opened.push(side);
  const ids = side.device.region(7).read32(0) >>> 0;
  const [here, there] = UnixSocket.pair();
  using link = new Link(there);
  let arrived = false;
  const waiting = arrive(link, { name: 'here', open: () => side.device, arrived: () => (arrived = true) });
  const first = frames[0] ?? offer({ ids });
  for (const each of [first, ...frames.slice(1)]) here.send(each, 0, each.length);
  // The destination sees the end of the stream after it has read all frames.
  here.end();
  const error = await waiting.then(
    () => null,
    (reason: unknown) => reason,
  );
  here[Symbol.dispose]();
  expect(arrived).toBe(false);
  if (!(error instanceof VfioError)) throw error;
  return error.code;
}

/** The same, after an offer that fits. */
async function sendAfterOffer(...frames: readonly Uint8Array[]): Promise<string> {
  const side = new MigrationSide(movable({ bulk: true }));
  opened.push(side);
  return await send(offer({ ids: side.device.region(7).read32(0) >>> 0 }), ...frames);
}

const pages = (extent: number, first: number, count: number, bytes = count * PAGE): Uint8Array => {
  const payload = new Uint8Array(12 + bytes);
  encodePagesHead(extent, first, count, payload);
  return payload;
};
const extents = (...rows: readonly (readonly [number, number])[]): Uint8Array =>
  [...encodeExtents(rows.map(([number, pages]) => ({ number, pages })))][0] ?? new Uint8Array(0);

describe('a stream', () => {
  it('is refused when it begins with no offer, or with the offer of another device', async () => {
    for (const change of [{ format: 'x' }, { version: 2 }, { version: 0.5 }, { version: 'x' }, { id: '' }, { page: 8192 }]) {
      expect([change, await send(offer(change))]).toEqual([change, 'EPROTO']);
    }
    expect(await send(offer({ ids: 1 }))).toBe('EINVAL');
    expect(await send(frame(Kind.GO, encodeJson({})))).toBe('EPROTO');
    expect(await send(new Uint8Array(12).fill(0xff))).toBe('EPROTO');
    const changed = offer();
    changed[20]! ^= 1;
    expect(await send(changed)).toBe('EPROTO');
  });

  it('is refused when its data lies outside of an extent, or is incomplete', async () => {
    const one = frame(Kind.EXTENTS, extents([0, 4]));
    const cases: Readonly<Record<string, readonly Uint8Array[]>> = {
      'pages of no extent': [frame(Kind.PAGES, pages(0, 0, 1))],
      'pages past its end': [one, frame(Kind.PAGES, pages(0, 3, 2))],
      'fewer bytes than pages': [one, frame(Kind.PAGES, pages(0, 0, 2, PAGE))],
      'more zeroes than a frame may hold': [frame(Kind.EXTENTS, extents([0, 2 ** 20])), frame(Kind.ZEROES, pages(0, 0, 65, 0))],
      'no pages': [one, frame(Kind.ZEROES, pages(0, 0, 0))],
      'an extent out of order': [frame(Kind.EXTENTS, extents([1, 4]))],
      'an extent too large': [frame(Kind.EXTENTS, extents([0, 2 ** 20 + 1]))],
      'half a row': [frame(Kind.EXTENTS, new Uint8Array(7))],
      'an end that counts other frames': [one, frame(Kind.END, encodeJson({ frames: 99, bytes: 0 }))],
      'a GO before the end': [one, frame(Kind.GO, encodeJson({}))],
    };
    for (const [what, frames] of Object.entries(cases)) expect([what, await sendAfterOffer(...frames)]).toEqual([what, 'EPROTO']);
    expect(await sendAfterOffer(one, frame(Kind.DEVICE, new Uint8Array(100).fill(7)))).toBe('EINVAL');
    expect(await sendAfterOffer(one)).toBe('ECONNRESET');
    const mapping = { iova: 0n, size: 8 * PAGE, extent: 0, page: 0, access: 3 as const };
    const rows = [...encodeMappings([mapping])][0]!;
    const end = frame(Kind.END, encodeJson({ frames: 3, bytes: offer().length - HEAD_BYTES + extents([0, 4]).length + rows.length }));
    expect(await sendAfterOffer(one, frame(Kind.MAPPINGS, rows), end)).toBe('EPROTO');
  });

  it.each([0, 50, 100])('may hold anything: every error has an errno (from seed %i)', async (first) => {
    for (let seed = first + 1; seed <= first + 50; seed++) {
      const random = new Random(seed);
      const frames = Array.from({ length: 1 + random.below(5) }, () => frame(1 + random.below(17), random.bytes(random.below(80))));
      expect(await sendAfterOffer(frame(Kind.EXTENTS, extents([0, 4])), ...frames)).toMatch(/^E/);
    }
  });
});

it('a source that never pauses leaves turns to other clients of the thread', async () => {
  const side = new MigrationSide(movable({ bulk: true }));
  opened.push(side);
  const begin = offer({ ids: side.device.region(7).read32(0) >>> 0 });
  const more = frame(Kind.PROGRESS, encodeJson({}));
  let frames = 0;
  const endless: ByteStream = {
    ...mute,
    send: (_bytes, start, end) => end - start,
    receive: (into, start) => {
      const next = frames++ === 0 ? begin : more;
      if (frames === 1_000_000) return END_OF_STREAM;
      into.set(next, start);
      return next.length;
    },
  };
  using link = new Link(endless);
  setImmediate(() => link.fail(new VfioError('EINTR', 'another client had a turn')));
  await expect(arrive(link, { name: 'here', open: () => side.device, arrived: () => {} })).rejects.toMatchObject({ code: 'EINTR' });
});

it('a destination that takes everything at once leaves turns to other clients of the thread', async () => {
  using link = new Link({ ...mute, send: (_bytes, start, end) => end - start });
  setImmediate(() => link.fail(new VfioError('EINTR', 'another client had a turn')));
  const chunk = new Uint8Array(16);
  const all = async (): Promise<void> => {
    for (let i = 0; i < 1_000_000; i++) await link.send(Kind.DEVICE, chunk);
  };
  await expect(all()).rejects.toMatchObject({ code: 'EINTR' });
});

describe('memory', () => {
  it('whose pages the client returned to the system after the copy is copied again, as zeroes', () => {
    using one = MemfdMemory.allocate(64 * PAGE);
    one.windows[0]!.fill(1, 9 * PAGE, 11 * PAGE);
    const extent = new Extent(0, one, 0, 64);
    const into = new Uint8Array(64 * PAGE);
    for (const _ms of extent.scan());
    expect(extent.nextRun()).toEqual({ first: 9, count: 2 });
    expect(extent.take(9, 2, into)).toEqual(['filled', 'filled']);
    expect(extent.nextRun()).toBeNull();
    one.windows[0]!.fill(0);
    // As a file with a hole there: fallocate(2), FALLOC_FL_PUNCH_HOLE.
    Object.assign(one, { nextData: () => null });
    for (const _ms of extent.scan());
    expect(extent.nextRun()).toEqual({ first: 9, count: 2 });
    expect(extent.take(9, 2, into)).toEqual(['zeroes', 'zeroes']);
  });

  it('of an extent lies in one window, and further extents find room', () => {
    using memory = new ArrivingMemory();
    memory.add([
      { number: 0, pages: 3 },
      { number: 1, pages: 2 ** 20 },
    ]);
    memory.add([{ number: 2, pages: 1 }]);
    const whole = memory.locate({ iova: 0n, size: 2 ** 32, extent: 1, page: 0, access: 3 });
    expect([whole.memory, whole.offset]).toEqual([0, 2 ** 32]);
    expect(memory.locate({ iova: 0n, size: PAGE, extent: 2, page: 0, access: 3 })).toMatchObject({ memory: 0, offset: 2 ** 33 });
    for (let number = 3; number < 10; number++) memory.add([{ number, pages: 2 ** 20 }]);
    expect(() => {
      for (let number = 10; number < 40; number++) memory.add([{ number, pages: 2 ** 20 }]);
    }).toThrow(expect.objectContaining({ code: 'EAGAIN' }));
  });

  it('is logged in a limited number of ranges: those closest together become one', () => {
    const mapping = (page: number, pages: number) => ({
      iova: BigInt(page * PAGE),
      size: pages * PAGE,
      extent: 0,
      page: 0,
      access: 3 as const,
    });
    const all = [mapping(0, 1), mapping(1, 1), mapping(4, 1), mapping(100, 2), mapping(103, 1), mapping(1000, 1)];
    const pagesOf = (most: number) => rangesToLog(all, most).map(({ iova, length }) => [Number(iova) / PAGE, Number(length) / PAGE]);
    expect(pagesOf(256)).toEqual([
      [0, 2],
      [4, 1],
      [100, 2],
      [103, 1],
      [1000, 1],
    ]);
    expect(pagesOf(3)).toEqual([
      [0, 5],
      [100, 4],
      [1000, 1],
    ]);
    expect(pagesOf(1)).toEqual([[0, 1001]]);
    // No number can express the end of the last page.
    expect(rangesToLog([{ iova: 2n ** 64n - 8192n, size: 8192, extent: 0, page: 0, access: 3 }])).toEqual([
      { iova: 2n ** 64n - 8192n, length: 4096n },
    ]);
  });
});
