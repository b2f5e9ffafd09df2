/** A computer as a machine: what its groups, drivers and quirks make of it. */
import { describe, expect, it } from 'vitest';
import { configBytes, hostTree, type TreeFunction } from '../../tests/kit/host-trees.ts';
import { CapId, Config, ExtCapId, HeaderType, Status } from '../abi/pci.ts';
import { Host } from './host.ts';
import { readLspci } from './lspci.ts';
import { readSysfs } from './sysfs.ts';

const hostOf = (functions: readonly TreeFunction[], more: Record<string, string> = {}) => Host.of(readSysfs(hostTree(functions, more)));
const groupsOf = (host: Host) => [...host.machine.groups.values()].map((g) => [g.id, g.functions.map((fn) => fn.bdf)]);

function express(type: number, { bus = null as number | null, acs = null as number | null } = {}): Uint8Array {
  return configBytes(4096, (view) => {
    view.setUint8(Config.HEADER_TYPE, bus === null ? HeaderType.NORMAL : HeaderType.BRIDGE);
    if (bus !== null) view.setUint8(Config.BRIDGE_SECONDARY_BUS, bus);
    view.setUint16(Config.STATUS, Status.CAP_LIST, true);
    view.setUint8(Config.CAPABILITY_LIST, 0x40);
    view.setUint8(0x40, CapId.EXP);
    view.setUint16(0x42, type << 4, true);
    if (acs === null) return;
    view.setUint32(0x100, ExtCapId.ACS | (1 << 16), true);
    view.setUint16(0x104, 0x1d, true);
    view.setUint16(0x106, acs, true);
  });
}

const port = (acs: number | null, group: number): TreeFunction => ({
  bdf: '0000:00:1c.0',
  files: { class: '0x060400', config: express(4, { bus: 3, acs }), device: '0x9999' },
  group,
  driver: 'pcieport',
});
const card = (group: number | undefined, more: Partial<TreeFunction> = {}): TreeFunction => ({
  bdf: '0000:03:00.0',
  below: 'pci0000:00/0000:00:1c.0',
  files: { config: express(0), vendor: '0x10ec', device: '0x8168' },
  driver: 'r8169',
  ...(group === undefined ? {} : { group }),
  ...more,
});

describe('host: groups', () => {
  it('are the recorded ones, with their numbers', () => {
    using host = hostOf([port(0x1d, 5), card(11)]);
    expect(groupsOf(host)).toEqual([
      [5, ['0000:00:1c.0']],
      [11, ['0000:03:00.0']],
    ]);
    expect(host.differences).toEqual([]);
  });

  it('that do not follow from the fabric are named, with a reason', () => {
    using host = hostOf([port(0x1d, 5), card(5)]);
    expect(groupsOf(host)).toEqual([[5, ['0000:00:1c.0', '0000:03:00.0']]]);
    expect(host.differences).toMatchObject([
      {
        functions: ['0000:00:1c.0', '0000:03:00.0'],
        computed: [['0000:00:1c.0'], ['0000:03:00.0']],
        recorded: [['0000:00:1c.0', '0000:03:00.0']],
      },
    ]);
    expect(host.explain('03:00.0').notes[0]).toContain('Linux has 0000:00:1c.0, 0000:03:00.0 in one group, 5');
  });

  it('of a kernel with pcie_acs_override: that is the reason', () => {
    using host = hostOf([port(null, 5), card(6)], { '/proc/cmdline': 'quiet pcie_acs_override=downstream\n' });
    expect(host.differences[0]!.reason).toBe('the kernel was started with pcie_acs_override=downstream');
  });

  it('access control that is switched off isolates nothing', () => {
    using host = hostOf([port(0, 5), card(5)]);
    expect(host.differences).toEqual([]);
    expect(host.machine.function('03:00.0').groupedBecause).toContain('no access control');
  });

  it('none, where no IOMMU is on: the fix is the firmware and the kernel', () => {
    using host = hostOf([card(undefined)]);
    expect(host.machine.groups.size).toBe(0);
    expect(host.explain('03:00.0').blockers[0]!.fix).toContain('intel_iommu=on');
  });

  it('a source without groups: they are computed, and a note says so', () => {
    using host = Host.of(readLspci('00:02.0 0300: 8086:3e92\n00:14.0 0c03: 8086:a12f\n', 'a text'));
    expect(host.machine.groups.size).toBe(2);
    expect(host.notes).toContainEqual(expect.stringContaining('no isolation groups'));
  });

  it('a function without a group beside others is behind no IOMMU', () => {
    const other: TreeFunction = { bdf: '0000:00:02.0', files: { config: express(9) } };
    using host = hostOf([other, port(0x1d, 0), card(1)]);
    expect(host.machine.function('00:02.0').group).toBeNull();
    expect(host.explain('00:02.0').iommu.kind).toBe('none');
  });
});

describe('host: explain', () => {
  it('its fixes are commands for this computer', () => {
    using host = hostOf([port(0x1d, 0), card(1)]);
    expect(host.explain('03:00.0').blockers[0]).toMatchObject({
      why: 'it is bound to r8169, not to vfio-pci',
      fix: 'vfio bind 0000:03:00.0',
    });
  });

  it('a device that is not there: the message names the computer', () => {
    using host = hostOf([port(0, 1)]);
    expect(() => host.explain('0000:05:00.0')).toThrow(
      expect.objectContaining({ code: 'ENODEV', message: 'a tree has no PCI device 0000:05:00.0' }),
    );
  });

  it('a quirk that decides the group is named', () => {
    const fn = (bdf: string, group: number): TreeFunction => ({
      bdf,
      below: 'pci0000:00/0000:00:1c.0',
      files: { config: express(0), device: '0x1521' },
      group,
    });
    using host = hostOf([port(0x1d, 0), fn('0000:03:00.0', 1), fn('0000:03:00.1', 2)]);
    expect(host.differences).toEqual([]);
    expect(host.explain('03:00.1').notes).toEqual([expect.stringContaining('isolates by a quirk of Linux (network cards of Intel)')]);
  });

  it('a process that has the group open is in the way', () => {
    const picture = readSysfs(hostTree([port(0x1d, 0), card(1, { driver: 'vfio-pci' })]));
    using free = Host.of(picture);
    expect(free.explain('03:00.0').usable).toBe(true);
    using held = Host.of(picture, { users: new Map([['0000:03:00.0', 'process 42 (qemu)']]) });
    expect(held.explain('03:00.0')).toMatchObject({
      usable: false,
      summary: '0000:03:00.0 is in group 1; a user cannot open it: group 1 is open by process 42 (qemu)',
    });
  });

  it('windows that firmware reserves for one device bar its group', () => {
    using host = hostOf([port(0x1d, 0), card(1)], {
      '/sys/kernel/iommu_groups/0/reserved_regions': '0x00000000fee00000 0x00000000feefffff msi\n',
      '/sys/kernel/iommu_groups/1/reserved_regions':
        '0x00000000fee00000 0x00000000feefffff msi\n0x000000007b800000 0x000000007fffffff direct\n',
    });
    expect(host.explain('03:00.0').group!.viable).toBe(false);
    expect(host.spec.iommu!.reserved).toEqual([{ first: 0xfee0_0000n, last: 0xfeef_ffffn, kind: 'msi' }]);
  });
});

describe('host: unusual fabrics', () => {
  it('a device without function 0, a bus that no bridge forwards, two devices behind a port', () => {
    using host = Host.of(
      readLspci(
        '00:1c.0 0604: 8086:a338\n\tBus: primary=00, secondary=03, subordinate=03\n03:00.2 0200: 8086:1\n03:01.0 0200: 8086:1\n07:00.0 0200: 8086:2\n',
        'a text',
      ),
    );
    expect([...host.machine.functions.keys()]).toEqual(['0000:00:1c.0', '0000:03:00.2', '0000:03:01.0', '0000:07:00.0']);
  });

  it('virtual functions are those of the recording, each with its driver', () => {
    const vf = (n: number, driver: string): TreeFunction => ({
      bdf: `0000:03:10.${n}`,
      below: 'pci0000:00/0000:00:1c.0',
      files: { vendor: '0x10ec', device: '0x1520' },
      links: { physfn: '../0000:03:00.0' },
      group: 20 + n,
      driver,
    });
    const pf = card(1, {
      driver: 'igb',
      files: {
        config: express(0),
        vendor: '0x10ec',
        sriov_totalvfs: '8',
        sriov_numvfs: '2',
        sriov_offset: '128',
        sriov_stride: '1',
        sriov_vf_device: '1520',
      },
    });
    using host = hostOf([port(0x1d, 0), pf, vf(0, 'igbvf'), vf(1, 'vfio-pci')]);
    expect(host.machine.function('03:00.0').vfs.map(({ bdf, driver, group }) => [bdf, driver, group!.id])).toEqual([
      ['0000:03:10.0', 'igbvf', 20],
      ['0000:03:10.1', 'vfio-pci', 21],
    ]);
  });
});
