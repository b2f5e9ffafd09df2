import { describe, expect, it } from 'vitest';
import { alone, hostDrivers, openAll, testMachine, trio } from '../../../tests/kit/machines.ts';

describe('explain', () => {
  it('E-01 says which neighbours keep a group from being viable, why they are neighbours, and the command for each', () => {
    const { machine } = testMachine({ hostDrivers: [...hostDrivers], devices: [trio] });
    machine.bind('01:00.0', 'vfio-pci');
    const told = machine.explain('01:00.0');
    expect(told.usable).toBe(false);
    expect(told.group?.members.map((m) => [m.bdf, m.driver, m.blocks])).toEqual([
      ['0000:01:00.0', 'vfio-pci', false],
      ['0000:01:00.1', 'e1000', true],
      ['0000:01:00.2', 'snd', true],
    ]);
    expect(told.group!.members[1]!.because).toBe(
      'it is another function of the device of 0000:01:00.0, without access control (ACS) between them',
    );
    expect(told.blockers.map((b) => [b.at, b.fix])).toEqual([
      ['set container: EPERM', 'vfio bind 0000:01:00.1 vfio-pci'],
      ['set container: EPERM', 'vfio bind 0000:01:00.2 vfio-pci'],
    ]);
    expect(told.summary).toBe(`0000:01:00.0 is in group 1 with 2 others; a user cannot open it: ${told.blockers[0]!.why}`);
  });

  it('E-01 doing what it says makes the device usable', async () => {
    const { machine } = testMachine({ hostDrivers: [...hostDrivers], devices: [trio] });
    for (let guard = 0; !machine.explain('01:00.0').usable; guard++) {
      expect(guard).toBeLessThan(5);
      const [, bdf, driver] = /^vfio bind (\S+) (\S+)$/.exec(machine.explain('01:00.0').blockers[0]!.fix)!;
      if (machine.function(bdf!).driver !== null) await machine.unbind(bdf!);
      machine.bind(bdf!, driver!);
    }
    openAll(machine, '0000:01:00.0');
  });

  it('E-01 an unbound device says so; one in use names its holder', () => {
    const { machine } = testMachine({ devices: [alone('01.0')] });
    expect(machine.explain('01:00.0').blockers.map((b) => [b.at, b.why, b.fix])).toEqual([
      ['open: ENODEV', 'it is not bound to vfio-pci', 'vfio bind 0000:01:00.0 vfio-pci'],
    ]);
    machine.bind('01:00.0', 'vfio-pci');
    expect(machine.explain('01:00.0').summary).toBe('0000:01:00.0 is in group 1; a user can open it');
    openAll(machine, '0000:01:00.0');
    expect(machine.explain('01:00.0').blockers.map((b) => [b.at, b.why])).toEqual([
      ['open the group: EBUSY', 'group 1 is open by process 1 (uid 0)'],
    ]);
  });

  it.each([
    [{ kind: 'none' }, 'no IOMMU is above it'],
    [{ kind: 'translation' }, 'the IOMMU above it translates but does not isolate'],
    [{ coherent: false }, 'its IOMMU cannot keep DMA coherent with the caches'],
  ] as const)('E-01 S1-05 IOMMU %j: %s', (iommu, why) => {
    const { machine } = testMachine({ iommu, devices: [alone('01.0')] });
    expect(machine.explain('01:00.0').blockers[0]).toMatchObject({ at: 'bind to vfio-pci: EINVAL', why });
  });

  it('E-01 S2-36 without isolated MSI it says what would be refused, and what allows it', () => {
    const spec = { iommu: { isolatedMsi: false }, devices: [alone('01.0', { at: '00.0', model: 'probe', driver: 'vfio-pci' })] };
    const told = testMachine(spec).machine.explain('01:00.0');
    expect(told.blockers.map((b) => b.at)).toEqual(['attach to a container with an IOMMU: EPERM']);
    expect(testMachine(spec, { params: { allowUnsafeInterrupts: true } }).machine.explain('01:00.0').usable).toBe(true);
  });

  it('E-01 a bridge is not asked to be bound', () => {
    const { machine } = testMachine({ devices: [{ ...alone('01.0'), acs: false }] });
    expect(machine.explain('00:01.0').blockers[0]).toMatchObject({ why: 'it is a bridge' });
    expect(machine.explain('01:00.0').blockers.map((b) => b.fix)).toEqual(['vfio bind 0000:01:00.0 vfio-pci']);
    expect(machine.planBind(0).steps.map((s) => s.bdf)).toEqual(['0000:01:00.0']);
  });

  it('S1-15 a bridge whose driver does DMA is only unbound', () => {
    const { machine } = testMachine({
      hostDrivers: [{ name: 'shpchp' }],
      devices: [{ ...alone('01.0'), acs: false, driver: 'shpchp', driverOverride: 'shpchp' }],
    });
    expect(machine.planBind(0).steps.map((s) => [s.bdf, s.from, s.to, s.needed])).toEqual([
      ['0000:00:01.0', 'shpchp', null, true],
      ['0000:01:00.0', null, 'vfio-pci', false],
    ]);
    machine.bindGroup(0);
    openAll(machine, '0000:01:00.0');
  });

  it('S1-15 explaining and planning change nothing', () => {
    const { machine } = testMachine({ hostDrivers: [...hostDrivers], devices: [trio] });
    const state = () => JSON.stringify([...machine.functions.values()].map((f) => [f.driver, [...f.config.bytes]]));
    const before = state();
    for (const bdf of machine.functions.keys()) machine.explain(bdf);
    for (const id of machine.groups.keys()) machine.planBind(id);
    expect(state()).toBe(before);
  });
});
