/** Traces, read by an independent decoder (tests/kit/perfetto-trace.ts). */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { about, anyEvent, printed } from '../../../tests/kit/arbitrary-events.ts';
import { packetsOf, timelineOf } from '../../../tests/kit/perfetto-trace.ts';
import type { EventDetails, EventKind, VfioEvent } from '../../abi/event.ts';
import { formatNamed } from './formats.ts';

const DEVICE = '0000:00:04.0';
const ON = `machine/${DEVICE}`;

/** Events with numbers of their own. */
function script() {
  const events: VfioEvent[] = [];
  const add = <K extends EventKind>(timeNs: number, cause: number, kind: K, details: EventDetails<K>, device = DEVICE): number => {
    const seq = events.length + 1;
    events.push({ kind, seq, timeNs, hostNs: timeNs + 1e9, device, cause, ...details } as unknown as VfioEvent);
    return seq;
  };
  return { events, add, timeline: () => timelineOf(printed('perfetto', events)) };
}

const doorbell = { op: 'write', region: 0, offset: 0x1008, size: 4, value: 5, verdict: 'device' } as const;
const read = { name: 'Read', queue: 'I/O 1', fields: { nsid: 1, slba: 0x10n, note: 'x' }, status: 'ok' } as const;
const request = {
  direction: 'to server',
  id: 1,
  command: 'REGION_READ',
  type: 'command',
  size: 32,
  fds: 0,
  twin: false,
  bytes: new Uint8Array(32),
} as const;
const reply = { ...request, direction: 'to client', type: 'reply', size: 36 } as const;

it('tracks stand under their device, and devices under the machine', () => {
  const { add, timeline } = script();
  add(0, 0, 'access', doorbell);
  add(0, 0, 'access', { ...doorbell, region: 7 });
  add(0, 0, 'dma', { op: 'read', iova: 0x1000n, size: 64, way: 'direct' });
  add(0, 0, 'interrupt', { step: 'delivered', irq: 'msix', vector: 2 });
  add(9, 0, 'command', { ...read, latencyNs: 5 });
  add(9, 0, 'wait', { what: 'MSI-X vector 2', outcome: 'done', latencyNs: 5 });
  add(9, 0, 'power', { state: 'D0' }, '0000:00:05.0');
  add(9, 0, 'plug', { step: 'added' }, 'machine');
  expect(timeline().tracks).toEqual([
    'machine',
    ON,
    ...['registers', 'config space', 'DMA', 'MSI-X 2', 'I/O 1', 'driver waits'].map((each) => `${ON}/${each}`),
    'machine/0000:00:05.0',
    'machine/0000:00:05.0/power',
    'machine/events',
  ]);
});

it('an access is an instant with its fields; addresses are pointers, which the viewer shows in hexadecimal', () => {
  const { add, timeline } = script();
  add(1234, 0, 'access', { ...doorbell, verdict: 'refused', errno: 'EIO', rule: 'gone' });
  expect(timeline().slices).toMatchObject([
    {
      ...{ track: `${ON}/registers`, name: 'write32 BAR 0+0x1008 (EIO)', category: 'access', ns: 1234, instant: true },
      args: { seq: 1, op: 'write', region: 0, offset: '0x1008', size: 4, value: '0x5', verdict: 'refused', errno: 'EIO', rule: 'gone' },
    },
  ]);
});

it('a command is a slice from its doorbell to its end, with its own fields', () => {
  const { add, timeline } = script();
  add(10_000, 0, 'command', { ...read, latencyNs: 4000 });
  expect(timeline().slices).toMatchObject([
    {
      ...{ track: `${ON}/I/O 1`, name: 'Read', ns: 6000, durationNs: 4000 },
      args: { queue: 'I/O 1', status: 'ok', latencyNs: 4000, fields: { nsid: 1, slba: '0x10', note: 'x' } },
    },
  ]);
});

it('arrows go from doorbell to command and DMA, from the command to its interrupt, and on to the end of the wait', () => {
  const { add, timeline } = script();
  const root = add(1000, 0, 'access', doorbell);
  add(1100, root, 'dma', { op: 'read', iova: 0x1000n, size: 64, way: 'direct' });
  const command = add(1200, root, 'command', { ...read, latencyNs: 200 });
  const raised = add(1200, command, 'interrupt', { step: 'raised', irq: 'msix', vector: 2 });
  const delivered = add(1300, raised, 'interrupt', { step: 'delivered', irq: 'msix', vector: 2 });
  add(1400, delivered, 'wait', { what: 'MSI-X vector 2', outcome: 'done', latencyNs: 1300 });
  add(1500, 0, 'access', doorbell);
  const { flows, slices } = timeline();
  expect(flows.map(([from, to]) => `${from.name} -> ${to.name}`)).toEqual([
    'write32 BAR 0+0x1008 -> Read',
    'Read -> read',
    'Read -> raised',
    'raised -> delivered',
    'delivered -> over',
  ]);
  expect(slices.filter(({ category }) => category === 'wait')).toMatchObject([
    { name: 'MSI-X vector 2', ns: 100, durationNs: 1300 },
    { name: 'over', ns: 1400, instant: true },
  ]);
});

it('the interrupts of two commands of one doorbell have arrows from their own command', () => {
  const { add, timeline } = script();
  const root = add(1000, 0, 'access', doorbell);
  for (const vector of [1, 2]) {
    const command = add(1000 + 100 * vector, root, 'command', { ...read, name: `Read ${vector}`, latencyNs: 50 });
    add(1500, command, 'interrupt', { step: 'raised', irq: 'msix', vector });
  }
  const arrows = timeline().flows.filter(([, to]) => to.category === 'interrupt');
  expect(arrows.map(([from, to]) => `${from.name} -> ${to.track}`)).toEqual([`Read 1 -> ${ON}/MSI-X 1`, `Read 2 -> ${ON}/MSI-X 2`]);
});

it('a command does not begin before its doorbell when its latency is rounded up', () => {
  const { add, timeline } = script();
  const root = add(1000.4, 0, 'access', doorbell);
  add(1300, root, 'command', { ...read, latencyNs: 302 });
  expect(timeline().slices.map(({ name, ns }) => [name, ns])).toEqual([
    ['write32 BAR 0+0x1008', 1000],
    ['Read', 1000],
  ]);
});

it('commands of a queue that overlap are on tracks of one name, which the viewer shows as one', () => {
  const { add, timeline } = script();
  add(1000, 0, 'command', { ...read, latencyNs: 900 });
  add(1010, 0, 'command', { ...read, latencyNs: 900 });
  add(2000, 0, 'command', { ...read, latencyNs: 500 });
  const slices = timeline().slices;
  expect(slices.map(({ track, ns, durationNs }) => [track, ns, durationNs])).toEqual([
    [`${ON}/I/O 1`, 100, 900],
    [`${ON}/I/O 1`, 110, 900],
    [`${ON}/I/O 1`, 1500, 500],
  ]);
  expect(slices[0]!.uuid === slices[1]!.uuid).toBe(false);
  expect(slices[2]!.uuid).toBe(slices[0]!.uuid);
});

it('a state lasts until the next one', () => {
  const { add, timeline } = script();
  add(100, 0, 'migration', { from: 'RUNNING', to: 'STOP' });
  add(150, 0, 'migration', { from: 'STOP', to: 'RESUMING', errno: 'EBUSY' });
  add(300, 0, 'migration', { from: 'STOP', to: 'RUNNING' });
  add(400, 0, 'enable', { busMaster: true, memory: true, io: false });
  add(450, 0, 'enable', { busMaster: true, memory: true, io: false });
  add(500, 0, 'enable', { busMaster: false, memory: false, io: false });
  expect(timeline().slices.map(({ name, ns, durationNs }) => [name, ns, durationNs])).toEqual([
    ['STOP', 100, 200],
    ['RESUMING (EBUSY)', 150, 0],
    ['RUNNING', 300, null],
    ['bus master, memory', 400, 100],
    ['bus master, memory', 450, 0],
    ['off', 500, null],
  ]);
});

it('a pin is a slice while it is asserted', () => {
  const { add, timeline } = script();
  const intx = { irq: 'intx', vector: 0 } as const;
  add(100, 0, 'interrupt', { ...intx, step: 'raised' });
  add(110, 0, 'interrupt', { ...intx, step: 'delivered' });
  add(120, 0, 'interrupt', { ...intx, step: 'raised' });
  add(300, 0, 'interrupt', { ...intx, step: 'lowered' });
  add(300, 0, 'interrupt', { ...intx, step: 'lowered' });
  expect(timeline().slices.map(({ track, name, ns, durationNs }) => [track, name, ns, durationNs])).toEqual([
    [`${ON}/INTx`, 'asserted', 100, 200],
    [`${ON}/INTx`, 'delivered', 110, 0],
    [`${ON}/INTx`, 'asserted', 120, 0],
    [`${ON}/INTx`, 'lowered', 300, 0],
    [`${ON}/INTx`, 'lowered', 300, 0],
  ]);
});

describe('messages', () => {
  it('a request and its reply are a slice, with the fields of both', () => {
    const { add, timeline } = script();
    add(100, 0, 'message', request);
    add(150, 0, 'message', { ...request, id: 2, type: 'posted' });
    add(300, 1, 'message', { ...reply, errno: 'EBUSY', type: 'error' });
    expect(timeline().slices).toMatchObject([
      {
        ...{ track: `${ON}/messages to the server`, name: 'REGION_READ', ns: 100, durationNs: 200 },
        args: { size: 32, 'reply size': 36, 'reply errno': 'EBUSY', 'reply type': 'error' },
      },
      { name: 'REGION_READ posted', ns: 150, instant: true },
    ]);
  });

  it('commands of both sides with one id are apart', () => {
    const { add, timeline } = script();
    add(100, 0, 'message', request);
    add(110, 0, 'message', { ...request, direction: 'to client', command: 'DMA_READ' });
    add(120, 0, 'message', { ...request, direction: 'to server', command: 'DMA_READ', type: 'reply' });
    add(130, 0, 'message', reply);
    expect(timeline().slices.map(({ track, name, durationNs }) => [track, name, durationNs])).toEqual([
      [`${ON}/messages to the server`, 'REGION_READ', 30],
      [`${ON}/messages to the client`, 'DMA_READ', 10],
    ]);
  });

  it('a request that gets no reply ends where its id comes again; a reply without request is an instant', () => {
    const { add, timeline } = script();
    add(50, 0, 'message', reply);
    add(100, 0, 'message', request);
    add(200, 0, 'message', request);
    expect(timeline().slices.map(({ name, ns, durationNs }) => [name, ns, durationNs])).toEqual([
      ['REGION_READ reply', 50, 0],
      ['REGION_READ', 100, 100],
      ['REGION_READ', 200, null],
    ]);
  });
});

it('times are those of the injected clock; the trace has the time of the host at its beginning', () => {
  const { add, timeline } = script();
  add(2e6, 0, 'power', { state: 'D0' });
  expect(timeline().clocks).toEqual({
    primary_trace_clock: 3,
    clocks: [
      { clock_id: 3, timestamp: '2000000' },
      { clock_id: 1, timestamp: '1790000001002000000' },
    ],
  });
});

it('any events make a trace whose words are defined and whose slices end when their events came', () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 30 }), (arbitrary) => {
      const events = arbitrary.map((event, i) => ({ ...event, seq: i + 1, cause: event.cause % (i + 1) }));
      const { slices } = timelineOf(printed('perfetto', events));
      const done = slices.filter(({ category, name }) => (category === 'command' || category === 'wait') && name !== 'over');
      for (const { ns, durationNs, args } of done) expect(ns + durationNs!).toBe(events[Number(args.seq) - 1]!.timeNs);
    }),
  );
});

it('a trace that is cut between two pieces is read up to there', () => {
  const { events, add } = script();
  for (let i = 0; i < 20; i++) add(i, i, 'access', { ...doorbell, offset: i * 4 });
  const printer = formatNamed('perfetto').make({ about });
  let file = Buffer.from(printer.begin() as Uint8Array);
  for (const [i, event] of events.entries()) {
    file = Buffer.concat([file, printer.event(event) as Uint8Array]);
    expect(timelineOf(file).slices).toHaveLength(i + 1);
  }
});

it('names of devices and queues without end get a bounded number of tracks', () => {
  const { events, add } = script();
  for (let i = 0; i < 10_000; i++) add(i, 0, 'command', { ...read, queue: `queue ${i}`, latencyNs: 1 }, `device ${i}`);
  const { tracks, slices } = timelineOf(printed('perfetto', events));
  expect([tracks.length <= 4096, slices.length]).toEqual([true, 10_000]);
});

it('words without end are written out, and are no longer kept', () => {
  const { events, add } = script();
  for (let i = 0; i < 10_000; i++) add(i, 0, 'note', { level: 'info', about: 'x', text: `line ${i}` });
  const trace = printed('perfetto', events);
  const named = packetsOf(trace).filter((packet) => packet.track_event?.name !== undefined).length;
  expect([timelineOf(trace).slices.at(-1)!.name, named]).toEqual(['line 9999', 10_000 - 4096]);
});

it('a field that throws leaves the trace whole', () => {
  const { events, add } = script();
  add(1, 0, 'access', doorbell);
  const fields = {
    get a(): string {
      throw new Error('mine');
    },
  };
  add(2, 1, 'command', { ...read, fields, latencyNs: 1 });
  add(3, 1, 'access', doorbell);
  expect(timelineOf(printed('perfetto', events)).slices.map(({ category }) => category)).toEqual(['access', 'note', 'access']);
});
