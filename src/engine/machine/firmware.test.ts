import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { testMachine } from '../../../tests/kit/machines.ts';
import { Config } from '../../abi/pci.ts';
import { VfioError } from '../../base/errno.ts';
import type { FunctionSpec } from './machine-spec.ts';
import type { PciFunction } from './pci-function.ts';

const nic: FunctionSpec = {
  at: '00.0',
  id: '8086:10d3',
  bars: [
    { index: 0, size: 0x20000, type: 'mem32' },
    { index: 2, size: 0x20, type: 'io' },
    { index: 4, size: 2 ** 24, type: 'mem64', prefetchable: true },
  ],
};

interface Range {
  readonly fn: PciFunction;
  readonly io: boolean;
  readonly first: number;
  readonly end: number;
}

function barRanges(functions: Iterable<PciFunction>): Range[] {
  return [...functions].flatMap((fn) =>
    (fn.declaration.bars ?? []).map((bar) => {
      const first = Number(fn.config.barAddress(bar.index));
      return { fn, io: bar.type === 'io', first, end: first + bar.size };
    }),
  );
}

/** A bridge's open windows, as the registers say. */
function windows(bridge: PciFunction): { io: boolean; first: number; end: number }[] {
  const { config } = bridge;
  const word = (at: number) => config.read(at, 2);
  const mem = {
    io: false,
    first: (word(Config.BRIDGE_MEMORY_BASE) & 0xfff0) * 0x10000,
    end: (word(Config.BRIDGE_MEMORY_LIMIT) | 0xf) * 0x10000 + 0x10000,
  };
  const high = (at: number) => config.read(at, 4) * 2 ** 32;
  const wide = {
    io: false,
    first: high(Config.BRIDGE_PREF_BASE_UPPER32) + (word(Config.BRIDGE_PREF_MEMORY_BASE) & 0xfff0) * 0x10000,
    end: high(Config.BRIDGE_PREF_LIMIT_UPPER32) + (word(Config.BRIDGE_PREF_MEMORY_LIMIT) | 0xf) * 0x10000 + 0x10000,
  };
  const io = {
    io: true,
    first: (config.read(Config.BRIDGE_IO_BASE, 1) & 0xf0) << 8,
    end: ((config.read(Config.BRIDGE_IO_LIMIT, 1) | 0xf) << 8) + 0x100,
  };
  return [mem, wide, io].filter((w) => w.end > w.first);
}

describe('firmware', () => {
  it('places a device alone where the recorded machine had it, when memoryBase says so', () => {
    const edu: FunctionSpec = { at: '04.0', id: '1234:11e8', kind: 'conventional', bars: [{ index: 0, size: 0x100000, type: 'mem32' }] };
    const { config } = testMachine({ memoryBase: 0xfe200000, devices: [edu] }).machine.function('00:04.0');
    expect([config.read(Config.BASE_ADDRESS_0, 4), config.read(Config.COMMAND, 2), config.read(Config.INTERRUPT_LINE, 1)]).toEqual([
      0xfe200000, 0x103, 10,
    ]);
  });

  it('numbers buses depth-first, and bridges say what is behind them', () => {
    const inner: FunctionSpec = { at: '00.0', kind: 'upstream-port', devices: [{ at: '00.0', kind: 'downstream-port', devices: [nic] }] };
    const { machine } = testMachine({
      devices: [
        { at: '01.0', kind: 'root-port', devices: [inner] },
        { at: '02.0', kind: 'root-port', bus: 0x10 },
      ],
    });
    const buses = (bdf: string) => [
      ...machine.function(bdf).config.bytes.subarray(Config.BRIDGE_PRIMARY_BUS, Config.BRIDGE_PRIMARY_BUS + 3),
    ];
    expect([buses('00:01.0'), buses('01:00.0'), buses('02:00.0'), buses('00:02.0')]).toEqual([
      [0, 1, 3],
      [1, 2, 3],
      [2, 3, 3],
      [0, 0x10, 0x10],
    ]);
    expect(machine.function('03:00.0').name).toBe('8086:10d3');
  });

  it.each([
    [[{ at: '01.0', kind: 'root-port', bus: 0 }], 'EINVAL'],
    [
      [
        { at: '01.0', kind: 'root-port', bus: 5 },
        { at: '02.0', kind: 'root-port', bus: 5 },
      ],
      'EINVAL',
    ],
    [[{ at: '01.0', kind: 'root-port', bus: 256 }], 'EINVAL'],
    [[{ ...nic, at: '01.0', bars: [{ index: 0, size: 2 ** 31, type: 'mem32' }] }], 'ENOSPC'],
    [[{ ...nic, at: '01.0', bars: [{ index: 0, size: 3, type: 'mem32' }] }], 'EINVAL'],
  ] as [FunctionSpec[], string][])('refuses what firmware could not set up: %j', (devices, errno) => {
    expect(() => testMachine({ devices })).toThrow(expect.objectContaining({ code: errno }));
  });

  it.each([Number.NaN, -1, 0, 0xffff_ffff, 2 ** 53, 0x1001])('refuses memory base %s', (memoryBase) => {
    expect(() => testMachine({ memoryBase, devices: [nic] })).toThrow(VfioError);
  });

  it('property: BARs are aligned, never overlap, and are within every window above them; also after plugging in and out', async () => {
    const bar = (index: number) =>
      fc.record({
        index: fc.constant(index),
        size: fc.integer({ min: 4, max: 22 }).map((n) => 2 ** n),
        type: fc.constantFrom('mem32', 'mem64', 'io'),
      });
    const device = fc.tuple(bar(0), bar(2), bar(4)).map((bars) => ({
      at: '00.0',
      id: '1af4:1041',
      bars: bars.map((b) =>
        b.type === 'io' ? { ...b, size: Math.min(b.size, 256) } : { ...b, prefetchable: b.type === 'mem64' },
      ) as never,
    }));
    await fc.assert(
      fc.asyncProperty(fc.array(device, { minLength: 1, maxLength: 6 }), device, async (devices, extra) => {
        const ports: FunctionSpec[] = devices.map((d, i) => ({ at: `0${i + 1}.0`, kind: 'root-port', devices: [d] }));
        const { machine } = testMachine({ devices: [...ports, { at: '1e.0', kind: 'root-port' }, { ...extra, at: '1f.0' }] });
        const check = () => {
          const ranges = barRanges(machine.functions.values());
          for (const r of ranges) expect(r.first % (r.end - r.first)).toBe(0);
          for (const [i, a] of ranges.entries()) {
            for (const b of ranges.slice(i + 1)) if (a.io === b.io) expect(a.end <= b.first || b.end <= a.first).toBe(true);
            for (let up = a.fn.parent; up !== null; up = up.parent) {
              expect(windows(up).some((w) => w.io === a.io && w.first <= a.first && a.end <= w.end)).toBe(true);
            }
          }
        };
        check();
        await machine.remove('01:00.0');
        machine.add({ ...devices[0]!, at: '00.0' }, '00:01.0');
        check();
      }),
      { numRuns: 200 },
    );
  });
});
