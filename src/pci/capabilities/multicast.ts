/** Multicast (PCI Express Base 6.0, 7.9.11): ports have an overlay, endpoints ask for a window. */
import { ExtCapId } from '../../abi/pci.ts';
import { choice, extract, hexDigits } from '../decode/text.ts';
import { fixed, Why } from '../permissions/rows.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';
import { PciExpType } from './pci-express-registers.ts';

const choices = { plusOne: choice([], (value) => String(value + 1)) };
const ports: readonly (number | null)[] = [PciExpType.ROOT_PORT, PciExpType.UPSTREAM, PciExpType.DOWNSTREAM];
/** Other functions have an overlay instead of a window. */
const endpoints: readonly (number | null)[] = [PciExpType.ENDPOINT, PciExpType.RC_END];
const SIZE = 40;
const OVERLAY = 40;
/** Below this value the overlay is off: it replaces at least a line of memory. */
const LEAST_OVERLAY = 6;

const decode: CapabilityDecoder = (r, d, context) => {
  const title = 'Multicast';
  if (!r.has(4, SIZE - 4)) return { title };
  const port = ports.includes(context.portType);
  const endpoint = endpoints.includes(context.portType);
  const cap = r.u16(4);
  const groups = d.text('McastCap', cap, '\t\tMcastCap: MaxGroups {5:0 plusOne}');
  const control = d.text('McastCtl', r.u16(6), '\t\tMcastCtl: NumGroups {5:0 plusOne}, Enable{15}');
  const window = endpoint ? `, ${d.text('McastCap', cap, 'WindowSz {13:8}')} (${2n ** BigInt(extract(cap, 13, 8))} bytes)` : '';
  // Ports begin a line of its own with the control register.
  if (port) d.lines.push(`${groups}${d.text('McastCap', cap, ', ECRCRegen{15}')}`, control);
  else d.lines.push(`${groups}${window}${control}`);
  const address = (at: number, clear: bigint) => hexDigits(r.u64(at) & ~clear, 16);
  const bar = address(8, 0xfffn);
  d.set('McastBAR', 'BaseAddr', `0x${bar}`);
  d.lines.push(`\t\tMcastBAR: ${d.text('McastBAR', r.u32(8), 'IndexPos {5:0}')}, BaseAddr ${bar}`);
  for (const [name, at] of [
    ['McastReceiveVec', 16],
    ['McastBlockAllVec', 24],
    ['McastBlockUntransVec', 32],
  ] as const) {
    d.set(name, 'groups', `0x${address(at, 0n)}`).lines.push(`\t\t${`${name}:`.padEnd(22)}${address(at, 0n)}`);
  }
  if (!endpoint && r.has(OVERLAY, 8)) {
    const size = extract(r.u32(OVERLAY), 5, 0);
    const overlay = address(OVERLAY, 0x3fn);
    d.set('McastOverlayBAR', 'OverlaySize', size).set('McastOverlayBAR', 'BaseAddr', `0x${overlay}`);
    const bytes = size < LEAST_OVERLAY ? 'disabled' : `${2n ** BigInt(size)} bytes`;
    d.lines.push(`\t\tMcastOverlayBAR: OverlaySize ${size} (${bytes}), BaseAddr ${overlay}`);
  }
  return { title };
};

export const multicast: CapabilityKind = {
  id: ExtCapId.MCAST,
  extended: true,
  name: 'Multicast',
  access: { length: fixed(SIZE), why: Why.FABRIC },
  choices,
  decode,
};
