/**
 * Alternative routing-ID interpretation: 256 functions in place of 8 (PCI Express Base 6.0, 7.8.8).
 */
import { ExtCapId } from '../../abi/pci.ts';
import { checkIndex } from '../../base/check.ts';
import type { Capability } from '../declaration.ts';
import { registers } from '../decode/registers.ts';
import { fixed } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityKind } from './kind.ts';

const Ari = { CAP: 4, CAP_NFN_SHIFT: 8, CTRL: 6, SIZE: 8 } as const;

/**
 * Alternative routing-ID interpretation: `nextFunction` is the next function's number, 0 at the
 * end.
 */
export function ari(options: { nextFunction?: number } & Placed = {}): Capability {
  const next = checkIndex(options.nextFunction ?? 0, 0xff, 'next function number');
  return new CapabilityBuilder(Ari.SIZE).set(Ari.CAP, 2, next << Ari.CAP_NFN_SHIFT).build(alternativeRouting, options);
}

export const alternativeRouting: CapabilityKind = {
  id: ExtCapId.ARI,
  extended: true,
  name: 'Alternative Routing-ID Interpretation',
  access: { length: fixed(Ari.SIZE), why: 'read-only: topology' },
  decode: registers('Alternative Routing-ID Interpretation (ARI)', [
    { name: 'ARICap', at: Ari.CAP, width: 2, gap: '\t', lines: ['MFVC{0} ACS{1}, Next Function: {15:8}'] },
    { name: 'ARICtl', at: Ari.CTRL, width: 2, gap: '\t', lines: ['MFVC{0} ACS{1}, Function Group: {6:4}'] },
  ]),
};
