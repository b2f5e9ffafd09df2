/** Virtual channels (PCI Express Base 6.0, 7.9.1): two ids, and one of a multi-function device. */
import { ExtCapId } from '../../abi/pci.ts';
import { checkIndex } from '../../base/check.ts';
import type { Capability } from '../declaration.ts';
import { type CapabilityReader, choice, type Decoding, extract, hexDigits, undefinedValue } from '../decode/text.ts';
import { type CapabilityAccess, type RegisterReader, Why } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import { type CapabilityDecoder, type CapabilityKind, titleOnly } from './kind.ts';

const Vc = {
  PORT_CAP1: 4,
  CAP1_EVCC: 0x7,
  PORT_CAP2: 8,
  CAP2_32_PHASE: 0x2,
  CAP2_64_PHASE: 0x4,
  CAP2_128_PHASE: 0x8,
  BASE_SIZE: 16,
  PER_VC_SIZE: 12,
} as const;

/** Virtual channels: `extra` beyond the first one. */
export function virtualChannels(options: { extra?: number } & Placed = {}): Capability {
  const extra = checkIndex(options.extra ?? 0, Vc.CAP1_EVCC, 'extra virtual channels');
  const builder = new CapabilityBuilder(Vc.BASE_SIZE + Vc.PER_VC_SIZE * (1 + extra)).set(Vc.PORT_CAP1, 4, extra);
  for (let i = 0; i <= extra; i++) builder.set(Vc.BASE_SIZE + Vc.PER_VC_SIZE * i + 4, 4, i === 0 ? 0x8000_00ff : i << 24, 0x8700_00fe);
  return builder.build(virtualChannel, options);
}

function length(read: RegisterReader): number {
  const count = 1 + (read(Vc.PORT_CAP1, 4) & Vc.CAP1_EVCC);
  const arbitration = read(Vc.PORT_CAP2, 4);
  let phases = 0;
  if ((arbitration & Vc.CAP2_128_PHASE) !== 0) phases = 128;
  else if ((arbitration & Vc.CAP2_64_PHASE) !== 0) phases = 64;
  else if ((arbitration & Vc.CAP2_32_PHASE) !== 0) phases = 32;
  const length = Vc.BASE_SIZE + Vc.PER_VC_SIZE * count;
  // Four bits per phase, after the registers, on a 16-byte boundary.
  return phases === 0 ? length : Math.ceil(length / 16) * 16 + phases / 2;
}

/** Arbitration schemes. lspci prints the named ones always, and others only when they are set. */
function arbitrations(offered: number, names: readonly string[]): string {
  const shown: string[] = [];
  for (let bit = 0; bit < 8; bit++) {
    const set = ((offered >> bit) & 1) === 1;
    if (bit < names.length) shown.push(`${names[bit]}${set ? '+' : '-'}`);
    else if (set) shown.push(`??${bit}+`);
  }
  return shown.join(' ');
}

const decode: CapabilityDecoder = (r, d) => {
  const title = 'Virtual Channel';
  if (!r.has(Vc.PORT_CAP1, 12)) return { title };
  const cap1 = r.u32(Vc.PORT_CAP1);
  const cap2 = r.u32(Vc.PORT_CAP2);
  d.line('Caps', cap1, '\t\tCaps:\tLPEVC={6:4} RefClk={9:8 clock} PATEntryBits={11:10 power2}');
  const offered = arbitrations(extract(cap2, 7, 0), ['Fixed', 'WRR32', 'WRR64', 'WRR128']);
  d.set('Caps', 'Arb', offered).lines.push(`\t\tArb:\t${offered}`);
  d.line('Ctrl', r.u16(0xc), '\t\tCtrl:\tArbSelect={3:1 arbitration}');
  d.line('Status', r.u16(0xe), '\t\tStatus:\tInProgress{0}');
  const table = extract(cap2, 31, 24);
  if (table !== 0) d.lines.push(`\t\tPort Arbitration Table [${hexDigits(r.offset + 16 * table, 3)}] <?>`);
  for (let i = 0; i <= (cap1 & Vc.CAP1_EVCC); i++) {
    const at = Vc.BASE_SIZE + Vc.PER_VC_SIZE * i;
    if (!r.has(at, Vc.PER_VC_SIZE)) break;
    channel(r, d, i, at);
  }
  return { title };
};

function channel(r: CapabilityReader, d: Decoding, index: number, at: number): void {
  const name = `VC${index}`;
  const cap = r.u32(at);
  const slots = extract(cap, 22, 16) + 1;
  d.set(name, 'MaxTimeSlots', slots);
  d.lines.push(`\t\t${name}:\tCaps:\t${d.text(name, cap, `PATOffset={31:24 hex2} MaxTimeSlots=${slots} RejSnoopTrans{15}`)}`);
  const offered = arbitrations(extract(cap, 7, 0), ['Fixed', 'WRR32', 'WRR64', 'WRR128', 'TWRR128', 'WRR256']);
  d.set(name, 'Arb', offered).lines.push(`\t\t\tArb:\t${offered}`);
  d.line(name, r.u32(at + 4), '\t\t\tCtrl:\tEnable{31} ID={26:24} ArbSelect={19:17 portArbitration} TC/VC={7:0 hex2}');
  d.line(name, r.u16(at + 10), '\t\t\tStatus:\tNegoPending{1} InProgress{0}');
  if (extract(cap, 31, 24) !== 0) d.lines.push('\t\t\tPort Arbitration Table <?>');
}

const access: CapabilityAccess = {
  length: {
    kind: 'variable',
    most: 112 + 64,
    rule: '16 and 12 per channel; with an arbitration table rounded up to 16 and half a byte per phase',
    of: length,
  },
  why: Why.FABRIC,
};
const choices = {
  clock: choice(['100ns'], undefinedValue),
  power2: choice([], (value) => String(2 ** value)),
  arbitration: choice(['Fixed', 'WRR32', 'WRR64', 'WRR128'], undefinedValue),
  portArbitration: choice(['Fixed', 'WRR32', 'WRR64', 'WRR128', 'TWRR128', 'WRR256'], undefinedValue),
};

export const virtualChannel: CapabilityKind = { id: ExtCapId.VC, extended: true, name: 'Virtual Channel', access, choices, decode };
export const virtualChannel9: CapabilityKind = { ...virtualChannel, id: ExtCapId.VC9, name: 'Virtual Channel (9)' };
export const multiFunctionChannel: CapabilityKind = {
  id: ExtCapId.MFVC,
  extended: true,
  name: 'Multi-Function Virtual Channel',
  access,
  decode: titleOnly('Multi-Function Virtual Channel <?>'),
};
