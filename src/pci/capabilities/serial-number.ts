/** Device serial number: 64 bits (PCI Express Base 6.0, 7.9.3). */
import { ExtCapId } from '../../abi/pci.ts';
import { checkU64 } from '../../base/check.ts';
import type { Capability } from '../declaration.ts';
import { hexDigits } from '../decode/text.ts';
import { fixed, Why } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityKind } from './kind.ts';

const Dsn = { SERIAL_LO: 4, SERIAL_HI: 8, SIZE: 12 } as const;

/** Device serial number: 64 bits. @throws VfioError EINVAL */
export function dsn(serial: bigint, options: Placed = {}): Capability {
  checkU64(serial, 'device serial number');
  return new CapabilityBuilder(Dsn.SIZE)
    .set(Dsn.SERIAL_LO, 4, Number(serial & 0xffff_ffffn))
    .set(Dsn.SERIAL_HI, 4, Number(serial >> 32n))
    .build(serialNumber, options);
}

export const serialNumber: CapabilityKind = {
  id: ExtCapId.DSN,
  extended: true,
  name: 'Device Serial Number',
  access: { length: fixed(Dsn.SIZE), why: Why.IDENTITY },
  // Most significant byte first.
  decode: (r, d) => {
    const serial = hexDigits(r.u64(Dsn.SERIAL_LO), 16).match(/../g)!.join('-');
    d.set('serial', 'number', serial);
    return { title: `Device Serial Number ${serial}` };
  },
};
