/**
 * Latency tolerance reporting: the largest latencies that the platform gives a device (PCI Express
 * Base 6.0, 7.8.2).
 */
import { ExtCapId } from '../../abi/pci.ts';
import type { Capability } from '../declaration.ts';
import { extract } from '../decode/text.ts';
import { fixed } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

const Ltr = { MAX_SNOOP_LAT: 4, MAX_NOSNOOP_LAT: 6, SIZE: 8 } as const;

/** Latency tolerance reporting. */
export function ltr(options: Placed = {}): Capability {
  return new CapabilityBuilder(Ltr.SIZE)
    .set(Ltr.MAX_SNOOP_LAT, 2, 0, 0x1fff)
    .set(Ltr.MAX_NOSNOOP_LAT, 2, 0, 0x1fff)
    .build(latencyTolerance, options);
}

/** Value times 32 to the scale, in ns (PCI Express Base 6.0, 7.8.2). */
export function latency(value: number, scale: number): string {
  return scale > 6 ? '<error>' : `${value * 32 ** scale}ns`;
}

const decode: CapabilityDecoder = (r, d) => {
  const title = 'Latency Tolerance Reporting';
  if (!r.has(Ltr.MAX_SNOOP_LAT, 4)) return { title };
  for (const [key, label, at] of [
    ['snoop', 'Max snoop latency', Ltr.MAX_SNOOP_LAT],
    ['noSnoop', 'Max no snoop latency', Ltr.MAX_NOSNOOP_LAT],
  ] as const) {
    const value = r.u16(at);
    const text = latency(extract(value, 9, 0), extract(value, 12, 10));
    d.set('LTR', key, text).lines.push(`\t\t${label}: ${text}`);
  }
  return { title };
};

export const latencyTolerance: CapabilityKind = {
  id: ExtCapId.LTR,
  extended: true,
  name: 'Latency Tolerance Reporting',
  access: { length: fixed(Ltr.SIZE), why: 'read-only: latency is the platform’s' },
  decode,
};
