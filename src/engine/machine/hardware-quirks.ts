/**
 * Devices that Linux knows from their ids, because their registers do not describe the hardware:
 * functions that isolate without an ACS capability that says so, and the controllers behind which a
 * PCI domain of its own appears.
 *
 * @see linux/drivers/pci/quirks.c, pci_dev_specific_acs_enabled();
 * linux/drivers/pci/controller/vmd.c, vmd_ids[]
 */
import type { FunctionKind } from './machine-spec.ts';

interface Hardware {
  readonly kind: FunctionKind;
  readonly declaration: { readonly vendor: number; readonly device: number };
  readonly isMultifunction: boolean;
  readonly bus: { readonly isRoot: boolean };
}

interface IsolationQuirk {
  /** The hardware, for a message. */
  readonly name: string;
  readonly vendor: number;
  /** First and last device id of each range; null: every device of that vendor. */
  readonly devices: readonly (readonly [number, number])[] | null;
  /** Only functions of these kinds. */
  readonly kinds: readonly FunctionKind[] | null;
  readonly when?: (fn: Hardware) => boolean;
}

/** `1c10-1c1f 1d10`: ranges and single ids, hexadecimal. */
function ids(text: string): readonly (readonly [number, number])[] {
  return text.split(/\s+/).map((part) => {
    const [first, last] = part.split('-').map((id) => Number.parseInt(id, 16));
    return [first!, last ?? first!] as const;
  });
}

const ROOT_PORT: readonly FunctionKind[] = ['root-port'];

const isolationQuirks: readonly IsolationQuirk[] = [
  // They reach each other only through translation.
  {
    name: 'root complex integrated endpoints of Intel',
    vendor: 0x8086,
    devices: null,
    kinds: ['integrated-endpoint'],
  },
  {
    name: 'network cards of Intel',
    vendor: 0x8086,
    devices: ids(
      '10a7 10a9 10c6 10c9 10d6 10d9 10db 10dd 10e1 10e6-10e8 10f1 10f7-10fc 105e-1060 1507 1509-150a 150d-1511 1514 1516 1518 151c 1521-1524 1526-1527 1529-152a 154d 154f 1551 1558 15b7-15b8',
    ),
    kinds: null,
  },
  {
    name: 'root ports of Intel chipsets',
    vendor: 0x8086,
    devices: ids('3b42-3b51 1c10-1c1f 1e10-1e1f 8c10-8c1f 9c10-9c1b 9c90-9c9b 8d10-8d1e'),
    kinds: ROOT_PORT,
  },
  {
    name: 'root ports of Intel chipsets',
    vendor: 0x8086,
    devices: ids('1d10 1d12 1d14 1d16 1d18 1d1a 1d1c 1d1e 8c90 8c92 8c94 8c96 8c98 8c9a 8c9c 8c9e'),
    kinds: ROOT_PORT,
  },
  {
    name: 'southbridges of ATI',
    vendor: 0x1002,
    devices: ids('4383-4385 4399 439c-439d'),
    kinds: null,
    when: (fn) => fn.isMultifunction && fn.bus.isRoot,
  },
  {
    name: 'southbridges of AMD',
    vendor: 0x1022,
    devices: ids('7809 780f'),
    kinds: null,
    when: (fn) => fn.isMultifunction && fn.bus.isRoot,
  },
  { name: 'network cards of Solarflare', vendor: 0x1924, devices: ids('0903 0923 0a03'), kinds: null },
  { name: 'network cards of Emulex', vendor: 0x19a2, devices: ids('0710'), kinds: null },
  { name: 'network cards of Emulex', vendor: 0x10df, devices: ids('0720'), kinds: null },
  { name: 'root ports of Cavium', vendor: 0x177d, devices: ids('a000-a7ff af84 b884'), kinds: ROOT_PORT },
  { name: 'devices of Cavium', vendor: 0x177d, devices: ids('a026 a059 a060'), kinds: null },
  { name: 'network cards of Broadcom', vendor: 0x14e4, devices: ids('16d7 1750-1752 1760-1763'), kinds: null },
  { name: 'ports of Broadcom', vendor: 0x14e4, devices: ids('d714'), kinds: null },
  { name: 'devices of Zhaoxin', vendor: 0x1d17, devices: ids('3038 3104 9083'), kinds: null },
  { name: 'ports of Zhaoxin', vendor: 0x1d17, devices: ids('0710-071e 0721 0723-0752'), kinds: ['root-port', 'downstream-port'] },
  { name: 'network cards of Wangxun', vendor: 0x8088, devices: ids('0100-010f 1001 2001 5010 5025 5040 5110 5125 5140'), kinds: null },
  { name: 'ports of Applied Micro', vendor: 0x10e8, devices: ids('e004'), kinds: null },
  { name: 'ports of Ampere', vendor: 0x1def, devices: ids('e005-e00c'), kinds: null },
  { name: 'ports of Qualcomm', vendor: 0x17cb, devices: ids('0400-0401 0115 0111 0120'), kinds: null },
  { name: 'ports of Huaxintong', vendor: 0x1dbf, devices: ids('0401'), kinds: null },
  { name: 'root ports of Amazon', vendor: 0x1c36, devices: ids('0031'), kinds: ROOT_PORT },
  { name: 'ports of Loongson', vendor: 0x0014, devices: ids('3c09 3c19 3c29 7a09 7a19 7a29 7a39 7a49 7a59 7a69'), kinds: null },
  {
    name: 'root ports of NXP',
    vendor: 0x1957,
    devices: ids('8d80-8d83 8d88-8d8b 8d90-8d93 8d98-8d9b 8da0-8da1 8da8-8da9 8db0-8db1 8db8-8db9'),
    kinds: null,
  },
];

/** The hardware by which a function isolates, although its registers may not say so; null: none. */
export function isolationQuirkOf(fn: Hardware): string | null {
  const { vendor, device } = fn.declaration;
  const found = isolationQuirks.find(
    (q) =>
      q.vendor === vendor &&
      (q.devices?.some(([first, last]) => device >= first && device <= last) ?? true) &&
      (q.kinds?.includes(fn.kind) ?? true) &&
      (q.when?.(fn) ?? true),
  );
  return found?.name ?? null;
}

const volumeManagers = ids('201d 28c0-28c1 467f 4c3d a77f 7d0b ad0b 9a0b b60b b06f b07f d70b d73b');

/**
 * An Intel Volume Management Device: the devices behind it appear in a domain of their own, and do
 * DMA with its requester id.
 */
export function isVolumeManager({ declaration: { vendor, device } }: Pick<Hardware, 'declaration'>): boolean {
  return vendor === 0x8086 && volumeManagers.some(([first, last]) => device >= first && device <= last);
}
