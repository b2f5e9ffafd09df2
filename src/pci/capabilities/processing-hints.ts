/**
 * Transaction processing hints: steering tags say which processor's cache a write is for (PCI
 * Express Base 6.0, 7.9.13).
 */
import { ExtCapId } from '../../abi/pci.ts';
import { extract } from '../decode/text.ts';
import type { RegisterReader } from '../permissions/rows.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

const Tph = {
  CAP: 4,
  CAP_LOC_MASK: 0x600,
  LOC_CAP: 0x200,
  CAP_ST_MASK: 0x07ff0000,
  CAP_ST_SHIFT: 16,
  BASE_SIZE: 12,
} as const;

function length(read: RegisterReader): number {
  const capability = read(Tph.CAP, 4);
  if ((capability & Tph.CAP_LOC_MASK) !== Tph.LOC_CAP) return Tph.BASE_SIZE;
  return Tph.BASE_SIZE + ((capability & Tph.CAP_ST_MASK) >>> Tph.CAP_ST_SHIFT) * 2 + 2;
}

const decode: CapabilityDecoder = (r, d) => {
  const title = 'Transaction Processing Hints';
  if (!r.has(Tph.CAP, 4)) return { title };
  const cap = r.u32(Tph.CAP);
  d.text('TPH', cap, '{InterruptVector=1}{DeviceSpecific=2}{Extended=8}{TableLocation=10:9}');
  if ((cap & 0x2) !== 0) d.lines.push('\t\tInterrupt vector mode supported');
  if ((cap & 0x4) !== 0) d.lines.push('\t\tDevice specific mode supported');
  if ((cap & 0x100) !== 0) d.lines.push('\t\tExtended requester support');
  const table = ['No steering table available', 'Steering table in TPH capability structure', 'Steering table in MSI-X table'];
  d.lines.push(`\t\t${table[extract(cap, 10, 9)] ?? 'Reserved steering table location'}`);
  return { title };
};

export const processingHints: CapabilityKind = {
  id: ExtCapId.TPH,
  extended: true,
  name: 'TPH Requester',
  access: {
    length: { kind: 'variable', most: Tph.BASE_SIZE + 2 * 2048, rule: '12, and the steering tag table when it is here', of: length },
    why: 'read-only: steering tags address the host’s processors',
  },
  decode,
};
