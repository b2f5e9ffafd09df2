/**
 * Checks of isolation: IOMMU, interrupt remapping, ACS, domains.
 *
 * @see linux/Documentation/ABI/testing/sysfs-kernel-iommu_groups;
 * linux/drivers/iommu/irq_remapping.c
 */
import { type Check, commandLine, type DoctorContext, type Finding } from './doctor-check.ts';
import { groupsOf } from './function-state.ts';

const ACPI = '/sys/firmware/acpi/tables';

/** Tables by which firmware describes an IOMMU. */
const tables: Readonly<Record<string, string>> = { DMAR: 'intel_iommu=on', IVRS: 'amd_iommu=on', IORT: 'iommu.passthrough=0' };

const isGuest = ({ files }: DoctorContext) => /^flags\s*:.*\bhypervisor\b/m.test(files.text('/proc/cpuinfo') ?? '');
const hasGroups = (context: DoctorContext) => context.functions.some(({ group }) => group !== null);

function iommu(context: DoctorContext): Finding {
  const { files, functions } = context;
  const units = files.list('/sys/class/iommu');
  const outside = functions.filter(({ group, isBridge }) => group === null && !isBridge);
  if (hasGroups(context)) {
    const count = groupsOf(functions).size;
    const what = `${units.length === 0 ? 'an IOMMU' : units.join(', ')}, ${count} groups`;
    if (outside.length === 0) return { status: 'ok', what };
    return { status: 'warning', what: `${what}; ${outside.length} devices are in no group`, why: `no IOMMU isolates ${outside[0]!.bdf}` };
  }
  const why = 'no device can be given to a user safely';
  const words = commandLine(context);
  const off = words.find((word) => /^(?:intel_iommu|amd_iommu|iommu)=off$/.test(word));
  if (off !== undefined)
    return {
      status: 'problem',
      what: `the kernel’s command line switches the IOMMU off (${off})`,
      why,
      fix: `Remove ${off} from the kernel’s command line, and boot again.`,
    };
  const known = files.list(ACPI).find((name) => name in tables);
  if (known !== undefined) {
    const word = tables[known]!;
    return {
      status: 'problem',
      what: `the firmware has an IOMMU (ACPI table ${known}), and the kernel does not use it`,
      why,
      fix: `Add ${word} to the kernel’s command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub), and boot again.`,
    };
  }
  if (isGuest(context)) {
    return {
      status: 'problem',
      what: 'this virtual machine has no IOMMU',
      why,
      fix: 'Start it with one: qemu-system-x86_64 -machine q35,kernel-irqchip=split -device intel-iommu,intremap=on',
    };
  }
  return {
    status: 'problem',
    what: 'neither firmware nor kernel has an IOMMU',
    why,
    fix: 'Enable VT-d, AMD-Vi or the SMMU in the firmware’s setup, and boot again.',
  };
}

/** Chips of remapped interrupts have names that begin with IR-; arm64 has an ITS. */
function interrupts(context: DoctorContext): Finding | null {
  if (!hasGroups(context)) return null;
  const { files } = context;
  const text = files.text('/proc/interrupts');
  if (text === null) return { status: 'unknown', what: 'the files have no /proc/interrupts' };
  if (/\bIR-|\bITS-/.test(text)) return { status: 'ok', what: 'the IOMMU remaps interrupts' };
  const unsafe = files.text('/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts')?.trim() === 'Y';
  if (unsafe) {
    return {
      status: 'warning',
      what: 'interrupts are not remapped, and allow_unsafe_interrupts is on',
      why: 'a device can raise any interrupt of this computer',
      fix: 'Enable interrupt remapping (x2APIC, VT-d interrupt remapping) in the firmware.',
    };
  }
  return {
    status: 'problem',
    what: 'interrupts are not remapped',
    why: 'VFIO refuses to attach groups with EPERM, because a device could raise any interrupt',
    fix: 'Enable interrupt remapping in the firmware; or accept the risk: echo Y > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts',
  };
}

/** Functions of one card may share a group; several cards in one are a lack of ACS above them. */
function acs(context: DoctorContext): Finding | null {
  if (!hasGroups(context)) return null;
  const override = commandLine(context).find((word) => word.startsWith('pcie_acs_override='));
  if (override !== undefined) {
    return {
      status: 'warning',
      what: `the kernel is patched to ignore missing ACS (${override})`,
      why: 'groups look isolated where devices may reach each other’s registers and memory',
      fix: `Remove ${override}, and use slots that the hardware isolates.`,
    };
  }
  const cards = (group: number) =>
    new Set(
      context.functions.filter((fn) => fn.group === group && !fn.isBridge && !fn.class.startsWith('06')).map(({ bdf }) => bdf.slice(0, -2)),
    );
  const mine = context.bdf === null ? null : (context.functions.find(({ bdf }) => bdf === context.bdf)?.group ?? null);
  const ids = mine === null ? [...groupsOf(context.functions).keys()] : [mine];
  const shared = ids.filter((id) => cards(id).size > 1);
  if (shared.length === 0) return { status: 'ok', what: mine === null ? 'no group has more than one card' : `group ${mine} has one card` };
  const [first] = shared;
  return {
    status: 'warning',
    what: `${shared.length === 1 ? `group ${first} has` : `${shared.length} groups (${shared.slice(0, 4).join(', ')}${shared.length > 4 ? ', …' : ''}) have`} several cards: ${[...cards(first!)].join(', ')}`,
    why: 'a port above them has no ACS, so that one user gets all of them',
    fix: 'Put a card into another slot, such as one of the processor. vfio explain BDF names the port.',
  };
}

export const iommuChecks: readonly Check[] = [
  { id: 'iommu', title: 'IOMMU', probe: iommu },
  { id: 'interrupt-remapping', title: 'interrupt remapping', probe: interrupts },
  { id: 'acs', title: 'isolation of cards (ACS)', probe: acs },
];
