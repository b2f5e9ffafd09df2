/** The picture of a computer from its sysfs. */
import { describe, expect, it } from 'vitest';
import { configBytes, hostTree } from '../../tests/kit/host-trees.ts';
import { CapId, Config, ExtCapId, HeaderType, Status } from '../abi/pci.ts';
import { readSysfs } from './sysfs.ts';

/** A PCI Express function: its port type, and access control. */
function express(type: number, { bridge = null as number | null, acs = null as number | null, size = 4096 } = {}): Uint8Array {
  return configBytes(4096, (view) => {
    view.setUint8(Config.HEADER_TYPE, bridge === null ? HeaderType.NORMAL : HeaderType.BRIDGE);
    if (bridge !== null) view.setUint8(Config.BRIDGE_SECONDARY_BUS, bridge);
    view.setUint16(Config.STATUS, Status.CAP_LIST, true);
    view.setUint8(Config.CAPABILITY_LIST, 0x40);
    view.setUint8(0x40, CapId.EXP);
    view.setUint16(0x42, type << 4, true);
    if (acs !== null) {
      view.setUint32(0x100, ExtCapId.ACS | (1 << 16), true);
      view.setUint16(0x104, 0x1d, true);
      view.setUint16(0x106, acs, true);
    }
  }).slice(0, size);
}

const port = {
  bdf: '0000:00:1c.0',
  files: { class: '0x060400', config: express(4, { bridge: 3, acs: 0x1d }), boot_vga: '0' },
  group: 4,
  driver: 'pcieport',
};
const card = {
  bdf: '0000:03:00.0',
  below: 'pci0000:00/0000:00:1c.0',
  files: {
    config: express(0),
    driver_override: '(null)',
    numa_node: '-1',
    resource: '0x00000000f7cc0000 0x00000000f7cdffff 0x0000000000140204',
    reset_method: 'flr bus',
  },
  group: 9,
  driver: 'igb',
};

describe('host: the picture of sysfs', () => {
  it('has functions with their drivers, groups and places in the fabric', () => {
    const { functions, groups } = readSysfs(hostTree([card, port]));
    expect(functions.map(({ bdf, kind, kindIsKnown, parent, driver, group }) => [bdf, kind, kindIsKnown, parent, driver, group])).toEqual([
      ['0000:00:1c.0', 'root-port', true, null, 'pcieport', 4],
      ['0000:03:00.0', 'endpoint', true, '0000:00:1c.0', 'igb', 9],
    ]);
    expect(groups).toEqual([
      { id: 4, functions: ['0000:00:1c.0'], type: null, reserved: [] },
      { id: 9, functions: ['0000:03:00.0'], type: null, reserved: [] },
    ]);
  });

  it('reads access control from registers', () => {
    const [bridge, endpoint] = readSysfs(hostTree([card, port])).functions;
    expect(bridge!.acs).toEqual({ capabilities: 0x1d, control: 0x1d });
    expect(endpoint!.acs).toBeNull();
  });

  it('of 64 bytes, which others than root read, access control is not known and the kind is a guess', () => {
    const short = { ...port, files: { ...port.files, config: express(4, { bridge: 3, size: 64 }) } };
    const { functions, notes } = readSysfs(hostTree([short, card]));
    expect(functions[0]).toMatchObject({ kind: 'root-port', kindIsKnown: false, acs: undefined, secondary: 3 });
    expect(notes).toEqual([expect.stringContaining('could be read only in part')]);
  });

  it('a driver_override of (null) and a NUMA node of -1 are none', () => {
    const [, endpoint] = readSysfs(hostTree([card, port])).functions;
    expect(endpoint).toMatchObject({ driverOverride: null, numaNode: null, functionReset: true });
    expect(endpoint!.resources[0]).toEqual({ start: 0xf7cc_0000n, size: 0x2_0000n, kind: 'memory', wide: true, prefetchable: false });
  });

  it('windows of a group, with their kinds', () => {
    const { groups } = readSysfs(
      hostTree([card], {
        '/sys/kernel/iommu_groups/9/reserved_regions':
          '0x00000000fee00000 0x00000000feefffff msi\n0x000000007b800000 0x000000007fffffff direct-relaxable\n',
        '/sys/kernel/iommu_groups/9/type': 'DMA-FQ\n',
      }),
    );
    expect(groups![0]).toMatchObject({
      type: 'DMA-FQ',
      reserved: [
        { first: 0xfee0_0000n, last: 0xfeef_ffffn, kind: 'msi' },
        { first: 0x7b80_0000n, last: 0x7fff_ffffn, kind: 'relaxable' },
      ],
    });
  });

  it('a physical function and its virtual ones; the size of a BAR is that of one of them', () => {
    const none = '0x0000000000000000 0x0000000000000000 0x0000000000000000';
    const pf = {
      ...card,
      files: {
        ...card.files,
        sriov_totalvfs: '8',
        sriov_numvfs: '1',
        sriov_offset: '128',
        sriov_stride: '2',
        sriov_vf_device: '1520',
        resource: [...Array<string>(7).fill(none), '0x00000000e0000000 0x00000000e001ffff 0x000000000014220c'].join('\n'),
      },
      links: { virtfn0: '../0000:03:10.0' },
    };
    const vf = { bdf: '0000:03:10.0', below: card.below, links: { physfn: '../0000:03:00.0' } };
    const [, physical, virtual] = readSysfs(hostTree([pf, port, vf])).functions;
    expect(physical!.sriov).toMatchObject({ totalVfs: 8, numVfs: 1, firstOffset: 128, stride: 2, vfDevice: 0x1520 });
    expect(physical!.sriov!.bars[0]).toMatchObject({ size: 0x4000n, wide: true });
    expect(physical!.virtualFunctions).toEqual(['0000:03:10.0']);
    expect(virtual).toMatchObject({ physicalFunction: '0000:03:00.0', kind: 'endpoint', parent: '0000:00:1c.0' });
  });

  it('the domain behind a volume manager hangs on no bridge', () => {
    const hidden = { bdf: '10000:e0:06.0', below: 'pci0000:00/0000:00:0e.0/pci10000:e0' };
    expect(readSysfs(hostTree([hidden])).functions[0]!.parent).toBeNull();
  });

  it.each([
    [' 24: 1 IR-PCI-MSI 32768-edge nvme0q0', true],
    [' 24: 1 PCI-MSI 32768-edge nvme0q0', false],
    [' 24: 1 GICv3 27 Level arch_timer', null],
  ])('interrupts in %s: remapped %s', (interrupts, remapped) => {
    expect(readSysfs(hostTree([card], { '/proc/interrupts': interrupts })).interruptsRemapped).toBe(remapped);
  });

  it('without any device: ENODEV', () => {
    expect(() => readSysfs(hostTree([]))).toThrow(expect.objectContaining({ code: 'ENODEV' }));
  });
});
