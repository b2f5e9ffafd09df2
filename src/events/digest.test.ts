import { expect, it } from 'vitest';
import { digestOf } from '../../tests/kit/event-words.ts';
import type { VfioEvent } from '../abi/event.ts';
import { ManualClock } from '../base/clock.ts';
import { Irq, Step, Way } from './source.ts';
import { EventStream } from './stream.ts';

const BDF = '0000:00:04.0';

/** A doorbell that leads to a DMA and an interrupt; `wire`: as a message of a client. */
function scenario({ wire = false, iova = 0x1000, advanceMs = 0 } = {}): VfioEvent[] {
  const clock = new ManualClock();
  const stream = new EventStream({ clock });
  const device = stream.source(BDF);
  using reader = stream.read();
  clock.advance(advanceMs);
  const message = {
    direction: 'to server',
    id: 1,
    command: 'REGION_WRITE',
    size: 36,
    fds: 0,
    twin: false,
    bytes: new Uint8Array(16),
  } as const;
  if (wire) stream.cause = device.emit('message', { ...message, type: 'command' });
  stream.cause = device.access(true, 0, 0x80, 4, 7, 0, false);
  if (wire) stream.cause = device.emit('message', { ...message, type: 'reply' });
  device.dma(false, iova / 4096, 0, 64, Way.direct, null);
  device.interrupt(Step.raised, Irq.msix, 1);
  stream.cause = 0;
  device.emit('command', { name: 'Read', fields: { cid: 1 }, status: 'ok', latencyNs: advanceMs * 1e6 });
  return reader.take();
}

const deviceOf = (events: readonly VfioEvent[]) => digestOf(events).devices.get(BDF);

it('equal runs have equal digests: the time of the host does not count', () => {
  const again = scenario().map((event) => ({ ...event, hostNs: event.hostNs + 1 }));
  expect(digestOf(again)).toEqual(digestOf(scenario()));
});

it('the stream form sees each difference', () => {
  const all = [scenario(), scenario({ iova: 0x2000 }), scenario({ advanceMs: 1 }), scenario({ wire: true })];
  expect(new Set(all.map((events) => digestOf(events).sha256)).size).toBe(all.length);
});

it('the device form does not see messages that lie between, numbers of the stream, and times', () => {
  expect(deviceOf(scenario({ wire: true, advanceMs: 3 }))).toEqual(deviceOf(scenario()));
  expect(deviceOf(scenario())?.events).toBe(4);
});

it('the device form does not see by which way a DMA went, or its data', () => {
  const other = scenario().map((event) => (event.kind === 'dma' ? { ...event, way: 'remote' as const, data: new Uint8Array(64) } : event));
  expect(deviceOf(other)).toEqual(deviceOf(scenario()));
  expect(digestOf(other).sha256).not.toBe(digestOf(scenario()).sha256);
});

it('the device form sees a value, an order and a cause', () => {
  const events = scenario();
  const [access, dma, interrupt, command] = events as [VfioEvent, VfioEvent, VfioEvent, VfioEvent];
  const others = [
    scenario({ iova: 0x2000 }),
    [access, interrupt, dma, command],
    [access, { ...dma, cause: 0 }, interrupt, command],
    [access, dma, { ...interrupt, cause: dma.seq }, command],
  ];
  expect(new Set([events, ...others].map((each) => deviceOf(each)?.sha256)).size).toBe(5);
});

it('the device form leaves out reads of config space, and keeps writes', () => {
  const config = (op: 'read' | 'write'): VfioEvent[] => {
    const stream = new EventStream({ clock: new ManualClock() });
    using reader = stream.read();
    stream.source(BDF).emit('access', { op, region: 7, offset: 4, size: 2, value: 6, verdict: 'mixed' });
    return reader.take();
  };
  expect([deviceOf(config('read')), deviceOf(config('write'))?.events]).toEqual([undefined, 1]);
});

it('the order between devices is not part of the device form', () => {
  const two = (swap: boolean): VfioEvent[] => {
    const stream = new EventStream({ clock: new ManualClock() });
    using reader = stream.read();
    const sources = [stream.source('a'), stream.source('b')];
    for (const source of swap ? sources.reverse() : sources) source.emit('power', { state: 'D0' });
    return reader.take();
  };
  for (const name of ['a', 'b']) expect(digestOf(two(true)).devices.get(name)).toEqual(digestOf(two(false)).devices.get(name));
  expect(digestOf(two(true)).sha256).not.toBe(digestOf(two(false)).sha256);
});

it('a value that was read back as a bigint is the value', () => {
  const [access, ...rest] = scenario() as [VfioEvent & { readonly value?: number }, ...VfioEvent[]];
  expect(digestOf([{ ...access, value: BigInt(access.value!) } as VfioEvent, ...rest])).toEqual(digestOf(scenario()));
});
