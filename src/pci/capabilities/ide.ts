/**
 * Integrity and Data Encryption (PCI Express Base 6.0, 7.9.26): streams of a whole link, then
 * streams between two functions.
 */
import { ExtCapId } from '../../abi/pci.ts';
import { type CapabilityReader, choice, type Decoding, extract, undefinedValue } from '../decode/text.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

const choices = {
  plusOne: choice([], (value) => String(value + 1)),
  algorithm: choice(['AES-GCM-256-96b'], 'reserved'),
  aggregation: choice(['-'], (value) => `=${2 ** value}`),
  headers: choice(['no', '17:2', '25:2', '33:2', '41:2'], undefinedValue),
  state: choice(['insecure', 'reserved', 'secure'], undefinedValue),
};
const control = (middle: string, after: string, last = '') =>
  `En{0} XT{1} NPR{NPR=3:2 aggregation} PR{PR=5:4 aggregation} CPL{CPL=7:6 aggregation} PCRC{8} ${middle}HdrEnc={13:10 headers} ` +
  `Alg='{Alg=18:14 algorithm}' TC{TC=21:19}${after} ID{ID=31:24}${last}`;
const [FIRST_STREAM, PER_LINK_STREAM, PER_ADDRESS] = [12, 8, 12];

function linkStream(r: CapabilityReader, d: Decoding, index: number, at: number): void {
  const name = `LinkIDE#${index}`;
  const label = (offset: number) => `\t\t[${(r.offset + offset).toString(16)}]${name}`;
  d.line(`${name} Ctl`, r.u32(at), `${label(at)} Ctl: ${control('', '')}`);
  d.line(`${name} Sta`, r.u32(at + 4), `${label(at + 4)} Sta: Status={3:0 state} RecvChkFail{31}`);
}

/** @returns the offset of the next stream */
function selectiveStream(r: CapabilityReader, d: Decoding, index: number, at: number): number {
  const name = `SelectiveIDE#${index}`;
  const label = (offset: number) => `\t\t[${(r.offset + offset).toString(16)}]${name}`;
  const addresses = extract(r.u32(at), 3, 0);
  d.line(`${name} Cap`, r.u32(at), `${label(at)} Cap: RID#={addresses=3:0}`);
  if (!r.has(at, 20)) return at + 20;
  const value = r.u32(at + 4);
  const isDefault = (value & 0x40_0000) !== 0;
  d.line(`${name} Ctl`, value, `${label(at + 4)} Ctl: ${control('CFG{9} ', ' TeeLim{23}', isDefault ? ' Default' : '')}`);
  d.set(`${name} Ctl`, 'Default', isDefault);
  d.line(`${name} Sta`, r.u32(at + 8), `${label(at + 8)} Sta: {state=3:0 state} RecvChkFail{31}`);
  const [first, second] = [r.u32(at + 12), r.u32(at + 16)];
  const limit = d.text(`${name} RID`, first, 'Limit={23:8 hex1}');
  const [valid, base, segment] = ['Valid{0}', 'Base={23:8 hex1}', 'SegBase={31:24 hex1}'].map((part) =>
    d.text(`${name} RID`, second, part),
  );
  d.lines.push(`${label(at + 12)} RID: ${valid} ${base} ${limit} ${segment}`);
  let next = at + 20;
  for (let i = 0; i < addresses && r.has(next, PER_ADDRESS); i++, next += PER_ADDRESS) {
    const low = r.u32(next);
    const group = `${name} RID#${i}`;
    const start = ((BigInt(r.u32(next + 8)) << 32n) | (BigInt(extract(low, 19, 8)) << 20n)).toString(16);
    const last = ((BigInt(r.u32(next + 4)) << 32n) | (BigInt(extract(low, 31, 20)) << 20n) | 0xfffffn).toString(16);
    d.line(group, low, `${label(next)} RID#${i}: Valid{0} Base=${start} Limit=${last}`);
    d.set(group, 'Base', `0x${start}`).set(group, 'Limit', `0x${last}`);
  }
  return next;
}

const decode: CapabilityDecoder = (r, d) => {
  const title = 'Integrity & Data Encryption';
  if (!r.has(4, 8)) return { title };
  const cap = r.u32(4);
  const links = (cap & 1) !== 0 ? extract(cap, 15, 13) + 1 : 0;
  const selective = (cap & 2) !== 0 ? extract(cap, 23, 16) + 1 : 0;
  d.line(
    'IDECap',
    cap,
    `\t\tIDECap: Lnk=${links} Sel=${selective} FlowThru{2} PartHdr{3} Aggr{4} PCPC{5} IDE_KM{6} SelCfg{7} ` +
      "Alg='{Alg=12:8 algorithm}' TCs={15:13 plusOne} TeeLim{24} XT{25}",
  );
  d.set('IDECap', 'Lnk', links).set('IDECap', 'Sel', selective);
  d.line('IDECtl', r.u32(8), '\t\tIDECtl: FTEn{2}');
  let at = FIRST_STREAM;
  for (let i = 0; i < links && r.has(at, PER_LINK_STREAM); i++, at += PER_LINK_STREAM) linkStream(r, d, i, at);
  for (let i = 0; i < selective && r.has(at, 4); i++) at = selectiveStream(r, d, i, at);
  return { title };
};

export const dataEncryption: CapabilityKind = {
  id: ExtCapId.IDE,
  extended: true,
  name: 'Integrity and Data Encryption',
  choices,
  decode,
};
