/** The designated vendor-specific capabilities of Compute Express Link (CXL 3.1, 8.1). */
import { type CapabilityReader, choice, type Decoding, extract, hexDigits } from '../decode/text.ts';

export const CXL_VENDOR = 0x1e98;

const reserved = (value: number) => `reserved(${value})`;
export const cxlChoices = {
  media: choice(['Volatile', 'Non-volatile', 'CDAT'], reserved),
  memoryClass: choice(['DRAM', 'Storage', 'CDAT'], reserved),
  interleave: choice(['0', '256', '4096', '512', '1024', '2048', '8192', '16384'], reserved),
  activeIn: choice([], (value) => String(4 ** value)),
};

interface Header {
  readonly revision: number;
  readonly length: number;
}
type Body = (r: CapabilityReader, d: Decoding, header: Header) => void;

/** Base and size of a range are registers of 64 bits of which the upper 36 count. */
function range(r: CapabilityReader, d: Decoding, index: number, at: number): void {
  const name = `Range${index}`;
  const u36 = (upper: number) => (BigInt(r.u32(upper)) << 32n) | BigInt((r.u32(upper + 4) & 0xf000_0000) >>> 0);
  const [size, base] = [u36(at), u36(at + 8)];
  const last = BigInt.asUintN(64, base + size - 1n);
  d.set(name, 'base', `0x${base.toString(16)}`).set(name, 'size', `0x${size.toString(16)}`);
  d.lines.push(`\t\t${name}: ${hexDigits(base, 16)}-${hexDigits(last, 16)} [size=0x${size.toString(16)}]`);
  const bits = 'Valid{0} Active{1} Type={4:2 media} Class={7:5 memoryClass} interleave={12:8 interleave} timeout={15:13 activeIn}s';
  d.line(name, r.u32(at + 4), `\t\t\t${bits}`);
}

function cacheSize(units: number, size: number): string {
  if (units === 0) return 'Cache Size Not Reported';
  if (units > 2) return `Cache Size: ${size} of unknown unit size (${units})`;
  return `Cache Size: ${hexDigits(size * (units === 1 ? 0x1_0000 : 0x10_0000), 8)}`;
}

const [DEVICE_LENGTH, DEVICE_LENGTH_2] = [0x38, 0x3c];

/** Revision 0 is CXL 1.1's, whose registers moved. */
function device(r: CapabilityReader, d: Decoding, { revision, length }: Header): void {
  if (revision === 0 || length < DEVICE_LENGTH || !r.has(0, DEVICE_LENGTH)) return;
  const third = revision >= 2 && length >= DEVICE_LENGTH_2 && r.has(0, DEVICE_LENGTH_2);
  d.line('CXLCap', r.u16(0x0a), '\t\tCXLCap:\tCache{0} IO{1} Mem{2} MemHWInit{3} HDMCount {5:4} Viral{14}');
  d.line('CXLCtl', r.u16(0x0c), '\t\tCXLCtl:\tCache{0} IO{1} Mem{2} CacheSFCov {7:3} CacheSFGran {10:8} CacheClean{11} Viral{14}');
  d.line('CXLSta', r.u16(0x0e), '\t\tCXLSta:\tViral{14}');
  const state = revision >= 2 ? ' DesiredVolatileHDMStateAfterHotReset{4}' : '';
  d.line('CXLCtl2', r.u16(0x10), `\t\tCXLCtl2:\tDisableCaching{0} InitCacheWB&Inval{1} InitRst{2} RstMemClrEn{3}${state}`);
  d.line('CXLSta2', r.u16(0x12), '\t\tCXLSta2:\tResetComplete{1} ResetError{2} PMComplete{15}');
  const cache = r.u16(0x16);
  const text = cacheSize(extract(cache, 3, 0), extract(cache, 15, 8));
  d.set('CXLCap2', 'CacheSize', text).lines.push(`\t\tCXLCap2:\t${text}`);
  range(r, d, 1, 0x18);
  range(r, d, 2, 0x28);
  if (third) {
    const states = 'ColdReset{0} WarmReset{1} HotReset{2} HotResetConfigurability{3}';
    d.line('CXLCap3', r.u16(0x38), `\t\tCXLCap3:\tDefaultVolatile HDM State After:\t${states}`);
  }
  if (length > DEVICE_LENGTH_2) d.lines.push('\t\t<?>');
}

function functionMap(r: CapabilityReader, d: Decoding): void {
  for (let i = 0; i < 8 && r.has(12 + 4 * i, 4); i++) d.line(`FuncMap${i}`, r.u32(12 + 4 * i), `\t\tFuncMap ${i}: {functions=31:0 hex8}`);
}

function port(r: CapabilityReader, d: Decoding, { length }: Header): void {
  if (length < 0x28 || !r.has(0, 0x14)) return;
  d.line('CXLPortSta', r.u16(0x0a), '\t\tCXLPortSta:\tPMComplete{0}');
  d.line('CXLPortCtl', r.u16(0x0c), '\t\tCXLPortCtl:\tUnmaskSBR{0} UnmaskLinkDisable{1} AltMem{2} AltBME{3} ViralEnable{14}');
  d.line('AlternateBus', r.u16(0x0e), '\t\tAlternateBus:\t{base=7:0 hex2}-{limit=15:8 hex2}');
  // The second window is the alternate memory window; the label is lspci's.
  d.line('AlternateMemory', r.u32(0x10), '\t\tAlternateBus:\t{base=15:0 hex4}-{limit=31:16 hex4}');
}

const timeUnits = [
  [1, 'us'],
  [10, 'us'],
  [100, 'us'],
  [1, 'ms'],
  [10, 'ms'],
  [100, 'ms'],
  [1, 's'],
  [10, 's'],
] as const;

/** A time to flush to persistent memory: base in bits 3:0, scale in bits 11:8. */
function flushTime(d: Decoding, label: string, register: number): void {
  const [base, scale] = [extract(register, 3, 0), extract(register, 11, 8)];
  const unit = timeUnits[scale];
  if (unit === undefined) d.lines.push(`\t\tReserved time scale encoding ${scale.toString(16)}`);
  const text = unit === undefined ? `${base}<?>` : `${base * unit[0]}${unit[1]}`;
  d.set('GPF', label, text).lines.push(`\t\tGPF ${label}: ${text}`);
}

function flexBus(r: CapabilityReader, d: Decoding, { revision, length }: Header): void {
  const expected = [0x10, 0x14, 0x20][revision];
  if (expected !== undefined && length !== expected) d.lines.push(`\t\t<Wrong length for Revision ${revision}>`);
  const flits = revision >= 2 ? ' 256BFlit{13} PBRFlit{14}' : '';
  d.line('FBCap', r.u16(0x0a), `\t\tFBCap:\tCache{0} IO{1} Mem{2} 68BFlit{5} MltLogDev{6}${flits}`);
  const both = 'Cache{0} IO{1} Mem{2} SynHdrByp{3} DrftBuf{4} 68BFlit{5} MltLogDev{6}';
  d.line('FBCtl', r.u16(0x0c), `\t\tFBCtl:\t${both} RCD{7} Retimer1{8} Retimer2{9}${flits}`);
  d.line('FBSta', r.u16(0x0e), `\t\tFBSta:\t${both}${flits}`);
  const further = [
    ['FBModTS', 1, 0x10, 'FBModTS:\tReceived FB Data: {data=23:0 hex6}'],
    ['FBCap2', 2, 0x14, 'FBCap2:\tNOPHint{0}'],
    ['FBCtl2', 2, 0x18, 'FBCtl2:\tNOPHint{0}'],
    ['FBSta2', 2, 0x1c, 'FBSta2:\tNOPHintInfo: {1:0}'],
  ] as const;
  for (const [name, since, at, line] of further) {
    if (revision < since || length < at + 4 || !r.has(at, 4)) continue;
    d.line(name, r.u32(at), `\t\t${line}`);
  }
  if (length > 0x20) d.lines.push('\t\t<?>');
}

const blockIds: Readonly<Record<number, string>> = {
  1: 'component registers',
  2: 'BAR virtualization',
  3: 'CXL device registers',
  4: 'CPMU registers',
  255: 'vendor-specific',
};

function locator(r: CapabilityReader, d: Decoding, { length }: Header): void {
  for (let i = 1; 12 + 8 * i <= length && r.has(4 + 8 * i, 8); i++) {
    const low = r.u32(4 + 8 * i);
    const id = extract(low, 15, 8);
    if (id === 0) continue;
    const offset = hexDigits(r.u64(4 + 8 * i) & ~0xffffn, 16);
    const kind = blockIds[id] ?? '<?>';
    d.line(`Block${i}`, low, `\t\tBlock${i}: BIR: bar{BIR=2:0}, ID: ${kind}, offset: ${offset}`);
    d.set(`Block${i}`, 'id', id).set(`Block${i}`, 'offset', `0x${offset}`);
  }
}

function logicalDevices(r: CapabilityReader, d: Decoding): void {
  const count = r.u16(0x0a);
  if (count >= 1 && count <= 16) d.set('MLD', 'NumLogDevs', count).lines.push(`\t\tNumLogDevs: ${count}`);
}

/** By DVSEC id. */
export const cxlBodies: Readonly<Record<number, readonly [title: string, body: Body]>> = {
  0: ['PCIe DVSEC for CXL Devices', device],
  2: ['Non-CXL Function Map DVSEC', functionMap],
  3: ['CXL Extensions DVSEC for Ports', port],
  4: [
    'GPF DVSEC for CXL Ports',
    (r, d) => {
      flushTime(d, 'Phase 1 Timeout', r.u16(0x0c));
      flushTime(d, 'Phase 2 Timeout', r.u16(0x0e));
    },
  ],
  5: [
    'GPF DVSEC for CXL Devices',
    (r, d) => {
      flushTime(d, 'Phase 2 Duration', r.u16(0x0a));
      d.set('GPF', 'Phase 2 Power', r.u32(0x0c)).lines.push(`\t\tGPF Phase 2 Power: ${r.u32(0x0c)}mW`);
    },
  ],
  7: ['PCIe DVSEC for Flex Bus Port', flexBus],
  8: ['Register Locator DVSEC', locator],
  9: ['MLD DVSEC', logicalDevices],
  10: ['PCIe DVSEC for Test Capability <?>', () => {}],
};
