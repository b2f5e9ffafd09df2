/**
 * Any sequence of what administrators, users and hardware do to a machine, with any step made to
 * fail: the invariants of groups and ownership hold after every step, and at the end every
 * reference is given back.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type TestMachine, testMachine } from '../../../tests/kit/machines.ts';
import { Access } from '../../abi/memory.ts';
import { Extension, RegionIndex } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { HeapMemory } from '../../sys/fake.ts';
import type { DeviceFile } from '../device/device-file.ts';
import type { Container } from '../dma/container.ts';
import { Process } from '../dma/process.ts';
import type { GroupFile } from './group-file.ts';
import type { FunctionSpec } from './machine-spec.ts';

const nic = (at: string): FunctionSpec => ({ at, id: '8086:100e', classCode: 0x020000 });
const probe = (at: string): FunctionSpec => ({ at, model: 'probe' });

const devices: readonly FunctionSpec[] = [
  { at: '01.0', kind: 'root-port', devices: [probe('00.0'), nic('00.1')] },
  { at: '02.0', kind: 'root-port', devices: [probe('00.0')] },
  {
    at: '03.0',
    kind: 'root-port',
    iommu: 'other',
    devices: [{ at: '00.0', kind: 'pcie-to-pci-bridge', devices: [nic('00.0'), nic('01.0')] }],
  },
  { at: '04.0', kind: 'root-port', slot: true },
];

/** The places where functions are, or can be plugged in. */
const places: readonly (readonly [bdf: string, spec: FunctionSpec, behind: string])[] = [
  ['0000:01:00.0', probe('00.0'), '00:01.0'],
  ['0000:01:00.1', nic('00.1'), '00:01.0'],
  ['0000:02:00.0', probe('00.0'), '00:02.0'],
  ['0000:04:00.0', nic('00.0'), '03:00.0'],
  ['0000:04:01.0', nic('01.0'), '03:00.0'],
  ['0000:05:00.0', probe('00.0'), '00:04.0'],
];
const drivers = ['vfio-pci', 'e1000', 'pci-stub', 'own'] as const;
const steps = [
  'bind.match',
  'bind.dma',
  'bind.probe',
  'bind.register',
  'add.config',
  'add.model',
  'add.group',
  'group.open',
  'group.claim',
  'container.open',
  'container.attach',
  'container.set-iommu',
  'device.enable.reset',
  'device.enable.interrupts',
  'device.open',
] as const;

type Op =
  | { op: 'bind'; place: number; driver: number }
  | { op: 'unbind' | 'add' | 'remove' | 'openGroup' | 'explain' | 'plan'; place: number }
  /** The steps by which a driver gets a device, up to the first refusal. */
  | { op: 'take'; place: number }
  | { op: 'override'; place: number; driver: number | null }
  | {
      op: 'openContainer' | 'setIommu' | 'map' | 'unset' | 'closeGroup' | 'closeContainer' | 'closeDevice' | 'mapRegion' | 'unmapRegion';
      n: number;
    }
  | { op: 'setContainer'; group: number; container: number }
  | { op: 'openDevice'; group: number; place: number }
  | { op: 'fail'; step: number; skip: number }
  | { op: 'exit'; n: number }
  | { op: 'time' | 'suspend' | 'resume' };

const place = fc.nat(places.length - 1);
const n = fc.nat(4);
const op = (...ops: string[]) => fc.constantFrom(...ops) as fc.Arbitrary<never>;
const operation: fc.Arbitrary<Op> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ op: op('bind'), place, driver: fc.nat(drivers.length - 1) }) },
  { weight: 4, arbitrary: fc.record({ op: op('bind'), place, driver: fc.constant(0) }) },
  {
    weight: 6,
    arbitrary: fc.record({ op: op('unbind', 'add', 'remove', 'openGroup', 'openGroup', 'openGroup', 'explain', 'plan'), place }),
  },
  { weight: 4, arbitrary: fc.record({ op: op('take'), place }) },
  { weight: 1, arbitrary: fc.record({ op: op('override'), place, driver: fc.option(fc.nat(drivers.length - 1)) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      op: op(
        'openContainer',
        'setIommu',
        'setIommu',
        'map',
        'unset',
        'closeGroup',
        'closeContainer',
        'closeDevice',
        'mapRegion',
        'unmapRegion',
      ),
      n,
    }),
  },
  { weight: 5, arbitrary: fc.record({ op: op('setContainer'), group: n, container: fc.nat(1) }) },
  { weight: 5, arbitrary: fc.record({ op: op('openDevice'), group: n, place }) },
  { weight: 2, arbitrary: fc.record({ op: op('fail'), step: fc.nat(steps.length - 1), skip: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ op: op('exit'), n }) },
  { weight: 1, arbitrary: fc.record({ op: op('time', 'suspend', 'resume') }) },
) as fc.Arbitrary<Op>;

interface World extends TestMachine {
  readonly groups: GroupFile[];
  readonly containers: Container[];
  readonly devices: DeviceFile[];
  readonly mappings: Disposable[];
  readonly memory: ReturnType<typeof HeapMemory.allocate>;
  readonly processes: Process[];
  pending: Promise<void>[];
}

function run(world: World, o: Op): unknown {
  const { machine } = world;
  const any = <T>(list: readonly T[], i: number): T => {
    if (list.length === 0) throw new VfioError('ENOENT', 'nothing to act on');
    return list[i % list.length]!;
  };
  const bdf = 'place' in o ? places[o.place]![0] : '';
  switch (o.op) {
    case 'bind':
      return machine.bind(bdf, drivers[o.driver]!);
    case 'unbind':
      return world.pending.push(machine.unbind(bdf));
    case 'override':
      return machine.setDriverOverride(bdf, o.driver === null ? null : drivers[o.driver]!);
    case 'add':
      return machine.add(places[o.place]![1], places[o.place]![2]);
    case 'remove':
      return world.pending.push(machine.remove(bdf));
    case 'explain':
      return machine.explain(bdf);
    case 'plan': {
      const { group } = machine.function(bdf);
      return group === null ? null : machine.bindGroup(group.id);
    }
    case 'take': {
      const group = machine.group(machine.function(bdf).group!.id);
      machine.bindGroup(group.id);
      const process = any(world.processes, o.place);
      const file = machine.openGroup(group.id, process);
      world.groups.push(file);
      const container = machine.openContainer(process);
      world.containers.push(container);
      file.setContainer(container);
      container.setIommu(Extension.TYPE1v2_IOMMU);
      return world.devices.push(file.openDevice(bdf));
    }
    case 'openGroup':
      return world.groups.push(machine.openGroup(machine.function(bdf).group!.id, any(world.processes, o.place)));
    case 'openContainer':
      return world.containers.push(machine.openContainer(any(world.processes, o.n)));
    case 'setContainer':
      return any(world.groups, o.group).setContainer(any(world.containers, o.container));
    case 'setIommu':
      return any(world.containers, o.n).setIommu(Extension.TYPE1v2_IOMMU);
    case 'map':
      return any(world.containers, o.n).mapMemory({
        process: machine.process,
        iova: BigInt(o.n) * 4096n,
        memory: world.memory,
        offset: 0,
        size: 4096,
        access: Access.READ_WRITE,
      });
    case 'unset':
      return any(world.groups, o.n).unsetContainer();
    case 'openDevice':
      return world.devices.push(any(world.groups, o.group).openDevice(bdf));
    case 'mapRegion':
      return world.mappings.push(any(world.devices, o.n).region(RegionIndex.BAR0).map(0, 4096));
    case 'unmapRegion':
      return any(world.mappings, o.n)[Symbol.dispose]();
    case 'closeGroup':
      return any(world.groups, o.n).close();
    case 'closeContainer':
      return any(world.containers, o.n).close();
    case 'closeDevice':
      return any(world.devices, o.n).close();
    case 'fail':
      return world.faults.failNext(steps[o.step]!, 'ENOMEM', o.skip);
    case 'exit': {
      any(world.processes, o.n).exit();
      return world.processes.push(Process.root({ pid: 100 + world.processes.length, allocate: HeapMemory.allocate }));
    }
    case 'time':
      return world.clock.advance(10_000);
    case 'suspend':
      return world.pending.push(machine.suspend());
    case 'resume':
      return machine.resume();
  }
}

/**
 * The invariants of any moment. The checks run so often that `expect` would take most of the time.
 */
function check(world: World): void {
  const { machine } = world;
  const seen = new Map<string, number>();
  for (const [id, group] of machine.groups) {
    assert.equal(group.id, id);
    assert.ok(group.functions.length > 0);
    for (const fn of group.functions) {
      assert.equal(seen.has(fn.bdf), false);
      seen.set(fn.bdf, id);
      assert.equal(fn.group, group);
      assert.equal(fn.driver === 'vfio-pci', fn.vfio !== null);
      assert.equal(fn.vfio === null, fn.vfioIndex === null);
      if (group.owner !== null) assert.equal(fn.driver === 'e1000' || fn.driver === 'own', false);
    }
    const native = group.functions.filter((f) => f.driver === 'e1000' || f.driver === 'own').length;
    assert.equal(group.nativeUsers, native);
    if (group.owner !== null) assert.equal(group.nativeUsers, 0);
    const attached = world.containers.filter((c) => c.groups.includes(group));
    assert.equal(attached.length, group.owner === null ? 0 : 1);
    assert.equal(group.domain === null, attached.length === 0 || attached[0]!.iommuType === null);
    const holders = world.groups.filter((g) => g.group === group && (g === group.file || g.container !== null));
    assert.ok(holders.length <= 1);
    assert.equal(group.owner, (group.file as GroupFile | null)?.container == null ? null : group.file);
    if (group.file !== null) assert.ok(group.vfioFunctions.length > 0);
    const users = new Set(group.functions.flatMap((f) => f.vfio?.files.map((d) => d.holder) ?? []));
    assert.ok(users.size <= 1);
    for (const user of users) assert.equal(user, group.file);
  }
  assert.deepEqual(
    [...machine.functions.keys()].filter((bdf) => !seen.has(bdf)),
    [],
  );
  const indexes = [...machine.functions.values()].flatMap((f) => (f.vfioIndex === null ? [] : [f.vfioIndex]));
  assert.equal(new Set(indexes).size, indexes.length);
}

function world(): World {
  const made = testMachine({
    iommus: { other: {} },
    hostDrivers: [
      { name: 'e1000', ids: ['8086:100e'] },
      { name: 'own', dma: 'own-domain' },
    ],
    devices,
  });
  const processes = [1, 2, 3].map((i) => Process.root({ pid: i * 10, allocate: HeapMemory.allocate }));
  return { ...made, groups: [], containers: [], devices: [], mappings: [], memory: HeapMemory.allocate(4096), processes, pending: [] };
}

it('S1-04 S1-12 property: no sequence of binds, plugs, opens, closes and failures gives a group two users or leaves anything behind', async () => {
  const outcomes = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 1, maxLength: 60, size: 'max' }), async (operations) => {
      const w = world();
      for (const o of operations) {
        let outcome = 'ok';
        try {
          run(w, o);
        } catch (error) {
          if (!(error instanceof VfioError)) throw error;
          outcome = error.code;
        }
        outcomes.set(`${o.op} ${outcome}`, (outcomes.get(`${o.op} ${outcome}`) ?? 0) + 1);
        check(w);
      }
      // All users close: devices that were asked for go.
      w.faults.clear();
      w.machine.resume();
      for (const m of w.mappings) m[Symbol.dispose]();
      for (const d of w.devices) d.close();
      for (const g of w.groups) g.close();
      for (const c of w.containers) c.close();
      w.clock.advance(10_000);
      await Promise.all(w.pending);
      check(w);
      for (const group of w.machine.groups.values()) expect([group.owner, group.file, group.domain]).toEqual([null, null, null]);
      expect([w.memory.references, w.clock.pendingTimers]).toEqual([1, 0]);
      expect(w.containers.map((c) => c.references)).toEqual(w.containers.map(() => 0));
      w.machine[Symbol.dispose]();
      expect(w.probe.disposed).toBe(w.probe.models.length);
    }),
    { numRuns: 250 },
  );
  // The sequences get somewhere: each of these has happened.
  for (const reached of [
    'take ok',
    'openDevice ok',
    'map ok',
    'mapRegion ok',
    'bind EBUSY',
    'add ok',
    'remove ok',
    'unset EBUSY',
    'plan ok',
  ]) {
    expect(outcomes.get(reached) ?? 0, reached).toBeGreaterThan(0);
  }
});

it('S1-04 property: switching the machine off in the middle of anything leaves nothing', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 1, maxLength: 40, size: 'max' }), async (operations) => {
      const w = world();
      for (const o of operations) {
        try {
          run(w, o);
        } catch (error) {
          if (!(error instanceof VfioError)) throw error;
        }
      }
      w.machine[Symbol.dispose]();
      expect([w.memory.references, w.clock.pendingTimers, w.probe.disposed]).toEqual([1, 0, w.probe.models.length]);
      for (const group of w.machine.groups.values()) expect([group.owner, group.file, group.domain]).toEqual([null, null, null]);
      await Promise.all(w.pending);
      for (const m of w.mappings) m[Symbol.dispose]();
      for (const d of w.devices) d.close();
    }),
    { numRuns: 150 },
  );
});
