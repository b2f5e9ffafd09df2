/**
 * Vendor-specific capabilities: those of virtio devices (Virtual I/O Device 1.2, 4.1.4) and of
 * Intel's host bridges are public.
 */
import { CapId } from '../../abi/pci.ts';
import { VfioError } from '../../base/errno.ts';
import type { Capability } from '../declaration.ts';
import { type CapabilityReader, choice, type Decoding, extract, hexDigits } from '../decode/text.ts';
import { Why } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityDecoder, CapabilityKind, Titles } from './kind.ts';

const Vndr = { LENGTH: 2, BODY: 3 } as const;

/**
 * Vendor-specific: `body` follows the length byte. Default: hardware makes all bits read-only;
 * `writable` names the others.
 */
export function vendorSpecific(body: Uint8Array, options: { writable?: Uint8Array | true } & Placed = {}): Capability {
  const size = Vndr.BODY + body.length;
  if (size > 0xc0) throw new VfioError('EINVAL', `a vendor-specific capability cannot have ${size} bytes; there is room for 192`);
  return new CapabilityBuilder(size).set(Vndr.LENGTH, 1, size).body(Vndr.BODY, body, options.writable).build(vendorDefined, options);
}

/** Steps of memory clocks, MHz; 0 is no limit. */
const step = (value: number) => Math.trunc((value * 2666) / 10);
const choices = {
  virtio: choice([null, 'CommonCfg', 'Notify', 'ISR', 'DeviceCfg', null, null, null, 'SharedMemory'], '<unknown>'),
  dmi: choice(['x4', 'x2']),
  memory: choice(['Unlimited', '8GB/chan', '2GB/chan', '0.5GB/chan']),
  ddr3: choice([], (value) => `${step(11 - value)}MHz`),
  ref100: choice(['Disabled', '1400MHz', '1600MHz', '1800MHz', '2000MHz', '2200MHz', '2400MHz', 'Unlimited']),
  steps: choice(['Unlimited'], (value) => `${step(value)}MHz`),
  overclock: choice(['Disabled', '115MHz', '130MHz', 'Unlimited']),
};

const [NOTIFY, SHARED_MEMORY] = [2, 8];
/** Bytes of a capability with a notification multiplier, and with 64-bit offset and length. */
const [WITH_MULTIPLIER, WIDE] = [20, 24];

function virtio(r: CapabilityReader, d: Decoding, length: number): Titles {
  const kind = r.u8(3);
  const place = d.text('virtio', r.u8(4), '\t\tBAR={7:0}');
  if (kind === SHARED_MEMORY && length >= WIDE) {
    const wide = (low: number, high: number) => hexDigits((BigInt(r.u32(high)) << 32n) | BigInt(r.u32(low)), 16);
    const [offset, size] = [wide(8, 16), wide(12, 20)];
    d.set('virtio', 'offset', `0x${offset}`).set('virtio', 'size', `0x${size}`);
    d.lines.push(`${place} offset=${offset} size=${size} ${d.text('virtio', r.u8(5), 'id={7:0}')}`);
  } else {
    const [offset, size] = [r.u32(8), r.u32(12)];
    d.set('virtio', 'offset', offset).set('virtio', 'size', size);
    const notify = kind === NOTIFY && length >= WITH_MULTIPLIER;
    if (notify) d.set('virtio', 'multiplier', r.u32(16));
    d.lines.push(
      `${place} offset=${hexDigits(offset, 8)} size=${hexDigits(size, 8)}${notify ? ` multiplier=${hexDigits(r.u32(16), 8)}` : ''}`,
    );
  }
  return { title: `Vendor Specific Information: VirtIO: ${d.text('virtio', kind, '{kind=7:0 virtio}')}` };
}

/** Version 1 of Intel's list of features that are fused off: [register, offset, lines]. */
const intelRegisters: readonly (readonly [string, number, readonly string[]])[] = [
  [
    'CapA',
    4,
    [
      'Peg60Dis{31} Peg12Dis{30} Peg11Dis{29} Peg10Dis{28} PeLWUDis{27} DmiWidth={26:26 dmi}',
      'EccDis{25} ForceEccEn{24} VTdDis{23} DmiG2Dis{22} PegG2Dis{21} DDRMaxSize={20:19 memory}',
      '1NDis{17} CDDis{15} DDPCDis{14} X2APICEn{13} PDCDis{12} IGDis{11} CDID={9:8} CRID={7:4}',
      'DDROCCAP{3} OCEn{2} DDRWrtVrefEn{1} DDR3LEn{0}',
    ],
  ],
  [
    'CapB',
    8,
    [
      'ImguDis{31} OCbySSKUCap{30} OCbySSKUEn{29} SMTCap{28} CacheSzCap 0x{27:25 hex1}',
      'SoftBinCap{24} DDR3MaxFreqWithRef100={23:21 ref100} PegG3Dis{20}',
      'PkgTyp{19} AddGfxEn{18} AddGfxCap{17} PegX16Dis{16} DmiG3Dis{15} GmmDis{8}',
      'DDR3MaxFreq={5:4 ddr3} LPDDR3En{2}',
    ],
  ],
  [
    'CapC',
    12,
    [
      'PegG4Dis{28} DDR4MaxFreq={26:23 steps} LPDDREn{22} LPDDR4MaxFreq={20:17 steps} LPDDR4En{16}',
      'QClkGvDis{14} SgxDis{9} BClkOC={8:7 overclock} IddDis{6} Pipe3Dis{5} Gear1MaxFreq={3:0 steps}',
    ],
  ],
];

function intel(r: CapabilityReader, d: Decoding, length: number): Titles {
  const [kind, version] = [extract(r.u8(3), 7, 4), extract(r.u8(3), 3, 0)];
  d.set('intel', 'kind', kind).set('intel', 'version', version);
  if (kind !== 0) return { title: `Vendor Specific Information: Intel ${kind === 1 ? 'Feature Detection' : '<unknown>'}` };
  if (version === 1) {
    for (const [name, at, lines] of intelRegisters) {
      if (length < at + 4 || !r.has(at, 4)) break;
      lines.forEach((line, i) => {
        d.line(name, r.u32(at), `\t\t${i === 0 ? `${name}:` : '     '} ${line}`);
      });
    }
  }
  return { title: `Vendor Specific Information: Intel Capabilities v${version}` };
}

const decode: CapabilityDecoder = (r, d, context) => {
  const length = r.u8(Vndr.LENGTH);
  if (context.virtio && length >= 16 && r.has(0, length)) return virtio(r, d, length);
  const title = d.text('header', length, 'Vendor Specific Information: Len={7:0 hex2} <?>');
  return context.intel ? intel(r, d, length) : { title };
};

export const vendorDefined: CapabilityKind = {
  id: CapId.VNDR,
  name: 'Vendor Specific',
  access: {
    length: { kind: 'variable', most: 0xff, rule: 'the byte after the header', of: (read) => read(Vndr.LENGTH, 1) },
    raw: true,
    why: Why.VENDOR,
  },
  choices,
  decode,
};
