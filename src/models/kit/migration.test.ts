/** Moving declared devices, and edu in the middle of what it does. */
import { describe, expect, it } from 'vitest';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { load, MigrationSide, save } from '../../../tests/kit/migration-rig.ts';
import { bit } from '../../base/bit-fields.ts';
import { u32, u64 } from '../../base/registers.ts';
import { HeapMemory } from '../../sys/fake.ts';
import { edu } from '../edu/edu.ts';
import { bar, memory } from './bar.ts';
import { device } from './device.ts';
import { encodePlain } from './plain-data.ts';

const map = {
  plain: u32(0x00),
  wide: u64(0x08),
  fields: u32(0x10, { low: bit(0), high: bit(31, 'ro') }),
  fixed: u32(0x14, 'ro'),
  go: u32(0x18),
  later: u32(0x1c),
  asleep: u32(0x20),
};
const bar0 = bar('4K', map, { fixed: { reset: 5 } });
const more = bar('4K', { ...map, added: u32(0x30) }, { fixed: { reset: 5 }, added: { reset: 9 } });

interface Options {
  readonly version?: number;
  readonly extra?: boolean;
}

function counter({ version, extra = false }: Options = {}) {
  return device({
    id: '1234:5678',
    name: 'counter',
    bars: { bar0: (extra ? more : bar0) as typeof bar0, bar1: memory('8K') },
    state: () => ({ bytes: new Uint8Array(16), count: 0, list: [] as bigint[], ...(extra ? { more: 'fresh' } : {}) }),
    on: {
      'bar0.go'(dev, value) {
        dev.state.bytes[1] = value;
        dev.state.count++;
        dev.state.list.push(BigInt(value));
        dev.schedule('tick', value);
      },
      async 'bar0.asleep'(dev, value) {
        await dev.sleep(value);
        dev.bar0.later = 99;
      },
    },
    timers: {
      tick(dev) {
        dev.bar0.later = dev.state.count;
      },
    },
    migration: version === undefined ? true : { version },
  });
}

describe('a declared device', () => {
  it('B.11 registers, state, memory and what is left of timers go along', () => {
    using source = new MigrationSide(counter());
    using target = new MigrationSide(counter());
    const here = source.device.region(0);
    source.device.region(7).write16(4, 2);
    here.write32(0, 0xffff_ffff);
    here.write64(8, 2n ** 64n - 2n);
    here.write32(0x10, 1);
    here.write32(0x18, 100);
    source.device.region(1).write32(0x1ffc, 0xabcd);
    source.clock.advance(60);
    target.device.region(0).write32(0x18, 3);
    load(target, save(source));
    const there = target.device.region(0);
    expect([there.read32(0), there.read64(8), there.read32(0x10), there.read32(0x14), there.read32(0x18)]).toEqual([
      0xffff_ffff,
      2n ** 64n - 2n,
      1,
      5,
      100,
    ]);
    expect(target.device.region(1).read32(0x1ffc)).toBe(0xabcd);
    target.clock.advance(39.9);
    expect(there.read32(0x1c)).toBe(0);
    target.clock.advance(0.2);
    expect(there.read32(0x1c)).toBe(1);
    there.write32(0x18, 1);
    target.clock.advance(1);
    expect(there.read32(0x1c)).toBe(2);
  });

  it('B.11 time stands still while it is stopped, and goes on where it was', () => {
    using side = new MigrationSide(counter());
    const there = side.device.region(0);
    there.write32(0x18, 10);
    side.clock.advance(4);
    side.migration.go('STOP');
    side.clock.advance(1000);
    // Work that a write starts meanwhile waits too.
    there.write32(0x20, 5);
    side.clock.advance(1000);
    expect(there.read32(0x1c)).toBe(0);
    side.migration.go('RUNNING');
    side.clock.advance(5);
    expect(there.read32(0x1c)).not.toBe(1);
    side.clock.advance(1);
    expect(there.read32(0x1c)).toBe(1);
  });

  it('B.11 a handler at work in another way cannot be moved: EBUSY, and it goes on', async () => {
    using side = new MigrationSide(counter());
    const there = side.device.region(0);
    there.write32(0x20, 5);
    expect(errnoFrom(() => save(side))).toBe('EBUSY');
    side.migration.go('RUNNING');
    side.clock.advance(5);
    await new Promise(setImmediate);
    expect(there.read32(0x1c)).toBe(99);
    expect(errnoFrom(() => save(side))).toBe('none');
  });

  it('B.11 what an older one did not have stays as after a reset; what a newer one has is refused', () => {
    using old = new MigrationSide(counter());
    using recent = new MigrationSide(counter({ version: 2, extra: true }));
    old.device.region(0).write32(0, 5);
    load(recent, save(old));
    expect([recent.device.region(0).read32(0), recent.device.region(0).read32(0x30)]).toEqual([5, 9]);
    using other = new MigrationSide(counter());
    expect(errnoFrom(() => load(other, save(recent)))).toBe('EINVAL');
    using same = new MigrationSide(counter({ extra: true }));
    using first = new MigrationSide(counter());
    expect(errnoFrom(() => load(first, save(same)))).toBe('EINVAL');
    expect(first.migration.state).toBe('ERROR');
  });

  it('B.11 a state that is none is EINVAL, whatever is wrong with it, and changes nothing', () => {
    using side = new MigrationSide(counter());
    const model = side.host.model!.migration!;
    side.device.region(0).write32(0, 7);
    const good = { registers: [{}, null, null, null, null, null], state: { count: 1 }, timers: {} };
    const bad = [
      5,
      {},
      { ...good, registers: [] },
      { ...good, registers: [{ nothing: 1n }, null, null, null, null, null] },
      { ...good, registers: [{ plain: 2n ** 32n }, null, null, null, null, null] },
      { ...good, registers: [{ plain: -1n }, null, null, null, null, null] },
      { ...good, registers: [{ plain: 1 }, null, null, null, null, null] },
      { ...good, registers: [null, null, null, null, null, null] },
      { ...good, state: { other: 1 } },
      { ...good, state: { count: 'one' } },
      { ...good, state: { bytes: new Uint8Array(17) } },
      { ...good, state: { bytes: [1] } },
      { ...good, state: 5 },
      { ...good, timers: { other: 1 } },
      { ...good, timers: { tick: -1 } },
      { ...good, timers: { tick: Number.NaN } },
      { ...good, timers: { tick: 1n } },
    ];
    for (const state of bad) expect([state, errnoFrom(() => model.load(encodePlain(state), 1))]).toEqual([state, 'EINVAL']);
    expect(side.device.region(0).read32(0)).toBe(7);
    expect(errnoFrom(() => model.load(encodePlain(good), 1))).toBe('none');
  });

  it('B.11 its own words: save and load of the declaration, which may refuse', () => {
    const own = device({
      id: '1234:5678',
      bars: { bar0: bar('4K', { value: u32(0) }) },
      state: () => ({ map: new Map<string, number>() }),
      on: { 'bar0.value': (dev, value) => void dev.state.map.set('last', value) },
      read: { 'bar0.value': (dev) => (dev.state.map.get('last') ?? 0) + 1 },
      migration: {
        save: (dev) => [...dev.state.map],
        load(dev, saved) {
          for (const [key, value] of saved as [string, number][]) {
            if (value === 13) throw new Error('not thirteen');
            dev.state.map.set(key, value);
          }
        },
      },
    });
    using source = new MigrationSide(own);
    using target = new MigrationSide(own);
    source.device.region(0).write32(0, 41);
    load(target, save(source));
    expect(target.device.region(0).read32(0)).toBe(42);
    source.migration.go('RUNNING');
    source.device.region(0).write32(0, 13);
    expect(() => load(target, save(source))).toThrow('not thirteen');
  });

  it('B.11 without a word of it a device cannot be moved', () => {
    using side = new MigrationSide(device({ id: '1234:5678', bars: { bar0: bar('4K', { value: u32(0) }) } }));
    expect(errnoFrom(() => side.migration.go('STOP'))).toBe('ENOTTY');
  });
});

describe('edu', () => {
  const Reg = { LIVE: 0x04, FACT: 0x08, STATUS: 0x20, IRQ: 0x24, SRC: 0x80, DST: 0x88, CNT: 0x90, CMD: 0x98 };
  const model = () => edu({ factorialMs: 10, dmaMs: 100 });

  function open() {
    const side = new MigrationSide(model());
    const memory = HeapMemory.allocate(8192);
    side.device.region(7).write16(4, 6);
    side.device.dma.map({ iova: 0x10_0000n, memory });
    const seen: number[] = [];
    const sink = { signal: () => void seen.push(1), get: () => sink, put: () => {} };
    side.device.setIrqs({ index: 1, action: 'trigger', data: 'sinks', start: 0, count: 1, sinks: [sink] });
    return Object.assign(side, { memory: memory.windows[0]!, registers: side.device.region(0), seen });
  }

  it('B.11 a factorial and a transfer that are under way end at the target, in the time that was left, with their interrupts', () => {
    using source = open();
    using target = open();
    const { registers } = source;
    source.memory.set([1, 2, 3, 4]);
    const transfer = (side: ReturnType<typeof open>, from: bigint, to: bigint, command: bigint) => {
      side.registers.write64(Reg.SRC, from);
      side.registers.write64(Reg.DST, to);
      side.registers.write64(Reg.CNT, 4n);
      side.registers.write64(Reg.CMD, command);
    };
    transfer(source, 0x10_0000n, 0x4_0000n, 1n);
    source.clock.advance(100);
    transfer(source, 0x4_0000n, 0x10_1000n, 7n);
    source.clock.advance(95);
    registers.write32(Reg.STATUS, 0x80);
    registers.write32(Reg.FACT, 5);
    registers.write32(Reg.LIVE, 3);
    source.clock.advance(3);
    load(target, save(source));
    source.clock.advance(1000);
    expect([source.seen, registers.read32(Reg.STATUS)]).toEqual([[], 0x81]);
    expect([target.registers.read32(Reg.STATUS), target.registers.read64(Reg.CMD), target.registers.read32(Reg.LIVE)]).toEqual([
      0x81,
      7n,
      0xffff_fffc,
    ]);
    target.clock.advance(1.9);
    expect(target.seen.length).toBe(0);
    target.clock.advance(0.2);
    expect([target.seen.length, target.registers.read32(Reg.IRQ), [...target.memory.subarray(4096, 4100)]]).toEqual([
      1,
      0x100,
      [1, 2, 3, 4],
    ]);
    target.clock.advance(5);
    expect([target.seen.length, target.registers.read32(Reg.IRQ), target.registers.read32(Reg.FACT)]).toEqual([2, 0x101, 120]);
  });

  it('B.11 a failed move harms neither side: the source goes on', () => {
    using source = open();
    using target = open();
    source.registers.write32(Reg.FACT, 5);
    const data = save(source);
    data[data.length - 30]! ^= 1;
    expect(errnoFrom(() => load(target, data))).toBe('EINVAL');
    source.migration.go('RUNNING');
    source.clock.advance(10);
    expect(source.registers.read32(Reg.FACT)).toBe(120);
  });

  it('B.11 back and forth many times, nothing changes but time', () => {
    let at = open();
    at.registers.write32(Reg.STATUS, 0x80);
    at.registers.write32(Reg.FACT, 10);
    for (let i = 0; i < 20; i++) {
      const next = open();
      at.clock.advance(0.4);
      load(next, save(at));
      at[Symbol.dispose]();
      at = next;
    }
    at.clock.advance(1.9);
    expect(at.seen.length).toBe(0);
    at.clock.advance(0.2);
    expect([at.seen.length, at.registers.read32(Reg.FACT)]).toEqual([1, 3628800]);
    at[Symbol.dispose]();
  });
});
