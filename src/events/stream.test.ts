import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import type { EventOf, VfioEvent } from '../abi/event.ts';
import { ManualClock } from '../base/clock.ts';
import { EventReader } from './reader.ts';
import { RING_DATA_BYTES, RING_RECORDS, RING_TEXT_CHARS } from './ring.ts';
import { Irq, Step, Way } from './source.ts';
import { EventStream, streamOf } from './stream.ts';

function make() {
  const clock = new ManualClock();
  const stream = new EventStream({ clock });
  return { clock, stream, source: stream.source('0000:00:04.0') };
}

/** Without the time of the host. */
function bare(events: readonly VfioEvent[]): object[] {
  return events.map(({ hostNs: _, ...event }) => event);
}

const head = { device: '0000:00:04.0', timeNs: 0, cause: 0 };

it('without a reader nothing is kept, and sources say so', () => {
  const { stream, source } = make();
  expect([source.on, source.emit('power', { state: 'D0' }), source.interrupt(Step.raised, Irq.intx, 0)]).toEqual([false, 0, 0]);
  using reader = stream.read();
  expect([source.on, reader.take()]).toEqual([true, []]);
  reader[Symbol.dispose]();
  expect([source.on, stream.on]).toEqual([false, false]);
});

it('events carry number, device, the clock’s time, and the event that led to them', () => {
  const { clock, stream, source } = make();
  using reader = stream.read();
  clock.advance(2);
  const seq = source.access(true, 0, 0x1000, 4, 0xdead_beef, 0, false);
  source.cause = seq;
  source.dma(false, 2 ** 52 - 1, 0xff8, 8, Way.direct, null);
  source.interrupt(Step.delivered, Irq.msix, 3);
  source.cause = 0;
  source.emit('reset', { by: 'open', method: 'flr' });
  expect(bare(reader.take())).toEqual([
    {
      ...head,
      kind: 'access',
      seq: 1,
      timeNs: 2e6,
      op: 'write',
      region: 0,
      offset: 0x1000,
      size: 4,
      value: 0xdead_beef,
      verdict: 'device',
    },
    { ...head, kind: 'dma', seq: 2, timeNs: 2e6, cause: 1, op: 'read', iova: 0xffff_ffff_ffff_fff8n, size: 8, way: 'direct' },
    { ...head, kind: 'interrupt', seq: 3, timeNs: 2e6, cause: 1, step: 'delivered', irq: 'msix', vector: 3 },
    { ...head, kind: 'reset', seq: 4, timeNs: 2e6, by: 'open', method: 'flr' },
  ]);
});

it('times are whole nanoseconds, whatever the clock says', () => {
  const stream = new EventStream({ clock: { nowNs: () => 1.5, after: () => ({ [Symbol.dispose]() {} }) } });
  using reader = stream.read();
  stream.source('a').emit('power', { state: 'D0' });
  const [event] = reader.take();
  expect([event!.timeNs, Number.isInteger(event!.hostNs)]).toEqual([2, true]);
});

it('commands and waits of a shape are like those with objects, and the shape is theirs together', () => {
  const { stream, source } = make();
  const read = { kind: 'command', name: 'Read', queue: 'I/O 1', status: 'ok', fields: ['cid', 'slba'] } as const;
  const wait = { kind: 'wait', what: 'Read on I/O 1', outcome: 'done' } as const;
  expect(source.emitShaped(read, 5, 1, 2)).toBe(0);
  using reader = stream.read();
  source.cause = 41;
  source.emitShaped(read, 5, 1, 2 ** 50);
  source.emitShaped(wait, 7);
  source.emitShaped(read, 6, 2, 3);
  const { fields: _, ...words } = read;
  expect(bare(reader.take())).toEqual([
    { ...head, ...words, seq: 1, cause: 41, fields: { cid: 1, slba: 2 ** 50 }, latencyNs: 5 },
    { ...head, ...wait, seq: 2, cause: 41, latencyNs: 7 },
    { ...head, ...words, seq: 3, cause: 41, fields: { cid: 2, slba: 3 }, latencyNs: 6 },
  ]);
});

it('a read is seen once its value is known, before what it led to', () => {
  const { stream, source } = make();
  using reader = stream.read();
  const seq = source.access(false, 2, 8, 8, 0, 0, false);
  source.interrupt(Step.lowered, Irq.intx, 0);
  expect(reader.take()).toEqual([]);
  source.read(seq, 0x5566_7788, 0x1122_3344);
  expect(reader.take()).toMatchObject([{ kind: 'access', value: 0x1122_3344_5566_7788n }, { kind: 'interrupt' }]);
});

describe('filters', () => {
  it('by kind and by device', () => {
    const { stream, source } = make();
    const other = stream.source('0000:00:05.0');
    using power = stream.read({ kinds: ['power'] });
    using mine = stream.read({ devices: ['0000:00:05.0'] });
    source.emit('power', { state: 'D0' });
    other.emit('power', { state: 'D3hot' });
    other.emit('reset', { by: 'open' });
    expect(power.take().map(({ device }) => device)).toEqual(['0000:00:04.0', '0000:00:05.0']);
    expect(mine.take().map(({ kind }) => kind)).toEqual(['power', 'reset']);
  });

  it('a kind that does not exist is EINVAL, with the one that was meant', () => {
    expect(() => make().stream.read({ kinds: ['interupt' as never] })).toThrow(
      expect.objectContaining({ code: 'EINVAL', fix: expect.stringContaining("'interrupt'") }),
    );
  });
});

describe('data', () => {
  it('is for readers that ask for it: bytes, and values of plain memory', () => {
    const { stream, source } = make();
    using plain = stream.read();
    using curious = stream.read({ data: true });
    const bytes = Uint8Array.of(1, 2, 3);
    source.dma(true, 1, 0, 3, Way.direct, bytes);
    bytes.fill(9);
    source.access(true, 0, 0, 4, 7, 0, true);
    expect(plain.take().map((event) => ['data' in event, 'value' in event])).toEqual([
      [false, false],
      [false, false],
    ]);
    expect(curious.take()).toMatchObject([{ data: Uint8Array.of(1, 2, 3) }, { value: 7 }]);
  });

  it('takes bounded memory, which is free again with the records', () => {
    const { stream, source } = make();
    using reader = stream.read({ data: true });
    const bytes = new Uint8Array(RING_DATA_BYTES / 4);
    for (let i = 0; i < 6; i++) source.dma(true, 1, 0, bytes.length, Way.direct, bytes);
    expect(reader.take().filter((event) => 'data' in event)).toHaveLength(4);
    for (let i = 0; i < RING_RECORDS; i++) source.interrupt(Step.raised, Irq.intx, 0);
    source.dma(true, 1, 0, bytes.length, Way.direct, bytes);
    expect(reader.take().filter((event) => 'data' in event)).toHaveLength(1);
  });
});

describe('a slow reader', () => {
  it('loses the oldest, and reads how many', () => {
    const { stream, source } = make();
    using reader = stream.read();
    for (let i = 0; i < RING_RECORDS + 10; i++) source.interrupt(Step.raised, Irq.msi, i);
    const events = reader.take();
    expect(events[0]).toMatchObject({ kind: 'dropped', seq: 10, count: 10 });
    expect([events.length, events.at(-1)?.seq]).toEqual([RING_RECORDS + 1, RING_RECORDS + 10]);
  });

  it('with a call under pressure loses nothing in a long turn', () => {
    const { stream, source } = make();
    let seen = 0;
    const reader = stream.read({}, () => {
      seen += reader.take().length;
    });
    using _reader = reader;
    for (let i = 0; i < 3 * RING_RECORDS; i++) source.interrupt(Step.raised, Irq.msi, 0);
    seen += reader.take().length;
    expect(seen).toBe(3 * RING_RECORDS);
  });
});

it('a call under pressure that fails is its author’s error, and nothing of the device fails', async () => {
  const { stream, source } = make();
  const errors: unknown[] = [];
  const before = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', (error) => errors.push((error as Error).message));
  try {
    using _reader = stream.read({}, () => {
      throw new Error('no');
    });
    for (let i = 0; i < RING_RECORDS / 2 + 1; i++) source.interrupt(Step.raised, Irq.msi, 0);
    await new Promise(setImmediate);
  } finally {
    process.removeAllListeners('uncaughtException');
    for (const listener of before) process.on('uncaughtException', listener);
  }
  expect(errors).toEqual(['no']);
});

describe('for await', () => {
  it('gives events as they come, and leaving the loop ends the reader', async () => {
    const { stream, source } = make();
    setImmediate(() => {
      source.emit('power', { state: 'D3hot' });
      setImmediate(() => source.emit('power', { state: 'D0' }));
    });
    const states: string[] = [];
    for await (const event of stream.read()) {
      if (event.kind === 'power') states.push(event.state);
      if (states.length === 2) break;
    }
    expect([states, stream.on]).toEqual([['D3hot', 'D0'], false]);
  });

  it('ends when the reader is disposed, or the stream', async () => {
    for (const what of ['reader', 'stream'] as const) {
      const { stream } = make();
      const reader = stream.read();
      setImmediate(() => (what === 'reader' ? reader : stream)[Symbol.dispose]());
      for await (const _ of reader) expect.unreachable();
    }
  });

  it('waits without work, whatever another reader leaves unread', async () => {
    const { stream, source } = make();
    const unread = stream.read();
    const seen: string[] = [];
    const loops = ['a', 'b'].map(async (name) => {
      for await (const { kind } of stream.read()) seen.push(`${name} ${kind}`);
    });
    await turn();
    source.emit('power', { state: 'D3hot' });
    while (seen.length < 2) await turn();
    const wake = vi.spyOn(EventReader.prototype, 'wake');
    for (let i = 0; i < 20; i++) await turn();
    expect(wake.mock.calls.length).toBeLessThanOrEqual(6);
    wake.mockRestore();
    source.emit('power', { state: 'D0' });
    while (seen.length < 4) await turn();
    expect(unread.take()).toHaveLength(2);
    stream[Symbol.dispose]();
    await Promise.all(loops);
  });

  it('that begins to wait within a read gets it', async () => {
    const { stream, source } = make();
    using reader = stream.read();
    const seq = source.access(false, 0, 0, 4, 0, 0, false);
    const next = reader.next();
    source.read(seq, 7, 0);
    await next;
    expect(reader.take()).toMatchObject([{ value: 7 }]);
  });

  it('two readers have the same events, each at its own pace', async () => {
    const { stream, source } = make();
    using early = stream.read();
    source.emit('power', { state: 'D0' });
    using late = stream.read();
    source.emit('power', { state: 'D3hot' });
    expect([early.take().length, late.take().length]).toEqual([2, 1]);
  });
});

it('numbers go on with a later reader', () => {
  const { stream, source } = make();
  const first = stream.read();
  source.emit('power', { state: 'D0' });
  first[Symbol.dispose]();
  using second = stream.read();
  source.emit('power', { state: 'D0' });
  expect(second.take()).toMatchObject([{ seq: 2 }]);
});

it('a source that is gone emits nothing', () => {
  const { stream, source } = make();
  using reader = stream.read();
  source[Symbol.dispose]();
  source.emit('power', { state: 'D0' });
  expect(reader.take()).toEqual([]);
});

it('the events before the end of the stream can be read after it', async () => {
  const { stream, source } = make();
  const reader = stream.read();
  source.emit('power', { state: 'D0' });
  stream[Symbol.dispose]();
  source.emit('power', { state: 'D3hot' });
  const states = [];
  for await (const event of reader) states.push(event.kind === 'power' ? event.state : event.kind);
  expect([states, stream.on]).toEqual([['D0'], false]);
});

it('a loop that waits ends with the stream', async () => {
  const { stream } = make();
  const loop = (async () => {
    for await (const event of stream.read()) return event.kind;
    return 'the end';
  })();
  await Promise.resolve();
  stream[Symbol.dispose]();
  expect(await loop).toBe('the end');
});

it('containers have the lowest number that is free', () => {
  const { stream } = make();
  const first = stream.container();
  const names = [first.name, stream.container().name];
  first[Symbol.dispose]();
  expect([...names, stream.container().name, stream.container().name]).toEqual([
    'container 0',
    'container 1',
    'container 0',
    'container 2',
  ]);
});

it('an event of another stream keeps its times and its device, and gets a number and a cause here', () => {
  const { stream, source } = make();
  using reader = stream.read({ data: true });
  const before = source.emit('reset', { by: 'open' });
  const data = new Uint8Array([1, 2]);
  const other = { op: 'read', iova: 4096n, size: 2, way: 'direct', data } as const;
  stream.relay({ kind: 'dma', seq: 77, timeNs: 5, hostNs: 6, device: '0000:09:00.0', cause: 76, ...other }, before);
  expect(reader.take()[1]).toEqual({ kind: 'dma', seq: before + 1, timeNs: 5, hostNs: 6, device: '0000:09:00.0', cause: before, ...other });
});

it('what runs during an event has it as its cause, also when it throws', () => {
  const { stream, source } = make();
  using reader = stream.read();
  const seq = source.emit('reset', { by: 'open' });
  expect(() =>
    source.during(seq, () => {
      source.emit('power', { state: 'D0' });
      throw new Error('no');
    }),
  ).toThrow('no');
  source.emit('power', { state: 'D0' });
  expect(reader.take().map(({ cause }) => cause)).toEqual([0, seq, 0]);
});

describe('an event whose fields come at its end', () => {
  it('is seen then, before what it led to', () => {
    const { stream, source } = make();
    using reader = stream.read();
    const seq = source.begin('reset');
    source.emit('power', { state: 'D0' });
    expect(reader.take()).toEqual([]);
    source.end(seq, 'reset', { by: 'open', errno: 'EIO' });
    expect(reader.take()).toMatchObject([{ kind: 'reset', seq, by: 'open', errno: 'EIO' }, { kind: 'power' }]);
  });

  it('can be withdrawn while it is the last, and its number is used again', () => {
    const { stream, source } = make();
    using reader = stream.read();
    const seq = source.begin('reset');
    expect(source.withdraw(seq)).toBe(true);
    expect(source.emit('power', { state: 'D0' })).toBe(seq);
    const kept = source.begin('reset');
    source.emit('power', { state: 'D0' });
    expect(source.withdraw(kept)).toBe(false);
    source.end(kept, 'reset', { by: 'open' });
    expect(reader.take().map(({ kind }) => kind)).toEqual(['power', 'reset', 'power']);
  });

  it('withdrawn from a full ring takes the place of an older one all the same', () => {
    const { stream, source } = make();
    using reader = stream.read();
    for (let i = 0; i < RING_RECORDS; i++) source.interrupt(Step.raised, Irq.msi, i);
    source.withdraw(source.begin('reset'));
    const events = reader.take();
    expect(events[0]).toMatchObject({ kind: 'dropped', count: 1 });
    expect([events.length, events[1]]).toEqual([RING_RECORDS, expect.objectContaining({ kind: 'interrupt', vector: 1 })]);
  });

  it('is nothing without a reader', () => {
    const { source } = make();
    const seq = source.begin('reset');
    source.end(seq, 'reset', { by: 'open' });
    expect([seq, source.withdraw(seq)]).toEqual([0, true]);
  });
});

describe('a model that breaks the types of its events', () => {
  const command = { name: 'Read', fields: {}, status: 'ok', latencyNs: 1 };
  /** As a model in JavaScript does. */
  const emit = (details: object) => {
    const { stream, source } = make();
    const reader = stream.read({ data: true });
    source.emit('command', details as never);
    return reader.take();
  };

  it('gets the errors of its own getters; readers see nothing', () => {
    const { stream, source } = make();
    using reader = stream.read();
    const details = {
      ...command,
      get name(): string {
        throw new Error('mine');
      },
    };
    expect(() => source.emit('command', details)).toThrow('mine');
    expect(reader.take()).toEqual([]);
  });

  it('cannot give its event another head', () => {
    expect(bare(emit({ ...command, kind: 'token', seq: 9, device: 'machine', cause: 5, timeNs: 7 }))).toEqual([
      { ...head, ...command, kind: 'command', seq: 1 },
    ]);
  });

  it('cannot change it later', () => {
    const { stream, source } = make();
    using reader = stream.read();
    const details = { ...command };
    source.emit('command', details);
    details.name = 'Write';
    expect(reader.take()).toMatchObject([{ name: 'Read' }]);
  });

  it('cannot fill the memory with texts: they are cut, and shorter while many are long', () => {
    const { stream, source } = make();
    using reader = stream.read();
    const fields = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`f${i}`, 'y'.repeat(2000)]));
    const emitLong = () => source.emit('command', { ...command, name: 'x'.repeat(10 ** 6), fields });
    emitLong();
    const charsOf = (event: VfioEvent) => JSON.stringify(event).length;
    const [first] = reader.take() as EventOf<'command'>[];
    expect([first!.name, Object.keys(first!.fields).length]).toEqual([`${'x'.repeat(16_384)}…`, 64]);
    for (let i = 0; i < 1000; i++) emitLong();
    expect(reader.take().reduce((sum, event) => sum + charsOf(event), 0)).toBeLessThan(RING_TEXT_CHARS + 1000 * 2048);
    for (let i = 0; i < RING_RECORDS; i++) source.interrupt(Step.raised, Irq.msi, 0);
    emitLong();
    expect(charsOf(reader.take().at(-1)!)).toBeGreaterThan(65_536);
  });

  it.each([
    ['no object', null],
    ['data that is none', { ...command, data: { length: -1e9 } }],
  ])('%s does no harm', (_name, details) => {
    expect(emit(details as object)).toMatchObject([{ kind: 'command', seq: 1 }]);
  });
});

it('a reader’s events have the types of the kinds that it asked for', () => {
  const { stream, source } = make();
  using reader = stream.read({ kinds: ['power', 'dma'] });
  source.emit('power', { state: 'D0' });
  for (const event of reader.take()) {
    const kind: 'power' | 'dma' | 'dropped' = event.kind;
    expect(kind).toBe('power');
    // @ts-expect-error resets were not asked for
    expect(event.kind === 'reset').toBe(false);
  }
});

it.each<[object, string]>([
  [{ kind: ['access'] }, "has no 'kind'"],
  [{ kinds: 'access' }, "kinds of events() is 'access'; it takes an array"],
  [{ kinds: ['acess'] }, "no events of kind 'acess'"],
  [{ devices: '0000:00:04.0' }, "devices of events() is '0000:00:04.0'; it takes an array"],
  [{ devices: [4] }, 'it takes text'],
  [{ data: 'yes' }, 'it takes true or false'],
  [['access'], 'events() is an array; it takes an object'],
])('the options %j are refused with EINVAL', (options, message) => {
  const { stream } = make();
  expect(() => stream.read(options)).toThrow(expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining(message) }));
  expect(stream.on).toBe(false);
});

it('a stream that has ended gives its readers no events, and their loops end', async () => {
  const { stream, source } = make();
  stream[Symbol.dispose]();
  const reader = stream.read();
  source.emit('power', { state: 'D0' });
  const events: VfioEvent[] = [];
  for await (const event of reader) events.push(event);
  expect([events, stream.on]).toEqual([[], false]);
});

it('the option events takes a stream alone', () => {
  const stream = new EventStream();
  expect(streamOf(stream, {})).toBe(stream);
  expect(streamOf(undefined, {})).toBeInstanceOf(EventStream);
  expect(() => streamOf('run.jsonl' as never, {})).toThrow(
    expect.objectContaining({ code: 'EINVAL', message: "the option 'events' is 'run.jsonl'; it takes an EventStream" }),
  );
});
