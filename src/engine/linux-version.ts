/**
 * The Linux whose answers a machine gives: 7.3, or an older one for a program that must see it.
 * Each difference that a program can see is a row here, and is read where the rule is decided;
 * docs/kernel-differences.md lists the same rows.
 *
 * A row is named for what the newer kernels have: `ctx.linux.dmaBuf` is true when this kernel has
 * it.
 */
import { VfioError } from '../base/errno.ts';

/** The kernels whose recorded answers the engine is compared with, in their order. */
export const linuxVersions = ['6.12', '7.2', '7.3'] as const;

/** A kernel that a machine can answer as. */
export type LinuxVersion = (typeof linuxVersions)[number];

/** The kernel of a machine that names none. */
export const NEWEST_LINUX: LinuxVersion = '7.3';

interface Difference {
  /** The first of `linuxVersions` that answers in the newer way. */
  readonly since: LinuxVersion;
  readonly question: string;
  readonly older: string;
  readonly newer: string;
  readonly why: string;
}

export const linuxDifferences = {
  nestingIsGone: {
    since: '7.2',
    question: 'CHECK_EXTENSION 6 (TYPE1_NESTING), in any state',
    older: '1; SET_IOMMU with it is EINVAL, because this IOMMU does not nest',
    newer: '0; SET_IOMMU with it is ENODEV',
    why: 'nesting was removed from type1; the number stays reserved',
  },
  overflowIsNamed: {
    since: '7.2',
    question: 'MAP_DMA, UNMAP_DMA or DIRTY_PAGES of a range that passes 2^64',
    older: 'EINVAL',
    newer: 'EOVERFLOW',
    why: 'the check became an explicit overflow check',
  },
  dmaBuf: {
    since: '7.2',
    question: 'FEATURE 11 (DMA_BUF): probe alone, with GET, with SET',
    older: 'ENOTTY, ENOTTY, ENOTTY',
    newer: '0, 0, EINVAL',
    why: 'the feature is new',
  },
  cdevToken: {
    since: '7.2',
    question: 'BIND_IOMMUFD with the flag TOKEN; of a VF whose PF has a token, without one',
    older: 'EINVAL; binds',
    newer: 'the token is checked; EACCES',
    why: 'tokens were for group files only',
  },
  strictBind: {
    since: '7.2',
    question: 'BIND_IOMMUFD with bytes that are not zero behind its structure',
    older: 'not looked at',
    newer: 'E2BIG',
    why: 'the structure is copied like those of iommufd',
  },
  atsCapability: {
    since: '7.2',
    question: 'GET_HW_INFO: capability 8 (ATS is not supported)',
    older: 'absent',
    newer: 'set for a device without ATS',
    why: 'the bit is new',
  },
  mapFile: {
    since: '7.2',
    question: 'requests of /dev/iommu from IOAS_MAP_FILE (0x8f) on',
    older: 'ENOTTY',
    newer: 'known',
    why: 'the requests are new: MAP_FILE, VIOMMU_ALLOC, VDEVICE_ALLOC, CHANGE_PROCESS, VEVENTQ_ALLOC, HW_QUEUE_ALLOC',
  },
  fdinfoPath: {
    since: '7.2',
    question: 'fdinfo of a device: `vfio-device-syspath`',
    older: 'absent',
    newer: 'a line',
    why: 'the line is new',
  },
  precopyInfoV2: {
    since: '7.2',
    question: 'FEATURE 12 (MIG_PRECOPY_INFOv2)',
    older: 'ENOTTY',
    newer: 'SET, without data; EINVAL for a device without PRE_COPY. `flags` of MIG_GET_PRECOPY_INFO is an answer then',
    why: 'older drivers gave the flags back as they came, so a user has to say that it reads them',
  },
  noIommuCdev: {
    since: '7.3',
    question: 'a device without an IOMMU: /dev/vfio/devices/noiommu-vfioN, and IOAS_NOIOMMU_GET_PA',
    older: 'no node; ENOTTY',
    newer: 'there for processes with CAP_SYS_RAWIO',
    why: 'without an IOMMU there were group files only',
  },
  errorInterrupt: {
    since: '7.3',
    question: 'IRQ_INFO and SET_IRQS of ERR (index 3) on a device that is not PCI Express',
    older: 'EINVAL',
    newer: 'flags 9, count 1; the eventfd is taken',
    why: 'every vfio-pci device has the index',
  },
} as const satisfies Readonly<Record<string, Difference>>;

/** The name of a difference. */
export type LinuxDifference = keyof typeof linuxDifferences;

/** For each difference whether the kernel answers in the newer way. */
export type LinuxRules = Readonly<Record<LinuxDifference, boolean>>;

const names = Object.keys(linuxDifferences) as readonly LinuxDifference[];

/** @throws VfioError EINVAL for a version that the engine does not know */
export function linuxRules(version: LinuxVersion = NEWEST_LINUX): LinuxRules {
  const at = linuxVersions.indexOf(version);
  if (at < 0) {
    throw new VfioError('EINVAL', `linux is ${String(version)}; the engine does not know the answers of that kernel`, {
      fix: `Use one of ${linuxVersions.join(', ')}.`,
    });
  }
  const rules = names.map((name) => [name, linuxVersions.indexOf(linuxDifferences[name].since) <= at]);
  return Object.fromEntries(rules) as LinuxRules;
}
