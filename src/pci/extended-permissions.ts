/** As permissions.ts, for extended capabilities. */
import { Acs, Aer, Ari, Ats, Dpa, Dsn, Dvsec, ExtCapId, Ltr, Mcast, Pri, Pwr, Rebar, Sriov, Tph, Vc, Vsec } from '../abi/pci.ts';
import { type CapabilityPermissions, type LengthRule, type PermissionRow, type RegisterReader, row, withBits } from './permissions.ts';

const header = row(
  0,
  4,
  'extended header',
  0xffff_ffff,
  0,
  'the capability list is edited: capabilities that cannot be given away are taken out',
);

const shown = (id: number, name: string, length: LengthRule, why: string, rows: readonly PermissionRow[] = []): CapabilityPermissions => {
  return { id, extended: true, name, length, raw: false, why, rows: [header, ...rows] };
};
const raw = (id: number, name: string, length: LengthRule, why: string): CapabilityPermissions => {
  return { id, extended: true, name, length, raw: true, why, rows: [header] };
};
const hidden = (id: number, name: string, why: string): CapabilityPermissions => {
  return { id, extended: true, name, length: { kind: 'hidden' }, raw: false, why, rows: [] };
};
const fixed = (bytes: number): LengthRule => ({ kind: 'fixed', bytes });

function vcLength(read: RegisterReader): number {
  const count = 1 + (read(Vc.PORT_CAP1, 4) & Vc.CAP1_EVCC);
  const arbitration = read(Vc.PORT_CAP2, 4);
  let phases = 0;
  if ((arbitration & Vc.CAP2_128_PHASE) !== 0) phases = 128;
  else if ((arbitration & Vc.CAP2_64_PHASE) !== 0) phases = 64;
  else if ((arbitration & Vc.CAP2_32_PHASE) !== 0) phases = 32;
  const length = Vc.BASE_SIZE + Vc.PER_VC_SIZE * count;
  // Four bits per phase, after the registers, on a 16-byte boundary.
  return phases === 0 ? length : Math.ceil(length / 16) * 16 + phases / 2;
}
const vc: LengthRule = {
  kind: 'variable',
  most: 112 + 64,
  rule: '16 and 12 per channel; with an arbitration table rounded up to 16 and half a byte per phase',
  of: vcLength,
};

function acsLength(read: RegisterReader): number {
  if ((read(Acs.CAP, 1) & Acs.EC) === 0) return Acs.SIZE;
  const bits = read(Acs.EGRESS_BITS, 1);
  return Acs.SIZE + (bits === 0 ? 256 : Math.ceil(bits / 32) * 32) / 8;
}

function tphLength(read: RegisterReader): number {
  const capability = read(Tph.CAP, 4);
  if ((capability & Tph.CAP_LOC_MASK) !== Tph.LOC_CAP) return Tph.BASE_SIZE;
  return Tph.BASE_SIZE + ((capability & Tph.CAP_ST_MASK) >>> Tph.CAP_ST_SHIFT) * 2 + 2;
}

/** The error bits that the specification names: reserved ones stay as they are. */
const UNCORRECTABLE = 0x03ff_f031;
const CORRECTABLE = 0x0000_f1c1;
const RESERVED_UNCORRECTABLE = ~UNCORRECTABLE >>> 0;
const RESERVED_CORRECTABLE = ~CORRECTABLE >>> 0;
const reserved = 'reserved: nobody knows what it will mean';
const policy = 'error policy of this function only';
const rootOnly = 'only root complexes have it';
const fabric = 'read-only: belongs to the fabric';
const iommu = 'read-only: the host enables it together with its IOMMU';
const unsupported = 'not supported: its effect reaches beyond this function, or nobody has looked at it';

/** The extended capabilities by id. An id that is not here is hidden. */
export const extendedPermissions: readonly CapabilityPermissions[] = [
  shown(
    ExtCapId.ERR,
    'Advanced Error Reporting',
    fixed(Aer.ROOT_COMMAND),
    'read-only: the log; the root error registers are not part of it',
    [
      withBits(row(Aer.UNCOR_STATUS, 4, 'uncorrectable error status', 0, UNCORRECTABLE, policy), [RESERVED_UNCORRECTABLE, reserved]),
      withBits(row(Aer.UNCOR_MASK, 4, 'uncorrectable error mask', 0, UNCORRECTABLE, policy), [RESERVED_UNCORRECTABLE, reserved]),
      withBits(row(Aer.UNCOR_SEVER, 4, 'uncorrectable error severity', 0, UNCORRECTABLE, policy), [RESERVED_UNCORRECTABLE, reserved]),
      withBits(row(Aer.COR_STATUS, 4, 'correctable error status', 0, CORRECTABLE, policy), [RESERVED_CORRECTABLE, reserved]),
      withBits(row(Aer.COR_MASK, 4, 'correctable error mask', 0, CORRECTABLE, policy), [RESERVED_CORRECTABLE, reserved]),
      withBits(
        row(
          Aer.CAP,
          4,
          'AER capabilities and control',
          0,
          Aer.CAP_ECRC_GENE | Aer.CAP_ECRC_CHKE,
          'read-only: tells what error logging can do',
        ),
        [Aer.CAP_ECRC_GENE | Aer.CAP_ECRC_CHKE, 'generating and checking ECRC concerns this function only'],
      ),
    ],
  ),
  shown(ExtCapId.VC, 'Virtual Channel', vc, fabric),
  shown(ExtCapId.DSN, 'Device Serial Number', fixed(Dsn.SIZE), 'read-only: identifies the device'),
  shown(ExtCapId.PWR, 'Power Budgeting', fixed(Pwr.SIZE), 'read-only: what the device needs', [
    row(Pwr.DSR, 1, 'data select', 0, 0xff, 'only selects what the data register tells'),
  ]),
  hidden(ExtCapId.RCLD, 'Root Complex Link Declaration', rootOnly),
  hidden(ExtCapId.RCILC, 'Root Complex Internal Link Control', rootOnly),
  hidden(ExtCapId.RCEC, 'Root Complex Event Collector', rootOnly),
  shown(ExtCapId.MFVC, 'Multi-Function Virtual Channel', vc, fabric),
  shown(ExtCapId.VC9, 'Virtual Channel (9)', vc, fabric),
  hidden(ExtCapId.RCRB, 'Root Complex Register Block', rootOnly),
  raw(
    ExtCapId.VNDR,
    'Vendor Specific (extended)',
    {
      kind: 'variable',
      most: 0xfff,
      rule: 'bits 31:20 of its own header',
      of: (read) => read(Vsec.HEADER, 4) >>> Vsec.HEADER_LENGTH_SHIFT,
    },
    'written straight to hardware: devices need these registers, and isolation does not depend on them',
  ),
  hidden(ExtCapId.CAC, 'Configuration Access Correlation', 'obsolete'),
  shown(
    ExtCapId.ACS,
    'Access Control Services',
    { kind: 'variable', most: Acs.SIZE + 32, rule: '8, and the egress vector when there is one', of: acsLength },
    'read-only: this is the isolation itself',
  ),
  shown(ExtCapId.ARI, 'Alternative Routing-ID Interpretation', fixed(Ari.SIZE), 'read-only: topology'),
  shown(ExtCapId.ATS, 'Address Translation Service', fixed(Ats.SIZE), iommu),
  shown(ExtCapId.SRIOV, 'Single Root I/O Virtualization', fixed(Sriov.SIZE), 'read-only: virtual functions are made by the administrator'),
  hidden(ExtCapId.MRIOV, 'Multi-Root I/O Virtualization', unsupported),
  shown(ExtCapId.MCAST, 'Multicast', fixed(Mcast.SIZE), fabric),
  shown(ExtCapId.PRI, 'Page Request Interface', fixed(Pri.SIZE), iommu),
  hidden(ExtCapId.AMD_XXX, 'AMD reserved', unsupported),
  shown(
    ExtCapId.REBAR,
    'Resizable BAR',
    {
      kind: 'variable',
      most: Rebar.HEADER_SIZE + Rebar.PER_BAR_SIZE * 7,
      rule: '4, and 8 per BAR',
      of: (read) => Rebar.HEADER_SIZE + Rebar.PER_BAR_SIZE * ((read(Rebar.CTRL, 1) & Rebar.CTRL_NBAR_MASK) >> Rebar.CTRL_NBAR_SHIFT),
    },
    'read-only: the size of a BAR takes address space of the host',
  ),
  shown(
    ExtCapId.DPA,
    'Dynamic Power Allocation',
    {
      kind: 'variable',
      most: 48,
      rule: '16, and a byte per substate',
      of: (read) => Dpa.BASE_SIZE + (read(Dpa.CAP, 1) & Dpa.CAP_SUBSTATE_MASK) + 1,
    },
    'read-only: the power budget is the platform’s',
  ),
  shown(
    ExtCapId.TPH,
    'TPH Requester',
    { kind: 'variable', most: Tph.BASE_SIZE + 2 * 2048, rule: '12, and the steering tag table when it is here', of: tphLength },
    'read-only: steering tags address the host’s processors',
  ),
  shown(ExtCapId.LTR, 'Latency Tolerance Reporting', fixed(Ltr.SIZE), 'read-only: latency is the platform’s'),
  hidden(ExtCapId.SECPCI, 'Secondary PCI Express', unsupported),
  hidden(ExtCapId.PMUX, 'Protocol Multiplexing', unsupported),
  hidden(ExtCapId.PASID, 'Process Address Space ID', 'not supported: the host enables it together with its IOMMU'),
  hidden(ExtCapId.DPC, 'Downstream Port Containment', unsupported),
  hidden(ExtCapId.L1SS, 'L1 PM Substates', unsupported),
  hidden(ExtCapId.PTM, 'Precision Time Measurement', unsupported),
  raw(
    ExtCapId.DVSEC,
    'Designated Vendor Specific',
    {
      kind: 'variable',
      most: 0xfff,
      rule: 'bits 31:20 of its first header',
      of: (read) => read(Dvsec.HEADER1, 4) >>> Dvsec.HEADER1_LENGTH_SHIFT,
    },
    'written straight to hardware: devices need these registers, and isolation does not depend on them',
  ),
  hidden(ExtCapId.DLF, 'Data Link Feature', unsupported),
  hidden(ExtCapId.PL_16GT, 'Physical Layer 16 GT/s', unsupported),
  hidden(ExtCapId.PL_32GT, 'Physical Layer 32 GT/s', unsupported),
  hidden(ExtCapId.DOE, 'Data Object Exchange', unsupported),
  hidden(ExtCapId.PL_64GT, 'Physical Layer 64 GT/s', unsupported),
];
