import { describe, expect, it } from 'vitest';
import { eventLines } from '../../../tests/kit/event-words.ts';
import { alone, openAll, testMachine } from '../../../tests/kit/machines.ts';
import { RegionIndex } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import type { FaultPlan } from '../fault-plan.ts';
import { VFIO_PCI } from '../machine/binding.ts';
import { SyntheticVm } from './synthetic-vm.ts';
import { VfioFileSet } from './vfio-file-set.ts';
import { isVmFile, type VmFile, VmProvider } from './vm-provider.ts';

const BDF = '0000:01:00.0';

function setup() {
  const rig = testMachine({
    devices: [
      { ...alone('01.0', { at: '00.0', model: 'probe', driver: VFIO_PCI }) },
      { ...alone('02.0', { at: '00.0', model: 'probe', driver: VFIO_PCI }) },
    ],
  });
  const provider = new VmProvider('kvm');
  const ended: string[] = [];
  const vm = (name: string, from = provider) => new SyntheticVm(from, name, () => ended.push(name));
  const group = rig.machine.openGroup(rig.machine.function(BDF).group!.id);
  const container = rig.machine.openContainer();
  group.setContainer(container);
  container.setIommu(3);
  return { ...rig, provider, ended, vm, group, container, fn: rig.machine.function(BDF) };
}

describe('references of devices on virtual machines', () => {
  it('S4-01 the engine calls what it was given and looks at nothing else of it', () => {
    const { group } = setup();
    const calls: string[] = [];
    const provider = new VmProvider('opaque');
    const opaque = new Proxy({} as VmFile, {
      get(_, key) {
        if (key === 'provider') return provider;
        if (key === 'tryGet') return () => calls.push('tryGet') > 0;
        if (key === 'put') return () => void calls.push('put');
        throw new Error(`the engine looked at ${String(key)}`);
      },
    });
    group.setVm(opaque);
    group.openDevice(BDF).close();
    expect(calls).toEqual(['tryGet', 'put']);
  });

  it('S4-02 half of a VM file is ignored, with one word in the log', () => {
    const { group, vm, lines } = setup();
    const whole = vm('a');
    group.setVm(whole);
    for (const half of [{ provider: whole.provider, tryGet: () => true }, { tryGet: () => true, put: () => {} }, {}, 7]) {
      expect(isVmFile(half)).toBe(false);
      group.setVm(half as unknown as VmFile);
    }
    expect(group.vm).toBe(whole);
    expect(lines.filter((line) => line.includes('ignored')).length).toBeGreaterThan(0);
    group.setVm(null);
    expect(group.vm).toBe(null);
  });

  it('S4-03 S4-04 a reader sees it taken, given back and refused', () => {
    const { machine, group, vm, provider } = setup();
    using reader = machine.events({ kinds: ['vm'] });
    const a = vm('a');
    group.setVm(a);
    group.openDevice(BDF).close();
    provider.unload();
    group.openDevice(BDF).close();
    expect(eventLines(reader.take())).toEqual([
      `${BDF}: reference on a taken`,
      `${BDF}: reference on a given back`,
      `${BDF}: reference on a refused`,
    ]);
  });

  it('S4-03 taken at the first open, dropped at the last close, once each', () => {
    const { group, vm, provider, fn } = setup();
    const a = vm('a');
    group.setVm(a);
    expect([a.references, provider.pins]).toEqual([1, 0]);
    const first = group.openDevice(BDF);
    const second = group.openDevice(BDF);
    expect([a.references, provider.pins, fn.vfio!.vm]).toEqual([2, 1, a]);
    first.close();
    expect(a.references).toBe(2);
    second.close();
    second.close();
    expect([a.references, provider.pins, fn.vfio!.vm]).toEqual([1, 0, null]);
  });

  it('S4-03 a mapping that is left keeps the machine, as it keeps the device', () => {
    const { group, vm } = setup();
    const a = vm('a');
    group.setVm(a);
    const file = group.openDevice(BDF);
    const mapping = file.region(0).map();
    file.close();
    expect(a.references).toBe(2);
    mapping[Symbol.dispose]();
    expect(a.references).toBe(1);
  });

  it('S4-04 a machine that is dying gives no reference: the device opens without one', () => {
    const { group, vm, provider, fn, ended } = setup();
    const a = vm('a');
    group.setVm(a);
    a[Symbol.dispose]();
    expect(ended).toEqual(['a']);
    const file = group.openDevice(BDF);
    expect([fn.vfio!.vm, provider.pins]).toEqual([null, 0]);
    file.close();
    expect(a.references).toBe(0);
  });

  it('S4-05 detaching stops new opens only: what is open gives back to where it took from', () => {
    const { group, vm, fn } = setup();
    const [a, b] = [vm('a'), vm('b')];
    group.setVm(a);
    const file = group.openDevice(BDF);
    group.setVm(null);
    expect(fn.vfio!.vm).toBe(a);
    group.setVm(b);
    const second = group.openDevice(BDF);
    expect([fn.vfio!.vm, a.references, b.references]).toEqual([a, 2, 1]);
    file.close();
    second.close();
    expect([a.references, b.references]).toEqual([1, 1]);
    const third = group.openDevice(BDF);
    expect([a.references, b.references]).toEqual([1, 2]);
    group.setVm(null);
    third.close();
    expect(b.references).toBe(1);
  });

  it('S4-06 a hypervisor whose machine a device holds cannot be unloaded; afterwards it can, and gives nothing any more', () => {
    const { group, vm, provider, fn } = setup();
    group.setVm(vm('a'));
    const file = group.openDevice(BDF);
    expect(() => provider.unload()).toThrow(expect.objectContaining({ code: 'EBUSY' }));
    expect(provider.unloaded).toBe(false);
    file.close();
    provider.unload();
    const again = group.openDevice(BDF);
    expect([fn.vfio!.vm, provider.pins]).toEqual([null, 0]);
    again.close();
  });

  it('S4-07 it is the file that is counted: a machine whose descriptor was closed lives until its device is closed', () => {
    const { group, vm, ended } = setup();
    const a = vm('a');
    group.setVm(a);
    const file = group.openDevice(BDF);
    a[Symbol.dispose]();
    expect(ended).toEqual([]);
    file.close();
    expect(ended).toEqual(['a']);
  });

  it('S4-09 set, unset, open and close in any order lose and double nothing', () => {
    const { group, vm, provider } = setup();
    const vms = [vm('a'), vm('b'), vm('c')];
    let seed = 1;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return (seed >>> 8) % below;
    };
    const open: Disposable[] = [];
    let most = 0;
    for (let step = 0; step < 20_000; step++) {
      const what = random(4);
      if (what === 0) group.setVm(vms[random(4)] ?? null);
      else if (what === 1 && open.length < 3) open.push(group.openDevice(BDF));
      else if (open.length > 0) open.splice(random(open.length), 1)[0]![Symbol.dispose]();
      most = Math.max(most, open.length);
      const held = vms.reduce((sum, one) => sum + one.references - 1, 0);
      if (held !== provider.pins || held > 1 || (open.length === 0 && held !== 0)) throw new Error(`step ${step}: ${held} held`);
    }
    for (const file of open) file[Symbol.dispose]();
    expect([most, provider.pins, ...vms.map((one) => one.references)]).toEqual([3, 0, 1, 1, 1]);
  });

  it('S4-13 several hypervisors side by side: each reference carries its own', () => {
    const { machine, group, vm, provider } = setup();
    const other = new VmProvider('vac');
    group.setVm(vm('a'));
    const second = openAll(machine, '0000:02:00.0');
    second.device.close();
    second.group.setVm(vm('b', other));
    const [x, y] = [group.openDevice(BDF), second.group.openDevice('0000:02:00.0')];
    expect([provider.pins, other.pins]).toEqual([1, 1]);
    x.close();
    provider.unload();
    expect(() => other.unload()).toThrow(VfioError);
    y.close();
    other.unload();
  });

  it('S4-03 whatever step of an open fails, the reference is given back, once', () => {
    const seen = stepsOf((faults) => openOnce(faults));
    expect(seen).toContain('vm.get');
    for (const step of seen) {
      const references = openOnce((faults) => faults.failNext(step, 'ENOMEM'));
      expect([step, references]).toEqual([step, { failed: true, vm: 1, pins: 0, openCount: 0 }]);
    }
  });

  it('S4-03 S4-06 it is given back when the device is disabled and reset, by code that is pinned until then', () => {
    const { group, fn, probe, provider } = setup();
    const trace: unknown[] = [];
    let resets = 0;
    group.setVm({
      provider,
      name: 'watched vm',
      tryGet: () => trace.push(provider.pins, fn.config.read(4, 2) & 4) > 0,
      put: () => void trace.push(provider.pins, fn.config.read(4, 2) & 4, probe.resets - resets, fn.vfio!.openCount),
    });
    const file = group.openDevice(BDF);
    file.region(RegionIndex.CONFIG).write16(4, 6);
    ({ resets } = probe);
    file.close();
    expect([trace, provider.pins]).toEqual([[1, 0, 1, 0, 1, 0], 0]);
  });

  it('S4-05 a hypervisor whose put throws keeps no device open', () => {
    const { group, fn, lines } = setup();
    const provider = new VmProvider('broken');
    group.setVm({
      provider,
      name: 'broken vm',
      tryGet: () => true,
      put: () => {
        throw new Error('oops');
      },
    });
    group.openDevice(BDF).close();
    expect([fn.vfio!.openCount, provider.pins]).toEqual([0, 0]);
    expect(lines.some((line) => line.includes('put of broken vm'))).toBe(true);
  });
});

describe('the files that a virtual machine uses', () => {
  it('S4-10 a file is listed once, held while it is listed, and gets the machine', () => {
    const { group, vm } = setup();
    const a = vm('a');
    const set = new VfioFileSet(a);
    const held: string[] = [];
    const hold = (name: string) => ({ [Symbol.dispose]: () => void held.push(name) });
    set.add(group, hold('first'));
    expect(group.vm).toBe(a);
    expect(() => set.add(group, hold('second'))).toThrow(expect.objectContaining({ code: 'EEXIST' }));
    expect([set.size, held]).toEqual([1, []]);
    set.delete(group);
    expect([group.vm, held]).toEqual([null, ['first']]);
    expect(() => set.delete(group)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    expect(held).toEqual(['first']);
  });

  it('S4-11 the set reports the first file without coherency, and the end of the last', () => {
    const told: boolean[] = [];
    const { vm } = setup();
    const set = new VfioFileSet(vm('a'), { onNoncoherent: (on) => told.push(on) });
    const file = (enforcesCoherency: boolean) => ({ enforcesCoherency, setVm: () => {} });
    const hold = { [Symbol.dispose]: () => {} };
    const [good, bad, worse] = [file(true), file(false), file(false)];
    set.add(good, hold);
    expect(told).toEqual([]);
    set.add(bad, hold);
    set.add(worse, hold);
    set.delete(bad);
    expect([told, set.noncoherent]).toEqual([[true], true]);
    set.delete(worse);
    expect(told).toEqual([true, false]);
    set.add(bad, hold);
    set[Symbol.dispose]();
    expect(told).toEqual([true, false, true, false]);
  });

  it.each([false, true])('S4-11 a group enforces coherency when its IOMMU does: %s', (enforcesCoherency) => {
    const { machine } = testMachine({
      iommu: { enforcesCoherency },
      devices: [alone('01.0', { at: '00.0', model: 'probe', driver: VFIO_PCI })],
    });
    const { group, device } = openAll(machine, BDF);
    expect([group.enforcesCoherency, device.enforcesCoherency]).toEqual([enforcesCoherency, enforcesCoherency]);
  });

  it('S4-12 the machine goes: every file hears of it and is released, and open devices keep their reference', () => {
    const { group, vm } = setup();
    const a = vm('a');
    const set = new VfioFileSet(a);
    const held: string[] = [];
    set.add(group, { [Symbol.dispose]: () => void held.push('group') });
    const file = group.openDevice(BDF);
    set[Symbol.dispose]();
    set[Symbol.dispose]();
    expect([group.vm, held, a.references]).toEqual([null, ['group'], 2]);
    file.close();
    expect(a.references).toBe(1);
  });

  it('S4-14 a device file that was opened through its group takes no machine afterwards', () => {
    const { group, vm, fn } = setup();
    const a = vm('a');
    const file = group.openDevice(BDF);
    new VfioFileSet(a).add(file, { [Symbol.dispose]: () => {} });
    expect([fn.vfio!.vm, a.references]).toEqual([null, 1]);
    file.close();
  });
});

/**
 * One open of a device that belongs to a virtual machine, prepared by `arm`, and the state
 * afterwards.
 */
function openOnce(arm: (faults: FaultPlan) => void) {
  const { group, vm, provider, fn, faults } = setup();
  const a = vm('a');
  group.setVm(a);
  arm(faults);
  let failed = false;
  try {
    group.openDevice(BDF).close();
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    failed = true;
  }
  return { failed, vm: a.references, pins: provider.pins, openCount: fn.vfio!.openCount };
}

/** The steps that fail an open when they fail. */
function stepsOf(run: (arm: (faults: FaultPlan) => void) => unknown): string[] {
  let plan: FaultPlan | null = null;
  let before = new Map<string, number>();
  run((faults) => {
    plan = faults;
    before = new Map(faults.seen);
  });
  const passed = [...plan!.seen].filter(([step, count]) => count > (before.get(step) ?? 0)).map(([step]) => step);
  return passed.filter((step) => step === 'vm.get' || step.startsWith('device.enable') || step === 'device.open');
}

it('S4-12 a file that throws when it hears of the end, or when it is released, keeps no other listed', () => {
  const { vm } = setup();
  const told: string[] = [];
  const file = (name: string, throws: boolean) => ({
    enforcesCoherency: false,
    setVm: (to: VmFile | null) => {
      told.push(`${name} ${to === null ? 'unset' : 'set'}`);
      if (throws && to === null) throw new Error('oops');
    },
  });
  const hold = (name: string, throws: boolean) => ({
    [Symbol.dispose]: () => {
      told.push(`${name} released`);
      if (throws) throw new Error('oops');
    },
  });
  const coherency: boolean[] = [];
  const set = new VfioFileSet(vm('a'), { onNoncoherent: (on) => void coherency.push(on) });
  set.add(file('a', true), hold('a', false));
  set.add(file('b', false), hold('b', true));
  set.add(file('c', false), hold('c', false));
  told.length = 0;
  expect(() => set[Symbol.dispose]()).toThrow('oops');
  expect([told.sort(), set.size, coherency]).toEqual([
    ['a released', 'a unset', 'b released', 'b unset', 'c released', 'c unset'],
    0,
    [true, false],
  ]);
  set[Symbol.dispose]();
});

it('S4-10 a file that takes no machine is not listed, and its hold stays the caller’s', () => {
  const { vm } = setup();
  let held = true;
  const hold = {
    [Symbol.dispose]: () => {
      held = false;
    },
  };
  const set = new VfioFileSet(vm('a'), {
    onNoncoherent: () => {
      throw new Error('oops');
    },
  });
  const refuses = {
    enforcesCoherency: true,
    setVm: () => {
      throw new Error('oops');
    },
  };
  const file = { enforcesCoherency: false, setVm: () => {} };
  expect(() => set.add(refuses, hold)).toThrow('oops');
  expect(() => set.add(file, hold)).toThrow('oops');
  expect([set.size, held, set.noncoherent]).toEqual([0, true, false]);
});
