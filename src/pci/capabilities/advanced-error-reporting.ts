/** Advanced error reporting (PCI Express Base 6.0, 7.8.4). */
import { ExtCapId } from '../../abi/pci.ts';
import type { Capability } from '../declaration.ts';
import { hexDigits } from '../decode/text.ts';
import { fixed, type PermissionRow, row, withBits } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';
import { PciExpType } from './pci-express-registers.ts';

/** Advanced error reporting. */
export const Aer = {
  UNCOR_STATUS: 0x04,
  UNCOR_INTERNAL: 0x0040_0000,
  UNCOR_MASK: 0x08,
  UNCOR_SEVER: 0x0c,
  COR_STATUS: 0x10,
  COR_RECEIVER: 0x0001,
  COR_MASK: 0x14,
  CAP: 0x18,
  CAP_FIRST_ERROR: 0x1f,
  CAP_ECRC_GENC: 0x20,
  CAP_ECRC_GENE: 0x40,
  CAP_ECRC_CHKC: 0x80,
  CAP_ECRC_CHKE: 0x100,
  HEADER_LOG: 0x1c,
  ROOT_COMMAND: 0x2c,
  ROOT_STATUS: 0x30,
  ROOT_ERR_SRC: 0x34,
  TLP_PREFIX_LOG: 0x38,
  SIZE: 0x48,
} as const;

/** Advanced error reporting. With `rootPort` the root error registers too. */
export function aer(options: { rootPort?: boolean; ecrc?: boolean; version?: number } & Placed = {}): Capability {
  const uncorrectable = 0x0462_f030;
  const correctable = 0x0000_f1c1;
  const ecrc = options.ecrc !== false;
  const builder = new CapabilityBuilder(Aer.SIZE)
    .set(Aer.UNCOR_STATUS, 4, 0, 0, uncorrectable)
    .set(Aer.UNCOR_MASK, 4, 0, uncorrectable)
    .set(Aer.UNCOR_SEVER, 4, 0x0046_2030, uncorrectable)
    .set(Aer.COR_STATUS, 4, 0, 0, correctable)
    .set(Aer.COR_MASK, 4, 0x0000_e000, correctable)
    .set(Aer.CAP, 4, ecrc ? Aer.CAP_ECRC_GENC | Aer.CAP_ECRC_CHKC : 0, ecrc ? Aer.CAP_ECRC_GENE | Aer.CAP_ECRC_CHKE : 0);
  if (options.rootPort === true) builder.set(Aer.ROOT_COMMAND, 4, 0, 0x7).set(Aer.ROOT_STATUS, 4, 0, 0, 0x7f);
  return builder.build(advancedErrorReporting, { ...options, version: options.version ?? 2 });
}

/** The error bits that the specification names: reserved ones stay as they are. */
const UNCORRECTABLE = 0x03ff_f031;
const CORRECTABLE = 0x0000_f1c1;
const ECRC = Aer.CAP_ECRC_GENE | Aer.CAP_ECRC_CHKE;

const errors = (offset: number, name: string, mask: number): PermissionRow =>
  withBits(row(offset, 4, name, 0, mask, 'error policy of this function only'), [
    ~mask >>> 0,
    'reserved: a later specification may give it a meaning',
  ]);

const uncorrectableBits = [
  'DLP{4} SDES{5} TLP{12} FCP{13} CmpltTO{14} CmpltAbrt{15} UnxCmplt{16} RxOF{17} MalfTLP{18}',
  'ECRC{19} UnsupReq{20} ACSViol{21} UncorrIntErr{22} BlockedTLP{23} AtomicOpBlocked{24} TLPBlockedErr{25}',
  'PoisonTLPBlocked{26} DMWrReqBlocked{27} IDECheck{28} MisIDETLP{29} PCRC_CHECK{30} TLPXlatBlocked{31}',
];
const correctableBits = 'RxErr{0} BadTLP{6} BadDLLP{7} Rollover{8} Timeout{12} AdvNonFatalErr{13} CorrIntErr{14} HeaderOF{15}';

const decode: CapabilityDecoder = (r, d, { portType }) => {
  const title = 'Advanced Error Reporting';
  if (!r.has(Aer.UNCOR_STATUS, 40)) return { title };
  for (const [name, at] of [
    ['UESta', Aer.UNCOR_STATUS],
    ['UEMsk', Aer.UNCOR_MASK],
    ['UESvrt', Aer.UNCOR_SEVER],
  ] as const) {
    uncorrectableBits.forEach((line, i) => {
      d.line(name, r.u32(at), `\t\t${i === 0 ? `${name}:` : ''}\t${line}`);
    });
  }
  d.line('CESta', r.u32(Aer.COR_STATUS), `\t\tCESta:\t${correctableBits}`);
  d.line('CEMsk', r.u32(Aer.COR_MASK), `\t\tCEMsk:\t${correctableBits}`);
  const cap = r.u32(Aer.CAP);
  d.line(
    'AERCap',
    cap,
    '\t\tAERCap:\tFirst Error Pointer: {FirstErrorPointer=4:0 hex2}, ECRCGenCap{5} ECRCGenEn{6} ECRCChkCap{7} ECRCChkEn{8}',
  );
  d.line('AERCap', cap, '\t\t\tMultHdrRecCap{9} MultHdrRecEn{10} TLPPfxPres{11} HdrLogCap{12}');
  const log = [0, 4, 8, 12].map((at) => hexDigits(r.u32(Aer.HEADER_LOG + at), 8));
  d.set('HeaderLog', 'dwords', log).lines.push(`\t\tHeaderLog: ${log.join(' ')}`);
  if ((portType !== PciExpType.ROOT_PORT && portType !== PciExpType.RC_EC) || !r.has(Aer.ROOT_COMMAND, 12)) return { title };
  d.line('RootCmd', r.u32(Aer.ROOT_COMMAND), '\t\tRootCmd: CERptEn{0} NFERptEn{1} FERptEn{2}');
  d.line('RootSta', r.u32(Aer.ROOT_STATUS), '\t\tRootSta: CERcvd{0} MultCERcvd{1} UERcvd{2} MultUERcvd{3}');
  d.line('RootSta', r.u32(Aer.ROOT_STATUS), '\t\t\t FirstFatal{4} NonFatalMsg{5} FatalMsg{6} IntMsgNum {31:27}');
  d.line(
    'ErrorSrc',
    r.u32(Aer.ROOT_ERR_SRC),
    '\t\tErrorSrc: ERR_COR: {Correctable=15:0 hex4} ERR_FATAL/NONFATAL: {Uncorrectable=31:16 hex4}',
  );
  return { title };
};

export const advancedErrorReporting: CapabilityKind = {
  id: ExtCapId.ERR,
  extended: true,
  name: 'Advanced Error Reporting',
  access: {
    length: fixed(Aer.ROOT_COMMAND),
    why: 'read-only: the log; the root error registers are not part of it',
    rows: [
      errors(Aer.UNCOR_STATUS, 'uncorrectable error status', UNCORRECTABLE),
      errors(Aer.UNCOR_MASK, 'uncorrectable error mask', UNCORRECTABLE),
      errors(Aer.UNCOR_SEVER, 'uncorrectable error severity', UNCORRECTABLE),
      errors(Aer.COR_STATUS, 'correctable error status', CORRECTABLE),
      errors(Aer.COR_MASK, 'correctable error mask', CORRECTABLE),
      withBits(row(Aer.CAP, 4, 'AER capabilities and control', 0, ECRC, 'read-only: says what error logging can do'), [
        ECRC,
        'generating and checking ECRC concerns this function only',
      ]),
    ],
  },
  decode,
};
