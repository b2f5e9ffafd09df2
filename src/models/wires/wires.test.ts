import { describe, expect, it } from 'vitest';
import { frameOf, TestPort } from '../../../tests/kit/wire-port.ts';
import { Loss, MAX_FRAME, WIRE_SLACK, type Wire } from '../../abi/wire.ts';
import { ManualClock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import { AddressTable } from './address-table.ts';
import { cable } from './cable.ts';
import { hub, learningSwitch } from './hub.ts';

describe('a cable', () => {
  it('house: a frame arrives within the send that it leaves with', () => {
    const [one, other] = cable();
    const [a, b] = [new TestPort(one, '01'), new TestPort(other, '02')];
    a.send('02', 'there');
    expect(b.arrived).toEqual(['there']);
    b.send('01', 'and back');
    expect(a.arrived).toEqual(['and back']);
    expect(one.counters).toMatchObject({ sent: 1, sentBytes: 19, received: 1, receivedBytes: 22, lost: {}, waiting: 0 });
  });

  it('house: the link is up while the other port is there and has its link on', () => {
    const [one, other] = cable();
    const a = new TestPort(one);
    expect(a.end.up).toBe(false);
    a.send('02', 'too early');
    const b = new TestPort(other);
    expect([a.end.up, a.carrierChanges, b.carrierChanges]).toEqual([true, 1, 0]);
    b.end.setLink(false);
    b.end.setLink(false);
    expect([a.end.up, a.carrierChanges]).toEqual([false, 2]);
    b.end.setLink(true);
    b.end[Symbol.dispose]();
    b.end.setLink(true);
    expect([a.end.up, b.end.up, a.carrierChanges]).toEqual([false, false, 4]);
    a.send('02', 'too late');
    b.send('01', 'unplugged');
    expect(one.counters.lost).toEqual({ [Loss.NO_CARRIER]: 2 });
    expect(other.counters.lost).toEqual({ [Loss.NO_CARRIER]: 1 });
  });

  it('house: a frame that is too long is lost and counted, the longest one arrives', () => {
    const [one, other] = cable();
    const [a, b] = [new TestPort(one), new TestPort(other)];
    a.end.send(new Uint8Array(MAX_FRAME + 1), 0, MAX_FRAME + 1);
    a.end.send(new Uint8Array(MAX_FRAME), 0, MAX_FRAME);
    expect(b.arrived.length).toBe(1);
    expect(one.counters.lost).toEqual({ [Loss.TOO_LONG]: 1 });
  });

  it('house: one port at a time; the place is free when the port has gone', () => {
    const [one] = cable({ name: 'c1' });
    const first = new TestPort(one);
    expect(() => new TestPort(one)).toThrow(VfioError);
    expect(() => new TestPort(one)).toThrow('a port is plugged into c1, end 1 already');
    first.end[Symbol.dispose]();
    new TestPort(one);
    one[Symbol.dispose]();
    expect(() => new TestPort(one)).toThrow('c1, end 1 is gone');
  });

  it('house: ports that answer each other without an end hold neither the stack nor the event loop', () => {
    const clock = new ManualClock();
    const [one, other] = cable({ clock });
    const [a, b] = [new TestPort(one, '01'), new TestPort(other, '02')];
    let left = 10_000;
    let depth = 0;
    let deepest = 0;
    const answer = (port: TestPort, to: string) => () => {
      deepest = Math.max(deepest, ++depth);
      if (left-- > 0) port.send(to, 'again');
      depth--;
    };
    a.onReceive = answer(a, '02');
    b.onReceive = answer(b, '01');
    a.send('02', 'first');
    const inOneTurn = a.arrived.length + b.arrived.length;
    expect(inOneTurn).toBeLessThan(1000);
    expect(deepest).toBe(1);
    clock.advance(0);
    expect(a.arrived.length + b.arrived.length).toBe(10_001);
    expect(one.counters.sent + other.counters.sent).toBe(one.counters.received + other.counters.received);
    expect(clock.pendingTimers).toBe(0);
  });

  it('house: a full queue says not ready, takes the slack, loses the rest, and is ready again', () => {
    const clock = new ManualClock();
    const [one, other] = cable({ clock });
    const [a, b] = [new TestPort(one, '01'), new TestPort(other, '02')];
    const frame = frameOf('01', '02', 'x'.repeat(16_000));
    let whenUnready = 0;
    b.onReceive = () => {
      b.onReceive = null;
      for (let i = 0; i < 200; i++) {
        if (!b.end.ready && whenUnready === 0) whenUnready = i;
        b.end.send(frame, 0, frame.length);
      }
    };
    a.send('02', 'begin');
    const { lost } = other.counters;
    expect(whenUnready * frame.length).toBeGreaterThanOrEqual(2 ** 20);
    expect(a.arrived.length).toBeGreaterThanOrEqual(Math.floor((2 ** 20 + WIRE_SLACK) / frame.length));
    expect(a.arrived.length + lost[Loss.OVERFLOW]!).toBe(200);
    expect([b.end.ready, b.readyAgains]).toEqual([false, 0]);
    clock.advance(0);
    expect([b.end.ready, b.readyAgains]).toEqual([true, 1]);
  });

  it('house: an error of one port reaches neither the sender nor later frames', () => {
    const errors: unknown[] = [];
    const [one, other] = cable({ failed: (error) => errors.push(error) });
    const [a, b] = [new TestPort(one), new TestPort(other)];
    b.onReceive = () => {
      throw new Error('of the port');
    };
    a.send('02', 'first');
    b.onReceive = null;
    a.send('02', 'second');
    expect(errors).toEqual([new Error('of the port')]);
    expect(b.arrived).toEqual(['first', 'second']);
  });
});

const ports = (wire: { port(): Wire }, count: number) => {
  const wires = Array.from({ length: count }, () => wire.port());
  return { wires, ports: wires.map((each, i) => new TestPort(each, `0${i + 1}`)) };
};

describe('a hub', () => {
  it('house: a frame goes to all others whose link is on, and the copies are counted', () => {
    const {
      wires,
      ports: [a, b, c, d],
    } = ports(hub(), 4);
    d!.end.setLink(false);
    a!.send('02', 'for all');
    expect([a, b, c, d].map((port) => port!.arrived)).toEqual([[], ['for all'], ['for all'], []]);
    expect(wires[0]!.counters).toMatchObject({ sent: 1, copied: 1, lost: {} });
  });

  it('house: a frame without a receiver is lost and counted', () => {
    const {
      wires,
      ports: [a],
    } = ports(hub(), 1);
    expect(a!.end.up).toBe(true);
    a!.send('ff', 'is there a port?');
    expect(wires[0]!.counters.lost).toEqual({ [Loss.NO_RECEIVER]: 1 });
  });
});

describe('a switch', () => {
  it('house: it learns behind which port an address is, and floods before', () => {
    const {
      ports: [a, b, c],
    } = ports(learningSwitch(), 3);
    a!.send('02', 'flooded');
    b!.send('01', 'answer');
    a!.send('02', 'known');
    a!.send('ff', 'to all');
    expect([a, b, c].map((port) => port!.arrived)).toEqual([['answer'], ['flooded', 'known', 'to all'], ['flooded', 'to all']]);
  });

  it('house: an address moves with its port, and is forgotten after its time or with the link', () => {
    const clock = new ManualClock();
    const {
      ports: [a, b, c],
    } = ports(learningSwitch({ clock }), 3);
    const as = (port: TestPort, from: string) => {
      const frame = frameOf('ff', from, '');
      port.end.send(frame, 0, frame.length);
    };
    as(b!, 'aa');
    as(c!, 'aa');
    c!.arrived.length = b!.arrived.length = 0;
    a!.send('aa', 'moved');
    expect([b!.arrived, c!.arrived]).toEqual([[], ['moved']]);
    clock.advance(300_001);
    a!.send('aa', 'old');
    expect([b!.arrived, c!.arrived]).toEqual([['old'], ['moved', 'old']]);
    as(c!, 'aa');
    c!.end.setLink(false);
    b!.arrived.length = 0;
    a!.send('aa', 'gone');
    expect(b!.arrived).toEqual(['gone']);
  });

  it('house: frames to addresses that no bridge forwards, and to the own port, are lost and counted', () => {
    const {
      wires,
      ports: [a, b],
    } = ports(learningSwitch(), 2);
    const pause = new Uint8Array(64);
    pause.set([0x01, 0x80, 0xc2, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x01]);
    a!.end.send(pause, 0, 64);
    a!.send('01', 'to myself');
    a!.end.send(pause, 0, 11);
    expect(b!.arrived).toEqual([]);
    expect(wires[0]!.counters.lost).toEqual({ [Loss.RESERVED_ADDRESS]: 1, [Loss.NO_RECEIVER]: 2 });
  });

  it('house: the place of a port that has gone goes to the next port', () => {
    const wire = learningSwitch();
    const {
      wires,
      ports: [a, b],
    } = ports(wire, 2);
    wires[1]![Symbol.dispose]();
    const c = new TestPort(wire.port(), '03');
    a!.send('ff', 'who is there?');
    expect([b!.arrived, c.arrived]).toEqual([[], ['who is there?']]);
    expect(b!.end.up).toBe(false);
  });

  it('house: a flood of addresses takes no more memory, and recent addresses stay', () => {
    const table = new AddressTable(64, 1e12);
    for (let i = 0; i < 10_000; i++) table.learn(0x0200_0000_0000 + i, 3, i);
    table.learn(0x0200_0000_0000 + 20_000, 5, 20_000);
    expect(table.find(0x0200_0000_0000 + 20_000, 20_001)).toBe(5);
    const known = Array.from({ length: 10_000 }, (_, i) => table.find(0x0200_0000_0000 + i, 20_001)).filter((port) => port === 3);
    expect(known.length).toBeLessThanOrEqual(64);
    table.forget(5);
    expect(table.find(0x0200_0000_0000 + 20_000, 20_001)).toBe(-1);
  });
});
