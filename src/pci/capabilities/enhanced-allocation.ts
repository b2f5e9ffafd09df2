/**
 * Enhanced Allocation (PCI Express Base 6.0, 7.8.5): resources without BARs, in entries of up to
 * eight dwords.
 */
import { CapId } from '../../abi/pci.ts';
import { type CapabilityReader, choice, type Decoding, extract, hexDigits } from '../decode/text.ts';
import { hidden } from '../permissions/rows.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

const indicators: string[] = [
  ...Array.from({ length: 6 }, (_, i) => `BAR ${i}`),
  'resource behind function',
  'not indicated',
  'expansion ROM',
  ...Array.from({ length: 6 }, (_, i) => `VF-BAR ${i}`),
  'reserved',
];
const properties: (string | null)[] = [
  'memory space, non-prefetchable',
  'memory space, prefetchable',
  'I/O space',
  'VF memory space, prefetchable',
  'VF memory space, non-prefetchable',
  'allocation behind bridge, non-prefetchable memory',
  'allocation behind bridge, prefetchable memory',
  'allocation behind bridge, I/O space',
];
properties[0xfd] = 'memory space resource unavailable for use';
properties[0xfe] = 'I/O space resource unavailable for use';
properties[0xff] = 'entry unavailable for use';
const secondary = [...properties];
secondary[0xff] = 'entry unavailable for use, PrimaryProperties should be used';
const otherwise = (value: number) => `[${hexDigits(value, 2)}]`;
const choices = {
  indicator: choice(indicators),
  primary: choice(properties, otherwise),
  secondary: choice(secondary, otherwise),
};

/** Bit 1 of a field's low dword: its upper half is another dword. */
const WIDE = 2;

function entry(r: CapabilityReader, d: Decoding, index: number, at: number): number {
  const name = `entry${index}`;
  const header = r.u32(at);
  const size = extract(header, 2, 0);
  d.line(name, header, `\t\tEntry ${index}: Enable{31} Writable{30} EntrySize={2:0}`);
  d.line(name, header, '\t\t\t BAR Equivalent Indicator: {indicator=7:4 indicator}');
  d.line(name, header, '\t\t\t PrimaryProperties: {15:8 primary}');
  d.line(name, header, '\t\t\t SecondaryProperties: {23:16 secondary}');
  const next = at + 4 * (size + 1);
  // An entry whose size leaves no registers shows none.
  if (size < 2 || !r.has(at, 4 * (size + 1))) return next;
  const [base, limit] = [r.u32(at + 4), r.u32(at + 8)];
  let upper = at + 12;
  const value = (low: number, fill: number): string => {
    const bottom = hexDigits(((low & ~3) | fill) >>> 0, 8);
    if ((low & WIDE) === 0) return bottom;
    const high = upper < next ? r.u32(upper) : 0;
    upper += 4;
    return `${high.toString(16)}${bottom}`;
  };
  const [start, last] = [value(base, 0), value(limit, 3)];
  d.set(name, 'base', `0x${start}`).set(name, 'maxOffset', `0x${last}`);
  d.lines.push(`\t\t\t Base: ${start}`, `\t\t\t MaxOffset: ${last}`);
  return next;
}

const decode: CapabilityDecoder = (r, d, context) => {
  const count = extract(r.u8(2), 5, 0);
  const buses = context.bridge && r.has(4, 4) ? d.text('buses', r.u16(4), ', secondary={7:0}, subordinate={15:8}') : '';
  const title = `${d.text('entries', r.u8(2), 'Enhanced Allocation (EA): NumEntries={5:0}')}${buses}`;
  let at = context.bridge ? 8 : 4;
  for (let index = 0; index < count && r.has(at, 4) && r.offset + at + 4 <= 0x100; index++) at = entry(r, d, index, at);
  return { title };
};

export const enhancedAllocation: CapabilityKind = {
  id: CapId.EA,
  name: 'Enhanced Allocation',
  access: hidden('not supported: BARs at fixed addresses'),
  choices,
  decode,
};
