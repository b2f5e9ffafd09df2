import { expect, it } from 'vitest';
import { FakeHost } from '../../tests/kit/fake-host.ts';
import { BindingRecords } from './binding-records.ts';
import { functionState, functionStates } from './function-state.ts';
import { carryOutBind, planBind } from './host-bind.ts';
import { earlyCommands, fileCommand, persistedPaths, persistentFiles, writePersistent } from './host-persist.ts';
import { carryOutRestore, planRestore } from './host-restore.ts';

const A = '0000:03:00.0';
const TWIN = '0000:04:00.0';
const computer = () => new FakeHost({ [A]: { driver: 'igb', group: 3 }, [TWIN]: { driver: 'igb', group: 4 } }, ['vfio-pci']);
const made = (host: FakeHost) => persistentFiles(host, [functionState(host, A)], 'vfio-pci');

it('driverctl, where it is installed, has a file with the name of the driver', () => {
  const host = computer();
  host.entries.set('/usr/sbin/driverctl', '#!/bin/bash');
  expect(made(host)).toEqual([{ path: '/etc/driverctl.d/pci-0000:03:00.0', text: 'vfio-pci\n' }]);
});

it('without driverctl a rule of udev matches address and ids, and takes a bound device from its driver', () => {
  const [{ path, text }] = made(computer()) as [{ path: string; text: string }];
  expect(path).toBe('/etc/udev/rules.d/05-vfio-ts-0000-03-00.0.rules');
  const rule = text.trimEnd().split('\n').at(-1)!;
  expect(rule).toContain('KERNEL=="0000:03:00.0", ATTR{vendor}=="0x8086", ATTR{device}=="0x10c9", ATTR{driver_override}="vfio-pci"');
  expect(rule).toContain(
    `*/vfio-pci) exit;; ?*) echo ${A} > /sys/bus/pci/devices/${A}/driver/unbind;; esac; echo ${A} > /sys/bus/pci/drivers_probe`,
  );
  // A value of udev ends at the next quote.
  expect(rule.split('"').length % 2).toBe(1);
});

it('a persisted device is given back to the kernel’s choice, also without a record of this boot', () => {
  const host = computer();
  host.attribute('/sys/bus/pci/drivers/igb/unbind', A);
  host.attribute(`/sys/bus/pci/devices/${A}/driver_override`, 'vfio-pci');
  host.attribute('/sys/bus/pci/drivers/vfio-pci/bind', A);
  host.entries.set('/sys/bus/pci/drivers_probe', '');
  writePersistent(host, made(host));
  expect(persistedPaths(host, A)).toEqual(['/etc/udev/rules.d/05-vfio-ts-0000-03-00.0.rules']);
  const records = new BindingRecords(host, host);
  const { changed } = carryOutRestore(host, host, records, planRestore(host, records, { kind: 'function', bdf: A }, [A]));
  expect(changed).toEqual([{ bdf: A, from: 'vfio-pci', to: null }]);
  expect(host.changes.slice(-3)).toEqual([
    `/sys/bus/pci/drivers/vfio-pci/unbind=${A}`,
    `/sys/bus/pci/devices/${A}/driver_override=`,
    `/sys/bus/pci/drivers_probe=${A}`,
  ]);
});

it('a group with records and without is given back whole', () => {
  const host = new FakeHost({ [A]: { driver: 'igb', group: 3 }, '0000:03:00.1': { driver: 'vfio-pci', group: 3 } }, ['vfio-pci']);
  host.entries.set('/sys/bus/pci/drivers_probe', '');
  const records = new BindingRecords(host, host);
  carryOutBind(host, host, records, planBind(host, { kind: 'function', bdf: A, alone: true }, 'vfio-pci'));
  const plan = planRestore(host, records, { kind: 'function', bdf: A }, ['0000:03:00.1']);
  expect(carryOutRestore(host, host, records, plan).changed.map(({ bdf }) => bdf)).toEqual([A, '0000:03:00.1']);
  expect([functionState(host, A).driver, records.read()]).toEqual(['igb', []]);
});

it('early: ids and a dependency of the module, the twin with the same ids, the tool of the initramfs', () => {
  const host = computer();
  host.entries.set('/sys/bus/pci/drivers/igb/module', '->/sys/module/igb');
  host.entries.set('/usr/sbin/update-initramfs', '');
  expect(earlyCommands(host, [functionState(host, A)], ['igb'], functionStates(host))).toEqual([
    `# vfio-pci takes ${TWIN}, too: it has the same ids`,
    "mkdir -p /etc/modprobe.d && printf '%s\\n' 'options vfio-pci ids=8086:10c9' 'softdep igb pre: vfio-pci' > /etc/modprobe.d/vfio-ts.conf",
    'grep -qx vfio-pci /etc/initramfs-tools/modules || echo vfio-pci >> /etc/initramfs-tools/modules',
    'update-initramfs -u',
  ]);
});

it.each([
  ['/usr/bin/dracut', 'dracut -f'],
  ['/usr/bin/mkinitcpio', 'mkinitcpio -P'],
  ['/nothing', '# build the initramfs anew with the module vfio-pci in it'],
])('early with %s: %s; a driver that is built in is a remark', (tool, last) => {
  const host = computer();
  host.entries.set(tool, '');
  const lines = earlyCommands(host, [functionState(host, A)], ['igb'], []);
  expect([lines[0], lines.at(-1)]).toEqual(['# igb is built into this kernel: it comes first unless vfio-pci is built in, too', last]);
});

it('a file as a command keeps its quotes', () => {
  expect(fileCommand({ path: '/etc/a/b', text: "it's\n$$x\n" })).toBe("mkdir -p /etc/a && printf '%s\\n' 'it'\\''s' '$$x' > /etc/a/b");
});
