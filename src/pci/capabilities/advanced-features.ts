/** Advanced features: function-level reset for conventional PCI. */
import { CapId } from '../../abi/pci.ts';
import type { Capability } from '../declaration.ts';
import { fixed, row, Why, withBits } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityKind } from './kind.ts';

export const Af = { LENGTH: 2, CAP: 3, CAP_TP: 0x01, CAP_FLR: 0x02, CTRL: 4, CTRL_FLR: 0x01, STATUS: 5, STATUS_TP: 0x01, SIZE: 6 } as const;

/** Advanced features: function-level reset of conventional PCI. */
export function af(options: { flr?: boolean } & Placed = {}): Capability {
  return new CapabilityBuilder(Af.SIZE)
    .set(Af.LENGTH, 1, Af.SIZE)
    .set(Af.CAP, 1, Af.CAP_TP | (options.flr === false ? 0 : Af.CAP_FLR))
    .build(advancedFeatures, options);
}

export const advancedFeatures: CapabilityKind = {
  id: CapId.AF,
  name: 'Advanced Features',
  access: {
    length: fixed(Af.SIZE),
    why: Why.CAN_DO,
    rows: [
      withBits(row(Af.CTRL, 1, 'AF control', Af.CTRL_FLR, Af.CTRL_FLR, Why.RESET, 'function-reset'), [
        0xff & ~Af.CTRL_FLR,
        'read-only: reserved',
      ]),
    ],
  },
  decode: (r, d) => {
    if (r.has(Af.CAP, 1)) d.line('AFCap', r.u8(Af.CAP), '\t\tAFCap: TP{0} FLR{1}');
    if (r.has(Af.CTRL, 1)) d.line('AFCtrl', r.u8(Af.CTRL), '\t\tAFCtrl: FLR{0}');
    if (r.has(Af.STATUS, 1)) d.line('AFStatus', r.u8(Af.STATUS), '\t\tAFStatus: TP{0}');
    return { title: 'PCI Advanced Features' };
  },
};
