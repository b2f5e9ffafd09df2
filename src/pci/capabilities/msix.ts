/** MSI-X: a table of messages in a BAR (PCI Local Bus 3.0, 6.8.2). */
import { CapId, Msix } from '../../abi/pci.ts';
import { checkIndex, hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { Capability } from '../declaration.ts';
import { extract, hexDigits } from '../decode/text.ts';
import { fixed } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

/**
 * MSI-X with 1 to 2048 vectors, its table and pending bits in memory BARs at multiples of 8.
 * @throws VfioError EINVAL
 */
export function msix(
  options: { vectors: number; tableBar?: number; tableOffset?: number; pbaBar?: number; pbaOffset?: number } & Placed,
): Capability {
  const { vectors } = options;
  if (!Number.isInteger(vectors) || vectors < 1 || vectors > Msix.MAX_VECTORS) {
    throw new VfioError('EINVAL', `MSI-X cannot have ${String(vectors)} vectors; from 1 to ${Msix.MAX_VECTORS}`);
  }
  const place = (what: string, bar: number, offset: number) => {
    checkIndex(bar, 5, `BAR of the MSI-X ${what}`);
    checkIndex(offset, 0xffff_ffff, `offset of the MSI-X ${what}`);
    if (offset % 8 !== 0) throw new VfioError('EINVAL', `the MSI-X ${what} cannot be at ${hex(offset)}: its offset is a multiple of 8`);
    return (offset | bar) >>> 0;
  };
  const tableBar = options.tableBar ?? 0;
  const tableOffset = options.tableOffset ?? 0;
  const table = place('table', tableBar, tableOffset);
  const pba = place('pending bits', options.pbaBar ?? tableBar, options.pbaOffset ?? tableOffset + Msix.ENTRY_SIZE * vectors);
  return new CapabilityBuilder(Msix.SIZE)
    .set(Msix.FLAGS, 2, vectors - 1, Msix.FLAGS_ENABLE | Msix.FLAGS_MASKALL)
    .set(Msix.TABLE, 4, table)
    .set(Msix.PBA, 4, pba)
    .build(messageTable, options);
}

const decode: CapabilityDecoder = (r, d) => {
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
};

export const messageTable: CapabilityKind = {
  id: CapId.MSIX,
  name: 'MSI-X',
  access: {
    length: fixed(Msix.SIZE),
    why: 'read-only: enabling and masking go through SET_IRQS, because the vectors are the host’s',
  },
  decode,
};
