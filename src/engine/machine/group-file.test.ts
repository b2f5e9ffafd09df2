import { describe, expect, it } from 'vitest';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { alone, hostDrivers, openAll, testMachine, trio } from '../../../tests/kit/machines.ts';
import { Access } from '../../abi/memory.ts';
import { Command, Config } from '../../abi/pci.ts';
import { Extension, GroupFlags, RegionIndex } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { HeapMemory } from '../../sys/fake.ts';
import type { DeviceFile } from '../device/device-file.ts';
import { Process } from '../dma/process.ts';

const BDF = '0000:01:00.0';

/** One device alone in group 2, bound to vfio-pci. */
function bound(params = {}) {
  const made = testMachine({ devices: [alone('01.0'), alone('02.0')] }, { params });
  made.machine.bind(BDF, 'vfio-pci');
  return made;
}

describe('open', () => {
  it('B.4 open: ENOENT for a group that is not there, and for one without a device bound to vfio-pci', () => {
    const { machine } = bound();
    for (const id of [9999, -1, Number.NaN, 1.5, 2 ** 53]) expect(errnoFrom(() => machine.openGroup(id))).toBe('ENOENT');
    expect(errnoFrom(() => machine.openGroup(3))).toBe('ENOENT');
  });

  it('B.4 open: EBUSY while it is open, and while a device file of the last user keeps it', () => {
    const { machine } = bound();
    const { group, device } = openAll(machine, BDF);
    expect(errnoFrom(() => machine.openGroup(2))).toBe('EBUSY');
    group.close();
    expect(() => machine.openGroup(2)).toThrow('group 2 is open already, by process 1 (uid 0), which keeps 1 of its device files open');
    device.close();
    expect(errnoFrom(() => machine.openGroup(2).close())).toBe('none');
  });

  it('B.4 open: a process that has exited opens nothing', () => {
    const { machine } = bound();
    const process = Process.root({ pid: 7 });
    process.exit();
    expect(errnoFrom(() => machine.openGroup(2, process))).toBe('ESRCH');
    expect(machine.group(2).file).toBe(null);
  });

  it('B.4 open: the exit of a process closes its group and container', () => {
    const { machine } = bound();
    const process = Process.root({ pid: 7, allocate: HeapMemory.allocate });
    const { group, container, device } = openAll(machine, BDF, process);
    device.close();
    process.exit();
    expect([group.closed, container.references, machine.group(2).file, machine.group(2).owner]).toEqual([true, 0, null, null]);
  });
});

describe('GROUP_GET_STATUS', () => {
  it('B.4 GET_STATUS: VIABLE, and CONTAINER_SET while a container is set', () => {
    const { machine } = bound();
    const group = machine.openGroup(2);
    expect(group.status()).toBe(GroupFlags.VIABLE);
    group.setContainer(machine.openContainer());
    expect(group.status()).toBe(GroupFlags.VIABLE | GroupFlags.CONTAINER_SET);
    group.unsetContainer();
    expect(group.status()).toBe(GroupFlags.VIABLE);
  });

  it('B.4 GET_STATUS: ENODEV once the group has lost its last vfio device', async () => {
    const { machine } = bound();
    const group = machine.openGroup(2);
    const container = machine.openContainer();
    group.setContainer(container);
    await machine.unbind(BDF);
    expect(errnoFrom(() => group.status())).toBe('ENODEV');
    expect(errnoFrom(() => group.setContainer(container))).toBe('ENODEV');
    expect(errnoFrom(() => group.openDevice(BDF))).toBe('ENODEV');
    expect(errnoFrom(() => group.unsetContainer())).toBe('EINVAL');
    expect([container.groups, machine.group(2).owner]).toEqual([[], null]);
    machine.bind(BDF, 'vfio-pci');
    const anew = machine.openGroup(2);
    group.close();
    expect(machine.group(2).file).toBe(anew);
  });
});

describe('GROUP_SET_CONTAINER', () => {
  it('B.4 SET_CONTAINER: EINVAL when one is set', () => {
    const { machine } = bound();
    const group = machine.openGroup(2);
    const container = machine.openContainer();
    group.setContainer(container);
    expect(errnoFrom(() => group.setContainer(container))).toBe('EINVAL');
    expect(errnoFrom(() => group.setContainer(machine.openContainer()))).toBe('EINVAL');
  });

  it('B.4 SET_CONTAINER: a container that is closed is EBADF, and the group stays free', () => {
    const { machine } = bound();
    const group = machine.openGroup(2);
    const container = machine.openContainer();
    container.close();
    expect(errnoFrom(() => group.setContainer(container))).toBe('EBADF');
    expect([machine.group(2).owner, group.container]).toEqual([null, null]);
  });

  it.each(['group.claim', 'container.attach'])('B.4 SET_CONTAINER: failing at %s leaves group and container as they were', (step) => {
    const { machine, faults } = bound();
    const group = machine.openGroup(2);
    const container = machine.openContainer();
    faults.failNext(step, 'ENOMEM');
    expect(errnoFrom(() => group.setContainer(container))).toBe('ENOMEM');
    expect([machine.group(2).owner, group.container, container.groups, container.references]).toEqual([null, null, [], 1]);
    group.setContainer(container);
  });

  it('B.4 SET_CONTAINER: E-01 EPERM lists every function in the way, its driver, why, and the command that helps', () => {
    const { machine } = testMachine({ hostDrivers: [...hostDrivers], devices: [trio] });
    machine.bind(BDF, 'vfio-pci');
    const group = machine.openGroup(1);
    try {
      group.setContainer(machine.openContainer());
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(VfioError);
      const { code: errno, culprits, message } = error as VfioError;
      expect(errno).toBe('EPERM');
      expect(message).toBe('group 1 is not viable: 0000:01:00.1 (e1000), 0000:01:00.2 (snd) stand in the way');
      expect(culprits.map((c) => [c.bdf, c.driver, c.fix])).toEqual([
        ['0000:01:00.1', 'e1000', 'vfio bind 0000:01:00.1 vfio-pci'],
        ['0000:01:00.2', 'snd', 'vfio bind 0000:01:00.2 vfio-pci'],
      ]);
      expect(culprits.every((c) => c.why.length > 20)).toBe(true);
    }
  });
});

describe('GROUP_UNSET_CONTAINER', () => {
  it('B.4 UNSET_CONTAINER: EINVAL when none is set', () => {
    const { machine } = bound();
    expect(errnoFrom(() => machine.openGroup(2).unsetContainer())).toBe('EINVAL');
  });

  it('S2-04 UNSET_CONTAINER with an open device is EBUSY; after its close it works and the mappings are gone', () => {
    const { machine } = bound();
    const { group, container, device } = openAll(machine, BDF);
    const memory = HeapMemory.allocate(4096);
    container.mapMemory({ process: machine.process, iova: 0n, memory, offset: 0, size: 4096, access: Access.READ });
    expect(errnoFrom(() => group.unsetContainer())).toBe('EBUSY');
    device.close();
    group.unsetContainer();
    expect([memory.references, container.iommuType, machine.group(2).owner]).toEqual([1, null, null]);
  });

  it('S2-04 a device that is closed but still mapped counts as open', () => {
    const { machine } = bound();
    const { group, device } = openAll(machine, BDF);
    const mapping = device.region(RegionIndex.BAR0).map(0, 4096);
    device.close();
    expect(errnoFrom(() => group.unsetContainer())).toBe('EBUSY');
    mapping[Symbol.dispose]();
    expect(errnoFrom(() => group.unsetContainer())).toBe('none');
  });
});

describe('GROUP_GET_DEVICE_FD', () => {
  it('S2-02 before a container is set, and before its IOMMU is, no device can be opened: EINVAL', () => {
    const { machine } = bound();
    const group = machine.openGroup(2);
    expect(errnoFrom(() => group.openDevice(BDF))).toBe('EINVAL');
    const container = machine.openContainer();
    group.setContainer(container);
    expect(errnoFrom(() => group.openDevice(BDF))).toBe('EINVAL');
    container.setIommu(Extension.TYPE1v2_IOMMU);
    const device = group.openDevice(BDF);
    device.region(RegionIndex.CONFIG).write16(Config.COMMAND, Command.MEMORY);
    expect(device.region(RegionIndex.BAR0).read32(0)).toBe(0x600df00d);
  });

  it.each([
    ['0000:ff:1f.7', 'ENODEV'],
    ['', 'ENODEV'],
    ['01:00.0', 'ENODEV'],
    ['0000:01:00.0x', 'ENODEV'],
    ['0000:02:00.0', 'ENODEV'],
    ['0000:01:00.0 ', 'none'],
    ['0000:01:00.0 bogus=1', 'EINVAL'],
    ['0000:01:00.0 vf_token=00000000-0000-0000-0000-000000000001', 'EINVAL'],
    ['0000:01:00.0 vf_token=zzz', 'EINVAL'],
    [`0000:01:00.0${' '.repeat(4083)}`, 'none'],
    [`0000:01:00.0${' '.repeat(4084)}`, 'EINVAL'],
    ['x'.repeat(4096), 'EINVAL'],
  ])('B.4 GET_DEVICE_FD: S3-01 S3-02 S3-03 S3-04 name %j: %s', (name, outcome) => {
    const { machine } = bound();
    const { group } = openAll(machine, BDF);
    expect(errnoFrom(() => group.openDevice(name).close())).toBe(outcome);
  });

  it('B.4 GET_DEVICE_FD: the name is looked at before the container: a bad option is EINVAL, an unknown name ENODEV without one', () => {
    const { machine } = bound();
    const group = machine.openGroup(2);
    expect(errnoFrom(() => group.openDevice('0000:05:00.0'))).toBe('ENODEV');
    expect(() => group.openDevice(`${BDF} bogus=1`)).toThrow('option');
  });

  it('B.4 GET_DEVICE_FD: what cannot be found says what there is', () => {
    const { machine } = testMachine({ devices: [trio] });
    machine.bind(BDF, 'vfio-pci');
    const group = machine.openGroup(1);
    expect(() => group.openDevice('01:00.0')).toThrow(expect.objectContaining({ fix: 'Write it in full: 0000:01:00.0' }));
    expect(() => group.openDevice('0000:01:00.1')).toThrow(expect.objectContaining({ fix: 'vfio bind 0000:01:00.1 vfio-pci' }));
    expect(() => group.openDevice('0000:09:00.0')).toThrow(expect.objectContaining({ fix: 'It has 0000:01:00.0.' }));
  });

  it('B.4 GET_DEVICE_FD: an open that fails leaves no reference', () => {
    const { machine, faults } = bound();
    const group = machine.openGroup(2);
    const container = machine.openContainer();
    group.setContainer(container);
    container.setIommu(Extension.TYPE1v2_IOMMU);
    using lock = machine.function(BDF).vfio!.lock('a test');
    expect(errnoFrom(() => group.openDevice(BDF))).toBe('EAGAIN');
    lock[Symbol.dispose]();
    faults.failNext('device.open', 'ENOMEM');
    expect(errnoFrom(() => group.openDevice(BDF))).toBe('ENOMEM');
    expect(group.deviceFiles).toEqual([]);
    group.unsetContainer();
  });
});

describe('close', () => {
  it('B.4 close: device files keep group and container; the last one releases both', () => {
    const { machine } = bound();
    const { group, container, device } = openAll(machine, BDF);
    const second = group.openDevice(BDF);
    container.close();
    group.close();
    group.close();
    device.close();
    expect([machine.group(2).owner, machine.group(2).file, container.references]).toEqual([group, group, 1]);
    expect(machine.group(2).domain).not.toBe(null);
    second.close();
    expect([machine.group(2).owner, machine.group(2).file, container.references, machine.group(2).domain]).toEqual([null, null, 0, null]);
  });

  it('B.4 close: after close every call on the file is EBADF', () => {
    const { machine } = bound();
    const group = machine.openGroup(2);
    const container = machine.openContainer();
    group.close();
    const calls = [() => group.status(), () => group.setContainer(container), () => group.unsetContainer(), () => group.openDevice(BDF)];
    expect(calls.map(errnoFrom)).toEqual(['EBADF', 'EBADF', 'EBADF', 'EBADF']);
  });

  it('B.4 close: group, container and device files may be closed in any order', () => {
    const orders = [
      [0, 1, 2],
      [0, 2, 1],
      [1, 0, 2],
      [1, 2, 0],
      [2, 0, 1],
      [2, 1, 0],
    ];
    for (const order of orders) {
      const { machine, probe } = bound();
      const { group, container, device } = openAll(machine, BDF);
      const memory = HeapMemory.allocate(4096);
      container.mapMemory({ process: machine.process, iova: 0n, memory, offset: 0, size: 4096, access: Access.READ_WRITE });
      const files: { close(): void }[] = [group, container, device satisfies DeviceFile];
      for (const i of order) files[i]!.close();
      expect([memory.references, container.references, machine.group(2).owner, machine.group(2).file, machine.process.lockedBytes]).toEqual(
        [1, 0, null, null, 0],
      );
      expect(probe.resets).toBeGreaterThanOrEqual(2);
      openAll(machine, BDF).device.close();
    }
  });
});
