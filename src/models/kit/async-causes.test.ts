import { AsyncLocalStorage } from 'node:async_hooks';
import { expect, it, vi } from 'vitest';
import type { VfioEvent } from '../../abi/event.ts';
import { registers, u32 } from '../../base/registers.ts';
import { bar } from './bar.ts';
import { device } from './device.ts';
import type { Dev } from './device-spec.ts';
import { TestHost } from './test-host.ts';

const Card = registers({ go: u32(0x00), other: u32(0x04) });
const bar0 = bar('4K', Card);
type CardDev = Dev<{ bar0: typeof bar0 }>;

function make(go: (dev: CardDev, value: number) => unknown, other: (dev: CardDev) => unknown = () => {}) {
  const host = new TestHost({ mode: 'msi', vectors: 4 });
  host.plug(device({ id: '1234:0001', msi: 4, bars: { bar0 }, on: { 'bar0.go': go, 'bar0.other': { serial: other } } }));
  return { host, card: host.bar(0, Card) };
}

/** `access 3 ← 0`: kind, and the value or vector, and the cause. */
function chain(events: readonly VfioEvent[]): string[] {
  return events.map((event) => {
    const what = event.kind === 'access' ? event.value : event.kind === 'interrupt' ? event.vector : event.kind === 'dma' ? event.size : '';
    return `${event.seq} ${event.kind} ${what} ← ${event.cause}`;
  });
}

it('an async handler acts for the access that started it, also after DMA, sleep and functions of its own', async () => {
  const helper = async (dev: CardDev) => void (await dev.dma.read(0x10_0000n, 16));
  const { host, card } = make(async (dev, value) => {
    await helper(dev);
    await dev.sleep(value);
    await Promise.resolve();
    dev.irq.trigger(value);
    dev.dma.tryWrite(0x10_0000n, new Uint8Array(8));
  });
  using reader = host.stream.read();
  card.go = 2;
  card.go = 1;
  await host.advance(5);
  expect(chain(reader.take())).toEqual([
    '1 access 2 ← 0',
    '2 dma 16 ← 1',
    '3 access 1 ← 0',
    '4 dma 16 ← 3',
    '5 interrupt 1 ← 3',
    '6 dma 8 ← 3',
    '7 interrupt 2 ← 1',
    '8 dma 8 ← 1',
  ]);
  expect(host.events.cause).toBe(0);
});

it('a timer that a handler sets after an await carries the cause on', async () => {
  const { host, card } = make(async (dev) => {
    await dev.sleep(1);
    dev.after(1, async () => {
      await dev.sleep(1);
      dev.irq.trigger(0);
    });
  });
  using reader = host.stream.read();
  card.go = 7;
  await host.advance(10);
  expect(chain(reader.take())).toEqual(['1 access 7 ← 0', '2 interrupt 0 ← 1']);
});

it('of handlers that run one at a time, each run has the access that asked for it', async () => {
  const { host, card } = make(
    () => {},
    async (dev) => {
      dev.irq.trigger(0);
      await dev.sleep(1);
      dev.irq.trigger(1);
    },
  );
  using reader = host.stream.read();
  card.other = 1;
  card.other = 2;
  await host.advance(10);
  expect(chain(reader.take())).toEqual([
    '1 access 1 ← 0',
    '2 interrupt 0 ← 1',
    '3 access 2 ← 0',
    '4 interrupt 1 ← 1',
    '5 interrupt 0 ← 3',
    '6 interrupt 1 ← 3',
  ]);
});

it('a handler that fails after an await leaves no cause behind, and the line about it names the access', async () => {
  const { host, card } = make(async (dev) => {
    await dev.sleep(1);
    await dev.dma.write(0n, new Uint8Array(1));
  });
  using reader = host.stream.read();
  card.go = 1;
  await host.advance(2);
  expect(host.events.cause).toBe(0);
  expect(chain(reader.take())).toEqual(['1 access 1 ← 0', '2 note  ← 1']);
});

it('without a reader AsyncLocalStorage is not in use, and not after the last one has left', async () => {
  const run = vi.spyOn(AsyncLocalStorage.prototype, 'run');
  const disable = vi.spyOn(AsyncLocalStorage.prototype, 'disable');
  const { host, card } = make(async (dev) => void (await dev.sleep(1)));
  const second = make(() => {});
  card.go = 1;
  await host.advance(2);
  expect(run).not.toHaveBeenCalled();
  const readers = [host.stream.read(), second.host.stream.read()];
  card.go = 1;
  second.card.go = 1;
  expect(run).toHaveBeenCalledTimes(2);
  readers[0]![Symbol.dispose]();
  expect(disable).not.toHaveBeenCalled();
  readers[1]![Symbol.dispose]();
  expect(disable).toHaveBeenCalledTimes(1);
  vi.restoreAllMocks();
});
