/** As permissions.ts, for the standard capabilities. */
import { Af, Agp, CapId, Ht, Msi, Msix, PciExp, PciExpType, Pcix, Pm, Sata, Vndr, Vpd } from '../abi/pci.ts';
import {
  ALL,
  type CapabilityPermissions,
  type LengthRule,
  nextPointer as next,
  type PermissionRow,
  type RegisterReader,
  row,
  withBits,
} from './permissions.ts';

function msiRows(read: RegisterReader): readonly PermissionRow[] {
  const flags = read(Msi.FLAGS, 2);
  const wide = (flags & Msi.FLAGS_64BIT) !== 0;
  const owner = 'the message belongs to the host, which programs its own; the user’s is kept to be read back';
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
      withBits(row(Pm.PMC, 2, 'power management capabilities', Pm.PMC_PME_MASK, 0, 'read-only: what the device can do'), [
        Pm.PMC_PME_MASK,
        'power management events go to the host, so the user is told that there are none',
      ]),
      withBits(
        row(
          Pm.CTRL,
          2,
          'power management control',
          Pm.CTRL_PME_ENABLE | Pm.CTRL_PME_STATUS,
          ~(Pm.CTRL_PME_ENABLE | Pm.CTRL_PME_STATUS | Pm.CTRL_STATE_MASK),
          'power management is per function',
          'power-state',
        ),
        [Pm.CTRL_STATE_MASK, 'never written through: the host changes the state on the user’s behalf'],
        [Pm.CTRL_PME_ENABLE | Pm.CTRL_PME_STATUS, 'power management events belong to the host'],
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
      withBits(
        row(
          PciExp.DEVCTL,
          2,
          'device control',
          PciExp.DEVCTL_BCR_FLR | PciExp.DEVCTL_PAYLOAD | PciExp.DEVCTL_READRQ,
          ~PciExp.DEVCTL_PHANTOM,
          'the user may set it: it concerns this function only',
          'function-reset',
          'read-request-size',
        ),
        [PciExp.DEVCTL_BCR_FLR, 'the host does the reset, because it must restore the state around it'],
        [PciExp.DEVCTL_READRQ, 'the host sets the hardware’s field, never below the payload size'],
        [PciExp.DEVCTL_PAYLOAD, 'payload size is agreed over the whole fabric, so the user’s stays in the copy'],
        [PciExp.DEVCTL_PHANTOM, 'phantom functions would use requester ids that the IOMMU does not know'],
      ),
      withBits(row(PciExp.DEVCTL2, 2, 'device control 2', 0, ~PciExp.DEVCTL2_ARI, 'the user may set it: it concerns this function only'), [
        PciExp.DEVCTL2_ARI,
        'ARI forwarding is set up by the host at probe',
      ]),
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
      withBits(
        row(
          Af.CTRL,
          1,
          'AF control',
          Af.CTRL_FLR,
          Af.CTRL_FLR,
          'the host does the reset, because it must restore the state around it',
          'function-reset',
        ),
        [0xff & ~Af.CTRL_FLR, 'read-only: reserved'],
      ),
    ],
  },
  hidden(CapId.EA, 'Enhanced Allocation', 'not supported: BARs at fixed addresses'),
];
