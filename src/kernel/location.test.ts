import { describe, expect, it } from 'vitest';
import { hostTree, type TreeFunction } from '../../tests/kit/host-trees.ts';
import { findDevice, notViable } from './location.ts';

const BDF = '0000:03:00.0';

function roots(functions: readonly TreeFunction[], more: Parameters<typeof hostTree>[1] = {}) {
  return { files: hostTree(functions, more), dev: '/dev' };
}

const card = (more: Partial<TreeFunction> = {}): TreeFunction => ({ bdf: BDF, group: 12, driver: 'vfio-pci', ...more });

describe('the location of a device', () => {
  it("is its group's file, and its own file where the kernel has one", () => {
    const found = findDevice(BDF, 'pci', roots([card({ files: { 'vfio-dev/vfio3/dev': '511:3' } })]));
    expect(found).toEqual({
      name: BDF,
      group: { number: 12, path: '/dev/vfio/12', noIommu: false },
      cdev: { path: '/dev/vfio/devices/vfio3', noIommu: false },
    });
  });

  it('is a file for devices without an IOMMU where the kernel has made the group for one', () => {
    const found = findDevice(BDF, 'pci', roots([card()], { '/sys/kernel/iommu_groups/12/name': 'vfio-noiommu\n' }));
    expect(found.group).toEqual({ number: 12, path: '/dev/vfio/noiommu-12', noIommu: true });
    expect(found.cdev).toBeNull();
  });

  it('is that of a mediated device by its UUID', () => {
    const uuid = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
    const found = findDevice(uuid, 'mdev', roots([], { [`/sys/bus/mdev/devices/${uuid}/vfio-dev/vfio0/dev`]: '511:0' }));
    expect(found).toMatchObject({ name: uuid, cdev: { path: '/dev/vfio/devices/vfio0' } });
  });

  it('is the usual file of its group for a mediated device, though the kernel names the group as without an IOMMU', () => {
    const uuid = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
    const files = {
      [`/sys/bus/mdev/devices/${uuid}/vfio-dev/vfio0/dev`]: '511:0',
      [`/sys/bus/mdev/devices/${uuid}/iommu_group`]: { link: '/sys/kernel/iommu_groups/4' },
      '/sys/kernel/iommu_groups/4/name': 'vfio-noiommu',
    };
    expect(findDevice(uuid, 'mdev', roots([], files)).group).toEqual({ number: 4, path: '/dev/vfio/4', noIommu: false });
  });

  it('names devices that are there for one that is not', () => {
    expect(() => findDevice('0000:03:00.1', 'pci', roots([card()]))).toThrow(
      expect.objectContaining({ code: 'ENODEV', message: expect.stringContaining(`${BDF} is there`) }),
    );
  });

  it('names the driver that has the device, and the command that gives it away', () => {
    expect(() => findDevice(BDF, 'pci', roots([card({ driver: 'nvme' })]))).toThrow(
      expect.objectContaining({
        code: 'EBUSY',
        message: `${BDF} is bound to nvme, which uses it, and not to vfio-pci`,
        fix: `As root: vfio bind ${BDF}.`,
      }),
    );
    const { driver: _, ...free } = card();
    expect(() => findDevice(BDF, 'pci', roots([free]))).toThrow(
      expect.objectContaining({ code: 'ENODEV', fix: `As root: vfio bind ${BDF}.` }),
    );
  });

  it('says that there is no IOMMU where there is no group', () => {
    const { group: _, ...bare } = card();
    expect(() => findDevice(BDF, 'pci', roots([bare]))).toThrow(
      expect.objectContaining({ code: 'EOPNOTSUPP', fix: expect.stringContaining('intel_iommu=on') }),
    );
  });
});

describe('a group that is not viable', () => {
  it('has the devices of native drivers as culprits, without bridges', () => {
    const others: TreeFunction[] = [
      card(),
      { bdf: '0000:03:00.1', group: 12, driver: 'snd_hda_intel' },
      { bdf: '0000:00:01.0', group: 12, driver: 'pcieport' },
      { bdf: '0000:03:00.2', group: 12 },
    ];
    const all = roots(others);
    const error = notViable(findDevice(BDF, 'pci', all).group!, BDF, all);
    expect(error.code).toBe('EPERM');
    expect(error.culprits.map(({ bdf, driver, fix }) => [bdf, driver, fix])).toEqual([
      ['0000:03:00.1', 'snd_hda_intel', 'As root: vfio bind 0000:03:00.1'],
    ]);
  });
});
