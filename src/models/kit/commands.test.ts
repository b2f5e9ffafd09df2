import { expect, it } from 'vitest';
import { registers, u32 } from '../../base/registers.ts';
import { bar } from './bar.ts';
import { UNDER_WAY_MAX } from './commands.ts';
import { device } from './device.ts';
import type { Dev } from './device-spec.ts';
import { TestHost } from './test-host.ts';

const Card = registers({ go: u32(0x00), stop: u32(0x04), many: u32(0x08) });
const bar0 = bar('4K', Card);
const commands = { copy: { count: 'number', iova: 'bigint', to: 'text', last: 'flag' }, seek: {} } as const;
type CardDev = Dev<{ bar0: typeof bar0 }, undefined, undefined, object, typeof commands>;

function make(go: (dev: CardDev, value: number) => unknown, stop: (dev: CardDev) => unknown = () => {}) {
  const model = device({ id: '1234:0001', name: 'card', commands, bars: { bar0 }, on: { 'bar0.go': go, 'bar0.stop': stop } });
  const host = new TestHost();
  const instance = host.plug(model);
  return { host, instance, card: host.bar(0, Card), events: () => host.stream.read() };
}

it('a command is an event at its end: fields, status, latency by the device’s clock, and the access that led to it', async () => {
  const { host, card, events } = make(async (dev, value) => {
    const copy = dev.begin('copy', { count: value, iova: 0x1000n });
    await dev.sleep(2);
    copy.end('ok', { to: 'memory', last: true });
  });
  using reader = events();
  card.go = 3;
  await host.advance(2);
  expect(reader.take()).toMatchObject([
    { kind: 'access', seq: 1, op: 'write', offset: 0, value: 3 },
    {
      kind: 'command',
      cause: 1,
      device: 'device',
      timeNs: 2e6,
      name: 'copy',
      fields: { count: 3, iova: 0x1000n, to: 'memory', last: true },
      status: 'ok',
      latencyNs: 2e6,
    },
  ]);
});

it('a handler that begins and one that ends need no object between them: the oldest of the name ends', async () => {
  const { host, card, events } = make(
    (dev, value) => dev.begin('copy', { count: value }),
    (dev) => dev.end('copy', 'too far'),
  );
  using reader = events();
  card.go = 1;
  card.go = 2;
  await host.advance(1);
  card.stop = 1;
  expect(reader.take().filter(({ kind }) => kind === 'command')).toMatchObject([
    { cause: 1, fields: { count: 1 }, status: 'too far', latencyNs: 1e6 },
  ]);
});

it('ends once', () => {
  const { card, events } = make((dev) => {
    const seek = dev.begin('seek');
    seek.end();
    seek.end('again');
  });
  using reader = events();
  card.go = 1;
  expect(reader.take()).toMatchObject([{ kind: 'access' }, { kind: 'command', name: 'seek', fields: {}, status: 'ok', latencyNs: 0 }]);
});

it('a reset ends the commands under way, and a removal too', () => {
  const { host, instance, card, events } = make((dev) => dev.begin('seek'));
  using reader = events();
  card.go = 1;
  host.reset();
  card.go = 1;
  instance.dispose?.();
  expect(reader.take().flatMap((event) => (event.kind === 'command' ? [event.status] : []))).toEqual(['reset', 'gone']);
});

it('a command that began without a reader makes no event, and costs no object', () => {
  const given: object[] = [];
  const { card, events } = make(
    (dev) => given.push(dev.begin('seek')),
    (dev) => dev.end('seek'),
  );
  card.go = 1;
  card.go = 2;
  using reader = events();
  card.stop = 1;
  expect(given[0]).toBe(given[1]);
  expect(reader.take().map(({ kind }) => kind)).toEqual(['access']);
});

it('a field of a wrong kind is a mistake of the model, which the log names; the command ends all the same', () => {
  const { host, card, events } = make((dev) => dev.begin('copy', { count: '7' as never, iova: 1n, colour: 'red' } as object).end());
  using reader = events();
  card.go = 1;
  expect(reader.take().filter(({ kind }) => kind === 'command')).toMatchObject([{ fields: { iova: 1n } }]);
  expect(host.logged.map(({ message }) => message)).toEqual([
    "card: command copy failed: its field 'count' is '7', and not of kind 'number'",
    "card: command copy failed: it declares no field 'colour'",
  ]);
});

it('a command that is not declared is EINVAL, also without a reader', () => {
  const { host, card } = make((dev) => dev.begin('sek' as 'seek'));
  card.go = 1;
  expect(host.logged[0]?.message).toContain("the device has no command 'sek'");
  expect(host.logged[0]?.message).toContain("Did you mean 'seek'?");
});

it('commands that never end take bounded memory', () => {
  const { card, events } = make((dev) => dev.begin('seek'));
  const { card: other, host } = make((dev) => {
    for (let i = 0; i < UNDER_WAY_MAX + 10; i++) dev.begin('seek');
  });
  using reader = host.stream.read({ kinds: ['command'] });
  other.go = 1;
  host.reset();
  expect(reader.take()).toHaveLength(UNDER_WAY_MAX);
  using _ = events();
  card.go = 1;
});

it('the declaration is checked when it is made', () => {
  expect(() => device({ id: '1234:0001', commands: { copy: { count: 'integer' as 'number' } } })).toThrow(
    expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining("'number', 'bigint', 'text' or 'flag'") }),
  );
});

it('types follow from the declaration', () => {
  device({
    id: '1234:0001',
    bars: { bar0 },
    commands: { copy: { count: 'number', iova: 'bigint' } },
    on: {
      'bar0.go'(dev) {
        const copy = dev.begin('copy', { count: 1 });
        copy.end('ok', { iova: 1n });
        // @ts-expect-error: the device declares no such command
        dev.begin('move');
        // @ts-expect-error: a number is no bigint
        dev.begin('copy', { iova: 1 });
        // @ts-expect-error: no such field
        copy.end('ok', { size: 1 });
      },
    },
  });
  device({
    id: '1234:0002',
    bars: { bar0 },
    on: {
      // @ts-expect-error: the device declares no commands
      'bar0.go': (dev) => dev.begin('copy'),
    },
  });
});
