import { describe, expect, it } from 'vitest';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { alone, openAll, testMachine, trio } from '../../../tests/kit/machines.ts';
import { RegionIndex } from '../../abi/vfio.ts';

const emptyPort = (at: string) => ({ at, kind: 'root-port', slot: true }) as const;

describe('plug in', () => {
  it('S1-03 a device behind a port works like one that was there: BARs placed, group of its own, opens', () => {
    const { machine, probe } = testMachine({ devices: [emptyPort('01.0'), alone('02.0')] });
    const fn = machine.add({ at: '00.0', model: 'probe' }, '00:01.0');
    expect([fn.bdf, fn.group!.id, fn.groupedBecause]).toEqual(['0000:01:00.0', 3, null]);
    const first = fn.config.barAddress(0);
    expect(first).not.toBe(0n);
    expect(first).not.toBe(machine.function('02:00.0').config.barAddress(0));
    machine.bind(fn.bdf, 'vfio-pci');
    const { device } = openAll(machine, fn.bdf);
    device.region(RegionIndex.CONFIG).write16(4, 2);
    expect(device.region(RegionIndex.BAR0).read32(0)).toBe(0x600df00d);
    expect(probe.models.length).toBe(2);
  });

  it('S1-03 with a full address the bus is named by it; a group number that became free is used again', async () => {
    const { machine } = testMachine({ devices: [emptyPort('01.0'), alone('02.0')] });
    await machine.remove('02:00.0');
    expect([...machine.groups.keys()]).toEqual([0, 1]);
    expect(machine.add({ at: '0000:01:00.0', model: 'probe' }).group!.id).toBe(2);
    expect(machine.add({ at: '05.0', model: 'probe' }).group!.id).toBe(3);
  });

  it('S1-03 a whole switch can be plugged in', () => {
    const { machine } = testMachine({ devices: [emptyPort('01.0')] });
    const down = { at: '00.0', kind: 'downstream-port', devices: [{ at: '00.0', model: 'probe' }] } as const;
    const top = machine.add({ at: '00.0', kind: 'upstream-port', devices: [down] }, '00:01.0');
    expect([...top.bus.everything()].map((f) => [f.bdf, f.group!.id, f.driver])).toEqual([
      ['0000:01:00.0', 1, 'pcieport'],
      ['0000:02:00.0', 2, 'pcieport'],
      ['0000:03:00.0', 3, null],
    ]);
  });

  it.each([
    ['EEXIST', { at: '00.0', model: 'probe' }, '00:02.0'],
    ['EINVAL', { at: '01.0', model: 'probe' }, '00:01.0'],
    ['EINVAL', { at: '00.0', model: 'nope' }, '00:01.0'],
    ['EINVAL', { at: '00.0', kind: 'root-port' }, '00:01.0'],
    ['EINVAL', { at: '00.0', model: 'probe' }, '02:00.0'],
    ['ENODEV', { at: '00.0', model: 'probe' }, '00:09.0'],
    ['EINVAL', { at: '0000:77:00.0', model: 'probe' }, undefined],
    ['EINVAL', { at: 'zz', model: 'probe' }, undefined],
    ['EINVAL', { at: '00.0', model: 'probe', iommu: 'x' }, '00:01.0'],
    ['ENOSPC', { at: '00.0', id: '1af4:1041', bars: [{ index: 0, size: 2 ** 30, type: 'mem32' }] }, '00:01.0'],
  ] as const)('S1-12 a plug-in that cannot be is %s and changes nothing', (errno, spec, behind) => {
    const { machine } = testMachine({ devices: [emptyPort('01.0'), alone('02.0')] });
    const before = JSON.stringify([...machine.functions.values()].map((f) => [f.bdf, f.group!.id, [...f.config.bytes]]));
    expect(errnoFrom(() => machine.add(spec, behind))).toBe(errno);
    expect(JSON.stringify([...machine.functions.values()].map((f) => [f.bdf, f.group!.id, [...f.config.bytes]]))).toBe(before);
    machine.add({ at: '00.0', model: 'probe' }, '00:01.0');
  });

  it.each(['add.config', 'add.model', 'add.group'])('S1-12 a plug-in failing at %s changes nothing', (step) => {
    const { machine, faults, probe } = testMachine({ devices: [emptyPort('01.0')] });
    faults.failNext(step, 'ENOMEM');
    expect(errnoFrom(() => machine.add({ at: '00.0', model: 'probe' }, '00:01.0'))).toBe('ENOMEM');
    expect([machine.functions.size, machine.groups.size, probe.models.length - probe.disposed]).toEqual([1, 1, 0]);
    const fn = machine.add({ at: '00.0', model: 'probe' }, '00:01.0');
    const never = testMachine({ devices: [emptyPort('01.0')] }).machine.add({ at: '00.0', model: 'probe' }, '00:01.0');
    expect([fn.group!.id, fn.config.barAddress(0)]).toEqual([1, never.config.barAddress(0)]);
  });

  it('S1-01 what would tie two groups together while users may hold them is refused with EINVAL', () => {
    const ports = [0, 1].map((n) => ({ at: `0${n}.0`, kind: 'downstream-port', devices: [{ at: '00.0', model: 'probe' }] }) as const);
    const { machine } = testMachine({
      grouping: 'strict',
      devices: [{ at: '01.0', kind: 'root-port', devices: [{ at: '00.0', kind: 'upstream-port', devices: ports }] }],
    });
    const groups = machine.groups.size;
    expect(errnoFrom(() => machine.add({ at: '0000:02:02.0', kind: 'downstream-port', acs: false }))).toBe('EINVAL');
    expect([machine.groups.size, machine.functions.has('0000:02:02.0')]).toEqual([groups, false]);
    expect(machine.add({ at: '0000:02:02.0', kind: 'downstream-port' }).group!.id).toBe(groups);
  });

  it('S1-03 a listener that throws hurts no other', () => {
    const { machine, lines } = testMachine({ devices: [emptyPort('01.0')] });
    using _ = machine.on(() => {
      throw new Error('a bug of the listener');
    });
    machine.add({ at: '00.0', model: 'probe' }, '00:01.0');
    expect(lines.join()).toContain('a bug of the listener');
  });
});

describe('unplug', () => {
  it('S2-41 remove without users is done at once: function, group and model are gone', async () => {
    const { machine, probe } = testMachine({ devices: [alone('01.0')] });
    machine.bind('01:00.0', 'vfio-pci');
    const gone = machine.remove('01:00.0');
    expect([machine.functions.has('0000:01:00.0'), machine.groups.has(1), probe.disposed]).toEqual([false, false, 1]);
    await gone;
    expect(errnoFrom(() => machine.function('01:00.0'))).toBe('ENODEV');
  });

  it('S2-41 remove with an open driver: it is asked, opens are ENODEV at once, and it resolves after the close', async () => {
    const { machine, probe } = testMachine({ devices: [alone('01.0')] });
    machine.bind('01:00.0', 'vfio-pci');
    const { group, device } = openAll(machine, '0000:01:00.0');
    const events: string[] = [];
    using _ = device.on((e) => void events.push(e.kind));
    using told = machine.on((e) => void events.push(`${e.kind} ${e.bdf}`));
    const removed = machine.remove('01:00.0');
    expect(machine.remove('01:00.0')).toBe(removed);
    expect(events).toEqual(['request']);
    expect(errnoFrom(() => group.openDevice('0000:01:00.0'))).toBe('ENODEV');
    expect(errnoFrom(() => machine.bind('01:00.0', 'pci-stub'))).toBe('ENODEV');
    device.region(RegionIndex.CONFIG).read32(0);
    device.close();
    await removed;
    expect(events).toEqual(['request', 'unbind 0000:01:00.0', 'remove 0000:01:00.0']);
    expect([probe.disposed, errnoFrom(() => group.status())]).toEqual([1, 'ENODEV']);
    told[Symbol.dispose]();
  });

  it('E-08 S2-41 with forceRevokeAfterMs the engine cuts off a user that keeps the device open', async () => {
    const { machine, clock } = testMachine({ devices: [alone('01.0')] }, { params: { forceRevokeAfterMs: 500 } });
    machine.bind('01:00.0', 'vfio-pci');
    const { device, group } = openAll(machine, '0000:01:00.0');
    const removed = machine.remove('01:00.0');
    clock.advance(500);
    await removed;
    expect(errnoFrom(() => device.region(RegionIndex.CONFIG).read32(0))).toBe('ENODEV');
    expect([machine.functions.has('0000:01:00.0'), group.container, clock.pendingTimers]).toEqual([false, null, 0]);
    device.close();
    group.close();
  });

  it('S2-41 removing a bridge takes everything behind it, asking all users at once', async () => {
    const { machine, probe } = testMachine({
      devices: [
        {
          ...trio,
          devices: [
            { at: '00.0', model: 'probe' },
            { at: '00.1', model: 'probe' },
          ],
        },
      ],
    });
    machine.bind('01:00.0', 'vfio-pci');
    machine.bind('01:00.1', 'vfio-pci');
    const { group, device } = openAll(machine, '0000:01:00.0');
    const second = group.openDevice('0000:01:00.1');
    const asked: string[] = [];
    using _ = device.on((e) => void asked.push(`0 ${e.kind}`));
    using __ = second.on((e) => void asked.push(`1 ${e.kind}`));
    const removed = machine.remove('00:01.0');
    expect(asked.toSorted()).toEqual(['0 request', '1 request']);
    expect(errnoFrom(() => machine.add({ at: '00.2', id: '1af4:1041' }, '00:01.0'))).toBe('ENODEV');
    device.close();
    second.close();
    await removed;
    expect([machine.functions.size, machine.groups.size, probe.disposed]).toEqual([0, 0, 2]);
  });

  it('S2-41 switching the machine off ends an unplug that waits', async () => {
    const { machine, clock } = testMachine({ devices: [alone('01.0')] });
    machine.bind('01:00.0', 'vfio-pci');
    const { device } = openAll(machine, '0000:01:00.0');
    using mapping = device.region(RegionIndex.BAR0).map(0, 4096);
    const removed = machine.remove('01:00.0');
    machine[Symbol.dispose]();
    await removed;
    expect(clock.pendingTimers).toBe(0);
    expect(() => mapping.read32(0)).toThrow();
  });
});
