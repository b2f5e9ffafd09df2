/**
 * Services with which a device takes part in address translation: ATS, page requests (PRI), address
 * spaces of processes (PASID).
 */
import { ExtCapId } from '../../abi/pci.ts';
import type { Capability } from '../declaration.ts';
import { registers } from '../decode/registers.ts';
import { fixed, hidden, Why } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

const Ats = { CAP: 4, CTRL: 6, SIZE: 8 } as const;
const Pri = { CTRL: 4, STATUS: 6, MAX_REQ: 8, ALLOC_REQ: 12, SIZE: 16 } as const;
const Pasid = { CAP: 4, CTRL: 6 } as const;

/** Address translation service. */
export function ats(options: Placed = {}): Capability {
  return new CapabilityBuilder(Ats.SIZE).set(Ats.CAP, 2, 0x0020).set(Ats.CTRL, 2, 0, 0x801f).build(addressTranslation, options);
}

export const addressTranslation: CapabilityKind = {
  id: ExtCapId.ATS,
  extended: true,
  name: 'Address Translation Service',
  access: { length: fixed(Ats.SIZE), why: Why.IOMMU },
  decode: registers('Address Translation Service (ATS)', [
    { name: 'ATSCap', at: Ats.CAP, width: 2, gap: '\t', lines: ['Invalidate Queue Depth: {4:0 hex2}'] },
    { name: 'ATSCtl', at: Ats.CTRL, width: 2, gap: '\t', lines: ['Enable{15}, Smallest Translation Unit: {4:0 hex2}'] },
  ]),
};

const decodeRequests: CapabilityDecoder = (r, d) => {
  const title = 'Page Request Interface (PRI)';
  if (!r.has(Pri.CTRL, 12)) return { title };
  d.line('PRICtl', r.u16(Pri.CTRL), '\t\tPRICtl: Enable{0} Reset{1}');
  d.line('PRISta', r.u16(Pri.STATUS), '\t\tPRISta: RF{0} UPRGI{1} Stopped{8} PASID{15}');
  const capacity = d.text('Capacity', r.u32(Pri.MAX_REQ), 'Page Request Capacity: {31:0 hex8}');
  d.lines.push(`\t\t${capacity}, ${d.text('Allocation', r.u32(Pri.ALLOC_REQ), 'Page Request Allocation: {31:0 hex8}')}`);
  return { title };
};

export const pageRequests: CapabilityKind = {
  id: ExtCapId.PRI,
  extended: true,
  name: 'Page Request Interface',
  access: { length: fixed(Pri.SIZE), why: Why.IOMMU },
  decode: decodeRequests,
};

export const processAddressSpaces: CapabilityKind = {
  id: ExtCapId.PASID,
  extended: true,
  name: 'Process Address Space ID',
  access: hidden('not supported: the host enables it together with its IOMMU'),
  decode: registers('Process Address Space ID (PASID)', [
    { name: 'PASIDCap', at: Pasid.CAP, width: 2, lines: ['Exec{1} Priv{2}, Max PASID Width: {12:8 hex2}'] },
    { name: 'PASIDCtl', at: Pasid.CTRL, width: 2, lines: ['Enable{0} Exec{1} Priv{2}'] },
  ]),
};
