import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { turn } from '../../tests/kit/event-loop.ts';
import { frameOf, TestPort } from '../../tests/kit/wire-port.ts';
import { Loss } from '../abi/wire.ts';
import { ManualClock } from '../base/clock.ts';
import { framesOf } from '../base/frame-file.ts';
import { Machine } from '../engine/machine/machine.ts';
import { unitsOf } from '../engine/machine/units.ts';
import { HeapMemory } from '../sys/fake.ts';
import { withFullPaths } from './address.ts';
import { parseMachine } from './machine-file.ts';
import { modelsOn } from './models-of-computer.ts';
import { sharedWireOf, Wires } from './wires.ts';

const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
afterAll(() => rmSync(directory, { recursive: true }));
const capture = join(directory, 'lan.pcapng');

const rig = () => {
  const clock = new ManualClock();
  const lines: string[] = [];
  const wires = new Wires({ clock, log: { log: (_level, line) => lines.push(line) } });
  return { clock, lines, wires, open: (wire: string, more = {}) => wires.open({ wire, ...more })!.wire };
};

describe('wires of a machine', () => {
  it.each(['switch:lan', 'hub:lan', 'cable:lan'])('house: ports on %s meet there, and nowhere else', (name) => {
    const { open } = rig();
    const [a, b] = [new TestPort(open(name), '01'), new TestPort(open(name), '02')];
    const elsewhere = new TestPort(open(name.replace('lan', 'other')), '03');
    const otherMachine = new TestPort(rig().open(name), '04');
    a.send('ff', 'hello');
    expect([b, elsewhere, otherMachine].map(({ arrived }) => arrived)).toEqual([['hello'], [], []]);
  });

  it('house: a cable has two ends, and an end that is free again has a new port', () => {
    const { open } = rig();
    const [one, other] = [open('cable:x'), open('cable:x')];
    const a = new TestPort(one);
    new TestPort(other);
    expect(() => open('cable:x')).toThrow('cable x has two ports already');
    other[Symbol.dispose]();
    expect(a.end.up).toBe(false);
    const c = new TestPort(open('cable:x'));
    expect(a.end.up).toBe(true);
    a.send('ff', 'new');
    expect(c.arrived).toEqual(['new']);
  });

  it('house: a named wire ends with its last port, and its counters go to the log', () => {
    const { open, lines } = rig();
    const wire = open('switch:lan');
    new TestPort(wire).send('ff', 'to no other port');
    wire[Symbol.dispose]();
    wire[Symbol.dispose]();
    open('switch:lan')[Symbol.dispose]();
    expect(lines).toEqual(['switch lan, port 1: sent 1, no receiver 1; received 0']);
  });

  it('house: impairments are on the clock of the machine', () => {
    const { clock, open } = rig();
    const [a, b] = [new TestPort(open('cable:x', { delayMs: 5, duplicate: 1, seed: 4 })), new TestPort(open('cable:x'))];
    a.send('02', 'late');
    expect(b.arrived).toEqual([]);
    clock.advance(5);
    expect(b.arrived).toEqual(['late', 'late']);
  });

  it('house: a capture has all frames of a port, and a wire plays them again', async () => {
    const { open } = rig();
    const wire = open('hub:lan', { capture });
    const [a, b] = [new TestPort(wire, '01'), new TestPort(open('hub:lan'), '02')];
    a.send('02', 'ping');
    b.send('01', 'pong');
    wire[Symbol.dispose]();
    expect(statSync(capture).mode & 0o777).toBe(0o600);
    const frames = framesOf(readFileSync(capture), capture).map(({ bytes }) => Buffer.from(bytes));
    expect(frames).toEqual([frameOf('02', '01', 'ping'), frameOf('01', '02', 'pong')].map((bytes) => Buffer.from(bytes)));
    const { clock, lines, open: openAgain } = rig();
    const replayed = openAgain(`pcap:${capture}`);
    const port = new TestPort(replayed);
    await turn();
    clock.advance(60_000);
    expect(port.arrived).toEqual(['ping', 'pong']);
    expect(replayed.counters).toMatchObject({ received: 2, waiting: 0 });
    port.send('01', 'lost');
    expect(replayed.counters.lost).toEqual({ [Loss.NO_RECEIVER]: 1 });
    expect(lines).toEqual([`pcap ${capture}: all 2 frames are played`]);
    const fast = openAgain(`pcap:${capture}`, { pace: 'fast' });
    const quick = new TestPort(fast);
    clock.advance(0);
    expect(quick.arrived.length).toBe(2);
  });

  it('house: options that cannot be are refused with the way to write them', () => {
    const { wires, open } = rig();
    const fixOf = (call: () => unknown) => {
      try {
        call();
        return 'no error';
      } catch (error) {
        return `${(error as Error).message} | ${(error as { fix?: string }).fix}`;
      }
    };
    expect(fixOf(() => open('lan'))).toMatch(/there is no wire "lan" \| Wires are switch:NAME, hub:NAME, cable:NAME, tap:INTERFACE/);
    expect(fixOf(() => open('switch:'))).toContain('Write it as switch:lan.');
    expect(fixOf(() => open('switch:a b'))).toContain('no name that can be');
    expect(fixOf(() => open('fd:0'))).toContain('Give a number from 3 on');
    expect(fixOf(() => open('dgram:/tmp/a'))).toContain('remote=PATH');
    expect(fixOf(() => open('hub:a', { remote: '/tmp/b' }))).toContain('Only dgram has one.');
    expect(fixOf(() => open('hub:a', { pace: 'fast' }))).toContain('Only pcap has one.');
    expect(fixOf(() => wires.open({ loss: 0.5 }))).toContain('Give a wire, such as wire=switch:lan.');
    expect(wires.open({})).toBeNull();
    const card = modelsOn(wires)['82576'];
    expect(fixOf(() => card({ wire: 'switch:a', loss: '2' }))).toContain('it is a probability, from 0 to 1');
    expect(fixOf(() => card({ wire: 'switch:a', rate: 'fast' }))).toContain('100mbit');
    expect(() => card({ vfs: 'many' })).toThrow("82576's vfs is many; it must be from 0 to 8 virtual functions");
    expect(fixOf(() => card({ wire: 'fd:12345' }))).toContain('this process was started without a descriptor 12345');
  });

  it('house: devices that share a named wire are one unit; others are units of their own', () => {
    const spec = parseMachine(`
devices:
  - { at: '01.0', kind: root-port, devices: [{ at: '00.0', model: '82576', options: { wire: 'switch:lan' } }] }
  - { at: '02.0', kind: root-port, devices: [{ at: '00.0', model: '82576', options: { wire: 'hub:lan' } }] }
  - { at: '03.0', kind: root-port, devices: [{ at: '00.0', model: '82576', options: { wire: 'switch:lan', loss: 0.1 } }] }
  - { at: '04.0', kind: root-port, devices: [{ at: '00.0', model: '82576', options: { wire: 'fd:12345' } }] }
`);
    // A look opens nothing: there is no descriptor 12345.
    const planned = new Wires({ planned: true });
    using machine = new Machine(spec, { allocate: HeapMemory.allocate, models: modelsOn(planned) });
    expect(unitsOf(machine)).toEqual([['0000:01:00.0', '0000:03:00.0'], ['0000:02:00.0'], ['0000:04:00.0']]);
    expect(sharedWireOf('tap:vfio0')).toBeNull();
  });

  it('house: names of files in options of wires are the same in another working directory', () => {
    const cwd = process.cwd();
    expect(withFullPaths('82576,wire=stream:a.sock,capture=b.pcapng')).toBe(`82576,wire=stream:${cwd}/a.sock,capture=${cwd}/b.pcapng`);
    expect(withFullPaths('82576,wire=dgram:127.0.0.1:5,remote=127.0.0.1:6')).toBe('82576,wire=dgram:127.0.0.1:5,remote=127.0.0.1:6');
    expect(withFullPaths('82576,wire=switch:lan')).toBe('82576,wire=switch:lan');
  });
});
