/**
 * HyperTransport (HyperTransport I/O Link 3.10, chapter 7): one id, whose type field says which
 * registers follow.
 */

import { CapId } from '../../abi/pci.ts';
import { type CapabilityReader, choice, type Decoding, extract, hexDigits } from '../decode/text.ts';
import { Why } from '../permissions/rows.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

/** HyperTransport: the type is bits 7:5 (some types take 7:3). */
const Ht = { FLAGS_HIGH: 3, TYPE3_MASK: 0xe0, SIZE_SHORT: 24, SIZE_LONG: 28 } as const;

const choices = {
  width: choice(['8bit', '16bit', null, '32bit', '2bit', '4bit', null, 'N/C'], (value) => `[${value}]`),
  frequency: choice(
    [
      '200MHz',
      '300MHz',
      '400MHz',
      '500MHz',
      '600MHz',
      '800MHz',
      '1.0GHz',
      '1.2GHz',
      '1.4GHz',
      '1.6GHz',
      null,
      null,
      null,
      null,
      null,
      'Vend',
    ],
    (value) => `[${value.toString(16)}]`,
  ),
  decimal2: choice([], (value) => String(value).padStart(2, '0')),
};

/** By the upper five bits of the command. */
const types: Readonly<Record<number, string>> = {
  8: 'Switch',
  16: 'Interrupt Discovery and Configuration',
  18: 'UnitID Clumping',
  19: 'Extended Configuration Space Access',
  20: 'Address Mapping',
  22: 'DirectRoute',
  23: 'VCSet',
  24: 'Retry Mode',
  25: 'X86 (reserved)',
};
const [REVISION_ID, MSI_MAPPING] = [0x11, 0x15];

/** Registers of a link, by its place: the frequency shares a word with the byte before it. */
interface Link {
  readonly suffix: string;
  readonly control: number;
  readonly frequency: number;
  readonly capability: number;
}
interface Interface {
  readonly name: string;
  readonly links: readonly Link[];
  readonly revision: number;
  readonly feature: number;
  readonly command: string;
  /** From revision 1.02 on. */
  readonly commandMore: string;
  readonly featureMore: string;
  readonly errors: number;
  readonly memory: number;
  readonly bus: number | null;
  /** The registers from `errors` on are there only when bit 8 of the features is set. */
  readonly optional: boolean;
}

const slave: Interface = {
  name: 'Slave or Primary Interface',
  links: [
    { suffix: ' 0', control: 0x04, frequency: 0x0c, capability: 0x0e },
    { suffix: ' 1', control: 0x08, frequency: 0x10, capability: 0x12 },
  ],
  revision: 0x0c,
  feature: 0x10,
  command: 'BaseUnitID={4:0} UnitCnt={9:5} MastHost{10} DefDir{11}',
  commandMore: ' DUL{12}',
  featureMore: '',
  errors: 0x16,
  memory: 0x18,
  bus: 0x1a,
  optional: false,
};
const host: Interface = {
  name: 'Host or Secondary Interface',
  links: [{ suffix: '', control: 0x04, frequency: 0x08, capability: 0x0a }],
  revision: 0x08,
  feature: 0x0c,
  command: 'WarmRst{0} DblEnd{1}',
  commandMore: ' DevNum={6:2} ChainSide{7} HostHide{8} Slave{10} <EOCErr{11} DUL{12}',
  featureMore: ' ExtRS{8} UCnfE{9}',
  errors: 0x12,
  memory: 0x14,
  bus: null,
  optional: true,
};

const controlBits = 'CFlE{1} CST{2} CFE{3} <LkFail{4} Init{5} EOC{6} TXO{7} <CRCErr={11:8 hex1}';
const controlMore = ' IsocEn{12} LSEn{13} ExtCTL{14} 64b{15}';
const configBits = 'MLWI={2:0 width} MLWO={6:4 width} LWI={10:8 width} LWO={14:12 width}';
const configBitsMore =
  'MLWI={2:0 width} DwFcIn{3} MLWO={6:4 width} DwFcOut{7} LWI={10:8 width} DwFcInEn{11} LWO={14:12 width} DwFcOutEn{15}';
const frequencies = '200MHz{0} 300MHz{1} 400MHz{2} 500MHz{3} 600MHz{4} 800MHz{5} 1.0GHz{6} 1.2GHz{7} 1.4GHz{8} 1.6GHz{9} Vend{15}';
const errorBits =
  'PFlE{0} OFlE{1} PFE{2} OFE{3} EOCFE{4} RFE{5} CRCFE{6} SERRFE{7} CF{8} RE{9} PNFE{10} ONFE{11} EOCNFE{12} RNFE{13} CRCNFE{14} SERRNFE{15}';

/** Revision bytes: revisions between 0.17 and 1.02 have registers that neither form describes. */
const [LAST_OF_FIRST, FIRST_OF_SECOND] = [0x11, 0x22];

function interfaceLines(r: CapabilityReader, d: Decoding, of: Interface): void {
  if (!r.has(of.revision, 1)) return;
  const revision = r.u8(of.revision);
  const second = revision >= FIRST_OF_SECOND;
  if (!second && revision > LAST_OF_FIRST) d.lines.push('\t\t!!! Possibly incomplete decoding');
  const more = (text: string) => (second ? text : '');
  d.line('command', r.u16(2), `\t\tCommand: ${of.command}${more(of.commandMore)}`);
  for (const { suffix, control } of of.links) {
    d.line(`control${suffix}`, r.u16(control), `\t\tLink Control${suffix}: ${controlBits}${more(controlMore)}`);
    d.line(`config${suffix}`, r.u16(control + 2), `\t\tLink Config${suffix}: ${second ? configBitsMore : configBits}`);
  }
  d.line('revision', revision, '\t\tRevision ID: {major=7:5}.{minor=4:0 decimal2}');
  if (!second) return;
  of.links.forEach(({ suffix, frequency, capability }, i) => {
    if (!r.has(frequency, 4)) return;
    d.line(`frequency${suffix}`, r.u16(frequency), `\t\tLink Frequency${suffix}: {current=11:8 frequency}`);
    d.line(`error${suffix}`, r.u16(frequency), `\t\tLink Error${suffix}: <Prot{12} <Ovfl{13} <EOC{14} CTLTm{15}`);
    d.line(`frequencies${suffix}`, r.u16(capability), `\t\tLink Frequency Capability${suffix}: ${frequencies}`);
    if (i > 0 || !r.has(of.feature, 2)) return;
    const features = `IsocFC{0} LDTSTOP{1} CRCTM{2} ECTLT{3} 64bA{4} UIDRD{5}${of.featureMore}`;
    d.line('feature', r.u16(of.feature), `\t\tFeature Capability: ${features}`);
  });
  if ((of.optional && (r.u16(of.feature) & 0x100) === 0) || !r.has(of.errors, 4)) return;
  d.line('errors', r.u16(of.errors), `\t\tError Handling: ${errorBits}`);
  d.line('memory', r.u16(of.memory), '\t\tPrefetchable memory behind bridge Upper: {base=7:0 hex2}-{limit=15:8 hex2}');
  if (of.bus !== null) d.line('bus', r.u8(of.bus), '\t\tBus Number: {number=7:0 hex2}');
}

const decode: CapabilityDecoder = (r, d) => {
  const command = r.u16(Ht.FLAGS_HIGH - 1);
  const type = extract(command, 15, 11);
  d.set('command', 'type', type);
  const of = type < 4 ? slave : type < 8 ? host : null;
  if (of !== null) {
    interfaceLines(r, d, of);
    return { title: `HyperTransport: ${of.name}` };
  }
  if (type === REVISION_ID) return { title: d.text('command', command, 'HyperTransport: Revision ID: {major=7:5}.{minor=4:0 decimal2}') };
  if (type !== MSI_MAPPING) return { title: `HyperTransport: ${types[type] ?? `#${hexDigits(type, 2)}`}` };
  const title = d.text('command', command, 'HyperTransport: MSI Mapping Enable{0} Fixed{1}');
  // The fixed window is where x86 has it, and has no registers.
  if ((command & 2) === 0 && r.has(4, 8)) {
    const address = hexDigits(r.u64(4) & ~0xfffffn, 16);
    d.set('mapping', 'address', `0x${address}`).lines.push(`\t\tMapping Address Base: ${address}`);
  }
  return { title };
};

export const hyperTransport: CapabilityKind = {
  id: CapId.HT,
  name: 'HyperTransport',
  access: {
    length: {
      kind: 'variable',
      most: Ht.SIZE_LONG,
      rule: '24 for types other than slave or primary interface, else 28',
      of: (read) => ((read(Ht.FLAGS_HIGH, 1) & Ht.TYPE3_MASK) !== 0 ? Ht.SIZE_SHORT : Ht.SIZE_LONG),
    },
    why: Why.FABRIC,
  },
  choices,
  decode,
};
