import { describe, expect, it } from 'vitest';
import { refusal } from '../../../tests/kit/errno.ts';
import { alone, Dma, hostDrivers, openAll, testMachine, trio } from '../../../tests/kit/machines.ts';
import { Access } from '../../abi/memory.ts';
import { Command, Config } from '../../abi/pci.ts';
import { Extension, GroupFlags, RegionIndex } from '../../abi/vfio.ts';
import type { VfioError } from '../../base/errno.ts';
import { HeapMemory } from '../../sys/fake.ts';
import { Process } from '../dma/process.ts';
import { Machine, type MachineEvent } from './machine.ts';

describe('groups', () => {
  it('S1-01 every function is in exactly one group, numbered in order of discovery', () => {
    const { machine } = testMachine({ devices: [{ at: '04.0', id: '1af4:1041' }, trio, alone('02.0')] });
    const membership = [...machine.groups.values()].flatMap((g) => g.functions.map((f) => [f.bdf, g.id]));
    expect(membership).toEqual([
      ['0000:00:01.0', 0],
      ['0000:00:02.0', 1],
      ['0000:00:04.0', 2],
      ['0000:01:00.0', 3],
      ['0000:01:00.1', 3],
      ['0000:01:00.2', 3],
      ['0000:02:00.0', 4],
    ]);
    for (const fn of machine.functions.values()) expect(fn.group!.functions).toContain(fn);
  });

  it('S1-02 a device alone has a group object like any other', () => {
    const { machine } = testMachine({ devices: [{ at: '04.0', id: '1af4:1041' }] });
    expect(machine.group(0).functions.map((f) => f.bdf)).toEqual(['0000:00:04.0']);
  });

  it('S1-03 at the add event the group is known, and no driver is bound yet', () => {
    const { machine } = testMachine({ hostDrivers: [...hostDrivers], devices: [alone('01.0')] });
    const seen: unknown[] = [];
    using _ = machine.on((event) => {
      if (event.kind !== 'add') return;
      const fn = machine.function(event.bdf);
      seen.push([event.groupId, fn.group?.id, fn.driver]);
    });
    machine.add({ at: '05.0', id: '8086:100e' });
    expect(seen).toEqual([[2, 2, null]]);
    expect(machine.function('00:05.0').driver).toBe('e1000');
  });

  it('S1-04 a group has one user: a second open is EBUSY and names the process that has it', () => {
    const { machine } = testMachine({
      devices: [
        {
          ...trio,
          devices: [
            { at: '00.0', model: 'probe' },
            { at: '00.1', id: '1af4:1041' },
          ],
        },
      ],
    });
    machine.bind('01:00.0', 'vfio-pci');
    machine.bind('01:00.1', 'vfio-pci');
    const first = machine.openGroup(1, Process.root({ pid: 42 }));
    const error = refusal(() => machine.openGroup(1, Process.root({ pid: 43 })));
    expect([error.code, error.message]).toEqual(['EBUSY', 'group 1 is open already, by process 42 (uid 0)']);
    first.close();
    machine.openGroup(1, Process.root({ pid: 43 })).close();
  });

  it('S1-05 full IOMMU: groups, and vfio-pci binds', () => {
    const { machine } = testMachine({ devices: [alone('01.0')] });
    machine.bind('01:00.0', 'vfio-pci');
    expect(machine.group(1).isolation).toEqual({ dma: true, msi: true, coherent: true });
  });

  it.each(['none', 'translation'] as const)('S1-05 IOMMU of kind %s: no groups, binding vfio-pci is EINVAL', (kind) => {
    const { machine } = testMachine({ iommu: { kind }, devices: [alone('01.0')] });
    expect(machine.groups.size).toBe(0);
    const error = refusal(() => machine.bind('01:00.0', 'vfio-pci'));
    expect(error.code).toBe('EINVAL');
    expect(error.message).toContain(kind === 'none' ? 'there is no IOMMU above it' : 'translates but does not isolate');
    expect(machine.function('01:00.0').driver).toBe(null);
  });

  it('S1-05 IOMMU without coherency: binding vfio-pci is EINVAL', () => {
    const { machine } = testMachine({ iommu: { coherent: false }, devices: [alone('01.0')] });
    expect(refusal(() => machine.bind('01:00.0', 'vfio-pci')).code).toBe('EINVAL');
    expect(machine.function('01:00.0').vfio).toBe(null);
  });

  it('S1-05 IOMMU without isolated MSI: attaching is EPERM unless unsafe interrupts are allowed, and the group stays free', () => {
    const { machine } = testMachine({ iommu: { isolatedMsi: false }, devices: [alone('01.0')] });
    machine.bind('01:00.0', 'vfio-pci');
    const group = machine.openGroup(1);
    const container = machine.openContainer();
    group.setContainer(container);
    expect(refusal(() => container.setIommu(Extension.TYPE1v2_IOMMU)).code).toBe('EPERM');
    const unsafe = testMachine({ iommu: { isolatedMsi: false }, devices: [alone('01.0')] }, { params: { allowUnsafeInterrupts: true } });
    unsafe.machine.bind('01:00.0', 'vfio-pci');
    openAll(unsafe.machine, '0000:01:00.0');
  });

  it('S1-06 devices of one group share the mappings of its container', () => {
    const pair = {
      ...trio,
      devices: [
        { at: '00.0', model: 'probe' },
        { at: '00.1', model: 'probe' },
      ],
    };
    const { machine, probe } = testMachine({ devices: [pair] });
    machine.bind('01:00.0', 'vfio-pci');
    machine.bind('01:00.1', 'vfio-pci');
    const { group, container, device } = openAll(machine, '0000:01:00.0');
    const second = group.openDevice('0000:01:00.1');
    const memory = HeapMemory.allocate(4096);
    container.mapMemory({ process: machine.process, iova: 0x10000n, memory, offset: 0, size: 4096, access: Access.READ_WRITE });
    for (const d of [device, second]) d.region(RegionIndex.CONFIG).write16(Config.COMMAND, Command.MEMORY | Command.MASTER);
    expect(probe.models.map((m, i) => m.send(0x10000 + 4 * i, 7 + i))).toEqual([Dma.DONE, Dma.DONE]);
    expect([...new Uint32Array(memory.windows[0]!.buffer, 0, 2)]).toEqual([7, 8]);
  });

  it('S1-07 a second group joins the container: its device can do DMA at once, and an unmap hits both', () => {
    const { machine, probe } = testMachine({
      iommus: { left: {}, right: {} },
      devices: [
        { ...alone('01.0'), iommu: 'left' },
        { ...alone('02.0'), iommu: 'left' },
        { ...alone('03.0'), iommu: 'right' },
      ],
    });
    for (const bdf of ['01:00.0', '02:00.0', '03:00.0']) machine.bind(bdf, 'vfio-pci');
    const { container, device } = openAll(machine, '0000:01:00.0');
    const memory = HeapMemory.allocate(4096);
    container.mapMemory({ process: machine.process, iova: 0n, memory, offset: 0, size: 4096, access: Access.READ_WRITE });
    const more = ['0000:02:00.0', '0000:03:00.0'].map((bdf) => {
      const file = machine.openGroup(machine.function(bdf).group!.id);
      file.setContainer(container);
      return file.openDevice(bdf);
    });
    for (const d of [device, ...more]) d.region(RegionIndex.CONFIG).write16(Config.COMMAND, Command.MASTER);
    expect(container.domains.length).toBe(2);
    expect(probe.models.map((m) => m.send(0, 1))).toEqual([Dma.DONE, Dma.DONE, Dma.DONE]);
    container.unmapDma({ iova: 0n, size: 4096n, flags: 0 });
    expect(probe.models.map((m) => m.send(0, 1))).toEqual([Dma.FAULT, Dma.FAULT, Dma.FAULT]);
  });
});

describe('viability', () => {
  const matrix = [
    { neighbour: null, viable: true },
    { neighbour: 'vfio-pci', viable: true },
    { neighbour: 'pci-stub', viable: true },
    { neighbour: 'e1000', viable: false, code: 'EPERM' },
    { neighbour: 'never-declared', viable: false, code: 'EPERM' },
    { neighbour: 'managed', viable: true },
    { neighbour: 'own', viable: false, code: 'EBUSY' },
  ] as const;

  it.each(matrix)('S1-08 with a neighbour bound to $neighbour the group is viable: $viable', ({ neighbour, viable, ...rest }) => {
    const { machine } = testMachine({
      hostDrivers: [{ name: 'e1000' }, { name: 'managed', dma: 'managed' }, { name: 'own', dma: 'own-domain' }],
      devices: [trio],
    });
    machine.bind('01:00.0', 'vfio-pci');
    if (neighbour !== null) machine.bind('01:00.1', neighbour);
    const group = machine.openGroup(1);
    expect(group.status()).toBe(viable ? GroupFlags.VIABLE : 0);
    const container = machine.openContainer();
    if (viable) {
      group.setContainer(container);
      expect(group.status()).toBe(GroupFlags.VIABLE | GroupFlags.CONTAINER_SET);
      return;
    }
    const error = refusal(() => group.setContainer(container));
    expect(error.code).toBe((rest as { code: string }).code);
    expect(error.culprits.map((c) => [c.bdf, c.driver])).toEqual([['0000:01:00.1', neighbour]]);
    expect(group.container).toBe(null);
    expect(machine.group(1).owner).toBe(null);
  });

  it('S1-08 bridges bound to pcieport do not keep a group from being viable', () => {
    const { machine } = testMachine({ devices: [{ ...alone('01.0'), acs: false }] });
    machine.bind('01:00.0', 'vfio-pci');
    expect(machine.group(0).functions.map((f) => f.driver)).toEqual(['pcieport', 'vfio-pci']);
    machine.openGroup(0).setContainer(machine.openContainer());
  });

  it('S1-08 firmware’s identity mappings keep a device from users: EINVAL, naming it', () => {
    const reserved = [{ first: 0x1000n, last: 0x1fffn, kind: 'direct' as const }];
    const { machine } = testMachine({ devices: [alone('01.0', { at: '00.0', model: 'probe', reserved })] });
    machine.bind('01:00.0', 'vfio-pci');
    const error = refusal(() => machine.openGroup(1).setContainer(machine.openContainer()));
    expect([error.code, error.culprits[0]!.bdf]).toEqual(['EINVAL', '0000:01:00.0']);
    expect(machine.planBind(1).viable).toBe(false);
    const refused = refusal(() => machine.bindGroup(1));
    expect([refused.code, refused.culprits[0]!.bdf]).toEqual(['EINVAL', '0000:01:00.0']);
  });

  it('S1-09 opening and closing a group ten thousand times leaves native drivers alone', () => {
    const { machine } = testMachine({ hostDrivers: [...hostDrivers], devices: [trio] });
    machine.bind('01:00.0', 'vfio-pci');
    const events: MachineEvent[] = [];
    using _ = machine.on((event) => void events.push(event));
    const container = machine.openContainer();
    for (let i = 0; i < 10_000; i++) {
      const group = machine.openGroup(1);
      if (i % 100 === 0) expect(refusal(() => group.setContainer(container)).code).toBe('EPERM');
      group.close();
    }
    expect(machine.group(1).functions.map((f) => f.driver)).toEqual(['vfio-pci', 'e1000', 'snd']);
    expect(events).toEqual([]);
  });

  it('S1-10 vfio-pci is a driver like any other: bind, power, unbind reach the model', async () => {
    const { machine, probe } = testMachine({ devices: [alone('01.0')] });
    const events: string[] = [];
    using _ = machine.on((e) => void events.push(e.kind));
    machine.bind('01:00.0', 'vfio-pci');
    expect(probe.power).toEqual(['D3hot']);
    const { group, device } = openAll(machine, '0000:01:00.0');
    expect(probe.power).toEqual(['D3hot', 'D0']);
    device.close();
    group.close();
    await machine.unbind('01:00.0');
    expect(probe.power).toEqual(['D3hot', 'D0', 'D3hot', 'D0']);
    machine.bind('01:00.0', 'pci-stub');
    await machine.remove('01:00.0');
    expect(events).toEqual(['bind', 'unbind', 'bind', 'unbind', 'remove']);
    expect(probe.disposed).toBe(1);
  });

  it('S1-11 groups and devices listed through the API are those of the tree', () => {
    const { machine } = testMachine({ devices: [trio, alone('02.0')] });
    const tree = [...machine.function('00:01.0').bus.everything()].map((f) => f.bdf);
    expect(tree.toSorted()).toEqual([...machine.functions.keys()].toSorted());
    expect([...machine.groups.values()].flatMap((g) => g.functions.map((f) => f.bdf)).toSorted()).toEqual(tree.toSorted());
    for (const [id, group] of machine.groups) expect(group.functions.every((f) => f.group === machine.group(id))).toBe(true);
  });

  it('S1-12 in an owned group a native driver is refused with EBUSY, vfio-pci is not, and the group stays viable', () => {
    const { machine } = testMachine({
      hostDrivers: [...hostDrivers, { name: 'own', dma: 'own-domain' }],
      devices: [{ ...trio, devices: [{ at: '00.0', model: 'probe' }] }],
    });
    machine.bind('01:00.0', 'vfio-pci');
    const { group } = openAll(machine, '0000:01:00.0');
    const added = machine.add({ at: '00.1', id: '8086:100e' }, '00:01.0');
    expect([added.driver, added.group, added.probeError?.code]).toEqual([null, machine.group(1), 'EBUSY']);
    expect(refusal(() => machine.bind(added.bdf, 'e1000')).message).toContain('owned by process 1');
    expect(refusal(() => machine.bind(added.bdf, 'own')).code).toBe('EBUSY');
    expect(group.status()).toBe(GroupFlags.VIABLE | GroupFlags.CONTAINER_SET);
    machine.bind(added.bdf, 'vfio-pci');
    expect(machine.group(1).viability().viable).toBe(true);
    group.openDevice(added.bdf).close();
  });

  it('S1-13 there is no moment between plug-in and bind at which a user could take the group from under a native driver', () => {
    for (let interleaving = 0; interleaving < 4; interleaving++) {
      const { machine } = testMachine({ hostDrivers: [...hostDrivers], devices: [{ ...trio, devices: [{ at: '00.0', model: 'probe' }] }] });
      machine.bind('01:00.0', 'vfio-pci');
      const group = machine.openGroup(1);
      const container = machine.openContainer();
      const claim = () => group.setContainer(container);
      const outcome: string[] = [];
      const attempt = (what: string, run: () => void) => {
        try {
          run();
          outcome.push(`${what} ok`);
        } catch (error) {
          outcome.push(`${what} ${(error as VfioError).code}`);
        }
      };
      using _ = machine.on((event) => {
        if (interleaving === 1 && event.kind === 'add') attempt('claim', claim);
        if (interleaving === 2 && event.kind === 'add') attempt('bind', () => machine.bind(event.bdf, 'e1000'));
        if (interleaving === 2 && event.kind === 'bind') attempt('claim', claim);
      });
      if (interleaving === 0) attempt('claim', claim);
      const added = machine.add({ at: '00.1', id: '8086:100e' }, '00:01.0');
      if (interleaving === 3) attempt('claim', claim);
      const owned = machine.group(1).owner !== null;
      expect([owned, added.driver !== null]).not.toEqual([true, true]);
      expect(outcome.some((o) => o.startsWith('claim'))).toBe(true);
      expect(owned).toBe(interleaving <= 1);
    }
  });

  it('S1-14 native driver first: EPERM until it is unbound', async () => {
    const { machine } = testMachine({ hostDrivers: [{ name: 'e1000', ids: ['8086:100e'] }], devices: [trio] });
    machine.bind('01:00.0', 'vfio-pci');
    const group = machine.openGroup(1);
    const container = machine.openContainer();
    expect(refusal(() => group.setContainer(container)).code).toBe('EPERM');
    await machine.unbind('01:00.1');
    group.setContainer(container);
    expect(group.status()).toBe(GroupFlags.VIABLE | GroupFlags.CONTAINER_SET);
  });
});

describe('users', () => {
  it('S2-01 without privileges the container opens; a group opens once its node was given to the user', () => {
    const { machine } = testMachine({ devices: [alone('01.0')] });
    machine.bind('01:00.0', 'vfio-pci');
    const user = Process.user({ uid: 65534, pid: 99, allocate: HeapMemory.allocate });
    machine.openContainer(user).close();
    const refused = refusal(() => machine.openGroup(1, user));
    expect([refused.code, refused.fix]).toEqual(['EACCES', 'chown 65534 /dev/vfio/1']);
    machine.chownGroup(1, 65534);
    const { device } = openAll(machine, '0000:01:00.0', user);
    device.region(RegionIndex.CONFIG).write16(Config.COMMAND, Command.MEMORY);
    expect(device.region(RegionIndex.BAR0).read32(0)).toBe(0x600df00d);
  });

  it('S2-01 a node that goes and comes back belongs to root again', async () => {
    const { machine } = testMachine({ devices: [alone('01.0')] });
    machine.bind('01:00.0', 'vfio-pci');
    machine.chownGroup(1, 1000);
    await machine.unbind('01:00.0');
    expect(refusal(() => machine.chownGroup(1, 1000)).code).toBe('ENOENT');
    machine.bind('01:00.0', 'vfio-pci');
    expect(machine.node('/dev/vfio/1').uid).toBe(0);
  });

  it('S2-22 nodes lead to devices and devices to nodes', () => {
    const { machine } = testMachine({ devices: [trio, alone('02.0')] });
    expect(machine.nodes.map((n) => n.path)).toEqual(['/dev/vfio/vfio', '/dev/iommu']);
    machine.bind('02:00.0', 'vfio-pci');
    machine.bind('01:00.1', 'vfio-pci');
    expect(machine.nodes.map((n) => [n.path, n.mode, n.groupId, n.devices])).toEqual([
      ['/dev/vfio/vfio', 0o666, null, []],
      ['/dev/iommu', 0o660, null, []],
      ['/dev/vfio/2', 0o600, 2, [{ bdf: '0000:01:00.1', vfioDev: 'vfio1' }]],
      ['/dev/vfio/devices/vfio1', 0o600, 2, [{ bdf: '0000:01:00.1', vfioDev: 'vfio1' }]],
      ['/dev/vfio/3', 0o600, 3, [{ bdf: '0000:02:00.0', vfioDev: 'vfio0' }]],
      ['/dev/vfio/devices/vfio0', 0o600, 3, [{ bdf: '0000:02:00.0', vfioDev: 'vfio0' }]],
    ]);
    for (const node of machine.nodes.slice(1)) {
      for (const { bdf, vfioDev } of node.devices) {
        expect(machine.function(bdf).group!.id).toBe(machine.node(node.path).groupId);
        expect(`vfio${machine.function(bdf).vfioIndex}`).toBe(vfioDev);
      }
    }
    expect(refusal(() => machine.node('/dev/vfio/9999')).code).toBe('ENOENT');
  });

  it('S2-14 through the group several files share one device: enabled and reset at the first, disabled at the last', () => {
    const { machine, probe } = testMachine({ devices: [alone('01.0')] });
    machine.bind('01:00.0', 'vfio-pci');
    const { group, device } = openAll(machine, '0000:01:00.0');
    const resets = probe.resets;
    const second = group.openDevice('0000:01:00.0');
    for (const d of [device, second]) d.region(RegionIndex.CONFIG).write16(Config.COMMAND, Command.MEMORY);
    device.region(RegionIndex.BAR0).write32(4, 0x11);
    expect(second.region(RegionIndex.BAR0).read32(4)).toBe(0x11);
    device.close();
    expect(second.region(RegionIndex.BAR0).read32(4)).toBe(0x11);
    expect(probe.resets).toBe(resets);
    second.close();
    expect(probe.resets).toBe(resets + 1);
    expect(machine.function('01:00.0').vfio!.openCount).toBe(0);
  });

  it('S1-15 a plan names each bind of a group, and carrying it out makes the group viable', () => {
    const { machine } = testMachine({ hostDrivers: [...hostDrivers], devices: [trio] });
    const plan = machine.planBind(1);
    expect(plan.steps.map((s) => [s.bdf, s.from, s.to, s.needed])).toEqual([
      ['0000:01:00.0', null, 'vfio-pci', false],
      ['0000:01:00.1', 'e1000', 'vfio-pci', true],
      ['0000:01:00.2', 'snd', 'vfio-pci', true],
    ]);
    expect(machine.group(1).viability().viable).toBe(false);
    machine.bindGroup(1);
    expect(machine.group(1).viability().viable).toBe(true);
    expect(machine.planBind(1).steps).toEqual([]);
    openAll(machine, '0000:01:00.2');
  });

  it('S1-15 a plan that fails half-way has changed nothing', () => {
    const { machine, faults } = testMachine({ hostDrivers: [...hostDrivers], devices: [trio] });
    faults.failNext('bind.register', 'ENOMEM', 2);
    expect(refusal(() => machine.bindGroup(1)).code).toBe('ENOMEM');
    expect(machine.group(1).functions.map((f) => f.driver)).toEqual([null, 'e1000', 'snd']);
    expect(machine.group(1).vfioFunctions).toEqual([]);
  });

  it('S1-15 the binds of a group are taken back also where drivers came in an order that a bind would not allow', async () => {
    const { machine, faults } = testMachine({ hostDrivers: [...hostDrivers, { name: 'own', dma: 'own-domain' }], devices: [trio] });
    await machine.unbind('01:00.2');
    machine.setDriverOverride('01:00.2', 'own');
    machine.bind('01:00.2', 'own');
    faults.failNext('bind.register', 'ENOMEM', 2);
    expect(refusal(() => machine.bindGroup(1)).code).toBe('ENOMEM');
    expect(machine.group(1).functions.map((f) => f.driver)).toEqual([null, 'e1000', 'own']);
    expect(machine.group(1).nativeUsers).toBe(2);
  });

  it('dispose closes everything, whatever is still open', () => {
    const { machine, clock, probe } = testMachine({ devices: [alone('01.0'), alone('02.0')] });
    machine.bind('01:00.0', 'vfio-pci');
    machine.bind('02:00.0', 'vfio-pci');
    const { container, device, group } = openAll(machine, '0000:01:00.0');
    const other = openAll(machine, '0000:02:00.0');
    const memory = HeapMemory.allocate(4096);
    container.mapMemory({ process: machine.process, iova: 0n, memory, offset: 0, size: 4096, access: Access.READ });
    const mapping = device.region(RegionIndex.BAR0).map(0, 0x1000);
    void machine.remove('02:00.0');
    machine[Symbol.dispose]();
    machine[Symbol.dispose]();
    expect(memory.references).toBe(1);
    expect([container.references, container.size, group.closed, other.group.closed]).toEqual([0, 0, true, true]);
    expect([...machine.groups.values()].map((g) => [g.owner, g.file, g.nativeUsers])).toEqual(
      [...machine.groups].map(() => [null, null, 0]),
    );
    expect([clock.pendingTimers, probe.disposed, machine.process.lockedBytes]).toEqual([0, 2, 0]);
    mapping[Symbol.dispose]();
    expect(refusal(() => machine.openContainer()).code).toBe('ENODEV');
  });

  it.each<[string, unknown]>([
    ['devices', { devices: 5 }],
    ['a device', { devices: [null] }],
    ['at', { devices: [{ at: 4, id: '1af4:1041' }] }],
    ['model', { devices: [{ at: '04.0', model: { declaration: {} } }] }],
    ['devices behind a port', { devices: [{ at: '04.0', kind: 'root-port', devices: 'none' }] }],
  ])('house: a declaration in code whose %s is of another type is EINVAL', (_what, spec) => {
    expect(refusal(() => new Machine(spec as never, { allocate: HeapMemory.allocate })).code).toBe('EINVAL');
  });

  it.each([
    { dmaEntryLimit: Number.NaN },
    { dmaEntryLimit: -1 },
    { dmaEntryLimit: '9' },
    { forceRevokeAfterMs: Number.NaN },
    { forceRevokeAfterMs: 2 ** 53 },
    { suspendTimeoutMs: -5 },
    { requireReset: 'no' },
    { requireRest: true },
  ])('B.8 params: %o is EINVAL: it would be taken for something else', (params) => {
    expect(refusal(() => testMachine({ devices: [] }, { params: params as never })).code).toBe('EINVAL');
  });

  it('two machines of one declaration behave the same, and share nothing', () => {
    const runs = [0, 1].map(() => {
      const { machine } = testMachine({ hostDrivers: [...hostDrivers], devices: [trio, alone('02.0')] });
      machine.bindGroup(1);
      return JSON.stringify([machine.nodes, ...[...machine.functions.values()].map((f) => [f.bdf, f.driver, [...f.config.bytes]])]);
    });
    expect(runs[0]).toBe(runs[1]);
  });
});

describe('suspend', () => {
  it('S2-42 users hear of a suspend and acknowledge; then DMA is blocked until resume', async () => {
    const { machine, probe } = testMachine({ devices: [alone('01.0'), alone('02.0')] });
    machine.bind('01:00.0', 'vfio-pci');
    machine.bind('02:00.0', 'vfio-pci');
    const { container, device, group } = openAll(machine, '0000:01:00.0');
    const memory = HeapMemory.allocate(4096);
    container.mapMemory({ process: machine.process, iova: 0n, memory, offset: 0, size: 4096, access: Access.READ_WRITE });
    device.region(RegionIndex.CONFIG).write16(Config.COMMAND, Command.MASTER);
    const events: string[] = [];
    using _ = device.on((event) => {
      events.push(event.kind);
      if (event.kind === 'suspend') event.acknowledge();
    });
    await machine.suspend();
    expect([machine.suspended, probe.models[0]!.send(0, 1)]).toEqual([true, Dma.REMOTE]);
    expect(refusal(() => machine.bind('02:00.0', 'pci-stub')).code).toBe('EBUSY');
    expect(refusal(() => machine.add({ at: '06.0', id: '1af4:1041' })).code).toBe('EBUSY');
    expect(refusal(() => group.openDevice('0000:01:00.0')).code).toBe('EBUSY');
    machine.resume();
    expect([machine.suspended, probe.models[0]!.send(0, 1)]).toEqual([false, Dma.DONE]);
    expect(events).toEqual(['suspend', 'asleep', 'resume']);
    machine.resume();
  });

  it('S2-42 a user who does not answer holds the machine up no longer than the timeout', async () => {
    const { machine, clock } = testMachine({ devices: [alone('01.0')] }, { params: { suspendTimeoutMs: 300 } });
    machine.bind('01:00.0', 'vfio-pci');
    const { device } = openAll(machine, '0000:01:00.0');
    using _ = device.on(() => {});
    const asleep = machine.suspend();
    expect(clock.pendingTimers).toBe(1);
    clock.advance(300);
    await asleep;
    expect(clock.pendingTimers).toBe(0);
  });

  it('S2-42 waking before everybody has acknowledged ends the suspend: nothing falls asleep later', async () => {
    const { machine, clock, probe } = testMachine({ devices: [alone('01.0')] });
    machine.bind('01:00.0', 'vfio-pci');
    const { container, device } = openAll(machine, '0000:01:00.0');
    const memory = HeapMemory.allocate(4096);
    container.mapMemory({ process: machine.process, iova: 0n, memory, offset: 0, size: 4096, access: Access.READ_WRITE });
    device.region(RegionIndex.CONFIG).write16(Config.COMMAND, Command.MASTER);
    const events: string[] = [];
    using _ = device.on((event) => void events.push(event.kind));
    const asleep = machine.suspend();
    machine.resume();
    await asleep;
    clock.advance(60_000);
    expect([machine.suspended, clock.pendingTimers, probe.models[0]!.send(0, 1)]).toEqual([false, 0, Dma.DONE]);
    expect(events).toEqual(['suspend', 'resume']);
  });
});
