/** Checks of this user: memory that may be locked, nodes, huge pages, KVM and QEMU. */
import { type Check, type DoctorContext, type Finding, isAtLeast, versionIn } from './doctor-check.ts';
import { groupNode } from './function-state.ts';

const KIB = 1024;
const IPC_LOCK = 1n << 14n;

/** Bytes as people say them: `7.8 MiB`. */
function inUnits(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= KIB && unit < units.length - 1) {
    value /= KIB;
    unit++;
  }
  return `${value >= 10 || Number.isInteger(value) ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

function memlock({ files, host }: DoctorContext): Finding {
  if (host === null) return { status: 'unknown', what: 'a copy does not have the limits of your processes' };
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(files.text('/proc/self/status') ?? '')?.[1] ?? '0';
  if ((BigInt(`0x${capabilities}`) & IPC_LOCK) !== 0n) return { status: 'ok', what: 'CAP_IPC_LOCK: no limit of locked memory' };
  const limit = /^Max locked memory\s+(\S+)/m.exec(files.text('/proc/self/limits') ?? '')?.[1];
  if (limit === undefined) return { status: 'unknown', what: 'the limit of locked memory cannot be read' };
  if (limit === 'unlimited') return { status: 'ok', what: 'no limit of locked memory' };
  const total = Number(/^MemTotal:\s+(\d+) kB/m.exec(files.text('/proc/meminfo') ?? '')?.[1] ?? 0) * KIB;
  const what = `${inUnits(Number(limit))} of ${inUnits(total)} may be locked (RLIMIT_MEMLOCK)`;
  if (Number(limit) >= total / 2) return { status: 'ok', what };
  return {
    status: 'warning',
    what,
    why: 'memory that is mapped for DMA is locked: more than that is ENOMEM, and a guest maps all of its memory',
    fix: 'LimitMEMLOCK=infinity in the unit; or a line in /etc/security/limits.d/vfio.conf: @GROUP - memlock unlimited',
  };
}

const octal = (mode: number) => mode.toString(8).padStart(4, '0');

function nodes({ files, host, functions, bdf }: DoctorContext): Finding | null {
  if (host === null) return { status: 'unknown', what: 'a copy does not have the permissions of /dev' };
  if (!files.exists('/dev/vfio/vfio') && !files.exists('/dev/iommu')) {
    return { status: 'unknown', what: 'there is no node of VFIO yet: its modules are not loaded' };
  }
  const control = ['/dev/vfio/vfio', '/dev/iommu'].filter((path) => files.exists(path));
  if (!control.some((path) => host.permits(path))) {
    return {
      status: 'problem',
      what: `this user may not open ${control.join(' or ')}`,
      why: 'the first gives access to no device, and is for all users',
      fix: control.includes('/dev/vfio/vfio') ? 'sudo chmod 0666 /dev/vfio/vfio' : 'sudo vfio grant BDF --user $USER --iommufd',
    };
  }
  const chosen = functions.filter((fn) => fn.group !== null && (bdf === null || fn.bdf === bdf));
  const all = [...new Set(chosen.map(({ group }) => groupNode(files, group!)))].filter((path) => files.exists(path));
  const closed = all.filter((path) => !host.permits(path));
  if (closed.length === 0)
    return { status: 'ok', what: all.length === 0 ? `this user may open ${control[0]}` : `this user may open ${all.join(', ')}` };
  const owner = host.ownerOf(closed[0]!);
  return {
    status: 'warning',
    what: `this user may not open ${closed.join(', ')}${owner === null ? '' : ` (uid ${owner.uid}, mode ${octal(owner.mode)})`}`,
    why: 'open fails with EACCES',
    fix: `sudo vfio grant --group ${/\d+$/.exec(closed[0]!)![0]} --user $USER`,
  };
}

function hugePages({ files }: DoctorContext): Finding {
  const pools = files.list('/sys/kernel/mm/hugepages').flatMap((name) => {
    const at = `/sys/kernel/mm/hugepages/${name}`;
    const total = Number(files.text(`${at}/nr_hugepages`) ?? 0);
    const free = Number(files.text(`${at}/free_hugepages`) ?? 0);
    const size = Number(/(\d+)kB$/.exec(name)?.[1] ?? 0) * KIB;
    return total === 0 ? [] : [{ text: `${free} of ${total} huge pages of ${inUnits(size)} are free`, free }];
  });
  const transparent = /\[(\w+)\]/.exec(files.text('/sys/kernel/mm/transparent_hugepage/enabled') ?? '')?.[1];
  const also = transparent === undefined ? '' : `; transparent huge pages: ${transparent}`;
  if (pools.length === 0) {
    return {
      status: 'ok',
      what: `no huge pages are set aside${also}`,
      why: 'mapping much memory takes longer, and takes more entries in the IOMMU',
      fix: 'echo 1024 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages',
    };
  }
  if (pools.every(({ free }) => free === 0)) {
    return {
      status: 'warning',
      what: pools.map(({ text }) => text).join(', ') + also,
      why: 'all huge pages are in use',
      fix: 'Set more aside: nr_hugepages.',
    };
  }
  return { status: 'ok', what: pools.map(({ text }) => text).join(', ') + also };
}

function kvm({ files, host }: DoctorContext): Finding | null {
  if (host === null) return null;
  if (!files.exists('/dev/kvm')) {
    return {
      status: 'warning',
      what: 'there is no /dev/kvm',
      why: 'virtual machines run without acceleration',
      fix: 'Enable VT-x or AMD-V in the firmware, and modprobe kvm_intel or kvm_amd.',
    };
  }
  if (host.permits('/dev/kvm')) return { status: 'ok', what: 'this user may use /dev/kvm' };
  return {
    status: 'warning',
    what: 'this user may not open /dev/kvm',
    why: 'virtual machines run without acceleration',
    fix: 'sudo usermod -a -G kvm $USER, then log in again.',
  };
}

/** The first QEMU with the device vfio-user-pci. */
const QEMU: readonly [number, number] = [10, 1];

function qemu({ host }: DoctorContext): Finding | null {
  if (host === null) return null;
  const programs = ['qemu-system-x86_64', 'qemu-system-aarch64', 'qemu-kvm', '/usr/libexec/qemu-kvm'];
  for (const program of programs) {
    const { status, printed } = host.run(program, ['--version']);
    const version = status === 0 ? versionIn(printed) : null;
    if (version === null) continue;
    const what = `${program} ${version.join('.')}`;
    if (isAtLeast(version, ...QEMU)) return { status: 'ok', what: `${what} has vfio-pci and vfio-user-pci` };
    return {
      status: 'warning',
      what,
      why: 'it takes devices of VFIO, not those that vfio serve offers (vfio-user-pci)',
      fix: `Install QEMU ${QEMU.join('.')} or newer for vfio serve.`,
    };
  }
  return { status: 'ok', what: 'no QEMU is installed', why: 'drivers need none' };
}

export const userChecks: readonly Check[] = [
  { id: 'nodes', title: 'nodes in /dev', probe: nodes },
  { id: 'memlock', title: 'locked memory', probe: memlock },
  { id: 'huge-pages', title: 'huge pages', probe: hugePages },
  { id: 'kvm', title: 'KVM', probe: kvm },
  { id: 'qemu', title: 'QEMU', probe: qemu },
];
