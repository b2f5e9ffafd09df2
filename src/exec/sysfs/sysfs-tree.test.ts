import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PF, sriovRig, VF0 } from '../../../tests/kit/sriov-rig.ts';
import { Command, Config } from '../../abi/pci.ts';
import type { VfioError } from '../../base/errno.ts';
import { Machine } from '../../engine/machine/machine.ts';
import { HeapMemory } from '../../sys/fake.ts';
import { readPciDevice } from '../../sys/pci-device.ts';
import { SysfsTree } from './sysfs-tree.ts';

const ME = { uid: process.geteuid!(), pid: 1 };
const OTHER = { uid: 12345, pid: 2 };
const Open = { READ: 0, WRITE: 1, BOTH: 2 } as const;

/** The folder, seen from outside: the place of an absolute path of the program's. */
class Rig implements Disposable {
  readonly tree: SysfsTree;
  readonly root: string;
  readonly machine: Machine;

  constructor(machine: Machine) {
    this.machine = machine;
    this.tree = SysfsTree.open(machine);
    const bus = this.tree.mounts().find(({ target }) => target === '/sys/bus/pci')!;
    this.root = dirname(dirname(dirname(bus.source)));
  }

  place = (path: string) => join(this.root, path);
  list = (path: string) => readdirSync(this.place(path)).sort();
  text = (path: string) => readFileSync(this.place(path), 'latin1');

  open(path: string, flags: number, opener = ME) {
    const file = this.tree.lookup(path);
    if (file?.kind !== 'attribute') throw new Error(`${path} is ${file?.kind}`);
    return this.tree.openAttribute(file, flags, opener);
  }

  read = (path: string, opener = ME) => Buffer.from(this.open(path, Open.READ, opener).content).toString('latin1');

  /** 'ok' or the errno. */
  write(path: string, text: string): string | Promise<string> {
    try {
      const done = this.open(path, Open.WRITE).write(0, Buffer.from(text));
      if (typeof done === 'number') return done === text.length ? 'ok' : `${done} bytes`;
      return done.then(() => 'ok');
    } catch (error) {
      return (error as VfioError).code;
    }
  }

  [Symbol.dispose](): void {
    this.tree[Symbol.dispose]();
    this.machine[Symbol.dispose]();
  }
}

const device = (bdf: string, file = '') => `/sys/bus/pci/devices/${bdf}${file === '' ? '' : `/${file}`}`;

describe('the folder of a machine', () => {
  it('S2-22 has the names that Linux 7.3 has for a device under vfio-pci', () => {
    using rig = new Rig(sriovRig().machine);
    const group = rig.machine.function(PF).group!.id;
    const { vfioIndex } = rig.machine.function(PF);
    expect(rig.list(device(PF, 'vfio-dev'))).toEqual([`vfio${vfioIndex}`]);
    // tests/kernel-answers: `ls` and links of the recorded system.
    const dev = device(PF, `vfio-dev/vfio${vfioIndex}`);
    expect(rig.list(dev)).toEqual(['dev', 'device', 'power', 'subsystem', 'uevent']);
    expect(rig.text(`${dev}/dev`)).toBe(`245:${vfioIndex}\n`);
    expect(rig.text(`${dev}/uevent`)).toBe(`MAJOR=245\nMINOR=${vfioIndex}\nDEVNAME=vfio/devices/vfio${vfioIndex}\n`);
    expect(readlinkSync(rig.place(`${dev}/device`))).toBe('../../../0000:01:00.0');
    expect(readlinkSync(rig.place(`${dev}/subsystem`))).toBe('../../../../../../class/vfio-dev');
    expect(readlinkSync(rig.place(`/sys/class/vfio-dev/vfio${vfioIndex}`))).toBe(
      `../../devices/pci0000:00/0000:00:01.0/0000:01:00.0/vfio-dev/vfio${vfioIndex}`,
    );
    expect(readlinkSync(rig.place(`/sys/class/vfio/${group}`))).toBe(`../../devices/virtual/vfio/${group}`);
    expect(readlinkSync(rig.place(device(PF, 'iommu_group')))).toBe(`../../../../kernel/iommu_groups/${group}`);
    expect(readlinkSync(rig.place(device(PF)))).toBe('../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0');
  });

  it('is a device that the reader of real devices understands', () => {
    using rig = new Rig(sriovRig().machine);
    const fn = rig.machine.function(PF);
    const read = readPciDevice(PF, rig.place('/sys/bus/pci/devices'));
    expect(read).toMatchObject({
      vendor: fn.declaration.vendor,
      device: fn.declaration.device,
      classCode: fn.declaration.classCode,
      driver: 'vfio-pci',
      iommuGroup: fn.group!.id,
      numaNode: null,
      isVirtualFunction: false,
    });
    expect(read.resources[0]!.start).toBe(fn.config.barAddress(0));
    expect(read.resources[0]!.size).toBe(BigInt(fn.declaration.bars![0]!.size));
  });

  it('B.3 noiommu: a group without an IOMMU has its name, and no IOMMU', () => {
    using rig = new Rig(
      new Machine(
        { iommu: { kind: 'none' }, params: { unsafeNoIommu: true }, devices: [{ at: '04.0', id: '1234:11e8', driver: 'vfio-pci' }] },
        { allocate: HeapMemory.allocate },
      ),
    );
    expect(rig.text('/sys/kernel/iommu_groups/0/name')).toBe('vfio-noiommu\n');
    expect(rig.list('/sys/class/vfio')).toEqual(['noiommu-0']);
    expect(rig.list('/sys/class/iommu')).toEqual([]);
    expect(rig.text('/sys/class/vfio-dev/noiommu-vfio0/uevent')).toBe('MAJOR=245\nMINOR=0\nDEVNAME=vfio/devices/noiommu-vfio0\n');
    expect(rig.text('/sys/module/vfio/parameters/enable_unsafe_noiommu_mode')).toBe('Y\n');
  });

  it('has nodes that look like devices', () => {
    using rig = new Rig(sriovRig().machine);
    const { id } = rig.machine.function(PF).group!;
    for (const path of ['/dev/vfio/vfio', `/dev/vfio/${id}`, '/dev/iommu']) {
      const stat = lstatSync(rig.place(path));
      expect(stat.isCharacterDevice()).toBe(true);
      expect(rig.tree.lookup(path)).toEqual({ kind: 'node', path });
    }
    expect(lstatSync(rig.place(`/dev/vfio/${id}`)).mode & 0o777).toBe(0o600);
  });

  it('finds files by every way that leads there', () => {
    using rig = new Rig(sriovRig().machine);
    const path = '/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/driver_override';
    const { id } = rig.machine.function(PF).group!;
    const ways = [
      path,
      device(PF, 'driver_override'),
      `/sys//bus/./pci/devices/../devices/${PF}/driver_override`,
      // From where a link leads, not from where it is.
      `/sys/bus/pci/devices/${PF}/../${PF}/driver_override`,
      `/sys/kernel/iommu_groups/${id}/devices/${PF}/driver_override`,
      `/sys/bus/pci/drivers/vfio-pci/${PF}/subsystem/devices/${PF}/driver_override`,
    ];
    for (const way of ways) expect(rig.tree.lookup(way)?.path, way).toBe(path);
    const others = ['/', '/sys', '/sys/block/vda', device(PF), `${path}/x`, '/sys/../../dev/null'];
    for (const other of others) expect(rig.tree.lookup(other), other).toBe(null);
    expect(rig.tree.lookup('/../dev/vfio/vfio')).toEqual({ kind: 'node', path: '/dev/vfio/vfio' });
    expect(rig.tree.lookup(device(PF, 'driver/bind'), false)?.kind).toBe('attribute');
    expect(rig.tree.lookup(device(PF), false)).toBe(null);
    const asked = [device(PF, 'new'), '/dev/vfio/new', '/sys/bus/pci/drivers/vfio-pci/../new', path, '/sys/new', '/tmp/new', '/dev/new'];
    expect(asked.map((each) => rig.tree.refusesNew(each))).toEqual([true, true, true, false, false, false, false]);
  });

  it('is gone with the tree', () => {
    const rig = new Rig(sriovRig().machine);
    rig[Symbol.dispose]();
    expect(() => lstatSync(rig.root)).toThrow('ENOENT');
  });
});

describe('writes of an administrator', () => {
  it('S3-15 sriov_numvfs: functions, links, groups and nodes appear before the write returns, and go', async () => {
    using rig = new Rig(sriovRig().machine);
    const before = rig.list('/dev/vfio');
    expect(await rig.write(device(PF, 'sriov_numvfs'), '2\n')).toBe('ok');
    expect(rig.read(device(PF, 'sriov_numvfs'))).toBe('2\n');
    expect(rig.list('/sys/bus/pci/devices')).toContain(VF0);
    expect(readlinkSync(rig.place(device(PF, 'virtfn0')))).toBe(`../${VF0}`);
    expect(readlinkSync(rig.place(device(VF0, 'physfn')))).toBe(`../${PF}`);
    expect(rig.list('/dev/vfio').length).toBe(before.length + 2);
    expect(await rig.write(device(PF, 'sriov_numvfs'), '3')).toBe('EBUSY');
    expect(await rig.write(device(PF, 'sriov_numvfs'), '77')).toBe('ERANGE');
    expect(await rig.write(device(PF, 'sriov_numvfs'), 'many')).toBe('EINVAL');
    expect(await rig.write(device(PF, 'sriov_numvfs'), '0')).toBe('ok');
    expect(rig.list('/sys/bus/pci/devices')).not.toContain(VF0);
    expect(rig.list('/dev/vfio')).toEqual(before);
  });

  it('S1-09 unbind, driver_override and bind move a function from driver to driver', async () => {
    using rig = new Rig(sriovRig().machine);
    const { id } = rig.machine.function(PF).group!;
    expect(await rig.write('/sys/bus/pci/drivers/pci-stub/unbind', PF)).toBe('ENODEV');
    expect(await rig.write(device(PF, 'driver/unbind'), `${PF}\n`)).toBe('ok');
    expect(rig.list(device(PF))).not.toContain('driver');
    expect(rig.list('/dev/vfio')).not.toContain(String(id));
    expect(await rig.write('/sys/bus/pci/drivers/vfio-pci/bind', PF)).toBe('ENODEV');
    expect(await rig.write(device(PF, 'driver_override'), 'vfio-pci\n')).toBe('ok');
    expect(rig.read(device(PF, 'driver_override'))).toBe('vfio-pci\n');
    expect(await rig.write('/sys/bus/pci/drivers/vfio-pci/bind', `${PF}\n`)).toBe('ok');
    expect(await rig.write('/sys/bus/pci/drivers/vfio-pci/bind', PF)).toBe('EBUSY');
    expect(readlinkSync(rig.place(device(PF, 'driver')))).toMatch(/bus\/pci\/drivers\/vfio-pci$/);
    expect(rig.list('/sys/bus/pci/drivers/vfio-pci')).toContain(PF);
    expect(rig.list('/dev/vfio')).toContain(String(id));
    expect(await rig.write(device(PF, 'driver_override'), '\n')).toBe('ok');
    expect(rig.read(device(PF, 'driver_override'))).toBe('(null)\n');
  });

  it('a value ends at its first NUL: dpdk-devbind.py clears driver_override so', async () => {
    using rig = new Rig(sriovRig().machine);
    expect(await rig.write(device(PF, 'driver_override'), 'pci-stub\n\0\0')).toBe('ok');
    expect(rig.read(device(PF, 'driver_override'))).toBe('pci-stub\n');
    expect(await rig.write(device(PF, 'driver_override'), '\0')).toBe('ok');
    expect(rig.read(device(PF, 'driver_override'))).toBe('(null)\n');
  });

  it('S2-15 new_id gives vfio-pci unbound functions of an id; remove_id leaves them', async () => {
    using rig = new Rig(sriovRig({ driver: null }).machine);
    const { declaration } = rig.machine.function(PF);
    const id = `${declaration.vendor.toString(16)} ${declaration.device.toString(16)}`;
    expect(rig.machine.function(PF).driver).toBe(null);
    expect(await rig.write('/sys/bus/pci/drivers/vfio-pci/new_id', `${id}\n`)).toBe('ok');
    expect(rig.machine.function(PF).driver).toBe('vfio-pci');
    expect(await rig.write('/sys/bus/pci/drivers/vfio-pci/new_id', id)).toBe('EEXIST');
    expect(await rig.write('/sys/bus/pci/drivers/vfio-pci/new_id', '8086')).toBe('EINVAL');
    expect(await rig.write('/sys/bus/pci/drivers/vfio-pci/remove_id', id)).toBe('ok');
    expect(await rig.write('/sys/bus/pci/drivers/vfio-pci/remove_id', id)).toBe('ENODEV');
    expect(rig.machine.function(PF).driver).toBe('vfio-pci');
  });

  it('S2-41 unbind waits for the user of the device', async () => {
    using rig = new Rig(sriovRig().machine);
    const group = rig.machine.openGroup(rig.machine.function(PF).group!.id);
    const container = rig.machine.openContainer();
    group.setContainer(container);
    container.setIommu(1);
    const file = group.openDevice(PF);
    const done = rig.write(device(PF, 'driver/unbind'), PF);
    expect(done).toBeInstanceOf(Promise);
    expect(rig.list(device(PF))).toContain('driver');
    file.close();
    group.close();
    expect(await done).toBe('ok');
    expect(rig.list(device(PF))).not.toContain('driver');
  });

  it('remove takes a function out, and the folder follows', async () => {
    using rig = new Rig(sriovRig().machine);
    expect(await rig.write(device(PF, 'remove'), '0')).toBe('ok');
    expect(await rig.write(device(PF, 'remove'), '1')).toBe('ok');
    expect(rig.list('/sys/bus/pci/devices')).not.toContain(PF);
    expect(rig.list('/sys/bus/pci/drivers/vfio-pci')).not.toContain(PF);
  });

  it('reset, rescan and module parameters answer as their files in Linux', async () => {
    using rig = new Rig(sriovRig().machine);
    expect(await rig.write(device(PF, 'reset'), '2')).toBe('EINVAL');
    expect(await rig.write(device(PF, 'reset'), '1')).toBe('ok');
    expect(rig.text(device(PF, 'reset_method'))).toMatch(/^flr/);
    expect(await rig.write('/sys/bus/pci/rescan', '1')).toBe('ok');
    const parameter = '/sys/module/vfio_iommu_type1/parameters/dma_entry_limit';
    expect(rig.read(parameter)).toBe('65535\n');
    expect(await rig.write(parameter, '12')).toBe('ok');
    expect(rig.machine.context.params.dmaEntryLimit).toBe(12);
    expect(await rig.write(parameter, 'x')).toBe('EINVAL');
  });
});

describe('the file config', () => {
  it('reads and writes the hardware at any offset and length', () => {
    using rig = new Rig(sriovRig().machine);
    const { config, declaration } = rig.machine.function(PF);
    const open = rig.open(device(PF, 'config'), Open.BOTH);
    expect(open.content.length).toBe(config.size);
    const bytes = new Uint8Array(7);
    expect(open.read(1, bytes)).toBe(7);
    expect(bytes[0]).toBe(declaration.vendor >> 8);
    expect(open.write(Config.COMMAND, Uint8Array.of(Command.MEMORY | Command.MASTER, 0))).toBe(2);
    expect(config.command).toBe(Command.MEMORY | Command.MASTER);
    expect(open.read(Config.COMMAND, bytes.subarray(0, 1))).toBe(1);
    expect(bytes[0]).toBe(Command.MEMORY | Command.MASTER);
    expect(open.read(config.size - 2, bytes)).toBe(2);
    expect([open.read(config.size, bytes), open.read(config.size + 9, bytes)]).toEqual([0, 0]);
  });

  it('shows 64 bytes to a user who does not own the machine, and takes no write of theirs', () => {
    using rig = new Rig(sriovRig().machine);
    const open = rig.open(device(PF, 'config'), Open.READ, OTHER);
    expect(open.content.length).toBe(64);
    expect(open.read(60, new Uint8Array(8))).toBe(4);
    expect(() => rig.open(device(PF, 'config'), Open.BOTH, OTHER)).toThrow(expect.objectContaining({ code: 'EACCES' }));
    expect(() => rig.open(device(PF, 'remove'), Open.READ)).toThrow(expect.objectContaining({ code: 'EACCES' }));
  });

  it('a BAR is reached by VFIO only', () => {
    using rig = new Rig(sriovRig().machine);
    expect(() => rig.open(device(PF, 'resource0'), Open.READ)).toThrow(expect.objectContaining({ code: 'EPERM' }));
  });
});

it('follows what an administrator of the engine does, without a write of a program', async () => {
  using rig = new Rig(sriovRig().machine);
  await rig.machine.unbind(PF);
  await Promise.resolve();
  expect(rig.list(device(PF))).not.toContain('driver');
  rig.machine.bind(PF, 'pci-stub');
  await Promise.resolve();
  expect(rig.list('/sys/bus/pci/drivers/pci-stub')).toContain(PF);
});
