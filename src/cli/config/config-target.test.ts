/**
 * The config spaces that `vfio config` and `vfio explain-write` read: dumps, this computer's
 * devices as sysfs shows them, models.
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Command, Config } from '../../abi/pci.ts';
import { decodeConfig } from '../../pci/decode.ts';
import { formatLspci } from '../../pci/format-lspci.ts';
import { toHex } from '../../pci/hex-dump.ts';
import { type ConfigTarget, configTarget, configTargets } from './config-target.ts';

const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

function printed({ bdf, bytes, regions, identity, host }: ConfigTarget, shown: Uint8Array = bytes): string {
  return formatLspci(decodeConfig(shown, { bdf, resources: regions, identity, host }), 3);
}

function endpoint(prepare: (bytes: Uint8Array, view: DataView) => void = () => {}): Uint8Array {
  const bytes = new Uint8Array(256);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x1234_8086, true);
  bytes.set([0x06, 0, 0x10, 0], Config.COMMAND);
  bytes[Config.CLASS_DEVICE + 1] = 2;
  bytes[Config.CAPABILITY_LIST] = 0x70;
  bytes.set([0x11, 0, 2, 0, 3, 0, 0, 0, 3, 0x20, 0, 0], 0x70);
  prepare(bytes, view);
  return bytes;
}
const bridge = endpoint((bytes) => {
  bytes[Config.HEADER_TYPE] = 1;
  bytes.set([0, 3, 3, 0], Config.BRIDGE_PRIMARY_BUS);
  bytes.set([4, 6], Config.CLASS_DEVICE);
});

function dumpFile(name: string, ...functions: readonly (readonly [bdf: string, bytes: Uint8Array])[]): string {
  const path = join(folder, name);
  writeFileSync(path, functions.map(([bdf, bytes]) => toHex(bytes, bdf)).join(''));
  return path;
}

const none = '0x0000000000000000 0x0000000000000000 0x0000000000000000';
function sysfs(
  bdf: string,
  config: Uint8Array,
  files: Record<string, string>,
  resources: readonly string[] = [],
  links: Record<string, string> = {},
) {
  const device = join(folder, 'devices', bdf);
  mkdirSync(device, { recursive: true });
  writeFileSync(join(device, 'config'), config);
  const ids = {
    vendor: '0x8086',
    device: '0x10ed',
    subsystem_vendor: '0x8086',
    subsystem_device: '0x000c',
    class: '0x020000',
    revision: '0x01',
    irq: '0',
  };
  for (const [name, value] of Object.entries({ ...ids, ...files })) writeFileSync(join(device, name), `${value}\n`);
  writeFileSync(join(device, 'resource'), `${[...resources, ...Array(13 - resources.length).fill(none)].join('\n')}\n`);
  for (const [name, to] of Object.entries(links)) symlinkSync(to, join(device, name));
  return { sysfs: join(folder, 'devices') };
}

describe('pci: dumps of several functions', () => {
  const path = dumpFile('two.txt', ['00:02.0', endpoint()], ['00:03.0', bridge]);

  it('pci: all of them, in their order', async () => {
    expect((await configTargets(path)).map(({ bdf }) => bdf)).toEqual(['0000:00:02.0', '0000:00:03.0']);
  });

  it('pci: of two functions at one address both are shown, and neither is taken for the other', async () => {
    const twice = dumpFile('twice.txt', ['00:03.0', endpoint()], ['00:03.0', endpoint((b) => b.fill(7, 0x40, 0x44))]);
    expect((await configTargets(twice, { select: '00:03.0' })).map(({ bytes }) => bytes[0x40])).toEqual([0, 7]);
    await expect(configTarget(twice, { select: '00:03.0' })).rejects.toMatchObject({
      code: 'EINVAL',
      message: expect.stringContaining('holds 2 functions at 0000:00:03.0'),
      fix: expect.stringContaining('one machine'),
    });
  });

  it('pci: or the selected one; another is ENODEV, and says which there are', async () => {
    expect((await configTargets(path, { select: '00:03.0' })).map(({ bdf }) => bdf)).toEqual(['0000:00:03.0']);
    await expect(configTargets(path, { select: '00:04.0' })).rejects.toMatchObject({
      code: 'ENODEV',
      fix: expect.stringContaining('0000:00:02.0, 0000:00:03.0'),
    });
    await expect(configTargets('sim:edu', { select: '00:04.0' })).rejects.toMatchObject({ code: 'EINVAL' });
  });

  it('pci: where one is needed and several are there: EINVAL, never silently the first', async () => {
    await expect(configTarget(path)).rejects.toMatchObject({ code: 'EINVAL', fix: expect.stringContaining('--select') });
  });
});

describe('pci: bridges are no user’s', () => {
  it('S2-05 no user view, and a write is refused by the name of the register', async () => {
    const target = await configTarget(dumpFile('bridge.txt', ['00:02.0', bridge]));
    expect(() => target.userView()).toThrow(
      expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining('VFIO gives no bridge') }),
    );
    for (const [offset, width, register] of [
      [0x18, 4, 'primary bus number'],
      [0x19, 1, 'secondary bus number'],
      [0x3e, 2, 'Bridge Control'],
      [0x22, 2, 'memory limit'],
    ] as const) {
      expect(() => target.explain(offset, width, 0)).toThrow(
        expect.objectContaining({ message: expect.stringContaining(`its ${register}`) }),
      );
    }
    expect(printed(target)).toContain('Bus: primary=00, secondary=03, subordinate=03');
  });

  it('S2-05 CardBus bridges likewise', async () => {
    const cardbus = endpoint((bytes) => {
      bytes[Config.HEADER_TYPE] = 2;
    });
    const target = await configTarget(dumpFile('cardbus.txt', ['00:02.0', cardbus]));
    expect(() => target.explain(0x19, 1, 0)).toThrow(expect.objectContaining({ message: expect.stringContaining('CardBus bus number') }));
  });
});

/** SR-IOV 1.1, 3.4.1: ids of all ones, no BARs, COMMAND with the bus master bit alone. */
const virtualFunction = endpoint((bytes, view) => {
  view.setUint32(0, 0xffff_ffff, true);
  bytes[Config.COMMAND] = Command.MASTER;
});
const vfResources = [
  '0x00000000e0000000 0x00000000e0003fff 0x000000000014220c',
  none,
  none,
  '0x00000000e0100000 0x00000000e0103fff 0x000000000014220c',
];

describe('pci: a virtual function of this computer', () => {
  it.each([
    ['with physfn', { physfn: '../0000:03:00.0' }],
    ['by its ids', {}],
  ])('S2-43 ids, regions and sizes come from sysfs (%s)', async (name, links) => {
    const bdf = name === 'by its ids' ? '0000:03:10.1' : '0000:03:10.0';
    const target = await configTarget(bdf, sysfs(bdf, virtualFunction, {}, vfResources, links));
    const text = printed(target);
    expect(text).toContain('0200: 8086:10ed (rev 01)');
    expect(text).toContain('\tRegion 0: Memory at e0000000 (64-bit, prefetchable) [virtual] [size=16K]\n');
    expect(text).toContain('\tRegion 3: Memory at e0100000 (64-bit, prefetchable) [virtual] [size=16K]\n');
  });

  it('S2-43 its user sees ids, memory decoding on, no pin, and BARs with their type bits alone', async () => {
    const bdf = '0000:03:10.2';
    const target = await configTarget(bdf, sysfs(bdf, virtualFunction, {}, vfResources, { physfn: '../0000:03:00.0' }));
    const view = new DataView(target.userView().buffer);
    expect(view.getUint16(Config.VENDOR_ID, true)).toBe(0x8086);
    expect(view.getUint16(Config.DEVICE_ID, true)).toBe(0x10ed);
    expect(view.getUint16(Config.COMMAND, true)).toBe(Command.MASTER | Command.MEMORY);
    expect(view.getUint8(Config.INTERRUPT_PIN)).toBe(0);
    expect([0, 1, 2, 3].map((i) => view.getUint32(Config.BASE_ADDRESS_0 + 4 * i, true))).toEqual([0xc, 0, 0, 0xc]);
  });

  it('S2-44 COMMAND.Memory stays in the copy, bus mastering reaches hardware, the rest is read-only there', async () => {
    const bdf = '0000:03:10.3';
    const target = await configTarget(bdf, sysfs(bdf, virtualFunction, {}, vfResources, { physfn: '../0000:03:00.0' }));
    const { bits } = target.explain(Config.COMMAND, 2, 0x0004);
    expect(bits.map(({ msb, lsb, landing, before, after }) => [msb, lsb, landing, before, after])).toEqual([
      [15, 11, 'hardware read-only', 0, 0],
      [10, 10, 'virtual', 0, 0],
      [9, 3, 'hardware read-only', 0, 0],
      [2, 2, 'hardware', 1, 1],
      [1, 1, 'virtual', 1, 0],
      [0, 0, 'hardware read-only', 0, 0],
    ]);
    expect(bits[4]!.why).toContain('virtual function');
  });

  it('S2-44 the same of a virtual function of a machine: the bit is the copy’s', async () => {
    const target = await configTarget('0000:01:00.1', { machine: 'examples/machines/sriov.yaml' });
    const memory = target.explain(Config.COMMAND, 2, 0).bits.find(({ msb, lsb }) => msb === 1 && lsb === 1);
    expect(memory).toMatchObject({ landing: 'virtual', before: 1, after: 0 });
  });
});

describe('pci: other devices of this computer', () => {
  it('pci: sizes, interrupt, driver and group are the kernel’s', async () => {
    const bdf = '0000:00:19.0';
    const config = endpoint((bytes, view) => {
      view.setUint32(Config.BASE_ADDRESS_0, 0xf7cc_0000, true);
      view.setUint32(Config.BASE_ADDRESS_2, 0xe001, true);
      bytes.set([11, 1], Config.INTERRUPT_LINE);
    });
    const resources = [
      '0x00000000f7cc0000 0x00000000f7cdffff 0x0000000000040200',
      none,
      '0x000000000000e000 0x000000000000e01f 0x0000000000040101',
    ];
    const links = { driver: '/sys/bus/pci/drivers/e1000e', iommu_group: '/sys/kernel/iommu_groups/3' };
    const text = printed(await configTarget(bdf, sysfs(bdf, config, { irq: '16', numa_node: '-1' }, resources, links)));
    expect(text).toContain('\tInterrupt: pin A routed to IRQ 16\n\tIOMMU group: 3\n');
    expect(text).toContain('Memory at f7cc0000 (32-bit, non-prefetchable) [size=128K]');
    expect(text).toContain('I/O ports at e000 [disabled] [size=32]');
    expect(text).toContain('\tKernel driver in use: e1000e\n');
  });

  it('pci: addresses are those by which processors reach it, whatever its registers hold behind a host bridge that translates', async () => {
    const bdf = '0001:01:00.0';
    const config = endpoint((_, view) => {
      view.setUint32(Config.BASE_ADDRESS_0, 0x8000_0004, true);
      view.setUint32(Config.BASE_ADDRESS_2, 0x9000_0000, true);
      view.setUint32(Config.BASE_ADDRESS_3, 0xe001, true);
      view.setUint32(Config.ROM_ADDRESS, 0xfebc_0000, true);
    });
    const resources = [
      '0x0000001b80000000 0x0000001b80003fff 0x0000000000140204',
      none,
      '0x0000000000000000 0x0000000000000fff 0x0000000020040200',
      '0x0000000000000000 0x000000000000001f 0x0000000020040101',
      none,
      none,
      '0x00000000000c0000 0x00000000000dffff 0x0000000000000212',
    ];
    const text = printed(await configTarget(bdf, sysfs(bdf, config, {}, resources)));
    expect(text).toContain('Region 0: Memory at 1b80000000 (64-bit, non-prefetchable) [size=16K]');
    expect(text).toContain('Region 2: Memory at <ignored> (32-bit, non-prefetchable) [size=4K]');
    expect(text).toContain('Region 3: I/O ports at <ignored> [disabled] [size=32]');
    expect(text).toContain('Expansion ROM at 000c0000 [disabled] [size=128K]');
  });

  it('pci: a ROM whose register holds an address that the kernel does not use', async () => {
    const bdf = '0001:01:00.1';
    const config = endpoint((_, view) => view.setUint32(Config.ROM_ADDRESS, 0xfebc_0000, true));
    const resources = [...Array<string>(6).fill(none), '0x0000000000000000 0x000000000001ffff 0x0000000020040200'];
    expect(printed(await configTarget(bdf, sysfs(bdf, config, {}, resources)))).toContain(
      'Expansion ROM at <ignored> [disabled] [size=128K]',
    );
  });

  it('pci: I/O ports that no register holds; the revision where the kernel has no file of it', async () => {
    const bdf = '0000:00:01.1';
    const at = sysfs(
      bdf,
      endpoint((b) => b.fill(3, 8, 9)),
      {},
      ['0x00000000000001f0 0x00000000000001f7 0x0000000000000110'],
    );
    rmSync(join(at.sysfs, bdf, 'revision'), { force: true });
    const text = printed(await configTarget(bdf, at));
    expect(text).toContain('Region 0: I/O ports at 01f0 [disabled] [size=8]');
    expect(text).toContain('0200: 8086:10ed (rev 03)');
  });

  it('pci: the slot that its card is in', async () => {
    const bdf = '0000:07:00.1';
    const at = sysfs(bdf, endpoint(), {});
    for (const [name, address] of [
      ['3', '0000:07:01'],
      ['4-1', '0000:07:00'],
    ] as const) {
      mkdirSync(join(at.sysfs, '../slots', name), { recursive: true });
      writeFileSync(join(at.sysfs, '../slots', name, 'address'), `${address}\n`);
    }
    expect(printed(await configTarget(bdf, at))).toContain('\tPhysical Slot: 4-1\n\tControl: ');
  });

  it('pci: one that reads all ones is named as the kernel remembers it; nothing is said of what it would do', async () => {
    const bdf = '0000:01:00.0';
    const target = await configTarget(
      bdf,
      sysfs(bdf, new Uint8Array(256).fill(0xff), { vendor: '0x10de', device: '0x1b80', class: '0x030000' }),
    );
    const decoded = decodeConfig(target.bytes, { bdf, identity: target.identity, host: target.host });
    expect(decoded.answers).toBe(false);
    expect(formatLspci(decoded, 3)).toBe('01:00.0 0300: 10de:1b80 (rev 01)\n\tSubsystem: 8086:000c\n\t!!! Unknown header type 7f\n\n');
    for (const ask of [() => target.userView(), () => target.explain(4, 2, 6)]) {
      expect(ask).toThrow(expect.objectContaining({ code: 'ENODEV', message: expect.stringContaining('does not answer') }));
    }
  });

  it('pci: one that is not there is ENODEV', async () => {
    await expect(configTarget('0000:1f:1f.7', { sysfs: folder })).rejects.toMatchObject({ code: 'ENODEV' });
  });

  it('pci: with 64 bytes, as Linux shows them to others than root: EACCES, with the way out', async () => {
    const bdf = '0000:00:1a.0';
    const target = await configTarget(bdf, sysfs(bdf, endpoint().slice(0, 64), {}));
    expect(() => target.userView()).toThrow(expect.objectContaining({ code: 'EACCES', fix: expect.stringContaining('root') }));
  });
});

it('pci: a model’s sizes are its declaration’s', async () => {
  const [target] = await configTargets('sim:edu');
  expect(printed(target!)).toContain('[size=1M]');
});
