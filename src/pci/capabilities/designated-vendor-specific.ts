/**
 * Designated vendor-specific: any vendor's registers in any device (PCI Express Base 6.0, 7.9.6).
 */
import { ExtCapId } from '../../abi/pci.ts';
import { checkIndex } from '../../base/check.ts';
import type { Capability } from '../declaration.ts';
import { extract, hexDigits } from '../decode/text.ts';
import { Why } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed, roundedSize } from './builder.ts';
import { CXL_VENDOR, cxlBodies, cxlChoices } from './compute-express-link.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

const Dvsec = { HEADER1: 4, HEADER1_LENGTH_SHIFT: 20, HEADER1_REV_SHIFT: 16, HEADER2: 8, BODY: 10 } as const;
/** A shorter one has no registers. */
const LEAST = 16;

/** Designated vendor-specific extended capability: `body` follows the two headers, at byte 10. */
export function dvsec(
  options: { vendor: number; id: number; revision?: number; body: Uint8Array; writable?: Uint8Array | true } & Placed,
): Capability {
  const size = roundedSize(Dvsec.BODY, options.body, 'DVSEC');
  const header =
    checkIndex(options.vendor, 0xffff, 'DVSEC vendor') |
    (checkIndex(options.revision ?? 0, 15, 'DVSEC revision') << Dvsec.HEADER1_REV_SHIFT);
  return new CapabilityBuilder(size)
    .set(Dvsec.HEADER1, 4, (header | (size << Dvsec.HEADER1_LENGTH_SHIFT)) >>> 0)
    .set(Dvsec.HEADER2, 2, checkIndex(options.id, 0xffff, 'DVSEC id'))
    .body(Dvsec.BODY, options.body, options.writable)
    .build(designatedVendorSpecific, options);
}

const decode: CapabilityDecoder = (r, d) => {
  const header = r.u32(Dvsec.HEADER1);
  const vendor = d.text('header', header, 'Designated Vendor-Specific: Vendor={15:0 hex4}');
  const id = d.text('header', r.u16(Dvsec.HEADER2), 'ID={15:0 hex4}');
  const title = `${vendor} ${id} ${d.text('header', header, 'Rev={19:16} Len={31:20}')}`;
  const length = extract(header, 31, 20);
  if (extract(header, 15, 0) !== CXL_VENDOR || length < LEAST || !r.has(0, LEAST)) return { title: `${title} <?>` };
  const known = cxlBodies[r.u16(Dvsec.HEADER2)];
  d.lines.push(`\t\t${known?.[0] ?? `Unknown ID ${hexDigits(r.u16(Dvsec.HEADER2), 4)}`}`);
  known?.[1](r, d, { revision: extract(header, 19, 16), length });
  return { title: `${title}: CXL` };
};

export const designatedVendorSpecific: CapabilityKind = {
  id: ExtCapId.DVSEC,
  extended: true,
  name: 'Designated Vendor Specific',
  access: {
    length: {
      kind: 'variable',
      most: 0xfff,
      rule: 'bits 31:20 of its first header',
      of: (read) => read(Dvsec.HEADER1, 4) >>> Dvsec.HEADER1_LENGTH_SHIFT,
    },
    raw: true,
    why: Why.VENDOR,
  },
  choices: cxlChoices,
  decode,
};
