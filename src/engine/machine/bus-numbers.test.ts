import { describe, expect, it } from 'vitest';
import { testMachine } from '../../../tests/kit/machines.ts';
import { outcome } from '../../../tests/kit/sriov-rig.ts';
import { Config } from '../../abi/pci.ts';
import type { Machine } from './machine.ts';
import type { FunctionSpec, MachineSpec } from './machine-spec.ts';

const build = (spec: MachineSpec) => testMachine(spec, { params: { enableSriov: true } }).machine;
const there = (machine: Machine) => [...machine.functions.keys()];
const groups = (machine: Machine) => [...machine.groups.values()].map((g) => `${g.id}: ${g.functions.map((fn) => fn.bdf).join(' ')}`);
const refused = (errno: string) => expect.objectContaining({ code: errno });

const nic: Omit<FunctionSpec, 'at'> = { id: '1234:5678', bars: [{ index: 0, size: 0x10000, type: 'mem32' }] };
const slot = (at: string, more: Partial<FunctionSpec> = {}): FunctionSpec => ({
  at,
  kind: 'root-port',
  devices: [{ at: '00.0', ...nic }],
  ...more,
});

describe('root buses', () => {
  it('S1-01 each address at the top names one; bus numbers behind it go on from its own', () => {
    const machine = build({ devices: [slot('01.0'), slot('60:01.0'), slot('60:02.0'), slot('0001:00:00.0'), slot('03.0')] });
    expect(there(machine)).toEqual([
      '0000:00:01.0',
      '0000:00:03.0',
      '0000:01:00.0',
      '0000:02:00.0',
      '0000:60:01.0',
      '0000:60:02.0',
      '0000:61:00.0',
      '0000:62:00.0',
      '0001:00:00.0',
      '0001:01:00.0',
    ]);
    expect(groups(machine)).toEqual(there(machine).map((bdf, i) => `${i}: ${bdf}`));
    expect(machine.function('0001:01:00.0').parent!.bdf).toBe('0001:00:00.0');
  });

  it('S1-01 a device alone on another root bus, without anything on 0000:00', () => {
    const machine = build({ devices: [{ at: '60:01.0', ...nic }] });
    expect(groups(machine)).toEqual(['0: 0000:60:01.0']);
    expect(() => machine.function('00:01.0')).toThrow(refused('ENODEV'));
    expect(() => machine.add({ at: '01.0', ...nic })).toThrow(refused('EINVAL'));
    expect(machine.add({ at: '60:02.0', ...nic }).bdf).toBe('0000:60:02.0');
  });

  it('their buses never reach the next root bus of the domain', () => {
    const ports = (bus: string, count: number) => Array.from({ length: count }, (_, i) => slot(`${bus}:0${i + 1}.0`));
    expect(there(build({ devices: [...ports('00', 3), ...ports('04', 1)] })).at(-1)).toBe('0000:05:00.0');
    expect(() => build({ devices: [...ports('00', 4), ...ports('04', 1)] })).toThrow(refused('EINVAL'));
    expect(there(build({ devices: [...ports('00', 4), ...ports('0001:04', 1)] })).at(-1)).toBe('0001:05:00.0');
    expect(() => build({ devices: [slot('00:01.0', { bus: 0x60 }), slot('60:01.0')] })).toThrow(refused('EINVAL'));
  });

  it('S1-01 firmware may give bus numbers out of order; groups are numbered bridge by bridge', () => {
    const machine = build({
      devices: [
        slot('06.0', { bus: 0x1c }),
        slot('06.1', { bus: 4 }),
        slot('07.0', { bus: 0x20 }),
        slot('1c.0', { bus: 0x1d }),
        slot('1d.0'),
      ],
    });
    const behind = [...machine.groups.values()].map((g) => g.functions[0]!.bdf).filter((bdf) => !bdf.startsWith('0000:00:'));
    expect(behind).toEqual(['0000:1c:00.0', '0000:04:00.0', '0000:20:00.0', '0000:1d:00.0', '0000:21:00.0']);
  });

  const deep = (bus: number): FunctionSpec => ({ at: '00.0', kind: 'upstream-port', bus, devices: [] });
  it.each([
    ['taken', [slot('01.0', { bus: 5 }), slot('02.0', { bus: 5 })], '0000:00:01.0 has buses 0x5 to 0x5'],
    [
      'among those of another bridge',
      [slot('01.0', { bus: 2, devices: [deep(9)] }), slot('02.0', { bus: 5 })],
      '0000:00:01.0 has buses 0x2 to 0x9',
    ],
    [
      'beyond those of another bridge',
      [slot('01.0', { bus: 5 }), slot('02.0', { bus: 2, devices: [deep(9)] })],
      '0000:00:02.0 would then forward bus 0x5, which is behind 0000:00:01.0',
    ],
    ['that of the bus it is on', [slot('01.0', { bus: 5, devices: [deep(5)] })], 'from 0x6 to 0xff'],
    ['below that of the bus it is on', [slot('01.0', { bus: 5, devices: [deep(4)] })], 'from 0x6 to 0xff'],
    ['out of range', [slot('01.0', { bus: 256 })], '256'],
  ])('EINVAL for a number that is %s', (_, devices, why) => {
    expect(() => build({ devices })).toThrow(refused('EINVAL'));
    expect(() => build({ devices })).toThrow(why);
  });

  it('a bridge without a number gets one that those above it can forward', () => {
    const machine = build({
      devices: [slot('01.0', { bus: 9 }), slot('02.0', { bus: 3, devices: [{ at: '00.0', kind: 'upstream-port' }] })],
    });
    expect(machine.function('03:00.0').secondary!.number).toBe(4);
    expect(machine.function('00:02.0').config.read(Config.BRIDGE_SUBORDINATE_BUS, 1)).toBe(4);
  });

  it('a bridge that is plugged in gets no number that another one forwards', () => {
    const machine = build({ devices: [slot('01.0', { bus: 1, devices: [deep(5)] })] });
    expect(() => machine.add({ at: '02.0', kind: 'root-port', bus: 3 })).toThrow('0000:00:01.0 has buses 0x1 to 0x5');
    expect(machine.add({ at: '02.0', kind: 'root-port' }).secondary!.number).toBe(6);
  });

  it('addresses of BARs are the machine’s: no two root buses have the same', () => {
    const machine = build({ devices: [slot('01.0'), slot('60:01.0'), slot('0001:00:00.0'), { at: '0001:00:01.0', ...nic }] });
    const bars = [...machine.functions.values()].filter((fn) => !fn.isBridge).map((fn) => fn.config.barAddress(0));
    expect(new Set(bars).size).toBe(4);
  });

  it('S1-15 plans, explanations and events have the domain', async () => {
    const machine = build({ hostDrivers: [{ name: 'native', ids: ['1234:5678'] }], devices: [slot('0001:00:00.0')] });
    const told: string[] = [];
    machine.on((event) => told.push(`${event.kind} ${event.bdf}`));
    expect(machine.explain('0001:01:00.0').summary).toContain('0001:01:00.0 is in group 1');
    machine.bindGroup(1);
    await machine.remove('0001:01:00.0');
    expect(told).toContain('bind 0001:01:00.0');
    expect(told.at(-1)).toBe('remove 0001:01:00.0');
    expect(machine.add({ at: '0001:01:00.0', ...nic }).driver).toBe('native');
  });

  it('S1-01 an IOMMU that the kernel starts first gives its devices their groups first', () => {
    const machine = build({
      iommus: { far: {}, near: {} },
      devices: [slot('00:01.0', { iommu: 'near' }), slot('60:01.0', { iommu: 'far' }), slot('80:01.0')],
    });
    expect(groups(machine).map((text) => text.slice(0, 10))).toEqual([
      '0: 0000:60',
      '1: 0000:61',
      '2: 0000:00',
      '3: 0000:01',
      '4: 0000:80',
      '5: 0000:81',
    ]);
  });

  it.each([
    ['a bus behind a bridge', [slot('01.0'), { at: '01:01.0', ...nic }]],
    ['nested, another bus', [slot('01.0', { devices: [{ at: '60:00.0', ...nic }] })]],
    ['nested, another domain', [slot('0001:00:01.0', { devices: [{ at: '0000:01:00.0', ...nic }] })]],
  ] as [string, FunctionSpec[]][])('EINVAL: %s', (_, devices) => {
    expect(() => build({ devices })).toThrow(refused('EINVAL'));
  });
});

describe('whose requester id the DMA of a root bus carries', () => {
  const drives = (more: Partial<FunctionSpec> = {}) => slot('10000:e0:06.0', more);

  it('S1-01 a domain that an Intel VMD controller makes is in that controller’s group, and comes after all others', () => {
    const machine = build({ devices: [drives(), { at: '00:0e.0', id: '8086:467f' }, { at: '00:1f.0', id: '8086:1234' }] });
    expect(groups(machine)).toEqual(['0: 0000:00:0e.0 10000:e0:06.0 10000:e1:00.0', '1: 0000:00:1f.0']);
    expect(machine.function('10000:e1:00.0').groupedBecause).toBe('its DMA carries the requester id of 0000:00:0e.0');
  });

  it('S1-01 the second such domain is the second controller’s', () => {
    const vmd = (at: string) => ({ at, id: '8086:201d' });
    const machine = build({ devices: [vmd('17:05.5'), vmd('5d:05.5'), slot('10001:00:02.0'), slot('10000:00:02.0')].map(atFunction0) });
    expect(machine.function('10000:01:00.0').group).toBe(machine.function('17:05.0').group);
    expect(machine.function('10001:01:00.0').group).toBe(machine.function('5d:05.0').group);
    function atFunction0(spec: FunctionSpec): FunctionSpec {
      return { ...spec, at: spec.at.replace('.5', '.0') };
    }
  });

  it('S1-01 `requester` names it for any root bus; it shares the IOMMU of that function', () => {
    const machine = build({
      iommus: { own: {} },
      devices: [{ at: '02.0', ...nic, iommu: 'own' }, slot('0001:00:00.0', { requester: '00:02.0' })],
    });
    expect(groups(machine)).toEqual(['0: 0000:00:02.0 0001:00:00.0 0001:01:00.0']);
  });

  it.each([
    ['a function that is not there', [slot('0001:00:00.0', { requester: '00:02.0' })]],
    ['a function of the same bus', [{ at: '02.0', ...nic }, slot('03.0', { requester: '00:02.0' })]],
    ['behind a bridge', [{ at: '60:02.0', ...nic }, slot('01.0', { devices: [{ at: '00.0', ...nic, requester: '60:02.0' }] })]],
    ['a function behind another IOMMU', [{ at: '02.0', ...nic }, slot('0001:00:00.0', { requester: '00:02.0', iommu: 'own' })]],
    ['what is no address', [slot('0001:00:00.0', { requester: 'vmd' })]],
  ] as [string, FunctionSpec[]][])('EINVAL: %s', (_, devices) => {
    expect(() => build({ iommus: { own: {} }, devices })).toThrow(refused('EINVAL'));
  });
});

describe('virtual functions on the next bus number', () => {
  const PF = '0000:01:00.0';
  const pf: FunctionSpec = { at: '00.0', id: '1234:5678', driver: 'vfio-pci', sriov: { totalVfs: 8, firstOffset: 0x80, stride: 0x20 } };
  const machineWith = (after: FunctionSpec) => build({ devices: [{ at: '01.0', kind: 'root-port', devices: [pf] }, after] });
  const subordinate = (machine: Machine, bdf: string) => machine.function(bdf).config.read(Config.BRIDGE_SUBORDINATE_BUS, 1);

  it('S3-15 the numbers that they can need are kept for them, and forwarded by the port above', () => {
    const machine = machineWith({ at: '02.0', kind: 'root-port' });
    expect([subordinate(machine, '00:01.0'), machine.function('00:02.0').secondary!.number]).toEqual([2, 3]);
    void machine.setNumVfs(PF, 8);
    const vf = machine.function('02:00.0');
    expect([vf.vfIndex, vf.parent!.bdf, vf.inBusReset()]).toEqual([4, '0000:00:01.0', null]);
    expect(vf.group!.functions).toEqual([vf]);
    const onTheBus = ['0000:01:00.0', '0000:01:10.0', '0000:01:14.0', '0000:01:18.0', '0000:01:1c.0'];
    expect(
      machine
        .function(PF)
        .inBusReset()!
        .map((f) => f.bdf),
    ).toEqual(onTheBus);
  });

  it('S3-15 ENOMEM when a bridge is declared to have that number; nothing has changed', () => {
    const machine = machineWith({ at: '02.0', kind: 'root-port', bus: 2 });
    expect([subordinate(machine, '00:01.0'), machine.function('00:02.0').secondary!.number]).toEqual([1, 2]);
    expect([outcome(() => machine.setNumVfs(PF, 5)), machine.functions.size]).toEqual(['ENOMEM', 3]);
    expect(outcome(() => machine.setNumVfs(PF, 4))).toBe('ok');
  });

  it('S3-15 numbers kept for VFs end before a bus that has a number already', () => {
    const port: FunctionSpec = { at: '01.0', kind: 'root-port', bus: 3, devices: [pf] };
    const machine = build({ devices: [{ at: '00.0', kind: 'root-port', bus: 4 }, port] });
    expect([subordinate(machine, '00:01.0'), outcome(() => machine.setNumVfs('0000:03:00.0', 5))]).toEqual([3, 'ENOMEM']);
    expect(outcome(() => machine.setNumVfs('0000:03:00.0', 4))).toBe('ok');
  });

  it('S3-15 that bus goes with its last VF, and comes again', async () => {
    const machine = machineWith({ at: '02.0', kind: 'root-port' });
    await machine.setNumVfs(PF, 8);
    await machine.setNumVfs(PF, 0);
    expect([machine.functions.size, machine.groups.size]).toEqual([3, 3]);
    expect(() => machine.add({ at: '02:00.0', ...nic })).toThrow(refused('EINVAL'));
    await machine.setNumVfs(PF, 5);
    expect(
      machine
        .function(PF)
        .vfs.map((vf) => vf.bdf)
        .at(-1),
    ).toBe('0000:02:00.0');
    expect(() => machine.add({ at: '02:01.0', ...nic })).toThrow(refused('EINVAL'));
  });

  it('S3-15 a PF that is plugged in behind a port has what the port forwards: ENOMEM beyond', () => {
    const machine = build({ devices: [{ at: '01.0', kind: 'root-port' }] });
    machine.add(pf, '00:01.0');
    expect(outcome(() => machine.setNumVfs(PF, 5))).toBe('ENOMEM');
    expect(outcome(() => machine.setNumVfs(PF, 4))).toBe('ok');
  });

  it('S3-15 two ports of 128 VFs each, the card of many a server: all are there', () => {
    const port = (fn: number, firstOffset: number): FunctionSpec => ({
      ...pf,
      at: `00.${fn}`,
      acs: true,
      numVfs: 128,
      sriov: { totalVfs: 128, firstOffset },
    });
    const machine = build({ devices: [{ at: '01.0', kind: 'root-port', devices: [port(0, 8), port(1, 135)] }] });
    expect(machine.functions.size).toBe(3 + 256);
    expect(machine.function('02:00.7').physical!.bdf).toBe('0000:01:00.1');
    expect(machine.groups.size).toBe(3 + 256);
  });

  it('bridges come before VFs where a domain has not enough numbers', () => {
    const wide: FunctionSpec = { ...pf, sriov: { totalVfs: 255, firstOffset: 0x100, stride: 0x100 } };
    const machine = build({ devices: [{ at: '01.0', kind: 'root-port', devices: [wide] }, slot('02.0'), slot('60:01.0')] });
    expect(machine.function('00:02.0').secondary!.number).toBe(2);
    expect(machine.functions.has('0000:61:00.0')).toBe(true);
  });

  it('a bridge that is plugged in gets no number that is kept for VFs', () => {
    const machine = machineWith({ at: '60:01.0', ...nic });
    expect(machine.add({ at: '03.0', kind: 'root-port' }).secondary!.number).toBe(3);
    expect(machine.add({ at: '60:03.0', kind: 'root-port' }).secondary!.number).toBe(0x61);
    expect(() => machine.add({ at: '04.0', kind: 'root-port', bus: 2 })).toThrow(refused('EINVAL'));
    expect(machine.add({ at: '04.0', kind: 'root-port', bus: 9 }).secondary!.number).toBe(9);
  });
});
