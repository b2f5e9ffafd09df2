import { describe, expect, it } from 'vitest';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { alone, hostDrivers, openAll, testMachine, trio } from '../../../tests/kit/machines.ts';
import type { FunctionSpec } from './machine-spec.ts';

const NIC: FunctionSpec = { at: '04.0', id: '8086:100e', classCode: 0x020000 };

describe('matching', () => {
  it('S2-15 no driver takes a new device of a model: vfio-pci takes none by itself', () => {
    const { machine } = testMachine({ devices: [alone('01.0')] });
    expect(machine.function('01:00.0').driver).toBe(null);
    expect(machine.probe('01:00.0')).toBe(null);
    expect(machine.add({ at: '05.0', model: 'probe', kind: 'endpoint' }).driver).toBe(null);
  });

  it('S2-15 with its id given to vfio-pci (new_id) it is taken at probe and at plug-in, until the id is removed', async () => {
    const { machine } = testMachine({ devices: [alone('01.0')] });
    machine.drivers.newId('vfio-pci', 'cafe:0001');
    expect(errnoFrom(() => machine.drivers.newId('vfio-pci', 'CAFE:0001'))).toBe('EEXIST');
    expect(machine.probe('01:00.0')).toBe('vfio-pci');
    expect(machine.add({ at: '05.0', model: 'probe' }).driver).toBe('vfio-pci');
    machine.drivers.removeId('vfio-pci', 'cafe:0001');
    expect(errnoFrom(() => machine.drivers.removeId('vfio-pci', 'cafe:0001'))).toBe('ENODEV');
    await machine.unbind('01:00.0');
    expect(machine.probe('01:00.0')).toBe(null);
  });

  it('S2-15 native drivers take what their ids say at power-on; ports are pcieport’s', () => {
    const { machine } = testMachine({ hostDrivers: [...hostDrivers], devices: [trio, NIC] });
    expect([...machine.functions.values()].map((f) => f.driver)).toEqual(['pcieport', 'e1000', null, 'e1000', 'snd']);
  });

  it('S1-09 driver_override: only that driver matches; clearing gives the others back', async () => {
    const { machine } = testMachine({ hostDrivers: [...hostDrivers], devices: [NIC] });
    machine.setDriverOverride('04.0'.padStart(7, '00:'), 'vfio-pci');
    expect(machine.function('00:04.0').driver).toBe('e1000');
    await machine.unbind('00:04.0');
    expect(errnoFrom(() => machine.bind('00:04.0', 'e1000'))).toBe('ENODEV');
    expect(machine.probe('00:04.0')).toBe('vfio-pci');
    await machine.unbind('00:04.0');
    machine.setDriverOverride('00:04.0', '');
    expect(machine.function('00:04.0').driverOverride).toBe(null);
    expect(machine.probe('00:04.0')).toBe('e1000');
  });

  it('S1-09 a declared driver takes only what its ids match, unless an override says so', () => {
    const { machine } = testMachine({ hostDrivers: [...hostDrivers], devices: [{ at: '04.0', id: '1af4:1041' }] });
    expect(errnoFrom(() => machine.bind('00:04.0', 'e1000'))).toBe('ENODEV');
    machine.setDriverOverride('00:04.0', 'e1000');
    expect(errnoFrom(() => machine.bind('00:04.0', 'e1000'))).toBe('none');
  });

  it('S1-08 a declared driver at power-on is bound; a refusal is kept and logged, and the machine goes on', () => {
    const { machine, lines } = testMachine({ iommu: { kind: 'none' }, devices: [{ ...NIC, driver: 'vfio-pci' }] });
    const fn = machine.function('00:04.0');
    expect([fn.driver, fn.probeError?.code]).toEqual([null, 'EINVAL']);
    expect(lines.join()).toContain('vfio-pci was not bound');
    const none = testMachine({ hostDrivers: [...hostDrivers], devices: [{ ...NIC, driver: null }] });
    expect(none.machine.function('00:04.0').driver).toBe(null);
  });
});

describe('bind', () => {
  it('S1-12 bind: EBUSY when a driver is bound, ENODEV for no such function, EINVAL for what is no name', () => {
    const { machine } = testMachine({ hostDrivers: [...hostDrivers], devices: [NIC] });
    expect(errnoFrom(() => machine.bind('00:04.0', 'vfio-pci'))).toBe('EBUSY');
    expect(errnoFrom(() => machine.bind('00:05.0', 'vfio-pci'))).toBe('ENODEV');
    expect(errnoFrom(() => machine.bind('nonsense', 'vfio-pci'))).toBe('EINVAL');
    for (const name of ['', ' ', '../x', 'a'.repeat(64), undefined as never])
      expect(errnoFrom(() => machine.bind('00:04.0', name))).toBe('EINVAL');
    expect(errnoFrom(() => void machine.unbind('00:05.0'))).toBe('ENODEV');
  });

  it('S1-12 unbind without a driver is ENODEV', async () => {
    const { machine } = testMachine({ devices: [NIC] });
    expect(errnoFrom(() => void machine.unbind('00:04.0'))).toBe('ENODEV');
  });

  it('S1-08 vfio-pci refuses bridges with EINVAL', async () => {
    const { machine } = testMachine({ devices: [trio] });
    await machine.unbind('00:01.0');
    expect(errnoFrom(() => machine.bind('00:01.0', 'vfio-pci'))).toBe('EINVAL');
    expect(machine.function('00:01.0').driver).toBe(null);
  });

  it('S2-31 with requireReset a device that cannot be reset is refused at bind, and nothing has changed', () => {
    const stub: FunctionSpec = { at: '04.0', id: '1af4:1041', reset: 'none' };
    const { machine } = testMachine({ devices: [stub] }, { params: { requireReset: true } });
    expect(errnoFrom(() => machine.bind('00:04.0', 'vfio-pci'))).toBe('ENODEV');
    expect([machine.function('00:04.0').vfio, machine.nodes.length]).toEqual([null, 2]);
    const lenient = testMachine({ devices: [stub] });
    lenient.machine.bind('00:04.0', 'vfio-pci');
  });

  it.each([
    ['vfio-pci', 'bind.match'],
    ['vfio-pci', 'bind.dma'],
    ['vfio-pci', 'bind.probe'],
    ['vfio-pci', 'bind.register'],
    ['e1000', 'bind.match'],
    ['e1000', 'bind.dma'],
    ['e1000', 'bind.probe'],
  ])('S1-12 bind is transactional: %s failing at %s leaves the function as it was', (driver, step) => {
    const { machine, faults, clock } = testMachine({ hostDrivers: [{ name: 'e1000' }], devices: [alone('01.0')] });
    const fn = machine.function('01:00.0');
    const before = [...fn.config.bytes];
    const events: unknown[] = [];
    using _ = machine.on((e) => void events.push(e));
    faults.failNext(step, 'ENOMEM');
    expect(errnoFrom(() => machine.bind('01:00.0', driver))).toBe('ENOMEM');
    expect([fn.driver, fn.vfio, fn.vfioIndex, fn.group!.nativeUsers, machine.nodes.length, clock.pendingTimers]).toEqual([
      null,
      null,
      null,
      0,
      2,
      0,
    ]);
    expect([...fn.config.bytes]).toEqual(before);
    expect(events).toEqual([]);
    machine.bind('01:00.0', driver);
    expect(fn.driver).toBe(driver);
  });
});

describe('unbind', () => {
  it('S2-41 unbind of a device in use asks its users, refuses opens at once, and waits for the last close', async () => {
    const { machine, clock } = testMachine({ devices: [alone('01.0')] });
    machine.bind('01:00.0', 'vfio-pci');
    const { group, device } = openAll(machine, '0000:01:00.0');
    const second = group.openDevice('0000:01:00.0');
    const events: string[] = [];
    using _ = device.on((e) => void events.push(e.kind));
    let done = false;
    const unbinding = machine.unbind('01:00.0').then(() => {
      done = true;
    });
    expect(events).toEqual(['request']);
    expect(errnoFrom(() => group.openDevice('0000:01:00.0'))).toBe('ENODEV');
    expect(errnoFrom(() => machine.bind('01:00.0', 'e1000'))).toBe('EBUSY');
    clock.advance(10_000);
    expect(events).toEqual(['request', 'request']);
    device.close();
    await Promise.resolve();
    expect(done).toBe(false);
    second.close();
    await unbinding;
    expect([machine.function('01:00.0').driver, clock.pendingTimers]).toEqual([null, 0]);
    expect(errnoFrom(() => group.status())).toBe('ENODEV');
    machine.bind('01:00.0', 'e1000');
  });

  it('S2-41 a second unbind waits for the same release', async () => {
    const { machine } = testMachine({ devices: [alone('01.0')] });
    machine.bind('01:00.0', 'vfio-pci');
    const { device } = openAll(machine, '0000:01:00.0');
    const both = Promise.all([machine.unbind('01:00.0'), machine.unbind('01:00.0')]);
    device.close();
    await both;
    expect(machine.function('01:00.0').driver).toBe(null);
  });

  it('S2-41 with another vfio device left in the group the group file lives on', async () => {
    const pair = {
      ...trio,
      devices: [
        { at: '00.0', model: 'probe' },
        { at: '00.1', model: 'probe' },
      ],
    };
    const { machine } = testMachine({ devices: [pair] });
    machine.bind('01:00.0', 'vfio-pci');
    machine.bind('01:00.1', 'vfio-pci');
    const { group } = openAll(machine, '0000:01:00.0');
    group.deviceFiles[0]!.close();
    await machine.unbind('01:00.0');
    expect(errnoFrom(() => machine.bind('01:00.0', 'e1000'))).toBe('EBUSY');
    group.openDevice('0000:01:00.1').close();
    group.close();
    expect(errnoFrom(() => machine.bind('01:00.0', 'e1000'))).toBe('none');
  });
});
