/**
 * What a user of VFIO may do with each bit of config space, as data with a reason beside every row (S2-05, S2-43, S2-44).
 *
 * A bit that is `virt` is answered from the user's own copy, the others by hardware. A bit that is `write` can be written: into the copy when it
 * is `virt`, else in hardware. Bits that no row names are read-only in hardware. Side effects are named here (`trigger`) and
 * live in the engine's virtual-config.ts. The kernel these tables were compared with is `PERMISSIONS_VERSION`.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_config.c; linux/pci_regs.h for sizes
 */
import {
  Af,
  Agp,
  CapHeader,
  CapId,
  Command,
  Config,
  HEADER_SIZE,
  Ht,
  Msi,
  Msix,
  PciExp,
  PciExpType,
  Pcix,
  Pm,
  Sata,
  Status,
  Vndr,
  Vpd,
} from '../abi/pci.ts';

export const PERMISSIONS_VERSION = 'Linux 7.2';

/** Side effects of a write, done by the engine after the bits have landed. */
export type Trigger =
  | 'memory-decode'
  | 'intx-mask'
  | 'bar-sizing'
  | 'power-state'
  | 'vpd-access'
  | 'msi-control'
  | 'function-reset'
  | 'read-request-size';

export const triggerMeanings: Readonly<Record<Trigger, string>> = {
  'memory-decode':
    'turning memory decoding off revokes every mapping of the BARs; turning it on after a reset behind our back restores the BARs',
  'intx-mask': 'masks or unmasks the INTx interrupt that VFIO delivers',
  'bar-sizing': 'the next read answers as hardware would: address bits below the size read 0, type bits as they are',
  'power-state': 'asks the host to change the power state; entering D3hot revokes every mapping of the BARs',
  'vpd-access': 'writing the upper address byte makes the host read or write four bytes of VPD and toggle the flag',
  'msi-control': 'the enable bit holds only while MSI was enabled through SET_IRQS; the message count is cut to what was asked for there',
  'function-reset': 'the host resets the function and restores its config space; the bit itself always reads 0',
  'read-request-size': 'the host sets the hardware field to the larger of this value and the maximum payload',
};

export interface PermissionRow {
  /** From the start of the header or the capability. */
  readonly offset: number;
  readonly width: 1 | 2 | 4;
  readonly name: string;
  readonly virt: number;
  readonly write: number;
  readonly why: string;
  readonly triggers: readonly Trigger[];
}

/** Read a register of the capability whose length is wanted. */
export type RegisterReader = (offset: number, width: 1 | 2 | 4) => number;

export type LengthRule =
  | { readonly kind: 'fixed'; readonly bytes: number }
  /** `of` answers 0 when the capability cannot be shown. `most` bounds the rows. */
  | { readonly kind: 'variable'; readonly most: number; readonly rule: string; readonly of: (read: RegisterReader) => number }
  /** Taken out of the chain that the user sees. */
  | { readonly kind: 'hidden' };

export interface CapabilityPermissions {
  readonly id: number;
  readonly extended: boolean;
  readonly name: string;
  readonly length: LengthRule;
  /** Everything but the header goes straight to hardware, writes too. */
  readonly raw: boolean;
  /** Why bits that no row names are as they are. */
  readonly why: string;
  readonly rows: readonly PermissionRow[] | ((read: RegisterReader) => readonly PermissionRow[]);
}

const ALL = 0xffff_ffff;

export function row(
  offset: number,
  width: 1 | 2 | 4,
  name: string,
  virt: number,
  write: number,
  why: string,
  ...triggers: readonly Trigger[]
): PermissionRow {
  const mask = width === 4 ? ALL : 2 ** (8 * width) - 1;
  return { offset, width, name, virt: (virt & mask) >>> 0, write: (write & mask) >>> 0, why, triggers };
}

const chainWhy = 'the capability list is edited: capabilities that cannot be given away are taken out';
const next = row(CapHeader.NEXT, 1, 'next capability', ALL, 0, chainWhy);
const busWhy = 'the real BARs stay where the host put them; sizing is emulated on the copy';
const bar = (i: number) => row(Config.BASE_ADDRESS_0 + 4 * i, 4, `BAR ${i}`, ALL, ALL, busWhy, 'bar-sizing');

/** The header, 0x00 to 0x3f, of an endpoint: bridges are never given away. */
export const headerPermissions: CapabilityPermissions = {
  id: 0,
  extended: false,
  name: 'header',
  length: { kind: 'fixed', bytes: HEADER_SIZE },
  raw: false,
  why: 'read-only: identifies the device',
  rows: [
    row(Config.VENDOR_ID, 2, 'vendor id', ALL, 0, 'virtual functions read all ones in hardware; the host knows better'),
    row(Config.DEVICE_ID, 2, 'device id', ALL, 0, 'virtual functions read all ones in hardware; the host knows better'),
    row(
      Config.COMMAND,
      2,
      'COMMAND',
      Command.INTX_DISABLE,
      ALL,
      'INTx disable is used by the host to mask the interrupt, so the user has one of his own; the rest is his to set',
      'memory-decode',
      'intx-mask',
    ),
    row(
      Config.STATUS,
      2,
      'STATUS',
      Status.CAP_LIST,
      0,
      'read-only; the capability list bit follows the edited list, error bits are the host’s to clear',
    ),
    row(Config.REVISION_ID, 1, 'revision', 0, 0, 'read-only: identifies the device'),
    row(Config.CLASS_PROG, 1, 'programming interface', 0, 0, 'read-only: identifies the device'),
    row(Config.CLASS_DEVICE, 2, 'class', 0, 0, 'read-only: identifies the device'),
    row(Config.CACHE_LINE_SIZE, 1, 'cache line size', 0, ALL, 'no harm in it'),
    row(Config.LATENCY_TIMER, 1, 'latency timer', 0, ALL, 'no harm in it'),
    row(Config.HEADER_TYPE, 1, 'header type', 0, 0, 'read-only: identifies the device'),
    row(Config.BIST, 1, 'BIST', 0, ALL, 'no harm in it: tests this function only'),
    bar(0),
    bar(1),
    bar(2),
    bar(3),
    bar(4),
    bar(5),
    row(Config.CARDBUS_CIS, 4, 'CardBus CIS', 0, 0, 'read-only: identifies the device'),
    row(Config.SUBSYSTEM_VENDOR_ID, 2, 'subsystem vendor id', 0, 0, 'read-only: identifies the device'),
    row(Config.SUBSYSTEM_ID, 2, 'subsystem id', 0, 0, 'read-only: identifies the device'),
    row(Config.ROM_ADDRESS, 4, 'ROM BAR', ALL, ALL, busWhy, 'bar-sizing'),
    row(Config.CAPABILITY_LIST, 1, 'capability pointer', ALL, 0, chainWhy),
    row(Config.INTERRUPT_LINE, 1, 'interrupt line', ALL, ALL, 'a scratch register of software; guests keep their own routing in it'),
    row(
      Config.INTERRUPT_PIN,
      1,
      'interrupt pin',
      ALL,
      0,
      'reads 0 when there is no INTx to give: a virtual function, no line, or INTx not usable',
    ),
    row(Config.MIN_GNT, 1, 'minimum grant', 0, 0, 'read-only: timing needs of the device'),
    row(Config.MAX_LAT, 1, 'maximum latency', 0, 0, 'read-only: timing needs of the device'),
  ],
};

function msiRows(read: RegisterReader): readonly PermissionRow[] {
  const flags = read(Msi.FLAGS, 2);
  const wide = (flags & Msi.FLAGS_64BIT) !== 0;
  const owner = 'the message belongs to the host, which programs its own; the user’s is kept for him to read back';
  const rows = [
    next,
    row(
      Msi.FLAGS,
      1,
      'message control',
      ALL,
      ALL,
      'enabling goes through SET_IRQS; what the user writes is checked and then given to hardware',
      'msi-control',
    ),
    row(Msi.FLAGS + 1, 1, 'message control (upper byte)', 0, 0, 'read-only: tells about per-vector masking, the rest is reserved'),
    row(Msi.ADDRESS_LO, 4, 'message address', ALL, ALL, owner),
  ];
  if (wide) rows.push(row(Msi.ADDRESS_HI, 4, 'message upper address', ALL, ALL, owner));
  rows.push(row(wide ? Msi.DATA_64 : Msi.DATA_32, 2, 'message data', ALL, ALL, owner));
  if ((flags & Msi.FLAGS_MASKBIT) !== 0) {
    const why = 'masking the device’s own vectors harms nobody else';
    rows.push(row(wide ? Msi.MASK_64 : Msi.MASK_32, 4, 'mask bits', 0, ALL, why));
    rows.push(row(wide ? Msi.PENDING_64 : Msi.PENDING_32, 4, 'pending bits', 0, ALL, `${why}; hardware keeps these read-only`));
  }
  return rows;
}

function msiLength(read: RegisterReader): number {
  const flags = read(Msi.FLAGS, 2);
  return Msi.SIZE_32 + ((flags & Msi.FLAGS_64BIT) !== 0 ? 4 : 0) + ((flags & Msi.FLAGS_MASKBIT) !== 0 ? 10 : 0);
}

function pcieLength(read: RegisterReader): number {
  const flags = read(PciExp.FLAGS, 2);
  const linked = (flags & PciExp.FLAGS_TYPE) >> PciExp.FLAGS_TYPE_SHIFT !== PciExpType.RC_END;
  if ((flags & PciExp.FLAGS_VERS) === 1) return linked ? PciExp.SIZE_V1 : PciExp.SIZE_V1_NO_LINK;
  return linked ? PciExp.SIZE_V2 : PciExp.SIZE_V2_NO_LINK;
}

const direct = (id: number, name: string, length: LengthRule, why: string): CapabilityPermissions => {
  return { id, extended: false, name, length, raw: false, why, rows: [next] };
};
const hidden = (id: number, name: string, why: string): CapabilityPermissions => {
  return { id, extended: false, name, length: { kind: 'hidden' }, raw: false, why, rows: [] };
};

/** The standard capabilities by id. An id that is not here is hidden. */
export const capabilityPermissions: readonly CapabilityPermissions[] = [
  {
    id: CapId.PM,
    extended: false,
    name: 'Power Management',
    length: { kind: 'fixed', bytes: Pm.SIZE },
    raw: false,
    why: 'read-only: what the device can do',
    rows: [
      next,
      row(
        Pm.PMC,
        2,
        'power management capabilities',
        Pm.PMC_PME_MASK,
        0,
        'power management events go to the host, so the user is told that there are none',
      ),
      row(
        Pm.CTRL,
        2,
        'power management control',
        Pm.CTRL_PME_ENABLE | Pm.CTRL_PME_STATUS,
        ~(Pm.CTRL_PME_ENABLE | Pm.CTRL_PME_STATUS | Pm.CTRL_STATE_MASK),
        'the state is changed by the host on the user’s behalf, never written through; events belong to the host; the rest is per function',
        'power-state',
      ),
    ],
  },
  direct(CapId.AGP, 'AGP', { kind: 'fixed', bytes: Agp.SIZE }, 'read-only: rates are agreed with the bridge'),
  {
    id: CapId.VPD,
    extended: false,
    name: 'Vital Product Data',
    length: { kind: 'fixed', bytes: Vpd.SIZE },
    raw: false,
    why: 'read-only',
    rows: [
      next,
      row(
        Vpd.ADDR,
        2,
        'VPD address',
        ALL,
        ALL,
        'the host does the access, in turn with its own, and bounds the wait for a device that never answers',
        'vpd-access',
      ),
      row(Vpd.DATA, 4, 'VPD data', ALL, ALL, 'the host does the access, in turn with its own'),
    ],
  },
  hidden(CapId.SLOTID, 'Slot Identification', 'only bridges have it'),
  {
    id: CapId.MSI,
    extended: false,
    name: 'MSI',
    length: { kind: 'variable', most: Msi.SIZE_64_MASKED, rule: '10; 4 more with 64-bit address, 10 more with mask bits', of: msiLength },
    raw: false,
    why: 'read-only',
    rows: msiRows,
  },
  hidden(CapId.CHSWP, 'CompactPCI Hot Swap', 'not supported'),
  {
    id: CapId.PCIX,
    extended: false,
    name: 'PCI-X',
    length: {
      kind: 'variable',
      most: Pcix.SIZE_V2,
      rule: '8 in version 0, else 24',
      of: (read) => (((read(Pcix.CMD, 2) >> Pcix.CMD_VERSION_SHIFT) & Pcix.CMD_VERSION_MASK) === 0 ? Pcix.SIZE_V0 : Pcix.SIZE_V2),
    },
    raw: false,
    why: 'read-only: status of the bus',
    rows: [
      next,
      row(Pcix.CMD, 2, 'PCI-X command', 0, ALL, 'tunes this function only'),
      row(Pcix.ECC_CSR, 4, 'ECC control and status', 0, ALL, 'tunes this function only'),
    ],
  },
  direct(
    CapId.HT,
    'HyperTransport',
    {
      kind: 'variable',
      most: Ht.SIZE_LONG,
      rule: '24 for types other than slave or primary interface, else 28',
      of: (read) => ((read(Ht.FLAGS_HIGH, 1) & Ht.TYPE3_MASK) !== 0 ? Ht.SIZE_SHORT : Ht.SIZE_LONG),
    },
    'read-only: belongs to the fabric',
  ),
  {
    id: CapId.VNDR,
    extended: false,
    name: 'Vendor Specific',
    length: { kind: 'variable', most: 0xff, rule: 'the byte after the header', of: (read) => read(Vndr.LENGTH, 1) },
    raw: true,
    why: 'written straight to hardware: devices need these registers, and isolation does not depend on them',
    rows: [next],
  },
  hidden(CapId.DBG, 'Debug Port', 'not supported'),
  hidden(CapId.CCRC, 'CompactPCI Resource Control', 'not supported'),
  hidden(CapId.SHPC, 'Hot-Plug Controller', 'only bridges have it'),
  hidden(CapId.SSVID, 'Bridge Subsystem Ids', 'only bridges have it'),
  hidden(CapId.AGP3, 'AGP 8x', 'not supported'),
  hidden(CapId.SECDEV, 'Secure Device', 'not supported'),
  {
    id: CapId.EXP,
    extended: false,
    name: 'PCI Express',
    length: {
      kind: 'variable',
      most: PciExp.SIZE_V2,
      rule: 'version 1: 20, without link 12; version 2: 52, without link 44',
      of: pcieLength,
    },
    raw: false,
    why: 'read-only: what the device can do, its status, and link, slot and root, which belong to the fabric',
    rows: [
      next,
      row(
        PciExp.DEVCTL,
        2,
        'device control',
        PciExp.DEVCTL_BCR_FLR | PciExp.DEVCTL_PAYLOAD | PciExp.DEVCTL_READRQ,
        ~PciExp.DEVCTL_PHANTOM,
        'phantom functions would use requester ids that the IOMMU does not know; payload size is agreed over the whole fabric, so his stays in the copy; reset and read request size are done by the host',
        'function-reset',
        'read-request-size',
      ),
      row(
        PciExp.DEVCTL2,
        2,
        'device control 2',
        0,
        ~PciExp.DEVCTL2_ARI,
        'ARI forwarding is set up by the host at probe; the rest is per function',
      ),
    ],
  },
  direct(
    CapId.MSIX,
    'MSI-X',
    { kind: 'fixed', bytes: Msix.SIZE },
    'read-only: enabling and masking go through SET_IRQS, because the vectors are the host’s',
  ),
  direct(
    CapId.SATA,
    'SATA',
    {
      kind: 'variable',
      most: Sata.SIZE_LONG,
      rule: '16 when its registers are in config space, else 8',
      of: (read) => ((read(Sata.REGS, 1) & Sata.REGS_MASK) === Sata.REGS_INLINE ? Sata.SIZE_LONG : Sata.SIZE_SHORT),
    },
    'read-only: index and data registers',
  ),
  {
    id: CapId.AF,
    extended: false,
    name: 'Advanced Features',
    length: { kind: 'fixed', bytes: Af.SIZE },
    raw: false,
    why: 'read-only: what the device can do',
    rows: [
      next,
      row(
        Af.CTRL,
        1,
        'AF control',
        Af.CTRL_FLR,
        Af.CTRL_FLR,
        'the host does the reset, because it must restore the state around it',
        'function-reset',
      ),
    ],
  },
  hidden(CapId.EA, 'Enhanced Allocation', 'not supported: BARs at fixed addresses'),
];

/** Why an id without a row is hidden. */
export const unknownCapabilityWhy = 'not known: it may reach beyond this function';
