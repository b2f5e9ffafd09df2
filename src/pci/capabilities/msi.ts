/** Message signalled interrupts (PCI Local Bus 3.0, 6.8.1). */
import { CapId, Msi } from '../../abi/pci.ts';
import { VfioError } from '../../base/errno.ts';
import type { Capability } from '../declaration.ts';
import { choice, hexDigits } from '../decode/text.ts';
import { ALL, type PermissionRow, type RegisterReader, row } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

/**
 * MSI with `vectors` messages: 1, 2, 4, 8, 16 or 32.
 * @throws VfioError EINVAL for another number
 */
export function msi(options: { vectors?: number; is64?: boolean; maskable?: boolean } & Placed = {}): Capability {
  const vectors = options.vectors ?? 1;
  const log2 = Math.log2(vectors);
  if (!Number.isInteger(log2) || vectors < 1 || vectors > Msi.MAX_VECTORS) {
    throw new VfioError('EINVAL', `MSI cannot have ${String(vectors)} vectors; a power of two from 1 to ${Msi.MAX_VECTORS}`);
  }
  const is64 = options.is64 !== false;
  const maskable = options.maskable === true;
  const size = is64 ? (maskable ? Msi.SIZE_64_MASKED : Msi.SIZE_64) : maskable ? Msi.SIZE_32_MASKED : Msi.SIZE_32;
  const flags = (log2 << Msi.FLAGS_QMASK_SHIFT) | (is64 ? Msi.FLAGS_64BIT : 0) | (maskable ? Msi.FLAGS_MASKBIT : 0);
  const builder = new CapabilityBuilder(size)
    .set(Msi.FLAGS, 2, flags, Msi.FLAGS_ENABLE | Msi.FLAGS_QSIZE)
    .set(Msi.ADDRESS_LO, 4, 0, 0xffff_fffc);
  if (is64) builder.set(Msi.ADDRESS_HI, 4, 0, 0xffff_ffff);
  builder.set(is64 ? Msi.DATA_64 : Msi.DATA_32, 2, 0, 0xffff);
  if (maskable) builder.set(is64 ? Msi.MASK_64 : Msi.MASK_32, 4, 0, vectors === 32 ? 0xffff_ffff : 2 ** vectors - 1);
  return builder.build(messageInterrupts, options);
}

function rows(read: RegisterReader): readonly PermissionRow[] {
  const flags = read(Msi.FLAGS, 2);
  const wide = (flags & Msi.FLAGS_64BIT) !== 0;
  const owner = 'the message belongs to the host, which programs its own; the user’s is kept to be read back';
  const rows = [
    row(
      Msi.FLAGS,
      1,
      'message control',
      ALL,
      ALL,
      'enabling goes through SET_IRQS; what the user writes is checked and then given to hardware',
      'msi-control',
    ),
    row(Msi.FLAGS + 1, 1, 'message control (upper byte)', 0, 0, 'read-only: says whether vectors have masks; the rest is reserved'),
    row(Msi.ADDRESS_LO, 4, 'message address', ALL, ALL, owner),
  ];
  if (wide) rows.push(row(Msi.ADDRESS_HI, 4, 'message upper address', ALL, ALL, owner));
  rows.push(row(wide ? Msi.DATA_64 : Msi.DATA_32, 2, 'message data', ALL, ALL, owner));
  if ((flags & Msi.FLAGS_MASKBIT) !== 0) {
    const why = 'masking the device’s own vectors harms no other function';
    rows.push(row(wide ? Msi.MASK_64 : Msi.MASK_32, 4, 'mask bits', 0, ALL, why));
    rows.push(row(wide ? Msi.PENDING_64 : Msi.PENDING_32, 4, 'pending bits', 0, ALL, `${why}; hardware keeps these read-only`));
  }
  return rows;
}

function length(read: RegisterReader): number {
  const flags = read(Msi.FLAGS, 2);
  return Msi.SIZE_32 + ((flags & Msi.FLAGS_64BIT) !== 0 ? 4 : 0) + ((flags & Msi.FLAGS_MASKBIT) !== 0 ? 10 : 0);
}

const decode: CapabilityDecoder = (r, d) => {
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
};

export const messageInterrupts: CapabilityKind = {
  id: CapId.MSI,
  name: 'MSI',
  access: {
    length: { kind: 'variable', most: Msi.SIZE_64_MASKED, rule: '10; 4 more with 64-bit address, 10 more with mask bits', of: length },
    why: 'read-only',
    rows,
  },
  choices: { power2: choice(['1', '2', '4', '8', '16', '32', '64', '128']) },
  decode,
};
