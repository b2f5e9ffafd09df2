/**
 * Checks of the kernel: modules, abilities, parameters, lockdown.
 *
 * @see linux/drivers/vfio/Kconfig; linux/drivers/iommu/iommufd/Kconfig;
 * linux/security/lockdown/lockdown.c
 */
import { type Check, type DoctorContext, type Finding, isAtLeast, kernelRelease, versionIn } from './doctor-check.ts';

const parameter = ({ files }: DoctorContext, module: string, name: string) =>
  files.text(`/sys/module/${module}/parameters/${name}`)?.trim() ?? null;

/** `loaded` is also a module that is built in. */
function moduleState(context: DoctorContext, name: string): 'loaded' | 'installed' | 'missing' | 'unknown' {
  const { files } = context;
  const module = name.replaceAll('-', '_');
  if (files.exists(`/sys/module/${module}`) || files.exists(`/sys/bus/pci/drivers/${name}`)) return 'loaded';
  const release = kernelRelease(context);
  const folder = `/lib/modules/${release}`;
  const lists = ['modules.dep', 'modules.builtin'].map((list) => files.text(`${folder}/${list}`));
  if (release === null || lists.every((list) => list === null)) return 'unknown';
  const isIn = new RegExp(`/${name.replaceAll('-', '[-_]')}\\.ko`);
  if (isIn.test(lists[1] ?? '')) return 'loaded';
  return isIn.test(lists[0] ?? '') ? 'installed' : 'missing';
}

function modules(context: DoctorContext): Finding {
  const needed = ['vfio-pci', 'vfio_iommu_type1'];
  const states = needed.map((name) => [name, moduleState(context, name)] as const);
  const missing = states.filter(([, state]) => state === 'missing').map(([name]) => name);
  const asleep = states.filter(([, state]) => state === 'installed').map(([name]) => name);
  // A kernel with iommufd alone needs no type1.
  const iommufd = context.files.exists('/dev/iommu') || moduleState(context, 'iommufd') !== 'missing';
  const fatal = missing.filter((name) => name === 'vfio-pci' || !iommufd);
  if (fatal.length > 0) {
    return {
      status: 'problem',
      what: `this kernel has no module ${fatal.join(', ')}`,
      why: 'no device can be bound to VFIO',
      fix: 'Install a kernel with CONFIG_VFIO_PCI; Debian’s cloud kernels and those of some containers have none.',
    };
  }
  if (states.every(([, state]) => state === 'unknown'))
    return { status: 'unknown', what: 'no VFIO module is loaded, and the list of modules is not there' };
  if (asleep.length > 0)
    return {
      status: 'ok',
      what: `${asleep.join(', ')} ${asleep.length === 1 ? 'is' : 'are'} installed; vfio bind loads ${asleep.length === 1 ? 'it' : 'them'}`,
    };
  return { status: 'ok', what: 'vfio-pci is loaded or built in' };
}

function configOf(context: DoctorContext): string | null {
  const release = kernelRelease(context);
  return release === null ? null : context.files.text(`/boot/config-${release}`);
}

function kernel(context: DoctorContext): Finding {
  const release = kernelRelease(context);
  const version = release === null ? null : versionIn(release);
  if (release === null || version === null) return { status: 'unknown', what: 'the files do not have the kernel’s version' };
  const config = configOf(context);
  const has = (option: string) => (config === null ? null : new RegExp(`^${option}=[ym]$`, 'm').test(config));
  // linux/drivers/vfio/device_cdev.c, vfio_cdev_init(): numbers of device files, also without one.
  const numbers = context.files.text('/proc/devices');
  const cdev =
    context.files.list('/sys/class/vfio-dev').length > 0 ||
    /^ *\d+ vfio-dev$/m.test(numbers ?? '') ||
    has('CONFIG_VFIO_DEVICE_CDEV') === true;
  const iommufd = context.files.exists('/dev/iommu') || context.files.exists('/sys/module/iommufd') || has('CONFIG_IOMMUFD') === true;
  const what = `Linux ${release}: groups${cdev ? ', device files (cdev)' : ''}${iommufd ? ', iommufd' : ''}`;
  if (!isAtLeast(version, 4, 14)) return { status: 'warning', what, why: 'kernels before 4.14 are untried', fix: 'Use a newer kernel.' };
  if (isAtLeast(version, 6, 6) && !cdev && (config !== null || numbers?.includes('vfio') === true)) {
    return { status: 'ok', what, why: 'it is built without VFIO_DEVICE_CDEV; devices are opened by their groups' };
  }
  return { status: 'ok', what };
}

/** Linux's default of type1's dma_entry_limit. */
const ENTRIES = 65_535;

function entries(context: DoctorContext): Finding | null {
  const limit = parameter(context, 'vfio_iommu_type1', 'dma_entry_limit');
  if (limit === null) return null;
  if (Number(limit) >= ENTRIES) return { status: 'ok', what: `${limit} mappings for each container` };
  return {
    status: 'warning',
    what: `${limit} mappings for each container`,
    why: 'drivers with many small buffers, such as SPDK and QEMU with many disks, get ENOSPC',
    fix: `echo ${ENTRIES} > /sys/module/vfio_iommu_type1/parameters/dma_entry_limit`,
  };
}

function noIommu(context: DoctorContext): Finding | null {
  if (parameter(context, 'vfio', 'enable_unsafe_noiommu_mode') !== 'Y') return null;
  return {
    status: 'warning',
    what: 'enable_unsafe_noiommu_mode is on',
    why: 'a user of a device without an IOMMU can write to all memory of this computer',
    fix: 'echo N > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode',
  };
}

/** The last byte of the variable SecureBoot, after four bytes of attributes. */
const SECURE_BOOT = '/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c';

function lockdown({ files }: DoctorContext): Finding | null {
  const mode = /\[(\w+)\]/.exec(files.text('/sys/kernel/security/lockdown') ?? '')?.[1];
  const secure = files.bytes(SECURE_BOOT)?.[4] === 1;
  if (mode === undefined && !secure) return null;
  if (mode === undefined || mode === 'none') return { status: 'ok', what: secure ? 'secure boot without lockdown' : 'no lockdown' };
  return {
    status: 'warning',
    what: `the kernel is locked down (${mode}${secure ? ', secure boot' : ''})`,
    why: 'it loads signed modules only, and refuses mappings of BARs by sysfs; VFIO works',
    fix: 'Sign modules of your own, such as vendors’ VFIO drivers (mokutil).',
  };
}

function container({ files, host }: DoctorContext): Finding | null {
  if (host === null) return null;
  const mark = ['/run/.containerenv', '/.dockerenv', '/run/systemd/container'].find((path) => files.exists(path));
  const readOnly = /^\d+ \d+ \S+ \S+ \/sys ro[ ,]/m.test(files.text('/proc/self/mountinfo') ?? '');
  if (mark === undefined && !readOnly) return null;
  return {
    status: readOnly ? 'problem' : 'warning',
    what: mark === undefined ? '/sys is mounted read-only' : `this is a container (${mark})${readOnly ? ', and /sys is read-only' : ''}`,
    why: readOnly ? 'drivers cannot be changed here' : 'drivers and nodes are those of the host',
    fix: 'Bind devices on the host, and give the container the nodes: --device /dev/vfio/vfio --device /dev/vfio/GROUP --ulimit memlock=-1',
  };
}

export const kernelChecks: readonly Check[] = [
  { id: 'kernel', title: 'kernel', probe: kernel },
  { id: 'modules', title: 'modules', probe: modules },
  { id: 'dma-entries', title: 'mappings of a container', probe: entries },
  { id: 'no-iommu', title: 'no-IOMMU mode', probe: noIommu },
  { id: 'lockdown', title: 'lockdown', probe: lockdown },
  { id: 'container', title: 'container', probe: container },
];
