/**
 * Serial ATA: where the index and data registers of an AHCI controller are (Serial ATA AHCI 1.3,
 * 2.4).
 */
import { CapId } from '../../abi/pci.ts';
import { extract, hexDigits } from '../decode/text.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

const Sata = { REGS: 4, REGS_MASK: 0xf, REGS_INLINE: 0xf, SIZE_SHORT: 8, SIZE_LONG: 16 } as const;

const decode: CapabilityDecoder = (r, d) => {
  const title = d.text('revision', r.u8(2), 'SATA HBA v{major=7:4}.{minor=3:0}');
  if (!r.has(Sata.REGS, 4)) return { title };
  const location = r.u32(Sata.REGS);
  const where = location & Sata.REGS_MASK;
  d.set('registers', 'location', location);
  if (where === Sata.REGS_INLINE) return { title, full: `${title} InCfgSpace` };
  const bar = where - 4;
  if (bar < 0 || bar > 5) return { title, full: `${title} BAR??${where}` };
  return { title, full: `${title} BAR${bar} Offset=${hexDigits(extract(location, 23, 4), 8)}` };
};

export const sata: CapabilityKind = {
  id: CapId.SATA,
  name: 'SATA',
  access: {
    length: {
      kind: 'variable',
      most: Sata.SIZE_LONG,
      rule: '16 when its registers are in config space, else 8',
      of: (read) => ((read(Sata.REGS, 1) & Sata.REGS_MASK) === Sata.REGS_INLINE ? Sata.SIZE_LONG : Sata.SIZE_SHORT),
    },
    why: 'read-only: index and data registers',
  },
  decode,
};
