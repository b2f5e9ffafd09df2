/**
 * A PCI device of this computer as sysfs shows it (linux/Documentation/ABI/testing/sysfs-bus-pci):
 * this module opens and changes nothing of the device.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { VfioError } from '../base/errno.ts';

const PCI_DEVICES = '/sys/bus/pci/devices';

/** Flags of linux/ioport.h, of a line in `resource`. */
export const ResourceFlag = { IO: 0x100, MEMORY: 0x200, PREFETCH: 0x2000, MEMORY_64: 0x10_0000 } as const;

export interface PciResource {
  readonly start: bigint;
  /** Bytes. */
  readonly size: bigint;
  readonly flags: number;
}

export interface PciDeviceFiles {
  /** As many bytes as Linux lets this process read: 64 without privilege. */
  readonly config: Uint8Array;
  /** Values that the kernel remembers, also where the device itself does not report them. */
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor: number;
  readonly subsystem: number;
  readonly classCode: number;
  /** Null where the kernel has no such file (before 4.10). */
  readonly revision: number | null;
  /** BAR 0 to 5, then the ROM; null where there is none. */
  readonly resources: readonly (PciResource | null)[];
  readonly driver: string | null;
  readonly iommuGroup: number | null;
  /** Null where the kernel has no opinion (-1). */
  readonly numaNode: number | null;
  readonly irq: number;
  /** The name of the slot that its card is in; null where the kernel knows of none. */
  readonly slot: string | null;
  readonly isVirtualFunction: boolean;
}

/** BARs and the ROM; the lines after them are windows and VF BARs. */
const RESOURCES = 7;

/** @throws VfioError ENODEV when there is no such device */
export function readPciDevice(bdf: string, root: string = PCI_DEVICES): PciDeviceFiles {
  const folder = join(root, bdf);
  const text = (name: string): string | null => {
    try {
      return readFileSync(join(folder, name), 'utf8');
    } catch {
      return null;
    }
  };
  const number = (name: string): number => {
    const value = Number(text(name)?.trim());
    return Number.isSafeInteger(value) ? value : 0;
  };
  let config: Uint8Array;
  try {
    config = new Uint8Array(readFileSync(join(folder, 'config')));
  } catch (cause) {
    throw new VfioError('ENODEV', `${bdf} is not a PCI device of this computer`, {
      cause,
      fix: 'For a device of a machine file add --machine FILE; for a dump give its path, such as ./dump.txt.',
    });
  }
  const group = linkName(join(folder, 'iommu_group'));
  const numaNode = text('numa_node');
  return {
    config,
    vendor: number('vendor'),
    device: number('device'),
    subsystemVendor: number('subsystem_vendor'),
    subsystem: number('subsystem_device'),
    classCode: number('class'),
    revision: text('revision') === null ? null : number('revision'),
    resources: parseResources(text('resource') ?? ''),
    driver: linkName(join(folder, 'driver')),
    iommuGroup: group === null ? null : Number(group),
    numaNode: numaNode === null || Number(numaNode) < 0 ? null : Number(numaNode),
    irq: number('irq'),
    slot: slotOf(bdf, join(root, '../slots')),
    isVirtualFunction: existsSync(join(folder, 'physfn')),
  };
}

/** A slot's file `address` has the domain, bus and device of its card. */
function slotOf(bdf: string, slots: string): string | null {
  const card = bdf.slice(0, bdf.lastIndexOf('.'));
  const isItsSlot = (name: string): boolean => {
    try {
      return readFileSync(join(slots, name, 'address'), 'utf8').trim() === card;
    } catch {
      return false;
    }
  };
  return existsSync(slots) ? (readdirSync(slots).find(isItsSlot) ?? null) : null;
}

function linkName(path: string): string | null {
  try {
    return basename(readlinkSync(path));
  } catch {
    return null;
  }
}

/** A line for each: first byte, last byte, flags. Unused ones are all zero. */
function parseResources(text: string): (PciResource | null)[] {
  return text
    .split('\n')
    .slice(0, RESOURCES)
    .map((line) => {
      const match = /^(0x[0-9a-f]{1,16}) (0x[0-9a-f]{1,16}) (0x[0-9a-f]{1,16})$/i.exec(line.trim());
      if (match === null) return null;
      const [start, end, flags] = [BigInt(match[1]!), BigInt(match[2]!), Number(match[3]!)];
      return flags === 0 || end < start || (start === 0n && end === 0n) ? null : { start, size: end - start + 1n, flags };
    });
}
