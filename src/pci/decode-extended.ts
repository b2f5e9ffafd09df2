/** Extended capabilities for people: one function per id, as in decode-capabilities.ts. */
import { Acs, Aer, Ari, Ats, Dsn, ExtCapId, Ltr, PciExpType, Pri, Rebar, Sriov, Tph, Vc, Vsec } from '../abi/pci.ts';
import { designatedVendorSpecific } from './decode/cxl.ts';
import { device3 } from './decode/device3.ts';
import { flitErrorInjection, flitLogging } from './decode/flit.ts';
import { ide } from './decode/ide.ts';
import { multicast } from './decode/multicast.ts';
import { laneMargining, physicalLayer16, physicalLayer32, physicalLayer64 } from './decode/physical-layer.ts';
import { registerLocator } from './decode/register-locator.ts';
import { eventCollector, rootComplexLink } from './decode/root-complex.ts';
import type { CapabilityDecoder, DecodedCapability, Titles } from './decode-capabilities.ts';
import { type CapabilityReader, choice, Decoding, extract, hexDigits } from './decode-text.ts';

const nanoseconds = (none: string) => choice([none], (value) => (value === 255 ? 'Greater than 254ns' : `${value}ns`));

const choices = {
  clock: choice(['100ns'], (value) => `??${value}`),
  power2: choice([], (value) => String(2 ** value)),
  arbitration: choice(['Fixed', 'WRR32', 'WRR64', 'WRR128'], (value) => `??${value}`),
  portArbitration: choice(['Fixed', 'WRR32', 'WRR64', 'WRR128', 'TWRR128', 'WRR256'], (value) => `??${value}`),
  granularity: nanoseconds('Unimplemented'),
  effective: nanoseconds('Unknown'),
};

function aer(r: CapabilityReader, d: Decoding, portType: number | null): void {
  const uncorrectable = [
    'DLP{4} SDES{5} TLP{12} FCP{13} CmpltTO{14} CmpltAbrt{15} UnxCmplt{16} RxOF{17} MalfTLP{18}',
    'ECRC{19} UnsupReq{20} ACSViol{21} UncorrIntErr{22} BlockedTLP{23} AtomicOpBlocked{24} TLPBlockedErr{25}',
    'PoisonTLPBlocked{26} DMWrReqBlocked{27} IDECheck{28} MisIDETLP{29} PCRC_CHECK{30} TLPXlatBlocked{31}',
  ];
  const correctable = 'RxErr{0} BadTLP{6} BadDLLP{7} Rollover{8} Timeout{12} AdvNonFatalErr{13} CorrIntErr{14} HeaderOF{15}';
  if (!r.has(Aer.UNCOR_STATUS, 40)) return;
  for (const [name, at] of [
    ['UESta', Aer.UNCOR_STATUS],
    ['UEMsk', Aer.UNCOR_MASK],
    ['UESvrt', Aer.UNCOR_SEVER],
  ] as const) {
    uncorrectable.forEach((line, i) => {
      d.line(name, r.u32(at), `\t\t${i === 0 ? `${name}:` : ''}\t${line}`);
    });
  }
  d.line('CESta', r.u32(Aer.COR_STATUS), `\t\tCESta:\t${correctable}`);
  d.line('CEMsk', r.u32(Aer.COR_MASK), `\t\tCEMsk:\t${correctable}`);
  const cap = r.u32(Aer.CAP);
  d.line(
    'AERCap',
    cap,
    '\t\tAERCap:\tFirst Error Pointer: {FirstErrorPointer=4:0 hex2}, ECRCGenCap{5} ECRCGenEn{6} ECRCChkCap{7} ECRCChkEn{8}',
  );
  d.line('AERCap', cap, '\t\t\tMultHdrRecCap{9} MultHdrRecEn{10} TLPPfxPres{11} HdrLogCap{12}');
  const log = [0, 4, 8, 12].map((at) => hexDigits(r.u32(Aer.HEADER_LOG + at), 8));
  d.set('HeaderLog', 'dwords', log).lines.push(`\t\tHeaderLog: ${log.join(' ')}`);
  if ((portType !== PciExpType.ROOT_PORT && portType !== PciExpType.RC_EC) || !r.has(Aer.ROOT_COMMAND, 12)) return;
  d.line('RootCmd', r.u32(Aer.ROOT_COMMAND), '\t\tRootCmd: CERptEn{0} NFERptEn{1} FERptEn{2}');
  d.line('RootSta', r.u32(Aer.ROOT_STATUS), '\t\tRootSta: CERcvd{0} MultCERcvd{1} UERcvd{2} MultUERcvd{3}');
  d.line('RootSta', r.u32(Aer.ROOT_STATUS), '\t\t\t FirstFatal{4} NonFatalMsg{5} FatalMsg{6} IntMsgNum {31:27}');
  d.line(
    'ErrorSrc',
    r.u32(Aer.ROOT_ERR_SRC),
    '\t\tErrorSrc: ERR_COR: {Correctable=15:0 hex4} ERR_FATAL/NONFATAL: {Uncorrectable=31:16 hex4}',
  );
}

/** Arbitration schemes that are offered: the named ones always, others only when set. */
function arbitrations(offered: number, names: readonly string[]): string {
  const shown: string[] = [];
  for (let bit = 0; bit < 8; bit++) {
    const set = ((offered >> bit) & 1) === 1;
    if (bit < names.length) shown.push(`${names[bit]}${set ? '+' : '-'}`);
    else if (set) shown.push(`??${bit}+`);
  }
  return shown.join(' ');
}

function virtualChannels(r: CapabilityReader, d: Decoding): void {
  if (!r.has(Vc.PORT_CAP1, 12)) return;
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
    if (!r.has(at, Vc.PER_VC_SIZE)) return;
    virtualChannel(r, d, i, at);
  }
}

function virtualChannel(r: CapabilityReader, d: Decoding, index: number, at: number): void {
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

function sriov(r: CapabilityReader, d: Decoding): void {
  if (!r.has(Sriov.CAP, Sriov.SIZE - 4)) return;
  d.line('IOVCap', r.u32(Sriov.CAP), '\t\tIOVCap:\tMigration{0} 10BitTagReq{2} IntMsgNum {31:21}');
  d.line('IOVCtl', r.u16(Sriov.CTRL), '\t\tIOVCtl:\tEnable{0} Migration{1} Interrupt{2} MSE{3} ARIHierarchy{4} 10BitTagReq{5}');
  d.line('IOVSta', r.u16(Sriov.STATUS), '\t\tIOVSta:\tMigration{0}');
  const vfs = `Initial VFs: ${r.u16(Sriov.INITIAL_VF)}, Total VFs: ${r.u16(Sriov.TOTAL_VF)}, Number of VFs: ${r.u16(Sriov.NUM_VF)}`;
  d.lines.push(`\t\t${vfs}, Function Dependency Link: ${hexDigits(r.u8(Sriov.FUNC_LINK), 2)}`);
  d.lines.push(
    `\t\tVF offset: ${r.u16(Sriov.VF_OFFSET)}, stride: ${r.u16(Sriov.VF_STRIDE)}, Device ID: ${hexDigits(r.u16(Sriov.VF_DID), 4)}`,
  );
  const pages = [r.u32(Sriov.SUP_PGSIZE), r.u32(Sriov.SYS_PGSIZE)].map((mask) => hexDigits(mask, 8));
  d.lines.push(`\t\tSupported Page Size: ${pages[0]}, System Page Size: ${pages[1]}`);
  const counts = {
    initial: Sriov.INITIAL_VF,
    total: Sriov.TOTAL_VF,
    number: Sriov.NUM_VF,
    offset: Sriov.VF_OFFSET,
    stride: Sriov.VF_STRIDE,
  };
  for (const [key, at] of Object.entries(counts)) d.set('VFs', key, r.u16(at));
  d.set('VFs', 'deviceId', r.u16(Sriov.VF_DID));
  d.set('VFs', 'supportedPageSizes', r.u32(Sriov.SUP_PGSIZE)).set('VFs', 'systemPageSize', r.u32(Sriov.SYS_PGSIZE));
  for (let i = 0; i < 6; i++) {
    const low = r.u32(Sriov.BAR + 4 * i);
    if (low === 0 || low === 0xffff_ffff) continue;
    const index = i;
    let address = hexDigits((low & 0xffff_fff0) >>> 0, 8);
    const wide = (low & 0x6) !== 0;
    // The upper half of the last register would be the next field; lspci takes it all the same.
    if (wide && (low & 0x6) === 0x4) address = hexDigits(r.u32(Sriov.BAR + 4 * ++i), 8) + address;
    const kind = `${wide ? '64' : '32'}-bit, ${(low & 8) !== 0 ? '' : 'non-'}prefetchable`;
    d.lines.push(`\t\tRegion ${index}: Memory at ${address} (${kind})`);
    d.set(`region${index}`, 'address', `0x${address}`).set(`region${index}`, 'kind', kind);
  }
  d.line('VFMigration', r.u32(Sriov.VFM), `\t\tVF Migration: offset: ${hexDigits((r.u32(Sriov.VFM) & ~7) >>> 0, 8)}, BIR: {2:0}`);
}

const barUnits = ['MB', 'GB', 'TB', 'PB', 'EB'];
/** 1 MiB shifted by `exponent`; sizes above 8 EiB do not exist. */
function barSize(exponent: number): string {
  return exponent > 43 ? '<unknown>' : `${2 ** (exponent % 10)}${barUnits[Math.floor(exponent / 10)]}`;
}

function resizableBar(r: CapabilityReader, d: Decoding): void {
  const count = extract(r.u32(Rebar.CTRL), 7, 5);
  if (count < 1 || count > 6) {
    d.lines.push(`\t\t<error in resizable BAR: num_bars=${count} is out of specification>`);
    return;
  }
  for (let i = 0; i < count; i++) {
    const at = Rebar.CAP + Rebar.PER_BAR_SIZE * i;
    if (!r.has(at, 8)) return;
    const control = r.u32(at + 4);
    const sizes: string[] = [];
    for (let exponent = 0; exponent < 44; exponent++) {
      const set = exponent < 28 ? extract(r.u32(at), exponent + 4, exponent + 4) : extract(control, exponent - 12, exponent - 12);
      if (set === 1) sizes.push(barSize(exponent));
    }
    const current = barSize(extract(control, 13, 8));
    const bar = extract(control, 2, 0);
    d.set(`bar${bar}`, 'current', current).set(`bar${bar}`, 'supported', sizes);
    d.lines.push(`\t\tBAR ${bar}: current size: ${current}${sizes.length > 0 ? `, supported: ${sizes.join(' ')}` : ''}`);
  }
}

function tph(r: CapabilityReader, d: Decoding): void {
  if (!r.has(Tph.CAP, 4)) return;
  const cap = r.u32(Tph.CAP);
  d.text('TPH', cap, '{InterruptVector=1}{DeviceSpecific=2}{Extended=8}{TableLocation=10:9}');
  if ((cap & 0x2) !== 0) d.lines.push('\t\tInterrupt vector mode supported');
  if ((cap & 0x4) !== 0) d.lines.push('\t\tDevice specific mode supported');
  if ((cap & 0x100) !== 0) d.lines.push('\t\tExtended requester support');
  const table = ['No steering table available', 'Steering table in TPH capability structure', 'Steering table in MSI-X table'];
  d.lines.push(`\t\t${table[extract(cap, 10, 9)] ?? 'Reserved steering table location'}`);
}

/** Value times 32 to the scale, in ns (PCI Express Base 6.0, 7.8.2). */
function latency(value: number, scale: number): string {
  return scale > 6 ? '<error>' : `${value * 32 ** scale}ns`;
}

function ltr(r: CapabilityReader, d: Decoding): void {
  if (!r.has(Ltr.MAX_SNOOP_LAT, 4)) return;
  for (const [key, label, at] of [
    ['snoop', 'Max snoop latency', Ltr.MAX_SNOOP_LAT],
    ['noSnoop', 'Max no snoop latency', Ltr.MAX_NOSNOOP_LAT],
  ] as const) {
    const value = r.u16(at);
    const text = latency(extract(value, 9, 0), extract(value, 12, 10));
    d.set('LTR', key, text).lines.push(`\t\t${label}: ${text}`);
  }
}

function l1Substates(r: CapabilityReader, d: Decoding): void {
  if (!r.has(4, 12)) return;
  const cap = r.u32(4);
  const control1 = r.u32(8);
  const control2 = r.u32(12);
  const power = (scale: number, value: number) => (scale === 3 ? '<error>' : `${value * [2, 10, 100][scale]!}us`);
  d.line('L1SubCap', cap, '\t\tL1SubCap: PCI-PM_L1.2{0} PCI-PM_L1.1{1} ASPM_L1.2{2} ASPM_L1.1{3} L1_PM_Substates{4}');
  const twelve = (cap & 0x5) !== 0;
  if (twelve) {
    const on = power(extract(cap, 17, 16), extract(cap, 23, 19));
    d.set('L1SubCap', 'PortTPowerOnTime', on);
    d.line('L1SubCap', cap, `\t\t\t  PortCommonModeRestoreTime={15:8}us PortTPowerOnTime=${on}`);
  }
  d.line('L1SubCtl1', control1, '\t\tL1SubCtl1: PCI-PM_L1.2{0} PCI-PM_L1.1{1} ASPM_L1.2{2} ASPM_L1.1{3}');
  if (!twelve) {
    d.lines.push('\t\tL1SubCtl2:');
    return;
  }
  const scale = extract(control1, 31, 29);
  const threshold = scale > 5 ? '<error>' : latency(extract(control1, 25, 16), scale);
  const aspm = (cap & 0x4) !== 0;
  if (aspm) d.set('L1SubCtl1', 'LTR1.2_Threshold', threshold);
  d.line('L1SubCtl1', control1, `\t\t\t   T_CommonMode={15:8}us${aspm ? ` LTR1.2_Threshold=${threshold}` : ''}`);
  const on = power(extract(control2, 1, 0), extract(control2, 7, 3));
  d.set('L1SubCtl2', 'T_PwrOn', on).lines.push(`\t\tL1SubCtl2: T_PwrOn=${on}`);
}

function dpc(r: CapabilityReader, d: Decoding): void {
  if (!r.has(4, 8)) return;
  d.line('DpcCap', r.u16(4), '\t\tDpcCap:\tIntMsgNum {4:0}, RPExt{5} PoisonedTLP{6} SwTrigger{7} RP PIO Log {11:8}, DL_ActiveErr{12}');
  d.line('DpcCtl', r.u16(6), '\t\tDpcCtl:\tTrigger:{1:0 hex1} Cmpl{2} INT{3} ErrCor{4} PoisonedTLP{5} SwTrigger{6} DL_ActiveErr{7}');
  d.line('DpcSta', r.u16(8), '\t\tDpcSta:\tTrigger{0} Reason:{2:1 hex2} INT{3} RPBusy{4} TriggerExt:{6:5 hex2} RP PIO ErrPtr:{12:8 hex2}');
  d.line('Source', r.u16(10), '\t\tSource:\t{15:0 hex4}');
}

function secondaryExpress(r: CapabilityReader, d: Decoding): void {
  if (!r.has(4, 8)) return;
  d.line('LnkCtl3', r.u32(4), '\t\tLnkCtl3: LnkEquIntrruptEn{1} PerformEqu{0}');
  const lanes: number[] = [];
  for (let lane = 0; lane < 16; lane++) if (extract(r.u32(8), lane, lane) === 1) lanes.push(lane);
  d.set('LaneErrStat', 'lanes', lanes);
  d.lines.push(`\t\tLaneErrStat: ${lanes.length === 0 ? '0' : `LaneErr at lane: ${lanes.join(' ')}`}`);
}

function doe(r: CapabilityReader, d: Decoding): void {
  if (!r.has(4, 12)) return;
  d.line('DOECap', r.u32(4), '\t\tDOECap: IntSup{0}');
  if ((r.u32(4) & 1) !== 0) d.line('DOECap', r.u32(4), '\t\t\tIntMsgNum {11:1}');
  d.line('DOECtl', r.u32(8), '\t\tDOECtl: IntEn{1}');
  d.line('DOESta', r.u32(12), '\t\tDOESta: Busy{0} IntSta{1} Error{2} ObjectReady{31}');
}

function ptm(r: CapabilityReader, d: Decoding): void {
  if (!r.has(4, 8)) return;
  d.line('PTMCap', r.u32(4), '\t\tPTMCap: Requester{0} Responder{1} Root{2}');
  d.line('PTMCap', r.u32(4), '\t\tPTMClockGranularity: {15:8 granularity}');
  d.line('PTMControl', r.u32(8), '\t\tPTMControl: Enabled{0} RootSelected{1}');
  d.line('PTMControl', r.u32(8), '\t\tPTMEffectiveGranularity: {15:8 effective}');
}

/** The 64-bit number, most significant byte first. */
function serialNumber(r: CapabilityReader, d: Decoding): Titles {
  const serial = hexDigits(r.u64(Dsn.SERIAL_LO), 16).match(/../g)!.join('-');
  d.set('serial', 'number', serial);
  return { title: `Device Serial Number ${serial}` };
}

const body =
  (title: string, decode: (r: CapabilityReader, d: Decoding) => void): CapabilityDecoder =>
  (r, d) => {
    decode(r, d);
    return { title };
  };
/** Registers that are all at a fixed place: [group, offset, width, line]. */
const table = (title: string, rows: readonly (readonly [string, number, 2 | 4, string])[]): CapabilityDecoder =>
  body(title, (r, d) => {
    for (const [name, at, width, line] of rows) if (r.has(at, width)) d.line(name, width === 2 ? r.u16(at) : r.u32(at), `\t\t${line}`);
  });
const only = (title: string): CapabilityDecoder => body(title, () => {});

const acsBits = 'SrcValid{0} TransBlk{1} ReqRedir{2} CmpltRedir{3} UpstreamFwd{4} EgressCtrl{5} DirectTrans{6}';
const vsec: CapabilityDecoder = (r, d) => ({
  title: d.text('header', r.u32(Vsec.HEADER), 'Vendor Specific Information: ID={15:0 hex4} Rev={19:16} Len={31:20 hex3} <?>'),
});
const decoders: Readonly<Record<number, CapabilityDecoder>> = {
  [ExtCapId.NULL]: only('Null'),
  [ExtCapId.ERR]: (r, d, context) => {
    aer(r, d, context.portType);
    return { title: 'Advanced Error Reporting' };
  },
  [ExtCapId.VC]: body('Virtual Channel', virtualChannels),
  [ExtCapId.DSN]: serialNumber,
  [ExtCapId.PWR]: only('Power Budgeting <?>'),
  [ExtCapId.RCLD]: rootComplexLink,
  [ExtCapId.RCILC]: only('Root Complex Internal Link <?>'),
  [ExtCapId.RCEC]: eventCollector,
  [ExtCapId.MFVC]: only('Multi-Function Virtual Channel <?>'),
  [ExtCapId.VC9]: body('Virtual Channel', virtualChannels),
  [ExtCapId.RCRB]: only('Root Complex Register Block <?>'),
  [ExtCapId.VNDR]: vsec,
  [ExtCapId.ACS]: table('Access Control Services', [
    ['ACSCap', Acs.CAP, 2, `ACSCap:\t${acsBits}`],
    ['ACSCtl', Acs.CTRL, 2, `ACSCtl:\t${acsBits}`],
  ]),
  [ExtCapId.ARI]: table('Alternative Routing-ID Interpretation (ARI)', [
    ['ARICap', Ari.CAP, 2, 'ARICap:\tMFVC{0} ACS{1}, Next Function: {15:8}'],
    ['ARICtl', Ari.CTRL, 2, 'ARICtl:\tMFVC{0} ACS{1}, Function Group: {6:4}'],
  ]),
  [ExtCapId.ATS]: table('Address Translation Service (ATS)', [
    ['ATSCap', Ats.CAP, 2, 'ATSCap:\tInvalidate Queue Depth: {4:0 hex2}'],
    ['ATSCtl', Ats.CTRL, 2, 'ATSCtl:\tEnable{15}, Smallest Translation Unit: {4:0 hex2}'],
  ]),
  [ExtCapId.SRIOV]: body('Single Root I/O Virtualization (SR-IOV)', sriov),
  [ExtCapId.MRIOV]: only('Multi-Root I/O Virtualization <?>'),
  [ExtCapId.MCAST]: multicast,
  [ExtCapId.PRI]: body('Page Request Interface (PRI)', (r, d) => {
    if (!r.has(Pri.CTRL, 12)) return;
    d.line('PRICtl', r.u16(Pri.CTRL), '\t\tPRICtl: Enable{0} Reset{1}');
    d.line('PRISta', r.u16(Pri.STATUS), '\t\tPRISta: RF{0} UPRGI{1} Stopped{8} PASID{15}');
    const capacity = d.text('Capacity', r.u32(Pri.MAX_REQ), 'Page Request Capacity: {31:0 hex8}');
    d.lines.push(`\t\t${capacity}, ${d.text('Allocation', r.u32(Pri.ALLOC_REQ), 'Page Request Allocation: {31:0 hex8}')}`);
  }),
  [ExtCapId.REBAR]: body('Physical Resizable BAR', resizableBar),
  [ExtCapId.DPA]: only('Dynamic Power Allocation <?>'),
  [ExtCapId.TPH]: body('Transaction Processing Hints', tph),
  [ExtCapId.LTR]: body('Latency Tolerance Reporting', ltr),
  [ExtCapId.SECPCI]: body('Secondary PCI Express', secondaryExpress),
  [ExtCapId.PMUX]: only('Protocol Multiplexing <?>'),
  [ExtCapId.PASID]: table('Process Address Space ID (PASID)', [
    ['PASIDCap', 4, 2, 'PASIDCap: Exec{1} Priv{2}, Max PASID Width: {12:8 hex2}'],
    ['PASIDCtl', 6, 2, 'PASIDCtl: Enable{0} Exec{1} Priv{2}'],
  ]),
  [ExtCapId.LN]: only('LN Requester <?>'),
  [ExtCapId.DPC]: body('Downstream Port Containment', dpc),
  [ExtCapId.L1SS]: body('L1 PM Substates', l1Substates),
  [ExtCapId.PTM]: body('Precision Time Measurement', ptm),
  [ExtCapId.MPHY]: only('PCI Express over M_PHY <?>'),
  [ExtCapId.FRS]: only('FRS Queueing <?>'),
  [ExtCapId.RTR]: only('Readiness Time Reporting <?>'),
  [ExtCapId.DVSEC]: designatedVendorSpecific,
  [ExtCapId.VF_REBAR]: body('Virtual Resizable BAR', resizableBar),
  [ExtCapId.DLF]: only('Data Link Feature <?>'),
  [ExtCapId.PL_16GT]: physicalLayer16,
  [ExtCapId.LMR]: laneMargining,
  [ExtCapId.HIERARCHY]: only('Hierarchy ID <?>'),
  [ExtCapId.NPEM]: only('Native PCIe Enclosure Management <?>'),
  [ExtCapId.PL_32GT]: physicalLayer32,
  [ExtCapId.DOE]: body('Data Object Exchange', doe),
  [ExtCapId.DEV3]: device3,
  [ExtCapId.IDE]: ide,
  [ExtCapId.PL_64GT]: physicalLayer64,
  [ExtCapId.FLIT_LOGGING]: flitLogging,
  [ExtCapId.FLIT_ERROR_INJECTION]: flitErrorInjection,
  [ExtCapId.MRBL]: registerLocator,
};

/** The extended capability at the reader's offset. Never throws, whatever the bytes. */
export function decodeExtendedCapability(
  id: number,
  version: number,
  r: CapabilityReader,
  context: Parameters<CapabilityDecoder>[2],
): DecodedCapability {
  const d = new Decoding(choices);
  const { title } = decoders[id]?.(r, d, context, version) ?? { title: `Extended Capability ID 0x${id.toString(16)}` };
  return { id, offset: r.offset, version, title, fullTitle: title, lines: d.lines, fields: d.fields };
}
