/**
 * Handlers that forget an `await`, or are async where they must not be: what a driver can provoke
 * must not be an unhandled rejection.
 */
import { expect, it } from 'vitest';
import { turn } from '../../../tests/kit/event-loop.ts';
import { unhandledRejections } from '../../../tests/kit/unhandled-rejections.ts';
import { u32, u64 } from '../../base/registers.ts';
import { bar } from './bar.ts';
import { device } from './device.ts';
import type { ModelDma, ModelIrq } from './life.ts';
import { decodePlain } from './plain-data.ts';
import { TestHost } from './test-host.ts';

const unhandled = unhandledRejections();

const UNMAPPED = 0xdead_0000n;

function cardThat(
  go: (dev: {
    readonly dma: ModelDma;
    readonly irq: ModelIrq;
    sleep(ms: number): Promise<void>;
    after(ms: number, f: () => unknown): unknown;
  }) => unknown,
) {
  const host = new TestHost();
  const card = device({
    id: '1234:cafe',
    name: 'card',
    bars: { bar0: bar('4K', { go: u32(0), other: u32(4) }) },
    on: { 'bar0.go': go },
  }).create(host);
  const logged = () => host.logged.map(({ level, message }) => `${level}: ${message.split('\n')[0]}`);
  return { host, card, logged };
}

it.each<[string, Parameters<typeof cardThat>[0], RegExp]>([
  [
    'dma.write',
    ({ dma }) => void dma.write(UNMAPPED, new Uint8Array(8)),
    /^warn: card: dma\.write, which no handler awaits,: DMA fault at 0xdead0000: not-mapped$/,
  ],
  ['dma.read', ({ dma }) => void dma.read(UNMAPPED, 8), /^warn: card: dma\.read, which no handler awaits,: DMA fault/],
  [
    'a chain of dma.read',
    ({ dma, irq }) => void dma.read(UNMAPPED, 8).then(() => irq.trigger(0)),
    /^warn: card: dma\.read, which no handler awaits,: DMA fault/,
  ],
  [
    'dma.read of a size that is none',
    ({ dma }) => void dma.read(0x10_0000n, 2 ** 40),
    /^error: card: dma\.read, which no handler awaits, failed: RangeError/,
  ],
  [
    'dma.write in a timer',
    ({ dma, after }) => void after(1, () => void dma.write(UNMAPPED, new Uint8Array(8))),
    /^warn: card: dma\.write, which no handler awaits,/,
  ],
  [
    'a thenable that rejects',
    // biome-ignore lint/suspicious/noThenProperty: that is the point
    () => ({ then: (_: unknown, reject: (e: unknown) => void) => reject(new Error('later')) }),
    /^error: card: bar0\.go failed: Error: later$/,
  ],
  [
    'an object without text',
    () => Promise.reject(Object.create(null)),
    /^error: card: bar0\.go failed: a value of type object that has no text$/,
  ],
])('house: a handler that does not await %s: logged with its name, and registers answer', async (_, go, line) => {
  const { host, card, logged } = cardThat(go);
  card.write(0, 0, 4, 1);
  host.clock.advance(2);
  await turn();
  card.write(0, 4, 4, 7);
  expect([logged().length, unhandled, card.read(0, 4, 4)]).toEqual([1, [], 7]);
  expect(logged()[0]).toMatch(line);
});

it('house: a sleep that no handler awaits ends with the reset that a driver makes, and nothing is said of it', async () => {
  const { card, logged } = cardThat(({ sleep }) => void sleep(1000));
  card.write(0, 0, 4, 1);
  card.reset();
  await turn();
  expect([logged(), unhandled]).toEqual([[], []]);
});

it('house: a fault that the handler catches is not logged', async () => {
  const { card, logged } = cardThat(({ dma }) => dma.write(UNMAPPED, new Uint8Array(8)).catch(() => {}));
  card.write(0, 0, 4, 1);
  await turn();
  expect([logged(), unhandled]).toEqual([[], []]);
});

it('house: `state` and handlers in `read` that are async are bugs of the model, each logged', async () => {
  const host = new TestHost();
  const card = device({
    id: '1234:cafe',
    name: 'card',
    bars: { bar0: bar('4K', { a: u32(0), b: u64(8) }) },
    state: async () => {
      throw new Error('in state');
    },
    read: { 'bar0.a': (async () => Promise.reject(new Error('in read'))) as never, 'bar0.b': (() => 'text') as never },
  }).create(host);
  expect([card.read(0, 0, 4), card.read64!(0, 8)]).toEqual([0xffff_ffff, 2n ** 64n - 1n]);
  await turn();
  const text = host.logged.map(({ message }) => message).join('\n');
  for (const part of [
    'it is async; the state has to be there at once',
    "'read' of bar0.a gave back a promise",
    "'read' of bar0.b gave back string",
  ]) {
    expect(text).toContain(part);
  }
  expect(unhandled).toEqual([]);
});

it.each(['save', 'load'] as const)('house: a declaration whose migration.%s is async cannot be moved', async (name) => {
  const make = (own: object) =>
    device({ id: '1234:cafe', name: 'card', bars: { bar0: bar('4K', { a: u32(0) }) }, migration: own as never }).create(new TestHost())
      .migration!;
  const bad = make({ [name]: async () => Promise.reject(new Error('later')) });
  bad.stop();
  if (name === 'save') expect(() => bad.save()).toThrow('migration.save of card is async');
  else expect(() => bad.load(make({}).save(), 1)).toThrow('migration.load of card is async');
  await turn();
  expect(unhandled).toEqual([]);
  expect(decodePlain(make({}).save())).toMatchObject({ timers: {} });
});
