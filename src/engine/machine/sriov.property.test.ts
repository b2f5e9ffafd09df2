/**
 * Any sequence of what administrators and users do to an SR-IOV device, with any step made to fail:
 * opens are allowed by the token matrix and by nothing else, users are counted right, and at the
 * end every reference is given back.
 */

import assert from 'node:assert/strict';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { sriovRegisters } from '../../../tests/kit/sriov-registers.ts';
import { OTHER_TOKEN, PF, type SriovRig, sriovRig, TOKEN } from '../../../tests/kit/sriov-rig.ts';
import { parseVfToken } from '../../abi/vf-token.ts';
import { Extension, Feature } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { featureBytes } from '../../device/feature-bytes.ts';
import type { DeviceModel } from '../../pci/declaration.ts';
import type { DeviceFile } from '../device/device-file.ts';
import type { VfToken } from '../device/vf-token.ts';
import type { Container } from '../dma/container.ts';
import type { GroupFile } from './group-file.ts';

/** The PF, and three of its VFs. */
const bdfs = [PF, '0000:01:00.1', '0000:01:00.2', '0000:01:00.3'];
const tokens = [undefined, TOKEN, OTHER_TOKEN, '00000000-0000-0000-0000-000000000000'];
const drivers = ['vfio-pci', 'vfio-pci', 'pci-pf-stub', 'igb', 'igbvf'];
const steps = [
  'sriov.power',
  'sriov.enable',
  'sriov.config',
  'sriov.model',
  'sriov.group',
  'bind.token',
  'bind.probe',
  'bind.register',
  'device.enable.reset',
  'device.enable.interrupts',
  'device.open',
  'group.open',
  'container.attach',
];

type Op =
  | { op: 'numvfs'; count: number }
  | { op: 'bind'; at: number; driver: number }
  | { op: 'unbind' | 'remove' | 'reset' | 'free'; at: number }
  | { op: 'open'; at: number; token: number }
  | { op: 'set'; n: number; token: number }
  | { op: 'close' | 'map' | 'unmap' | 'closeGroup'; n: number }
  | { op: 'fail'; step: number; skip: number }
  /** `lend`: the PF goes to a driver of the host, a VF of it to vfio-pci. */
  | { op: 'lend' | 'plug' | 'time' | 'suspend' | 'resume' };

const at = fc.nat(bdfs.length - 1);
const n = fc.nat(5);
const token = fc.nat(tokens.length - 1);
const named = (...ops: string[]) => fc.constantFrom(...ops) as fc.Arbitrary<never>;
const operation = fc.oneof(
  { weight: 6, arbitrary: fc.record({ op: named('numvfs'), count: fc.integer({ min: -1, max: 5 }) }) },
  { weight: 3, arbitrary: fc.record({ op: named('bind'), at, driver: fc.nat(drivers.length - 1) }) },
  { weight: 3, arbitrary: fc.record({ op: named('bind'), at: fc.constant(0), driver: fc.constant(0) }) },
  { weight: 3, arbitrary: fc.record({ op: named('unbind', 'reset', 'free'), at }) },
  { weight: 1, arbitrary: fc.record({ op: named('remove'), at }) },
  { weight: 16, arbitrary: fc.record({ op: named('open'), at, token }) },
  { weight: 2, arbitrary: fc.record({ op: named('set'), n, token: fc.integer({ min: 1, max: tokens.length - 1 }) }) },
  { weight: 8, arbitrary: fc.record({ op: named('close', 'close', 'map', 'unmap', 'closeGroup'), n }) },
  { weight: 2, arbitrary: fc.record({ op: named('fail'), step: fc.nat(steps.length - 1), skip: fc.nat(1) }) },
  { weight: 2, arbitrary: fc.record({ op: named('lend', 'plug', 'time', 'suspend', 'resume') }) },
) as fc.Arbitrary<Op>;

interface World extends SriovRig {
  readonly card: DeviceModel;
  readonly groups: Map<string, { readonly group: GroupFile; readonly container: Container }>;
  readonly files: DeviceFile[];
  readonly mappings: Disposable[];
  readonly pending: Promise<unknown>[];
  /** The oracle's knowledge of each token: its text, null while it is random. */
  readonly known: Map<VfToken, string | null>;
}

/** The matrix's answer to `given`, found without the engine's code. */
function matrix(world: World, bdf: string, given: string | undefined): 'ok' | 'EACCES' | 'EINVAL' {
  const fn = world.machine.function(bdf);
  const openVfs = world.machine.function(PF).vfs.filter((vf) => (vf.vfio?.files.length ?? 0) > 0 && vf.vfio!.gone === null).length;
  if (fn.physical !== null) {
    const pf = fn.physical.vfio;
    if (pf === null) return given === undefined ? 'ok' : 'EINVAL';
    return given !== undefined && given === (world.known.get(pf.token!) ?? null) ? 'ok' : 'EACCES';
  }
  if (openVfs === 0) return 'ok';
  return given !== undefined && given === (world.known.get(fn.vfio!.token!) ?? null) ? 'ok' : 'EACCES';
}

function open(world: World, bdf: string, given: string | undefined): void {
  const { machine } = world;
  const fn = machine.function(bdf);
  let set = world.groups.get(bdf);
  if (set === undefined || set.group.closed || set.group.group !== fn.group) {
    const group = machine.openGroup(fn.group!.id);
    const container = machine.openContainer();
    set = { group, container };
    world.groups.set(bdf, set);
  }
  if (set.group.container === null) set.group.setContainer(set.container);
  if (set.container.iommuType === null) set.container.setIommu(Extension.TYPE1v2_IOMMU);
  const findable = fn.present && fn.unbinding === null && fn.vfio !== null;
  const expected = findable ? matrix(world, bdf, given) : 'ENODEV';
  if (expected === 'ok' && fn.vfio!.token !== null && fn.vfio!.token.users === 0 && given !== undefined)
    world.known.set(fn.vfio!.token, given);
  try {
    world.files.push(set.group.openDevice(given === undefined ? bdf : `${bdf} vf_token=${given.toUpperCase()}`));
    expect([bdf, given, 'ok']).toEqual([bdf, given, expected]);
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    const others = expected === 'ok' ? ['EBUSY', 'EIO', 'ENOMEM', 'EAGAIN'] : [expected];
    expect(others, `${bdf} ${given} ${error.message}`).toContain(error.code);
    throw error;
  }
}

function run(world: World, o: Op): unknown {
  const { machine } = world;
  const any = <T>(list: readonly T[], i: number): T => {
    if (list.length === 0) throw new VfioError('ENOENT', 'nothing to act on');
    return list[i % list.length]!;
  };
  const bdf = 'at' in o ? bdfs[o.at]! : '';
  switch (o.op) {
    case 'numvfs':
      return world.pending.push(machine.setNumVfs(PF, o.count));
    case 'bind':
      return machine.bind(bdf, drivers[o.driver]!);
    case 'unbind':
      return world.pending.push(machine.unbind(bdf));
    case 'remove':
      return world.pending.push(machine.remove(bdf));
    case 'lend':
      if (machine.function(PF).driver !== null) world.pending.push(machine.unbind(PF));
      machine.bind(PF, 'pci-pf-stub');
      world.pending.push(machine.setNumVfs(PF, 2));
      return machine.bindGroup(machine.function(bdfs[1]!).group!.id);
    case 'plug':
      return machine.add({ at: '00.0', model: world.card, driver: 'vfio-pci', numVfs: 2 }, '00:01.0');
    case 'reset':
      return machine.reset(bdf);
    case 'free':
      return machine.setDriverOverride(bdf, null);
    case 'open':
      return open(world, bdf, tokens[o.token]);
    case 'set': {
      const file = any(world.files, o.n);
      featureBytes(file, { feature: Feature.PCI_VF_TOKEN, set: true, data: parseVfToken(tokens[o.token]!)! });
      return world.known.set(file.device.token!, tokens[o.token]!);
    }
    case 'close':
      return any(world.files, o.n).close();
    case 'map':
      return world.mappings.push(any(world.files, o.n).region(0).map(0, 4096));
    case 'unmap':
      return any(world.mappings, o.n)[Symbol.dispose]();
    case 'closeGroup':
      return any([...world.groups.values()], o.n).group.close();
    case 'fail':
      return world.faults.failNext(steps[o.step]!, 'ENOMEM', o.skip);
    case 'time':
      return world.clock.advance(10_000);
    case 'suspend':
      return world.pending.push(machine.suspend());
    case 'resume':
      return machine.resume();
  }
}

function check(world: World): void {
  const { machine } = world;
  for (const fn of machine.functions.values()) {
    if (fn.physical !== null) assert.ok(fn.physical.vfs.includes(fn));
    assert.ok(fn.group!.functions.length === 1 && fn.group!.functions[0] === fn);
    if (fn.sriov === null) continue;
    const { vfs } = fn;
    const { numVfs, disabling } = fn.sriov;
    assert.ok(vfs.length <= numVfs);
    assert.equal(fn.host.virtualFunctions.length, vfs.length);
    const d3 = fn.vfio !== null && !fn.vfio.power.suspended && fn.config.sleeping;
    if (numVfs > 0) assert.deepEqual([fn.bdf, d3], [fn.bdf, false]);
    if (numVfs > 0 && fn.vfio !== null && disabling === null)
      for (const vf of vfs) assert.ok(vf.vfio?.physical == null || vf.vfio.physical === fn.vfio);
    const { enabled, memory, numVfs: shown } = sriovRegisters(machine, fn.bdf);
    assert.deepEqual([enabled, memory, shown], [numVfs > 0, numVfs > 0, numVfs]);
    if (fn.vfio === null) continue;
    const open = vfs.filter((vf) => vf.vfio !== null && vf.vfio.physical === fn.vfio && vf.vfio.openCount > 0);
    assert.equal(fn.vfio.token!.users, open.length);
  }
}

function world(): World {
  const rig = sriovRig({ driver: null });
  const card = rig.machine.function(PF).deviceModel!;
  rig.machine.bind(PF, 'vfio-pci');
  return { ...rig, card, groups: new Map(), files: [], mappings: [], pending: [], known: new Map() };
}

/**
 * One way to each outcome that the runs must reach: chance finds some of them a few times in 250
 * runs, or never. All of them run first.
 */
const arranged: Readonly<Record<string, readonly Op[]>> = {
  'numvfs ok': [{ op: 'numvfs', count: 2 }],
  'numvfs EBUSY': [
    { op: 'numvfs', count: 2 },
    { op: 'numvfs', count: 3 },
  ],
  'numvfs ENOENT': [
    { op: 'unbind', at: 0 },
    { op: 'numvfs', count: 2 },
  ],
  'open ok': [{ op: 'open', at: 0, token: 0 }],
  'open EACCES': [
    { op: 'numvfs', count: 2 },
    { op: 'open', at: 1, token: 0 },
  ],
  'open EINVAL': [{ op: 'lend' }, { op: 'open', at: 1, token: 1 }],
  'set ok': [
    { op: 'open', at: 0, token: 0 },
    { op: 'set', n: 0, token: 1 },
  ],
  'unbind ok': [{ op: 'unbind', at: 0 }],
  'plug ok': [{ op: 'remove', at: 0 }, { op: 'plug' }],
  'bind EBUSY': [{ op: 'bind', at: 0, driver: 0 }],
};

it('S3-07 S3-24 property: whatever is done, tokens decide as the matrix says, users are counted right, and nothing is left', async () => {
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
        // Waiting actions go on when nothing is in their way any more.
        for (let i = 0; i < 8; i++) await Promise.resolve();
        check(w);
      }
      w.faults.clear();
      w.machine.resume();
      for (const m of w.mappings) m[Symbol.dispose]();
      for (const f of w.files) f.close();
      for (const { group, container } of w.groups.values()) {
        group.close();
        container.close();
      }
      await Promise.all(w.pending);
      check(w);
      for (const token of w.known.keys()) expect(token.users).toBe(0);
      // The log's counts, whose interval grows to a minute.
      w.clock.advance(60_000);
      expect(w.clock.pendingTimers).toBe(0);
      w.machine[Symbol.dispose]();
      expect(w.models.map((m) => m.disposed)).toEqual(w.models.map(() => 1));
      expect(w.lines.join()).not.toMatch(/83d8f4f2/i);
    }),
    { numRuns: 250, examples: Object.values(arranged).map((operations) => [[...operations]]) },
  );
  for (const reached of Object.keys(arranged)) expect(outcomes.get(reached) ?? 0, reached).toBeGreaterThan(0);
});

it('S3-24 property: switching the machine off in the middle of anything leaves nothing', async () => {
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
      expect(w.models.map((m) => m.disposed)).toEqual(w.models.map(() => 1));
      for (const token of w.known.keys()) expect(token.users).toBe(0);
      await Promise.all(w.pending);
      expect(w.clock.pendingTimers).toBe(0);
      for (const m of w.mappings) m[Symbol.dispose]();
      for (const f of w.files) f.close();
    }),
    { numRuns: 150 },
  );
});
