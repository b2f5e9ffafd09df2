/**
 * A root complex's description of itself: its links to other elements, and the endpoints that
 * report to an event collector (PCI Express Base 6.0, 7.9.8 and 7.9.10).
 */
import { ExtCapId } from '../../abi/pci.ts';
import { choice, extract, hexDigits, undefinedValue } from '../decode/text.ts';
import { hidden, Why } from '../permissions/rows.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

const choices = {
  elementType: choice(['Config', 'Egress', 'Internal'], undefinedValue),
  linkType: choice(['MemMapped', 'Config']),
};
const [FIRST_LINK, PER_LINK] = [16, 16];

/**
 * Bits 14:12 and 19:15 of a link to config space are function and device. Bits 2:0 say how many
 * bits of the bus number stand above them; 0 means 8.
 */
const decodeLinks: CapabilityDecoder = (r, d) => {
  const title = 'Root Complex Link';
  if (!r.has(4, 4)) return { title };
  const element = r.u32(4);
  // Element types have four bits. lspci shows the reserved bits above them too.
  d.line('element', element, '\t\tDesc:\tPortNumber={31:24 hex2} ComponentID={23:16 hex2} EltType={7:0 elementType}');
  const count = extract(element, 15, 8);
  for (let i = 0; i < count && r.has(FIRST_LINK + PER_LINK * i, PER_LINK); i++) {
    const at = FIRST_LINK + PER_LINK * i;
    const link = r.u32(at);
    const name = `link${i}`;
    const bits = 'TargetPort={31:24 hex2} TargetComponent={23:16 hex2} AssocRCRB{2} LinkType={1:1 linkType} LinkValid{0}';
    d.line(name, link, `\t\tLink${i}:\tDesc:\t${bits}`);
    const address = hexDigits(r.u64(at + 8), 16);
    const low = r.u32(at + 8);
    const function_ = `${hexDigits(extract(low, 19 + (extract(low, 2, 0) || 8), 20), 2)}:${hexDigits(extract(low, 19, 15), 2)}.${extract(low, 14, 12)}`;
    d.set(name, 'address', `0x${address}`);
    if ((link & 2) !== 0) d.set(name, 'function', function_).lines.push(`\t\t\tAddr:\t${function_}  CfgSpace=${address}`);
    else d.lines.push(`\t\t\tAddr:\t${address}`);
  }
  return { title };
};

/** Bits as numbers and ranges: "0, 2-5". */
function ranges(bitmap: number): string {
  const found: string[] = [];
  for (let first = 0; first < 32; first++) {
    if (extract(bitmap, first, first) === 0) continue;
    let last = first;
    while (last < 31 && extract(bitmap, last + 1, last + 1) === 1) last++;
    found.push(first === last ? String(first) : `${first}-${last}`);
    first = last;
  }
  return found.join(', ');
}

/** From ff to 00. */
const NO_BUSES = 0x00ff;

const decodeCollector: CapabilityDecoder = (r, d, _context, version) => {
  const title = 'Root Complex Event Collector Endpoint Association';
  if (!r.has(4, 4)) return { title };
  const bitmap = r.u32(4);
  const devices = ranges(bitmap);
  d.set('RCiEP', 'bitmap', bitmap);
  d.lines.push(`\t\tRCiEPBitmap: ${devices === '' ? '00000000 [none]' : `RCiEP at Device(s): ${devices}`}`);
  if (version >= 2 && r.has(8, 4)) {
    const buses = r.u32(8);
    const none = extract(buses, 23, 8) === NO_BUSES ? ' [none]' : '';
    d.line('buses', buses, `\t\tAssociatedBusNumbers: {first=15:8 hex2}-{last=23:16 hex2}${none}`);
  }
  return { title };
};

export const rootComplexLinks: CapabilityKind = {
  id: ExtCapId.RCLD,
  extended: true,
  name: 'Root Complex Link Declaration',
  access: hidden(Why.ROOT),
  choices,
  decode: decodeLinks,
};

export const eventCollector: CapabilityKind = {
  id: ExtCapId.RCEC,
  extended: true,
  name: 'Root Complex Event Collector',
  access: hidden(Why.ROOT),
  decode: decodeCollector,
};
