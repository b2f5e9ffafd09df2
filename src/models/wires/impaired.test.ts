import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { frameOf, TestPort } from '../../../tests/kit/wire-port.ts';
import { Loss, type Wire } from '../../abi/wire.ts';
import { totalOf } from '../../abi/wire-tally.ts';
import { ManualClock } from '../../base/clock.ts';
import { cable } from './cable.ts';
import { hub, learningSwitch } from './hub.ts';
import { impaired } from './impaired.ts';
import type { Impairments } from './lane.ts';

function pair(what: Impairments) {
  const clock = new ManualClock();
  const [one, other] = cable({ clock });
  const wire = impaired(one, what, clock);
  return { clock, wire, other, a: new TestPort(wire, '01'), b: new TestPort(other, '02') };
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => String(i));

describe('an impaired wire', () => {
  it('house: without delay, frames arrive within the send, and in order', () => {
    const { a, b } = pair({ seed: 3 });
    for (const text of numbers(5)) a.send('02', text);
    expect(b.arrived).toEqual(numbers(5));
  });

  it('house: loss is by chance, counted, and the same for the same seed', () => {
    const run = (seed: number) => {
      const { wire, a, b } = pair({ loss: 0.25, seed });
      for (const text of numbers(1000)) a.send('02', text);
      expect(wire.counters.lost[Loss.CHANCE]).toBe(1000 - b.arrived.length);
      for (const text of numbers(1000)) b.send('01', text);
      expect(wire.counters.missed[Loss.CHANCE]).toBe(1000 - a.arrived.length);
      return b.arrived;
    };
    const first = run(7);
    expect(first.length).toBeGreaterThan(650);
    expect(first.length).toBeLessThan(850);
    expect(run(7)).toEqual(first);
    expect(run(8)).not.toEqual(first);
  });

  it('house: delay and jitter are on the clock, and keep the order', () => {
    const { clock, wire, a, b } = pair({ delayMs: 10, jitterMs: 5 });
    for (const text of numbers(20)) a.send('02', text);
    clock.advance(9.99);
    expect(b.arrived).toEqual([]);
    expect(wire.counters.waiting).toBe(20);
    clock.advance(5.02);
    expect(b.arrived).toEqual(numbers(20));
    expect(clock.pendingTimers).toBe(0);
  });

  it('house: the rate counts what a cable carries beside the frame', () => {
    const { clock, a, b } = pair({ rate: 1e6 });
    // 14 + 87 + 24 bytes are 1000 bits: a millisecond.
    for (let i = 0; i < 5; i++) a.send('02', 'x'.repeat(87));
    clock.advance(2.5);
    expect(b.arrived.length).toBe(2);
    clock.advance(2.5);
    expect(b.arrived.length).toBe(5);
  });

  it('house: a frame changes places with the next one, or goes on alone after a while', () => {
    const { clock, a, b } = pair({ reorder: 1 });
    for (const text of numbers(4)) a.send('02', text);
    expect(b.arrived).toEqual(['1', '0', '3', '2']);
    a.send('02', 'alone');
    expect(b.arrived.length).toBe(4);
    clock.advance(10);
    expect(b.arrived[4]).toBe('alone');
  });

  it('house: duplicates are counted', () => {
    const { wire, a, b } = pair({ duplicate: 1 });
    a.send('02', 'twice');
    expect(b.arrived).toEqual(['twice', 'twice']);
    expect(wire.counters).toMatchObject({ sent: 1, copied: 1 });
  });

  it('house: a full queue pushes back to the port, and loses nothing of a port that looks', () => {
    const { clock, wire, a, b } = pair({ delayMs: 100 });
    const frame = frameOf('02', '01', 'x'.repeat(1486));
    let sent = 0;
    for (; a.end.ready; sent++) a.end.send(frame, 0, frame.length);
    expect(sent).toBe(Math.ceil(2 ** 20 / 1500));
    clock.advance(100);
    expect([b.arrived.length, a.end.ready, a.readyAgains]).toEqual([sent, true, 1]);
    for (let i = 0; i < 2000; i++) a.end.send(frame, 0, frame.length);
    expect(wire.counters.lost[Loss.OVERFLOW]).toBeGreaterThan(0);
  });

  it('house: frames under way are counted as lost when the port is unplugged, and no timer stays', () => {
    const { clock, wire, a, b } = pair({ delayMs: 100, reorder: 0.5 });
    for (const text of numbers(10)) a.send('02', text);
    for (const text of numbers(10)) b.send('01', text);
    a.end[Symbol.dispose]();
    expect(wire.counters).toMatchObject({ waiting: 0, lost: { [Loss.NO_CARRIER]: 10 }, missed: { [Loss.NO_CARRIER]: 10 } });
    expect(clock.pendingTimers).toBe(0);
  });

  it('house: impossible chances and times are refused', () => {
    const [one] = cable();
    expect(() => impaired(one, { loss: 1.5 }, new ManualClock())).toThrow('loss is 1.5; a probability is from 0 to 1');
    expect(() => impaired(one, { delayMs: -1 }, new ManualClock())).toThrow('delayMs is -1; it cannot be negative');
  });

  it('house: whatever wires do to frames, their counters add up', () => {
    const chance = fc.double({ min: 0, max: 1, noNaN: true });
    const impairments = fc.record(
      {
        loss: chance,
        duplicate: chance,
        reorder: chance,
        delayMs: fc.integer({ min: 0, max: 20 }),
        jitterMs: fc.integer({ min: 0, max: 20 }),
        rate: fc.integer({ min: 1e5, max: 1e9 }),
        seed: fc.integer(),
      },
      { requiredKeys: [] },
    );
    const step = fc.oneof(
      { weight: 8, arbitrary: fc.record({ send: fc.nat(2), to: fc.constantFrom('01', '02', '03', '04', 'ff'), length: fc.nat(2000) }) },
      { weight: 2, arbitrary: fc.record({ pass: fc.integer({ min: 0, max: 15 }) }) },
      { weight: 1, arbitrary: fc.record({ link: fc.nat(2), on: fc.boolean() }) },
      { weight: 1, arbitrary: fc.record({ unplug: fc.nat(2) }) },
    );
    fc.assert(
      fc.property(
        fc.constantFrom('hub' as const, 'switch' as const),
        fc.array(fc.option(impairments, { nil: null }), { minLength: 3, maxLength: 3 }),
        fc.array(step, { maxLength: 80 }),
        (kind, whats, steps) => {
          const clock = new ManualClock();
          const shared = kind === 'hub' ? hub({ clock }) : learningSwitch({ clock });
          const wires = whats.map((what): Wire => (what === null ? shared.port() : impaired(shared.port(), what, clock)));
          const ports = wires.map((wire, i) => new TestPort(wire, `0${i + 1}`));
          // Ports that answer: a frame in ten, at most.
          for (const port of ports) {
            let answers = 0;
            port.onReceive = () => {
              if (answers++ % 10 === 0) port.send('ff', 'answer');
            };
          }
          for (const each of steps) {
            if ('send' in each) ports[each.send]!.send(each.to, 'x'.repeat(each.length));
            else if ('pass' in each) clock.advance(each.pass);
            else if ('link' in each) ports[each.link]!.end.setLink(each.on);
            else ports[each.unplug]!.end[Symbol.dispose]();
            addsUp(wires);
          }
          clock.advance(1e6);
          addsUp(wires);
          expect(wires.map(({ counters }) => counters.waiting)).toEqual([0, 0, 0]);
          expect(clock.pendingTimers).toBe(0);
          expect(ports.map(({ arrived }) => arrived.length)).toEqual(wires.map(({ counters }) => counters.received));
        },
      ),
      { numRuns: 200 },
    );
  });
});

function addsUp(wires: readonly Wire[]): void {
  let [put, found] = [0, 0];
  for (const { counters } of wires) {
    put += counters.sent + counters.copied;
    found += counters.received + counters.waiting + totalOf(counters.lost) + totalOf(counters.missed);
  }
  expect(found).toBe(put);
}
