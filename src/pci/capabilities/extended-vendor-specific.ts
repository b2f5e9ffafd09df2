/**
 * The vendor-specific capability among the extended ones: the vendor's id and length follow the
 * header (PCI Express Base 6.0, 7.9.5).
 */
import { ExtCapId } from '../../abi/pci.ts';
import { checkIndex } from '../../base/check.ts';
import type { Capability } from '../declaration.ts';
import { Why } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed, roundedSize } from './builder.ts';
import type { CapabilityKind } from './kind.ts';

const Vsec = { HEADER: 4, HEADER_LENGTH_SHIFT: 20, HEADER_REV_SHIFT: 16, BODY: 8 } as const;

/** Vendor-specific extended capability: `body` follows its own header. */
export function vsec(options: { id: number; revision?: number; body: Uint8Array; writable?: Uint8Array | true } & Placed): Capability {
  const size = roundedSize(Vsec.BODY, options.body, 'VSEC');
  const header =
    checkIndex(options.id, 0xffff, 'VSEC id') | (checkIndex(options.revision ?? 0, 15, 'VSEC revision') << Vsec.HEADER_REV_SHIFT);
  return new CapabilityBuilder(size)
    .set(Vsec.HEADER, 4, (header | (size << Vsec.HEADER_LENGTH_SHIFT)) >>> 0)
    .body(Vsec.BODY, options.body, options.writable)
    .build(extendedVendorSpecific, options);
}

export const extendedVendorSpecific: CapabilityKind = {
  id: ExtCapId.VNDR,
  extended: true,
  name: 'Vendor Specific (extended)',
  access: {
    length: {
      kind: 'variable',
      most: 0xfff,
      rule: 'bits 31:20 of its own header',
      of: (read) => read(Vsec.HEADER, 4) >>> Vsec.HEADER_LENGTH_SHIFT,
    },
    raw: true,
    why: Why.VENDOR,
  },
  decode: (r, d) => ({
    title: d.text('header', r.u32(Vsec.HEADER), 'Vendor Specific Information: ID={15:0 hex4} Rev={19:16} Len={31:20 hex3} <?>'),
  }),
};
