import { expect, it } from 'vitest';
import { FakeHost } from '../../tests/kit/fake-host.ts';
import type { VfioError } from '../base/errno.ts';
import { systemError } from '../sys/system-error.ts';
import { BindingRecords } from './binding-records.ts';
import { functionState, functionStates } from './function-state.ts';
import { type BindTarget, carryOutBind, checkLosses, planBind } from './host-bind.ts';
import { carryOutRestore, checkRestoreLosses, planRestore } from './host-restore.ts';
import { changeCommand } from './host-step.ts';

const A = '0000:01:00.0';
const B = '0000:01:00.1';
const PORT = '0000:00:1c.0';
const whole: BindTarget = { kind: 'function', bdf: A, alone: false };

/** A display with its sound behind a port: one group. */
const display = (more: Readonly<Record<string, string>> = {}) =>
  new FakeHost(
    {
      [PORT]: { driver: 'pcieport', class: '060400', group: 1 },
      [A]: { driver: 'nouveau', id: '10de:1c82', class: '030000', group: 1, attributes: more },
      [B]: { driver: 'snd_hda_intel', id: '10de:0fb9', class: '040300', group: 1 },
    },
    ['vfio-pci', 'pci-stub'],
  );

const driversOf = (host: FakeHost) => [PORT, A, B].map((bdf) => functionState(host, bdf).driver);

function bindAll(host: FakeHost, driver = 'vfio-pci', target = whole) {
  const records = new BindingRecords(host, host);
  return carryOutBind(host, host, records, planBind(host, target, driver));
}

it('binds the whole group, and leaves the bridge', () => {
  const host = display();
  const { changed, left, nodes } = bindAll(host);
  expect(changed).toEqual([
    { bdf: A, from: 'nouveau', to: 'vfio-pci' },
    { bdf: B, from: 'snd_hda_intel', to: 'vfio-pci' },
  ]);
  expect(left).toEqual([{ bdf: PORT, driver: 'pcieport' }]);
  expect(nodes).toEqual(['/dev/vfio/1']);
  expect(functionState(host, A).driverOverride).toBe('vfio-pci');
});

it('binds a group by its number', () => {
  const host = display();
  bindAll(host, 'vfio-pci', { kind: 'group', group: 1 });
  expect(driversOf(host)).toEqual(['pcieport', 'vfio-pci', 'vfio-pci']);
});

it('binds one device of a group, and says that the group cannot be opened', () => {
  const host = display();
  const { warnings, changed } = bindAll(host, 'vfio-pci', { ...whole, alone: true });
  expect([changed.map(({ bdf }) => bdf), driversOf(host)]).toEqual([[A], ['pcieport', 'vfio-pci', 'snd_hda_intel']]);
  expect(warnings).toEqual([`${B} keeps the driver snd_hda_intel, and the group cannot be opened while it has it`]);
});

it('does nothing when all is done', () => {
  const host = display();
  bindAll(host);
  const made = host.changes.length;
  expect(bindAll(host).changed).toEqual([]);
  expect(host.changes.length).toBe(made);
});

it('restore leaves sysfs as it was before the first of several binds', () => {
  const host = display();
  const before = host.sysfs();
  bindAll(host);
  bindAll(host, 'pci-stub', { ...whole, alone: true });
  expect(host.sysfs()).not.toEqual(before);
  const records = new BindingRecords(host, host);
  const { changed } = carryOutRestore(host, host, records, planRestore(host, records, { kind: 'function', bdf: B }));
  expect(changed.map(({ bdf, to }) => [bdf, to])).toEqual([
    [A, 'nouveau'],
    [B, 'snd_hda_intel'],
  ]);
  expect(host.sysfs()).toEqual(before);
  expect(records.read()).toEqual([]);
});

it('a step that fails, whichever it is, leaves sysfs and records as they were, and says so', () => {
  const steps = planBind(display(), whole, 'vfio-pci').steps.length;
  expect(steps).toBe(6);
  for (let at = 1; at <= steps; at++) {
    const host = display();
    const before = host.sysfs();
    host.failAt = at;
    expect(() => bindAll(host)).toThrow(
      expect.objectContaining({
        code: 'EIO',
        message: expect.stringMatching(
          at === 1 ? /^cannot unbind 0000:01:00.0 .*nothing was changed$/ : /^cannot .*the computer is as before$/,
        ),
      }),
    );
    expect([at, host.sysfs()]).toEqual([at, before]);
    expect(new BindingRecords(host, host).read()).toEqual([]);
  }
});

it('a restore that fails leaves the devices bound, and keeps the records', () => {
  for (let at = 1; at <= 6; at++) {
    const host = display();
    bindAll(host);
    const bound = host.sysfs();
    const records = new BindingRecords(host, host);
    const kept = records.read();
    host.failAt = host.changes.length + at;
    expect(() => carryOutRestore(host, host, records, planRestore(host, records, { kind: 'all' }))).toThrow(
      expect.objectContaining({ code: 'EIO' }),
    );
    expect([at, host.sysfs(), records.read()]).toEqual([at, bound, kept]);
  }
});

it('an undo that fails prints the command that is left to do', () => {
  const host = display();
  host.stuck.add('/sys/bus/pci/drivers/nouveau/bind').add('/sys/bus/pci/drivers/vfio-pci/bind');
  expect(() => bindAll(host)).toThrow(
    /some steps before it could not be undone:\n.*do it by hand: echo 0000:01:00.0 > \/sys\/bus\/pci\/drivers\/nouveau\/bind/,
  );
});

it('loads vfio-pci where it is missing', () => {
  const host = new FakeHost({ [A]: { driver: 'igb', group: 4 } });
  bindAll(host);
  expect(host.changes[0]).toBe('modprobe vfio-pci');
  expect(functionState(host, A).driver).toBe('vfio-pci');
});

it('a driver that is no module changes nothing, and says which it is', () => {
  const host = new FakeHost({ [A]: { driver: 'igb', group: 4 } });
  const before = host.sysfs();
  expect(() => bindAll(host, 'nvidai')).toThrow(/cannot load the driver nvidai: .*Module nvidai not found; nothing was changed/);
  expect(host.sysfs()).toEqual(before);
});

it('without an IOMMU it says so before anything changes', () => {
  const host = new FakeHost({ [A]: { driver: 'igb' } }, ['vfio-pci']);
  expect(() => bindAll(host)).toThrow(/0000:01:00.0 has no IOMMU group/);
  host.entries.set('/sys/module/vfio/parameters/enable_unsafe_noiommu_mode', 'Y\n');
  expect(bindAll(host).changed).toEqual([{ bdf: A, from: 'igb', to: 'vfio-pci' }]);
});

it('refuses bridges and addresses without a device, with the neighbours', () => {
  const host = display();
  expect(() => planBind(host, { kind: 'function', bdf: PORT, alone: false }, 'vfio-pci')).toThrow(/is a bridge/);
  expect(() => planBind(host, { kind: 'function', bdf: '0000:01:00.4', alone: false }, 'vfio-pci')).toThrow(
    expect.objectContaining({ code: 'ENODEV', fix: `The same card has ${A}, ${B}.` }),
  );
  expect(() => planBind(host, { kind: 'group', group: 9 }, 'vfio-pci')).toThrow(/no group 9/);
});

it('none unbinds, and keeps other drivers away', () => {
  const host = display();
  bindAll(host, 'none', { ...whole, alone: true });
  expect(functionState(host, A)).toMatchObject({ driver: null, driverOverride: 'none' });
});

it('the printed commands are the steps', () => {
  expect(planBind(display(), { ...whole, alone: true }, 'vfio-pci').steps.map(({ change }) => changeCommand(change))).toEqual([
    `echo ${A} > /sys/bus/pci/drivers/nouveau/unbind`,
    `echo vfio-pci > /sys/bus/pci/devices/${A}/driver_override`,
    `echo ${A} > /sys/bus/pci/drivers/vfio-pci/bind`,
  ]);
});

/** The refusal of a plan. */
function refused(host: FakeHost): VfioError {
  try {
    checkLosses(planBind(host, whole, 'vfio-pci'), false);
  } catch (error) {
    return error as VfioError;
  }
  throw new Error('it is not refused');
}

it('refuses the display of the firmware, a device that a process has open, and a PF with VFs; force accepts', () => {
  const shown = display({ boot_vga: '1' });
  expect(refused(shown)).toMatchObject({ code: 'EPERM', culprits: [{ bdf: A, why: expect.stringContaining('boot_vga') }] });

  const open = display();
  open.entries.set('/sys/dev/char/226:0', `->/sys/devices/pci0000:00/${A}/drm/card0`);
  open.entries.set(`/sys/devices/pci0000:00/${A}/drm/card0/uevent`, 'MAJOR=226\nDEVNAME=dri/card0\n');
  open.open(812, 'Xorg', '/dev/dri/card0');
  expect(refused(open).culprits[0]!.why).toBe('process 812 (Xorg), /dev/dri/card0, is open');

  const physical = display({ sriov_numvfs: '1', virtfn0: 'x' });
  physical.entries.set(`/sys/devices/pci0000:00/${A}/virtfn0`, '->/sys/devices/pci0000:00/0000:01:10.0');
  expect(refused(physical).culprits[0]!.why).toContain('0000:01:10.0');

  const plan = planBind(shown, whole, 'vfio-pci');
  checkLosses(plan, true);
  expect(carryOutBind(shown, shown, new BindingRecords(shown, shown), plan).warnings).toEqual([expect.stringContaining('boot_vga')]);
});

it('restore waits for no user: it refuses while a process has the group open', () => {
  const host = display();
  bindAll(host);
  host.open(7, 'qemu', '/dev/vfio/1');
  const records = new BindingRecords(host, host);
  const plan = planRestore(host, records, { kind: 'all' });
  expect(() => checkRestoreLosses(plan, false)).toThrow(expect.objectContaining({ code: 'EBUSY' }));
});

it('restore enables the virtual functions again', () => {
  const host = display({ sriov_numvfs: '2' });
  bindAll(host);
  host.entries.set(`/sys/devices/pci0000:00/${A}/sriov_numvfs`, '0\n');
  const records = new BindingRecords(host, host);
  carryOutRestore(host, host, records, planRestore(host, records, { kind: 'all' }));
  expect(functionState(host, A).numVfs).toBe(2);
});

it('another card at the address of a record is left alone', () => {
  const host = display();
  bindAll(host);
  host.entries.set(`/sys/devices/pci0000:00/${A}/device`, '0xffff\n');
  const records = new BindingRecords(host, host);
  const plan = planRestore(host, records, { kind: 'all' });
  expect([plan.gone, plan.binds.map(({ fn }) => fn.bdf)]).toEqual([[A], [B]]);
});

it('a damaged file of records is an error that names it', () => {
  const host = display();
  host.entries.set('/run/vfio-ts/bindings.json', '{"schema":"vfio-ts/bindings/1","bindings":[{"bdf":"../x"}]}');
  expect(() => bindAll(host)).toThrow(/\/run\/vfio-ts\/bindings.json is no file of vfio bind/);
});

it('an undo that fails keeps the records of what stays changed, and restore gives it back later', () => {
  const host = display();
  const before = host.sysfs();
  host.stuck.add('/sys/bus/pci/drivers/nouveau/bind').add('/sys/bus/pci/drivers/snd_hda_intel/unbind');
  expect(() => bindAll(host)).toThrow(/could not be undone/);
  const records = new BindingRecords(host, host);
  expect(records.read().map(({ bdf, driver }) => [bdf, driver])).toEqual([[A, 'nouveau']]);
  host.stuck.clear();
  carryOutRestore(host, host, records, planRestore(host, records, { kind: 'all' }));
  expect([host.sysfs(), records.read()]).toEqual([before, []]);
});

it('a bind that fails enables the virtual functions again that went with the driver', () => {
  const host = display({ sriov_numvfs: '2' });
  host.stuck.add('/sys/bus/pci/drivers/vfio-pci/bind');
  expect(() => bindAll(host)).toThrow(/the computer is as before/);
  expect(host.changes).toContain(`/sys/bus/pci/devices/${A}/sriov_numvfs=2`);
});

it('refuses the display of the firmware without a driver, too', () => {
  const host = new FakeHost({ [A]: { class: '030000', group: 1, attributes: { boot_vga: '1' } } }, ['vfio-pci']);
  expect(refused(host).culprits[0]!.why).toContain('boot_vga');
});

it('refuses a disk of which a process has a volume open', () => {
  const host = display();
  host.entries.set('/sys/dev/block/253:0', '->../../devices/virtual/block/dm-0');
  host.entries.set('/sys/devices/virtual/block/dm-0/uevent', 'MAJOR=253\nDEVNAME=dm-0\n');
  host.entries.set('/sys/devices/virtual/block/dm-0/slaves/sda', `->/sys/devices/pci0000:00/${A}/ata1/block/sda`);
  host.open(9, 'qemu', '/dev/dm-0');
  expect(refused(host).culprits[0]!.why).toBe('process 9 (qemu), /dev/dm-0, is open');
});

it('restore refuses to take a driver away that the computer has come to need', () => {
  const host = new FakeHost({ [A]: { group: 1 } }, ['nvme']);
  bindAll(host, 'nvme');
  host.entries.set('/sys/dev/block/259:0', `->/sys/devices/pci0000:00/${A}/nvme/nvme0/nvme0n1`);
  host.entries.set('/proc/self/mountinfo', '20 1 259:0 / /data rw - ext4 /dev/nvme0n1 rw');
  const records = new BindingRecords(host, host);
  const plan = planRestore(host, records, { kind: 'all' });
  expect(() => checkRestoreLosses(plan, false)).toThrow(
    expect.objectContaining({ code: 'EBUSY', culprits: [expect.objectContaining({ why: expect.stringContaining('holds /data (ext4)') })] }),
  );
  expect(functionState(host, A).driver).toBe('nvme');
});

it('a driver that does not take a device is no device that is gone', () => {
  const host = display();
  const { attribute } = host;
  host.attribute = (path, value) => {
    if (path === '/sys/bus/pci/drivers/vfio-pci/bind') throw systemError('ENODEV', `writing to ${path}`);
    attribute.call(host, path, value);
  };
  expect(() => bindAll(host)).toThrow(expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining('does not take it') }));
});

it('names in /sys/bus/pci/devices that are no addresses, and attributes that are no numbers, are left out', () => {
  const host = new FakeHost({ [A]: { group: 1, attributes: { sriov_numvfs: '1e9', numa_node: 'x' } } }, ['vfio-pci']);
  host.entries.set('/sys/bus/pci/devices/\u001b[2J', '->/sys/devices/x');
  host.entries.set(`/sys/devices/pci0000:00/${A}/vendor`, 'zz\n');
  host.entries.set(`/sys/devices/pci0000:00/${A}/iommu_group`, '->/sys/kernel/iommu_groups/none');
  expect(functionStates(host)).toEqual([
    expect.objectContaining({ bdf: A, vendor: '0000', device: '10c9', numVfs: null, numaNode: null, group: null }),
  ]);
});

it('a record of a driver with blanks in its name can be read again', () => {
  const host = new FakeHost({ [A]: { driver: 'Old Sound (x)', group: 1 } }, ['vfio-pci']);
  bindAll(host);
  expect(new BindingRecords(host, host).read().map(({ driver }) => driver)).toEqual(['Old Sound (x)']);
});
