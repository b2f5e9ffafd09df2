import { describe, expect, it } from 'vitest';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { alone, openAll, testMachine } from '../../../tests/kit/machines.ts';
import type { RegionInfo, SetIrqs } from '../../abi/device.ts';
import type { ModelMigration } from '../../abi/device-host.ts';
import { type Accepted, type MediatedDevice, type Mediator, PASS_THROUGH, type RegionHooks } from '../../abi/mediator.ts';
import { Access } from '../../abi/memory.ts';
import { Feature, RegionFlags, RegionIndex } from '../../abi/vfio.ts';
import { FeatureDmaLoggingControl, FeatureDmaLoggingRange, FeatureDmaLoggingReport } from '../../abi/vfio-structs.ts';
import { VfioError } from '../../base/errno.ts';
import { featureBytes } from '../../device/feature-bytes.ts';
import { HeapMemory } from '../../sys/fake.ts';
import type { DeviceFile } from '../device/device-file.ts';
import { VFIO_PCI } from '../machine/binding.ts';
import type { MachineOptions } from '../machine/machine.ts';
import { Mediation } from './mediation.ts';
import { Mediators } from './mediators.ts';

const BDF = '0000:01:00.0';

function machineWith(mediators: Mediators, options: Partial<MachineOptions> = {}) {
  const rig = testMachine({ devices: [alone('01.0', { at: '00.0', model: 'probe', driver: VFIO_PCI })] }, { mediators, ...options });
  return { ...rig, fn: rig.machine.function(BDF) };
}

/** A mediator that records its calls in `trace`. */
function mediator<H>(name: string, accepted: Accepted<H> | null | Error, trace: string[]): Mediator<H> {
  return {
    name,
    open: () => {
      trace.push(`${name} open`);
      if (accepted instanceof Error) throw accepted;
      return accepted;
    },
    release: () => void trace.push(`${name} release`),
  };
}

const disable = (index: number): SetIrqs => ({ index, start: 0, count: 0, action: 'trigger', data: 'none' });
const bytes = (value: number) => new Uint8Array(new Uint32Array([value]).buffer);
const word = (b: Uint8Array) => new DataView(b.buffer, b.byteOffset).getUint32(0, true);

describe('who mediates', () => {
  it('S0-01 the first that accepts wins, in the order of registration, and no other is asked after it', () => {
    const mediators = new Mediators();
    const trace: string[] = [];
    for (const [name, accepted] of [
      ['refuses', null],
      ['throws', new VfioError('ENODEV', 'not mine')],
      ['wins', { handle: 1 }],
      ['late', { handle: 2 }],
    ] as const) {
      mediators.register(mediator(name, accepted, trace));
    }
    expect(mediators.names).toEqual(['refuses', 'throws', 'wins', 'late']);
    const { machine, fn } = machineWith(mediators);
    const { device } = openAll(machine, BDF);
    expect([trace, fn.vfio!.mediation!.name]).toEqual([['refuses open', 'throws open', 'wins open'], 'wins']);
    device.close();
    expect([trace.at(-1), fn.vfio!.mediation]).toEqual(['wins release', null]);
  });

  it('S0-02 the handle is the mediator’s own: every hook and release get it, and the engine does not look inside', () => {
    const handle = new Proxy(
      {},
      {
        get(_, key) {
          throw new Error(`the engine looked at ${String(key)}`);
        },
      },
    );
    const got: unknown[] = [];
    const note =
      <T>(value: T) =>
      (h: unknown) => {
        got.push(h);
        return value;
      };
    const mediators = new Mediators();
    mediators.register({
      name: 'opaque',
      open: () => ({
        handle,
        regions: { 0: { read: note(PASS_THROUGH as typeof PASS_THROUGH), write: note(PASS_THROUGH as typeof PASS_THROUGH) } },
        irqs: { 0: { set: note(PASS_THROUGH as typeof PASS_THROUGH) } },
      }),
      release: (h) => void got.push(h),
    });
    const { machine } = machineWith(mediators);
    const { device } = openAll(machine, BDF);
    device.region(RegionIndex.CONFIG).write16(4, 2);
    expect(device.region(0).read32(0)).toBe(0x600df00d);
    device.region(0).write32(4, 7);
    expect(() => device.setIrqs(disable(0))).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    device.close();
    expect(got.length).toBe(4);
    expect(got.every((h) => h === handle)).toBe(true);
  });

  it('S0-12 the same mediator or the same name twice is EEXIST; what is none is EINVAL', () => {
    const mediators = new Mediators();
    const a = mediator('a', null, []);
    mediators.register(a);
    for (const again of [a, { ...a }, mediator('a', null, [])]) {
      expect(() => mediators.register(again)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
    }
    for (const none of [{ ...a, name: 7 }, { ...a, name: 'x', open: 1 }, null, { ...a, name: 'y', release: undefined }]) {
      expect(() => mediators.register(none as never)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    }
    const other = { ...mediator('b', null, []) };
    mediators.register(other);
    other.name = 'c';
    expect(() => mediators.register(other)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
    expect(mediators.names).toEqual(['a', 'b']);
  });

  it('S0-15 released is released: once more does nothing', () => {
    const trace: string[] = [];
    const mediation = new Mediation(
      mediator('a', null, trace),
      { handle: 0 },
      BDF,
      machineWith(new Mediators()).machine.context.events,
      () => {
        trace.push('counted');
      },
    );
    mediation.release();
    mediation.release();
    expect(trace).toEqual(['a release', 'counted']);
  });

  it('S0-14 in use it cannot leave; afterwards it can, once', () => {
    const mediators = new Mediators();
    const registration = mediators.register(mediator('a', { handle: 0 }, []));
    const { machine } = machineWith(mediators);
    const { group, device } = openAll(machine, BDF);
    const second = group.openDevice(BDF);
    expect(registration.users).toBe(1);
    for (const file of [device, second]) {
      expect(() => registration.unregister()).toThrow(expect.objectContaining({ code: 'EBUSY' }));
      file.close();
    }
    expect([mediators.names, registration.users]).toEqual([['a'], 0]);
    registration.unregister();
    registration.unregister();
    expect(mediators.names).toEqual([]);
    const again = group.openDevice(BDF);
    again.close();
  });

  it('S0-16 it is the engine that counts: what a vendor throws on release neither keeps it in nor lets it out', () => {
    const mediators = new Mediators();
    const registration = mediators.register({
      name: 'careless',
      open: () => ({ handle: 0 }),
      release: () => {
        throw new Error('oops');
      },
    });
    const { machine } = machineWith(mediators);
    const { group, device } = openAll(machine, BDF);
    expect(() => registration.unregister()).toThrow(expect.objectContaining({ code: 'EBUSY' }));
    device.close();
    expect(registration.users).toBe(0);
    group.openDevice(BDF).close();
    registration[Symbol.dispose]();
    expect(mediators.names).toEqual([]);
  });

  it('S0-15 whatever step of an open fails, the mediator that accepted is released once, and one that was not asked never', () => {
    const steps = new Set<string>();
    {
      const { machine, faults } = machineWith(registryOf([]));
      const before = new Map(faults.seen);
      openAll(machine, BDF).device.close();
      for (const [step, count] of faults.seen) if (count > (before.get(step) ?? 0)) steps.add(step);
    }
    expect(steps).toContain('device.mediate');
    let asked = 0;
    for (const step of steps) {
      const trace: string[] = [];
      const { machine, faults, fn } = machineWith(registryOf(trace));
      faults.failNext(step);
      try {
        openAll(machine, BDF).device.close();
      } catch (error) {
        if (!(error instanceof VfioError)) throw error;
      }
      const opens = trace.filter((t) => t === 'a open').length;
      asked += opens;
      expect([step, trace.length, fn.vfio!.openCount, fn.vfio!.mediation]).toEqual([step, 2 * opens, 0, null]);
    }
    expect(asked).toBeGreaterThan(0);
  });

  it('S0-15 a device that is taken from its users releases its mediator too, once', async () => {
    const trace: string[] = [];
    const { machine, clock } = machineWith(registryOf(trace), { params: { forceRevokeAfterMs: 10 } });
    const { device } = openAll(machine, BDF);
    const gone = machine.remove(BDF);
    clock.advance(20);
    await gone;
    expect(trace).toEqual(['a open', 'a release']);
    device.close();
    expect(trace).toEqual(['a open', 'a release']);
  });

  it('S0-17 mediators come before any machine and outlive it; machines share them or have none', () => {
    const trace: string[] = [];
    const mediators = registryOf(trace);
    const first = machineWith(mediators);
    const second = machineWith(mediators);
    const users = [openAll(first.machine, BDF), openAll(second.machine, BDF)];
    for (const { device } of users) device.close();
    first.machine[Symbol.dispose]();
    mediators.register(mediator('b', null, trace));
    users[1]!.group.openDevice(BDF);
    expect(trace).toEqual(['a open', 'a open', 'a release', 'a release', 'a open']);
    const none = testMachine({ devices: [alone('01.0', { at: '00.0', model: 'probe', driver: VFIO_PCI })] });
    openAll(none.machine, BDF);
    expect(none.machine.function(BDF).vfio!.mediation).toBe(null);
  });

  it('S0-18 it is released when the device is disabled: no bus mastering, reset', () => {
    const mediators = new Mediators();
    const seen: [number, number][] = [];
    const { machine, fn, probe } = machineWith(mediators);
    mediators.register({
      name: 'a',
      open: () => ({ handle: 0 }),
      release: () => void seen.push([fn.config.read(4, 2) & 4, probe.resets]),
    });
    const { device } = openAll(machine, BDF);
    const resets = probe.resets;
    device.region(RegionIndex.CONFIG).write16(4, 6);
    expect(fn.config.read(4, 2) & 4).toBe(4);
    device.close();
    expect(seen).toEqual([[0, resets + 1]]);
  });
});

describe('what it may do', () => {
  it('S0-05 region information: flags and capabilities of every kind of region; never index or size', () => {
    const mediators = new Mediators();
    const asked: number[] = [];
    const info = (_: number, region: RegionInfo): RegionInfo => {
      asked.push(region.index);
      return region.index === 0 ? { ...region, flags: region.flags | RegionFlags.CAPS, sparseAreas: [{ offset: 0, size: 4096 }] } : region;
    };
    const wrong = { info: (_: number, region: RegionInfo) => ({ ...region, size: 1 }) };
    mediators.register({
      name: 'a',
      open: () => ({
        handle: 0,
        regions: { 0: { info }, 1: { info }, [RegionIndex.CONFIG]: { info }, [RegionIndex.ROM]: { info }, 2: wrong },
      }),
      release: () => {},
    });
    const { machine, lines } = machineWith(mediators);
    const { device } = openAll(machine, BDF);
    for (const index of [0, 1, RegionIndex.CONFIG, RegionIndex.ROM]) device.region(index);
    expect(asked).toEqual([0, 1, RegionIndex.CONFIG, RegionIndex.ROM]);
    expect(device.region(0).info).toMatchObject({ index: 0, size: 4096, sparseAreas: [{ offset: 0, size: 4096 }] });
    expect(() => device.region(2)).toThrow(expect.objectContaining({ code: 'EIO' }));
    expect(lines.some((line) => line.includes('changed index or size'))).toBe(true);
  });

  it('S0-07 a hook answers itself or passes the access through', () => {
    const mediators = new Mediators();
    mediators.register({
      name: 'a',
      open: () => ({
        handle: 0,
        regions: {
          0: {
            read: (_, offset, into) => {
              if (offset !== 0) return PASS_THROUGH;
              into.set(bytes(0x1234));
              return into.length;
            },
            write: (_, offset, from) => (offset === 8 ? from.length : PASS_THROUGH),
          },
        },
      }),
      release: () => {},
    });
    const { machine } = machineWith(mediators);
    const { device } = openAll(machine, BDF);
    device.region(RegionIndex.CONFIG).write16(4, 2);
    const bar = device.region(0);
    bar.write32(4, 5);
    bar.write32(8, 6);
    expect([bar.read32(0), bar.read32(4), bar.read32(8)]).toEqual([0x1234, 5, 0]);
  });

  it('S0-10 a hook may call the region itself, with another value', () => {
    const mediators = new Mediators();
    mediators.register({
      name: 'a',
      open: () => ({
        handle: 0,
        regions: {
          0: {
            write: (_, offset, from, direct) => direct.write(offset, bytes(word(from) + 1)),
            read: (_, offset, into, direct) => {
              const n = direct.read(offset, into);
              into.set(bytes(word(into) * 2));
              return n;
            },
          },
        },
      }),
      release: () => {},
    });
    const { machine } = machineWith(mediators);
    const { device } = openAll(machine, BDF);
    const bar = device.region(0);
    device.region(RegionIndex.CONFIG).write16(4, 0);
    expect(() => bar.read32(4)).toThrow(expect.objectContaining({ code: 'EIO' }));
    device.region(RegionIndex.CONFIG).write16(4, 2);
    bar.write32(4, 20);
    expect(bar.read32(4)).toBe(42);
  });

  it('S0-09 the table is frozen at open, an unmediated region is the very region, and a late mediator changes nothing', () => {
    const mediators = new Mediators();
    const hooks: RegionHooks<number> = { read: () => PASS_THROUGH };
    const regions: Record<number, RegionHooks<number>> = { 0: hooks };
    const registration = mediators.register({ name: 'a', open: () => ({ handle: 0, regions }), release: () => {} });
    const { machine } = machineWith(mediators);
    const { group, device } = openAll(machine, BDF);
    const mediated = device.region(0).constructor.name;
    const direct = device.region(RegionIndex.CONFIG).constructor.name;
    expect([mediated, direct]).toEqual(['MediatedRegion', 'ConfigRegion']);
    hooks.read = () => {
      throw new Error('too late');
    };
    regions[RegionIndex.CONFIG] = hooks;
    mediators.register({ name: 'late', open: () => ({ handle: 1, regions: { [RegionIndex.CONFIG]: hooks } }), release: () => {} });
    const second = group.openDevice(BDF);
    second.region(RegionIndex.CONFIG).write16(4, 2);
    expect([second.region(0).read32(0), second.region(RegionIndex.CONFIG).constructor.name]).toEqual([0x600df00d, 'ConfigRegion']);
    device.close();
    second.close();
    registration.unregister();
    const third = group.openDevice(BDF);
    expect([third.region(0).constructor.name, third.region(RegionIndex.CONFIG).constructor.name]).toEqual(['BarRegion', 'MediatedRegion']);
  });

  it('S0-09 a mediator that forbids the mapping sees each access; a map hook may give another', () => {
    const mediators = new Mediators();
    const maps: [number, number][] = [];
    let mappable = false;
    mediators.register({
      name: 'a',
      open: () => ({
        handle: 0,
        regions: {
          0: {
            info: (_, info) => (mappable ? info : { ...info, flags: info.flags & ~RegionFlags.MMAP }),
            map: (_, offset, size) => {
              maps.push([offset, size]);
              return PASS_THROUGH;
            },
          },
        },
      }),
      release: () => {},
    });
    const { machine } = machineWith(mediators);
    const { group, device } = openAll(machine, BDF);
    expect(() => device.region(0).map()).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    device.close();
    mappable = true;
    const again = group.openDevice(BDF);
    again.region(RegionIndex.CONFIG).write16(4, 2);
    using mapping = again.region(0).map();
    expect([mapping.read32(0), maps]).toEqual([0x600df00d, [[0, 4096]]]);
  });

  it('S0-11 interrupt indexes are mediated the same way', () => {
    const mediators = new Mediators();
    const asked: string[] = [];
    mediators.register({
      name: 'a',
      open: () => ({
        handle: 0,
        irqs: {
          1: {
            info: (_, info) => ({ ...info, count: 3 }),
            set: (_, request, direct) => {
              asked.push(request.action);
              return request.count === 0 ? direct(request) : 5;
            },
          },
        },
      }),
      release: () => {},
    });
    const { machine } = machineWith(mediators);
    const { device } = openAll(machine, BDF);
    expect([device.irq(1).count, device.irq(0).count]).toEqual([3, 1]);
    expect(device.setIrqs({ index: 1, start: 0, count: 3, action: 'trigger', data: 'sinks', sinks: [] })).toBe(5);
    const past = { index: 1, start: 1, count: 3, action: 'trigger', data: 'none' } as const;
    expect(() => device.setIrqs(past)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => device.setIrqs(disable(1))).toThrow('MSI is not enabled');
    expect(() => device.setIrqs({ index: 0, start: 0, count: 9, action: 'mask', data: 'none' })).toThrow(VfioError);
    expect(asked).toEqual(['trigger', 'trigger']);
  });

  it('S0-08 hooks that throw for ever fill no log, and are EIO to their user alone', () => {
    const mediators = new Mediators();
    const oops = () => {
      throw new Error('oops');
    };
    mediators.register({ name: 'a', open: () => ({ handle: 0, regions: { 0: { read: oops } } }), release: oops });
    mediators.register({ name: 'b', open: oops, release: () => {} });
    const { machine, lines } = machineWith(mediators);
    const { device } = openAll(machine, BDF);
    device.region(RegionIndex.CONFIG).write16(4, 2);
    for (let i = 0; i < 10_000; i++) expect(() => device.region(0).read32(0)).toThrow(expect.objectContaining({ code: 'EIO' }));
    expect(lines.length).toBeLessThan(30);
    device.region(0).write32(4, 1);
    device.close();
    expect(lines.some((line) => line.includes('release failed'))).toBe(true);
  });

  it('S0-06 each kind of hook has one place that calls it', async () => {
    const { readdirSync, readFileSync } = await import('node:fs');
    const sources = readdirSync('src', { recursive: true, encoding: 'utf8' })
      .filter((f) => f.endsWith('.ts') && !f.endsWith('.test.ts') && !f.startsWith('engine/mediation'))
      .map((f) => readFileSync(`src/${f}`, 'utf8'))
      .join('\n');
    const calls = (pattern: RegExp) => [...sources.matchAll(pattern)].length;
    expect([
      calls(/mediation\?\.regionInfo\(/g),
      calls(/new MediatedRegion\(/g),
      calls(/mediation\?\.irqInfo\(/g),
      calls(/mediation\?\.setIrqs\(/g),
      calls(/mediation\?\.feature\(/g),
      calls(/mediators\.open\(/g),
    ]).toEqual([1, 1, 1, 1, 1, 1]);
  });
});

it.each([true, false])(
  'S0-19 the log has the writes that a mediator reports, and the own writes of the device where the mediator notes none: %s',
  (notesWrites) => {
    const mediators = new Mediators();
    let shown!: MediatedDevice;
    const migration: ModelMigration = { version: 1, stop() {}, start() {}, save: () => new Uint8Array(0), load() {} };
    mediators.register({
      name: 'a',
      open: (device) => {
        shown = device;
        return { handle: 0, migration, notesWrites };
      },
      release: () => {},
    });
    const { machine, probe } = machineWith(mediators);
    const { group, device } = openAll(machine, BDF);
    const prepare = (file: DeviceFile) => {
      file.region(RegionIndex.CONFIG).write16(4, 6);
      const data = new Uint8Array(24);
      FeatureDmaLoggingControl.encode(new DataView(data.buffer), 0, { page_size: 4096n, num_ranges: 1 });
      const ranges = new Uint8Array(16);
      FeatureDmaLoggingRange.encode(new DataView(ranges.buffer), 0, { iova: 0x1000n, length: 0x4000n });
      featureBytes(file, { feature: Feature.DMA_LOGGING_START, set: true, data, ranges });
    };
    const dirty = (file: DeviceFile) => {
      const data = new Uint8Array(32);
      FeatureDmaLoggingReport.encode(new DataView(data.buffer), 0, { iova: 0x1000n, length: 0x4000n, page_size: 4096n });
      const bitmap = new Uint8Array(8);
      featureBytes(file, { feature: Feature.DMA_LOGGING_REPORT, get: true, data, bitmap });
      return bitmap[0];
    };
    device.dma.map({ iova: 0x1000n, memory: HeapMemory.allocate(0x4000) });
    prepare(device);
    expect(probe.models[0]!.send(0x1000, 1)).toBe(0);
    expect(dirty(device)).toBe(notesWrites ? 0 : 1);
    shown.dmaWrite(0x2fffn, Uint8Array.of(1, 2));
    shown.wrote(0x4000n, 1);
    expect([dirty(device), dirty(device)]).toEqual([0b1110, 0]);
    // Its view of the device has no effect any more, also not on the log of the next open.
    const before = shown;
    device.close();
    const next = group.openDevice(BDF);
    prepare(next);
    before.wrote(0x1000n, 1);
    expect(dirty(next)).toBe(0);
  },
);

it('S0-05 the device that a mediator is shown has its ids and its registers', () => {
  const mediators = new Mediators();
  let shown: MediatedDevice | null = null;
  mediators.register({
    name: 'a',
    open: (device) => {
      shown = device;
      return null;
    },
    release: () => {},
  });
  const { machine } = machineWith(mediators);
  openAll(machine, BDF);
  expect(shown).toMatchObject({ name: BDF, vendor: 0xcafe, device: 1, classCode: 0xff0000 });
  expect(shown!.read(0, 0, 4)).toBe(0x600df00d);
});

function registryOf(trace: string[]): Mediators {
  const mediators = new Mediators();
  mediators.register(mediator('a', { handle: 1 }, trace));
  return mediators;
}

it('B.6 dma_rw: a mediator reaches what its user has mapped: EINVAL where nothing is, EPERM against the mapping', () => {
  const mediators = new Mediators();
  const shown: MediatedDevice[] = [];
  mediators.register({
    name: 'a',
    open: (device) => {
      shown.push(device);
      return null;
    },
    release: () => {},
  });
  const { machine } = machineWith(mediators);
  const { device } = openAll(machine, BDF);
  const readable = HeapMemory.allocate(0x1000);
  const both = HeapMemory.allocate(0x1000);
  device.dma.map({ iova: 0x1000n, memory: readable, access: Access.READ });
  device.dma.map({ iova: 0x2000n, memory: both });
  readable.windows[0]!.set([1, 2, 3, 4], 0xffc);
  both.windows[0]!.set([5, 6, 7, 8]);
  const [seen] = shown;
  const into = new Uint8Array(8);
  seen!.dmaRead(0x1ffcn, into);
  expect([...into]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  seen!.dmaWrite(0x2000n, Uint8Array.of(9));
  expect(both.windows[0]![0]).toBe(9);
  expect([
    errnoFrom(() => seen!.dmaWrite(0x1fffn, Uint8Array.of(0, 0))),
    errnoFrom(() => seen!.dmaWrite(0x2fffn, Uint8Array.of(0, 0))),
    errnoFrom(() => seen!.dmaRead(0x5000n, into)),
    errnoFrom(() => seen!.dmaRead(2n ** 64n - 4n, into)),
    errnoFrom(() => seen!.dmaRead(-1n, into)),
  ]).toEqual(['EPERM', 'EINVAL', 'EINVAL', 'EINVAL', 'EINVAL']);
  expect([readable.windows[0]![0xfff], both.windows[0]![0xfff]]).toEqual([4, 0]);
});
