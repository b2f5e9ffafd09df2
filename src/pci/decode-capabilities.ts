/** Standard capabilities for people: one function per id, each giving what follows the offset, its lines and its fields. */
import { Af, CapId, Msi, Msix, Pm, Sata, Ssvid, Vpd } from '../abi/pci.ts';
import { agp } from './decode/agp.ts';
import { enhancedAllocation } from './decode/enhanced-allocation.ts';
import { hypertransport } from './decode/hypertransport.ts';
import { pcix } from './decode/pci-x.ts';
import { vendorSpecific } from './decode/vendor-specific.ts';
import { decodeExpress, expressChoices } from './decode-express.ts';
import { type CapabilityReader, choice, Decoding, extract, type FieldGroups, hexDigits } from './decode-text.ts';
import type { DecodedId } from './pci-ids.ts';

export interface DecodedCapability {
  readonly id: number;
  readonly offset: number;
  /** Of extended capabilities; 0 otherwise. */
  readonly version: number;
  /** What stands on its first line, brief (lspci -v) and full. */
  readonly title: string;
  readonly fullTitle: string;
  /** The lines below it, each with its indentation. */
  readonly lines: readonly string[];
  /** The names of a Subsystem capability's ids. */
  readonly subsystem?: { readonly vendor: DecodedId; readonly device: DecodedId };
  /** Its registers, field by field. */
  readonly fields: FieldGroups;
}

/** What a capability's text depends on beside its own bytes. */
export interface CapabilityContext {
  readonly bdf: { readonly device: number; readonly fn: number };
  /** PCI Express port type; null without that capability. */
  readonly portType: number | null;
  readonly hasMemoryBar: boolean;
  /** A virtio device, whose vendor-specific capabilities are known (Virtual I/O Device 1.2, 4.1.4). */
  readonly virtio: boolean;
  /** Intel's, whose vendor-specific capabilities have a form of their own. */
  readonly intel: boolean;
  readonly bridge: boolean;
}

/** Titles; `full` when it differs. */
export interface Titles {
  readonly title: string;
  readonly full?: string;
}

/** @param version of extended capabilities; 0 otherwise */
export type CapabilityDecoder = (r: CapabilityReader, d: Decoding, context: CapabilityContext, version: number) => Titles;

const choices = {
  auxCurrent: choice(['0', '55', '100', '160', '220', '270', '320', '375']),
  power2: choice(['1', '2', '4', '8', '16', '32', '64', '128']),
  ...expressChoices,
};

function pm(r: CapabilityReader, d: Decoding): Titles {
  const title = d.text('capabilities', r.u16(Pm.PMC), 'Power Management version {version=2:0}');
  d.line(
    'capabilities',
    r.u16(Pm.PMC),
    '\t\tFlags: PMEClk{3} DSI{5} D1{9} D2{10} AuxCurrent={8:6 auxCurrent}mA PME(D0{PMED0=11},D1{PMED1=12},D2{PMED2=13},D3hot{PMED3hot=14},D3cold{PMED3cold=15})',
  );
  if (r.has(Pm.CTRL, 4)) {
    d.line('control', r.u16(Pm.CTRL), '\t\tStatus: D{state=1:0} NoSoftRst{3} PME-Enable{8} DSel={12:9} DScale={14:13} PME{PMEStatus=15}');
    const bridge = r.u8(Pm.PPB_EXTENSIONS);
    if (bridge !== 0) {
      // The bus stops its clock in B2 when bit 6 is set, and goes to B3 otherwise.
      d.lines.push(`\t\tBridge: PM${bridge & 0x80 ? '+' : '-'} B3${bridge & 0x40 ? '-' : '+'}`);
      d.set('bridge', 'PM', (bridge & 0x80) !== 0).set('bridge', 'B3', (bridge & 0x40) === 0);
    }
  }
  return { title };
}

function msi(r: CapabilityReader, d: Decoding): Titles {
  const control = r.u16(Msi.FLAGS);
  const title = d.text('control', control, 'MSI: Enable{0} Count={6:4 power2}/{Available=3:1 power2} Maskable{8} 64bit{7}');
  const wide = (control & Msi.FLAGS_64BIT) !== 0;
  const data = wide ? Msi.DATA_64 : Msi.DATA_32;
  if (!r.has(data, 2)) return { title };
  const address = wide ? hexDigits(r.u64(Msi.ADDRESS_LO), 16) : hexDigits(r.u32(Msi.ADDRESS_LO), 8);
  d.lines.push(`\t\tAddress: ${address}  Data: ${hexDigits(r.u16(data), 4)}`);
  d.set('message', 'address', `0x${address}`).set('message', 'data', r.u16(data));
  const mask = wide ? Msi.MASK_64 : Msi.MASK_32;
  if ((control & Msi.FLAGS_MASKBIT) === 0 || !r.has(mask, 8)) return { title };
  d.lines.push(`\t\tMasking: ${hexDigits(r.u32(mask), 8)}  Pending: ${hexDigits(r.u32(mask + 4), 8)}`);
  d.set('message', 'masking', r.u32(mask)).set('message', 'pending', r.u32(mask + 4));
  return { title };
}

function msix(r: CapabilityReader, d: Decoding): Titles {
  const control = r.u16(Msix.FLAGS);
  const count = extract(control, 10, 0) + 1;
  const title = `MSI-X: ${d.text('control', control, 'Enable{15}')} Count=${count} ${d.text('control', control, 'Masked{14}')}`;
  d.set('control', 'Count', count);
  if (!r.has(Msix.TABLE, 8)) return { title };
  for (const [name, label, at] of [
    ['table', 'Vector table', Msix.TABLE],
    ['pba', 'PBA', Msix.PBA],
  ] as const) {
    const value = r.u32(at);
    const offset = (value & ~Msix.BIR_MASK) >>> 0;
    d.lines.push(`\t\t${label}: ${d.text(name, value, 'BAR={2:0}')} offset=${hexDigits(offset, 8)}`);
    d.set(name, 'offset', offset);
  }
  return { title };
}

function af(r: CapabilityReader, d: Decoding): Titles {
  if (r.has(Af.CAP, 1)) d.line('AFCap', r.u8(Af.CAP), '\t\tAFCap: TP{0} FLR{1}');
  if (r.has(Af.CTRL, 1)) d.line('AFCtrl', r.u8(Af.CTRL), '\t\tAFCtrl: FLR{0}');
  if (r.has(Af.STATUS, 1)) d.line('AFStatus', r.u8(Af.STATUS), '\t\tAFStatus: TP{0}');
  return { title: 'PCI Advanced Features' };
}

function sata(r: CapabilityReader, d: Decoding): Titles {
  const title = d.text('revision', r.u8(2), 'SATA HBA v{major=7:4}.{minor=3:0}');
  if (!r.has(Sata.REGS, 4)) return { title };
  const location = r.u32(Sata.REGS);
  const where = location & Sata.REGS_MASK;
  d.set('registers', 'location', location);
  if (where === Sata.REGS_INLINE) return { title, full: `${title} InCfgSpace` };
  const bar = where - 4;
  if (bar < 0 || bar > 5) return { title, full: `${title} BAR??${where}` };
  return { title, full: `${title} BAR${bar} Offset=${hexDigits(extract(location, 23, 4), 8)}` };
}

/** The data is behind a window of two registers, which a dump does not hold. */
function vpd(r: CapabilityReader, d: Decoding): Titles {
  if (r.has(Vpd.ADDR, 2)) d.text('address', r.u16(Vpd.ADDR), '{address=14:0 hex4} F{15}');
  d.lines.push('\t\tNot readable');
  return { title: 'Vital Product Data' };
}

const only =
  (title: string): CapabilityDecoder =>
  () => ({ title });

const decoders: Readonly<Record<number, CapabilityDecoder>> = {
  [CapId.NULL]: only('Null'),
  [CapId.PM]: pm,
  [CapId.AGP]: agp,
  [CapId.VPD]: vpd,
  [CapId.SLOTID]: (r, d) => ({
    title: `${d.text('slot', r.u8(2), 'Slot ID: {slots=4:0} slots, First{5}')}, ${d.text('slot', r.u8(3), 'chassis {7:0 hex2}')}`,
  }),
  [CapId.MSI]: msi,
  [CapId.CHSWP]: only('CompactPCI hot-swap <?>'),
  [CapId.PCIX]: pcix,
  [CapId.HT]: hypertransport,
  [CapId.VNDR]: vendorSpecific,
  [CapId.DBG]: (r, d) => ({ title: d.text('port', r.u16(2), 'Debug port: BAR={15:13} offset={12:0 hex4}') }),
  [CapId.CCRC]: only('CompactPCI central resource control <?>'),
  [CapId.SHPC]: only('Hot-plug capable'),
  [CapId.SSVID]: (r, d) => ({ title: d.text('subsystem', r.u32(Ssvid.VENDOR_ID), 'Subsystem: {vendor=15:0 hex4}:{device=31:16 hex4}') }),
  [CapId.AGP3]: only('AGP3 <?>'),
  [CapId.SECDEV]: only('Secure device <?>'),
  [CapId.EXP]: decodeExpress,
  [CapId.MSIX]: msix,
  [CapId.SATA]: sata,
  [CapId.AF]: af,
  [CapId.EA]: enhancedAllocation,
};

/** The capability at the reader's offset. Never throws, whatever the bytes. */
export function decodeCapability(id: number, r: CapabilityReader, context: CapabilityContext): DecodedCapability {
  const d = new Decoding(choices);
  const decoder = decoders[id];
  const titles = decoder?.(r, d, context, 0) ?? { title: `Capability ID ${`0x${hexDigits(id, 2)}`} [${hexDigits(r.u16(2), 4)}]` };
  const { title } = titles;
  return { id, offset: r.offset, version: 0, title, fullTitle: titles.full ?? title, lines: d.lines, fields: d.fields };
}
