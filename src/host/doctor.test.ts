import { expect, it } from 'vitest';
import { FakeHost } from '../../tests/kit/fake-host.ts';
import { diagnose } from './doctor.ts';

const A = '0000:01:00.0';
const B = '0000:02:00.0';

/** A healthy computer, and changes of it: null removes an entry. */
function computer(changes: Readonly<Record<string, string | null>> = {}): FakeHost {
  const host = new FakeHost({
    [A]: { driver: 'vfio-pci', group: 1, attributes: { reset_method: 'flr' } },
    [B]: { driver: 'igb', group: 2 },
  });
  const entries: Record<string, string | null> = {
    '/sys/class/iommu/dmar0/devices': '',
    '/proc/interrupts': ' 24:  0  IR-PCI-MSI-0000:01:00.0\n',
    '/proc/cmdline': 'root=/dev/sda1 quiet\n',
    '/proc/sys/kernel/osrelease': '6.12.48\n',
    '/boot/config-6.12.48': 'CONFIG_IOMMUFD=m\nCONFIG_VFIO_DEVICE_CDEV=y\n',
    '/sys/module/vfio_pci/refcnt': '0',
    '/sys/module/vfio_iommu_type1/parameters/dma_entry_limit': '65535\n',
    '/dev/vfio/vfio': '',
    '/dev/kvm': '',
    '/proc/self/limits': 'Max locked memory         unlimited            unlimited            bytes\n',
    '/proc/self/status': 'CapEff:\t0000000000000000\n',
    '/proc/meminfo': 'MemTotal:       16777216 kB\n',
    '/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages': '8\n',
    '/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages': '8\n',
    '/sys/kernel/mm/transparent_hugepage/enabled': 'always [madvise] never\n',
    ...changes,
  };
  for (const [path, text] of Object.entries(entries)) {
    if (text === null) host.entries.delete(path);
    else host.entries.set(path, text);
  }
  host.programs.set('qemu-system-x86_64', 'QEMU emulator version 11.1.0\n');
  return host;
}

/** A computer without an IOMMU. */
const withoutGroups = (changes: Readonly<Record<string, string | null>>) =>
  computer({
    '/sys/devices/pci0000:00/0000:01:00.0/iommu_group': null,
    '/sys/devices/pci0000:00/0000:02:00.0/iommu_group': null,
    '/sys/class/iommu/dmar0/devices': null,
    ...changes,
  });

const finding = (host: FakeHost, id: string, bdf: string | null = null) => diagnose(host, host, bdf).find((each) => each.id === id);

it('a healthy computer has no findings but good ones', () => {
  const host = computer();
  expect(diagnose(host, host, A).filter(({ status }) => status !== 'ok')).toEqual([]);
  expect(finding(host, 'kernel')!.what).toBe('Linux 6.12.48: groups, device files (cdev), iommufd');
});

it('a copy of files leaves questions about this process open', () => {
  const findings = diagnose(computer(), null);
  expect(findings.filter(({ status }) => status === 'unknown').map(({ id }) => id)).toEqual(['nodes', 'memlock']);
  expect(findings.map(({ id }) => id)).not.toContain('kvm');
});

it.each([
  [{ '/proc/cmdline': 'quiet intel_iommu=off\n' }, /switches the IOMMU off/, /Remove intel_iommu=off/],
  [{ '/sys/firmware/acpi/tables/DMAR': '' }, /ACPI table DMAR/, /Add intel_iommu=on/],
  [{ '/sys/firmware/acpi/tables/IVRS': '' }, /ACPI table IVRS/, /Add amd_iommu=on/],
  [{ '/proc/cpuinfo': 'flags\t\t: fpu hypervisor sse\n' }, /this virtual machine has no IOMMU/, /-device intel-iommu,intremap=on/],
  [{}, /neither firmware nor kernel/, /Enable VT-d/],
])('without an IOMMU the reason has its remedy: %j', (changes, what, fix) => {
  expect(finding(withoutGroups(changes), 'iommu')).toMatchObject({
    status: 'problem',
    what: expect.stringMatching(what),
    fix: expect.stringMatching(fix),
  });
});

it.each([
  ['interrupt-remapping', { '/proc/interrupts': ' 24: 0 PCI-MSI 1\n' }, 'problem', /not remapped/],
  [
    'interrupt-remapping',
    { '/proc/interrupts': ' 24: 0 PCI-MSI 1\n', '/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts': 'Y\n' },
    'warning',
    /allow_unsafe_interrupts is on/,
  ],
  ['interrupt-remapping', { '/proc/interrupts': null }, 'unknown', /no \/proc\/interrupts/],
  ['acs', { '/proc/cmdline': 'pcie_acs_override=downstream\n' }, 'warning', /pcie_acs_override=downstream/],
  [
    'acs',
    { '/sys/devices/pci0000:00/0000:02:00.0/iommu_group': '->/sys/kernel/iommu_groups/1' },
    'warning',
    /group 1 has several cards: 0000:01:00, 0000:02:00/,
  ],
  ['kernel', { '/proc/sys/kernel/osrelease': '3.10.0-1160\n' }, 'warning', /3.10/],
  ['kernel', { '/boot/config-6.12.48': '# CONFIG_VFIO_DEVICE_CDEV is not set\n' }, 'ok', /^Linux 6.12.48: groups$/],
  ['kernel', { '/boot/config-6.12.48': null, '/proc/devices': '245 vfio-dev\n246 vfio\n' }, 'ok', /device files \(cdev\)/],
  ['dma-entries', { '/sys/module/vfio_iommu_type1/parameters/dma_entry_limit': '100\n' }, 'warning', /100 mappings/],
  ['no-iommu', { '/sys/module/vfio/parameters/enable_unsafe_noiommu_mode': 'Y\n' }, 'warning', /noiommu/],
  ['lockdown', { '/sys/kernel/security/lockdown': 'none [integrity] confidentiality\n' }, 'warning', /locked down \(integrity\)/],
  ['lockdown', { '/sys/kernel/security/lockdown': '[none] integrity confidentiality\n' }, 'ok', /no lockdown/],
  ['container', { '/.dockerenv': '' }, 'warning', /container/],
  ['container', { '/proc/self/mountinfo': '30 20 0:22 / /sys ro,nosuid - sysfs sysfs ro\n' }, 'problem', /read-only/],
  [
    'memlock',
    { '/proc/self/limits': 'Max locked memory         8388608              8388608              bytes\n' },
    'warning',
    /^8 MiB of 16 GiB/,
  ],
  ['huge-pages', { '/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages': '0\n' }, 'warning', /^0 of 8 huge pages of 2 MiB/],
  ['kvm', { '/dev/kvm': null }, 'warning', /no \/dev\/kvm/],
] as const)('%s: %j', (id, changes, status, what) => {
  expect(finding(computer(changes), id)).toMatchObject({ status, what: expect.stringMatching(what) });
});

it('modules: loaded, installed, missing, not known', () => {
  const bare = { '/sys/module/vfio_pci/refcnt': null, '/sys/module/vfio_iommu_type1/parameters/dma_entry_limit': null };
  const drivers = { '/sys/bus/pci/drivers/vfio-pci/bind': null, '/sys/bus/pci/drivers/vfio-pci/unbind': null };
  const state = (more: Readonly<Record<string, string>>) => finding(computer({ ...bare, ...drivers, ...more }), 'modules');
  expect(finding(computer(), 'modules')).toMatchObject({ status: 'ok', what: 'vfio-pci is loaded or built in' });
  expect(
    state({
      '/lib/modules/6.12.48/modules.dep': 'kernel/drivers/vfio/pci/vfio-pci.ko.xz: a\nkernel/drivers/vfio/vfio_iommu_type1.ko.xz:\n',
    })!.what,
  ).toContain('vfio bind loads them');
  expect(state({ '/lib/modules/6.12.48/modules.dep': 'kernel/fs/ext4.ko:\n' })).toMatchObject({
    status: 'problem',
    what: 'this kernel has no module vfio-pci, vfio_iommu_type1',
  });
  expect(state({})!.status).toBe('unknown');
});

it('QEMU before 10.1 takes no device of vfio serve', () => {
  const host = computer();
  host.programs.set('qemu-system-x86_64', 'QEMU emulator version 7.2.0 (Debian 1:7.2)\n');
  expect(finding(host, 'qemu')).toMatchObject({ status: 'warning', what: 'qemu-system-x86_64 7.2' });
});

it('nodes that this user may not open have the command that grants them', () => {
  const host = computer();
  host.permits = (path) => path === '/dev/vfio/vfio';
  expect(finding(host, 'nodes')).toMatchObject({
    status: 'warning',
    what: 'this user may not open /dev/vfio/1 (uid 0, mode 0600)',
    fix: 'sudo vfio grant --group 1 --user $USER',
  });
});

it('a device: driver, group, users, reset', () => {
  const host = computer({ '/sys/devices/pci0000:00/0000:02:00.0/iommu_group': '->/sys/kernel/iommu_groups/1' });
  expect(finding(host, 'device-group', A)).toMatchObject({
    status: 'problem',
    what: `group 1 is not viable: ${B} (igb)`,
    fix: `sudo vfio bind ${A}`,
  });
  expect(finding(host, 'device-driver', B)).toMatchObject({
    status: 'problem',
    what: `${B} has the driver igb`,
    fix: `sudo vfio bind ${B}`,
  });
  expect(finding(host, 'device-reset', B)).toMatchObject({ status: 'warning' });
  host.open(9, 'qemu', '/dev/vfio/1');
  expect(finding(host, 'device-users', A)).toMatchObject({ status: 'warning', what: 'process 9 (qemu), /dev/vfio/1' });
  host.entries.set('/sys/class/graphics/fb0', `->/sys/devices/pci0000:00/${B}/graphics/fb0`);
  expect(finding(host, 'device-needed', A)).toMatchObject({ status: 'problem', what: `${B} shows the console (fb0)` });
});
