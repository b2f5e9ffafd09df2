import { expect, it } from 'vitest';
import { FakeDevice } from '../../../tests/kit/fake-device.ts';
import { IrqIndex } from '../../abi/vfio.ts';
import { ManualClock } from '../../base/clock.ts';
import { DriverDevice } from './driver-device.ts';

function make(signal?: AbortSignal) {
  const fake = new FakeDevice();
  const clock = new ManualClock();
  const dev = DriverDevice.attach(fake, { clock, ...(signal === undefined ? {} : { signal }) });
  return { fake, clock, dev, reader: () => dev.events({ kinds: ['wait'] }) };
}

it('a wait for an interrupt is an event at its end: its latency by the driver’s clock, and the interrupt as cause', async () => {
  const { fake, clock, dev, reader } = make();
  using events = reader();
  const irq = dev.msi.enable(2);
  const woken = irq.next(1);
  clock.advance(3);
  fake.eventPort.cause = 41;
  fake.signal(IrqIndex.MSI, 1);
  fake.eventPort.cause = 0;
  await woken;
  expect(events.take()).toMatchObject([
    { kind: 'wait', device: fake.info.name, what: 'MSI vector 1', outcome: 'done', latencyNs: 3e6, cause: 41 },
  ]);
});

it('an interrupt that came before the wait ends it at once, and is its cause', async () => {
  const { fake, dev, reader } = make();
  using events = reader();
  const irq = dev.intx.enable();
  fake.eventPort.cause = 7;
  fake.signal(IrqIndex.INTX);
  fake.eventPort.cause = 0;
  await irq.next();
  expect(events.take()).toMatchObject([{ what: 'INTx', outcome: 'done', latencyNs: 0, cause: 7 }]);
  expect(fake.eventPort.cause).toBe(0);
});

it('a timeout, an abort, and a device that goes have outcomes of their own', async () => {
  const abort = new AbortController();
  const { fake, clock, dev, reader } = make(abort.signal);
  using events = reader();
  const irq = dev.msi.enable(1);
  const late = irq.next(0, { timeoutMs: 5 });
  clock.advance(6);
  await expect(late).rejects.toThrow('within 5 ms');
  const aborted = irq.next();
  abort.abort();
  await expect(aborted).rejects.toThrow();
  const other = make();
  using others = other.reader();
  const gone = other.dev.msi.enable(1).next();
  other.fake.emit({ kind: 'gone', reason: 'unplugged' });
  await expect(gone).rejects.toThrow('is gone');
  expect([...events.take(), ...others.take()].map((event) => event.kind === 'wait' && event.outcome)).toEqual([
    'timeout',
    'interrupted',
    'gone',
  ]);
  expect(fake.eventPort.cause).toBe(0);
});

it('until is a wait for a condition; its own failure is one, too', async () => {
  const { clock, dev, reader } = make();
  using events = reader();
  let there = false;
  const wait = dev.until(() => there);
  clock.advance(2);
  there = true;
  await clock.pass(5);
  await wait;
  await expect(
    dev.until(() => {
      throw new Error('the driver’s bug');
    }),
  ).rejects.toThrow('bug');
  expect(events.take()).toMatchObject([
    { what: 'a condition', outcome: 'done', latencyNs: 2e6 },
    { what: 'a condition', outcome: 'failed', latencyNs: 0 },
  ]);
});

it('a wait that began before the reader makes no event', async () => {
  const { fake, dev, reader } = make();
  const irq = dev.msi.enable(1);
  const woken = irq.next();
  using events = reader();
  fake.signal(IrqIndex.MSI);
  await woken;
  expect(events.take()).toEqual([]);
});

it('a driver reports waits of its own', () => {
  const { clock, dev, reader } = make();
  const before = dev.waits.begin();
  using events = reader();
  const since = dev.waits.begin();
  clock.advance(1);
  dev.waits.ended('the self-test', 'done', since);
  dev.waits.ended('another', 'done', before);
  expect(events.take()).toMatchObject([{ what: 'the self-test', outcome: 'done', latencyNs: 1e6 }]);
});
