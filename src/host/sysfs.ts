/**
 * The picture of a computer from the files of its sysfs and procfs. Each file may be missing or
 * unreadable: older kernels have fewer, and a process without privilege reads less.
 *
 * @see linux/Documentation/ABI/testing/sysfs-bus-pci, sysfs-kernel-iommu_groups
 */
import { HeaderType } from '../abi/pci.ts';
import { VfioError } from '../base/errno.ts';
import type { ReservedKind, ReservedWindow } from '../engine/machine/machine-spec.ts';
import { bdfParts, compareBdf, isBdf, parseBdf } from '../pci/bdf.ts';
import type { HostFiles } from '../sys/host-files.ts';
import { ResourceFlag } from '../sys/pci-device.ts';
import { type ConfigFacts, configFacts } from './config-facts.ts';
import { type FabricFacts, placesOf } from './fabric-kinds.ts';
import type { HostFunction, HostGroup, HostPicture, HostResource, HostSource, HostSriov } from './host-picture.ts';

const DEVICES = '/sys/bus/pci/devices';
const GROUPS = '/sys/kernel/iommu_groups';

/** BARs 0 to 5 and the ROM; the BARs of virtual functions follow. */
const OWN_RESOURCES = 7;
const BARS = 6;

/** @throws VfioError ENODEV without any PCI device */
export function readSysfs(files: HostFiles, source: HostSource = files.live ? 'this computer' : 'sysfs'): HostPicture {
  const reader = new SysfsReader(files);
  const functions = reader.functions();
  if (functions.length === 0) {
    const where = files.live ? 'this computer' : files.origin;
    throw new VfioError('ENODEV', `${where} has no PCI devices: ${DEVICES} is empty`, {
      fix: 'Give a recording of another computer, such as the output of lspci -vvv -nn.',
    });
  }
  return {
    source,
    origin: files.live ? 'this computer' : files.origin,
    hostname: reader.line('/proc/sys/kernel/hostname') ?? reader.line('/etc/hostname') ?? reader.noted('HostName'),
    kernel: reader.line('/proc/sys/kernel/osrelease') ?? kernelIn(files.text('/proc/version')) ?? reader.noted('OSRelease'),
    commandLine: reader.line('/proc/cmdline'),
    functions,
    groups: reader.groups(functions),
    iommus: files.exists('/sys/class/iommu') ? files.list('/sys/class/iommu') : files.live ? [] : null,
    modules: modulesIn(files),
    interruptsRemapped: remappedIn(files.text('/proc/interrupts')),
    notes: reader.notes,
  };
}

/** `Linux version 6.12.48 (…`. */
export function kernelIn(version: string | null): string | null {
  return /^Linux version (\S+)/.exec(version ?? '')?.[1] ?? null;
}

/**
 * Message interrupts in /proc/interrupts have the name of their chip: `IR-PCI-MSI` with remapping,
 * `PCI-MSI` without. Null where there are neither.
 */
export function remappedIn(interrupts: string | null): boolean | null {
  if (interrupts === null) return null;
  if (/\bIR-PCI-MSI|\bITS-/.test(interrupts)) return true;
  return /\bPCI-MSI/.test(interrupts) ? false : null;
}

interface Found {
  readonly folder: string;
  readonly config: Uint8Array;
  readonly facts: ConfigFacts;
  readonly fabric: FabricFacts;
}

class SysfsReader {
  readonly notes: string[] = [];
  readonly #files: HostFiles;
  #slots: ReadonlyMap<string, string> | undefined;

  constructor(files: HostFiles) {
    this.#files = files;
  }

  line(path: string): string | null {
    const text = this.#files.text(path)?.trim() ?? '';
    return text === '' ? null : text.split('\n')[0]!;
  }

  /** hwloc-gather-topology notes facts that no file has: `OSRelease: 6.12.48`. */
  noted(key: string): string | null {
    const lines = this.#files.text('/proc/hwloc-nofile-info')?.split('\n') ?? [];
    return (
      lines
        .find((line) => line.startsWith(`${key}: `))
        ?.slice(key.length + 2)
        .trim() ?? null
    );
  }

  #number(path: string): number | null {
    const text = this.line(path);
    if (text === null) return null;
    const value = Number(text);
    return Number.isSafeInteger(value) ? value : null;
  }

  #linkName(path: string): string | null {
    return this.#files.link(path)?.replace(/\/+$/, '').split('/').at(-1) ?? null;
  }

  functions(): HostFunction[] {
    const names = this.#files.list(DEVICES).filter(isBdf).sort(compareBdf);
    const found = names.map((bdf) => this.#find(bdf));
    const places = placesOf(found.map((one) => one.fabric));
    const unread = found.filter((one) => one.config.length < 256 && one.config.length > 0).length;
    if (unread > 0) {
      this.notes.push(
        `${unread} config spaces could be read only in part, as a user without privilege reads them: access control (ACS) is not known there`,
      );
    }
    return found.map((one) => this.#function(one, places.get(one.fabric.bdf)!));
  }

  #find(name: string): Found {
    const bdf = parseBdf(name);
    const folder = `${DEVICES}/${name}`;
    const config = this.#files.bytes(`${folder}/config`) ?? new Uint8Array(0);
    const facts = configFacts(config);
    const speed = this.#files.exists(`${folder}/max_link_speed`);
    const secondary = facts.secondary ?? this.#number(`${folder}/secondary_bus_number`) ?? undefined;
    const physical = this.#linkName(`${folder}/physfn`);
    const fabric: FabricFacts = {
      bdf,
      classCode: this.#number(`${folder}/class`) ?? 0,
      // A virtual function is one without a header of its own.
      header: physical === null ? facts.header : HeaderType.NORMAL,
      secondary: secondary ?? null,
      express: physical === null || facts.express != null ? facts.express : 0,
      isExpress: speed ? true : undefined,
      parent: parentIn(this.#files.link(folder)),
      physicalFunction: physical === null || !isBdf(physical) ? null : parseBdf(physical),
    };
    return { folder, config, facts, fabric };
  }

  #function(
    { folder, config, facts, fabric }: Found,
    place: { readonly parent: string | null; readonly kind: HostFunction['kind']; readonly kindIsKnown: boolean },
  ): HostFunction {
    const files = this.#files;
    const { bdf, classCode, physicalFunction } = fabric;
    const lines = resourcesIn(files.text(`${folder}/resource`) ?? '');
    const numa = this.#number(`${folder}/numa_node`);
    const override = this.line(`${folder}/driver_override`);
    const entries = files.list(folder);
    const group = this.#linkName(`${folder}/iommu_group`);
    const methods = this.line(`${folder}/reset_method`);
    return {
      bdf,
      vendor: this.#number(`${folder}/vendor`),
      device: this.#number(`${folder}/device`),
      subsystemVendor: this.#number(`${folder}/subsystem_vendor`),
      subsystem: this.#number(`${folder}/subsystem_device`),
      classCode,
      revision: this.#number(`${folder}/revision`) ?? config[8] ?? null,
      name: null,
      config,
      resources: lines.slice(0, OWN_RESOURCES),
      driver: this.#linkName(`${folder}/driver`),
      driverOverride: override === '(null)' ? null : override,
      modules: [],
      group: group === null ? null : Number(group),
      iommu: this.#linkName(`${folder}/iommu`),
      numaNode: numa === null || numa < 0 ? null : numa,
      irq: this.#number(`${folder}/irq`),
      slot: this.#slotOf(bdf),
      parent: place.parent,
      secondary: fabric.secondary ?? null,
      kind: place.kind,
      kindIsKnown: place.kindIsKnown,
      acs: facts.acs,
      // The kernel's list knows of resets by quirk, too.
      functionReset: methods === null ? (facts.functionReset ?? null) : /\b(flr|af_flr|device_specific|acpi|pm)\b/.test(methods),
      sriov: this.#sriov(folder, facts, lines.slice(OWN_RESOURCES)),
      physicalFunction,
      virtualFunctions: this.#virtualFunctions(folder, entries),
      vfioDevice: files.list(`${folder}/vfio-dev`)[0] ?? null,
      bootVga: this.line(`${folder}/boot_vga`) === '1',
    };
  }

  #sriov(folder: string, { sriov }: ConfigFacts, vfBars: readonly (HostResource | null)[]): HostSriov | null {
    const totalVfs = this.#number(`${folder}/sriov_totalvfs`) ?? sriov?.totalVfs ?? 0;
    if (totalVfs === 0) return null;
    const device = this.line(`${folder}/sriov_vf_device`);
    return {
      totalVfs,
      numVfs: this.#number(`${folder}/sriov_numvfs`) ?? sriov?.numVfs ?? 0,
      firstOffset: this.#number(`${folder}/sriov_offset`) ?? sriov?.firstOffset ?? null,
      stride: this.#number(`${folder}/sriov_stride`) ?? sriov?.stride ?? null,
      vfDevice: device === null ? (sriov?.vfDevice ?? null) : Number.parseInt(device, 16),
      // The kernel keeps room for all of them together.
      bars: vfBars
        .slice(0, BARS)
        .map((bar) => (bar === null ? null : { ...bar, size: bar.size === null ? null : bar.size / BigInt(totalVfs) })),
    };
  }

  #virtualFunctions(folder: string, entries: readonly string[]): string[] {
    return entries
      .flatMap((name) => /^virtfn(\d+)$/.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b)
      .map((index) => this.#linkName(`${folder}/virtfn${index}`))
      .filter((bdf) => bdf !== null && isBdf(bdf))
      .map((bdf) => parseBdf(bdf!));
  }

  /** A slot's file `address` has the domain, bus and device of its card. */
  #slotOf(bdf: string): string | null {
    if (this.#slots === undefined) {
      const folder = '/sys/bus/pci/slots';
      this.#slots = new Map(this.#files.list(folder).map((name) => [this.line(`${folder}/${name}/address`) ?? '', name]));
    }
    return this.#slots.get(bdf.slice(0, bdf.lastIndexOf('.'))) ?? null;
  }

  /**
   * Groups by the links of their devices; with the folder of groups also their types and windows.
   */
  groups(functions: readonly HostFunction[]): HostGroup[] | null {
    const files = this.#files;
    const folders = files.list(GROUPS).filter((name) => /^\d+$/.test(name));
    const members = new Map<number, string[]>();
    for (const { bdf, group } of functions) {
      if (group === null) continue;
      const there = members.get(group);
      if (there === undefined) members.set(group, [bdf]);
      else there.push(bdf);
    }
    if (members.size === 0 && folders.length === 0) return files.live || files.exists(GROUPS) ? [] : null;
    return [...members.keys()]
      .sort((a, b) => a - b)
      .map((id) => ({
        id,
        functions: members.get(id)!,
        type: this.line(`${GROUPS}/${id}/type`),
        reserved: windowsIn(files.text(`${GROUPS}/${id}/reserved_regions`) ?? ''),
      }));
  }
}

/** Parameters of loaded modules of VFIO, by module; null where the files do not say. */
export function modulesIn(files: HostFiles): Record<string, Record<string, string>> | null {
  const folder = '/sys/module';
  if (!files.exists(folder)) return null;
  const names = files.list(folder).filter((name) => /vfio|^iommufd$/.test(name));
  const parametersOf = (name: string) => {
    const at = `${folder}/${name}/parameters`;
    return Object.fromEntries(files.list(at).map((one) => [one, files.text(`${at}/${one}`)?.trim() ?? '']));
  };
  return Object.fromEntries(names.map((name) => [name, parametersOf(name)]));
}

/**
 * The bridge in the target of a device's link,
 * `../../../devices/pci0000:00/0000:00:1c.0/0000:03:00.0`. Null on a root bus; undefined for a path
 * that is no link.
 */
function parentIn(link: string | null): string | null | undefined {
  const above = link?.replace(/\/+$/, '').split('/').at(-2);
  if (above === undefined) return undefined;
  return isBdf(above) ? parseBdf(above) : null;
}

/** A line for each: first byte, last byte, flags. Unused ones are all zero. */
function resourcesIn(text: string): (HostResource | null)[] {
  return text.split('\n').map((line) => {
    const match = /^(0x[0-9a-f]{1,16}) (0x[0-9a-f]{1,16}) (0x[0-9a-f]{1,16})$/i.exec(line.trim());
    if (match === null) return null;
    const [start, end, flags] = [BigInt(match[1]!), BigInt(match[2]!), Number(match[3]!)];
    if (flags === 0 || end < start || (start === 0n && end === 0n)) return null;
    return {
      start,
      size: end - start + 1n,
      kind: (flags & ResourceFlag.IO) !== 0 ? 'io' : 'memory',
      wide: (flags & ResourceFlag.MEMORY_64) !== 0,
      prefetchable: (flags & ResourceFlag.PREFETCH) !== 0,
    };
  });
}

const kinds: Readonly<Record<string, ReservedKind>> = {
  direct: 'direct',
  'direct-relaxable': 'relaxable',
  reserved: 'reserved',
  msi: 'msi',
};

/** `0x00000000fee00000 0x00000000feefffff msi`, a line for each window. */
function windowsIn(text: string): ReservedWindow[] {
  return text.split('\n').flatMap((line) => {
    const match = /^(0x[0-9a-f]{1,16}) (0x[0-9a-f]{1,16}) (\S+)$/i.exec(line.trim());
    const kind = match === null ? undefined : kinds[match[3]!];
    return kind === undefined ? [] : [{ first: BigInt(match![1]!), last: BigInt(match![2]!), kind }];
  });
}

/** Domain and number of the bus that a function is on: `0000:03`. */
export function busOf(bdf: string): string {
  const { domain, bus } = bdfParts(bdf);
  return `${domain.toString(16).padStart(4, '0')}:${bus.toString(16).padStart(2, '0')}`;
}
