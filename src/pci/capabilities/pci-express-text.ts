/**
 * The lines that lspci prints for PCI Express: which registers and bits exist depends on the kind
 * of port (PCI Express Base 6.0, 7.5.3).
 */

import { type CapabilityReader, choice, type Decoding, extract } from '../decode/text.ts';
import type { CapabilityContext, Titles } from './kind.ts';
import { PciExp, PciExpType } from './pci-express-registers.ts';

const { ENDPOINT, LEG_END, ROOT_PORT, UPSTREAM, DOWNSTREAM, PCI_BRIDGE, PCIE_BRIDGE, RC_END, RC_EC } = PciExpType;

const typeNames: Readonly<Record<number, string>> = {
  [ENDPOINT]: 'Endpoint',
  [LEG_END]: 'Legacy Endpoint',
  [ROOT_PORT]: 'Root Port',
  [UPSTREAM]: 'Upstream Port',
  [DOWNSTREAM]: 'Downstream Port',
  [PCI_BRIDGE]: 'PCI-Express to PCI/PCI-X Bridge',
  [PCIE_BRIDGE]: 'PCI/PCI-X to PCI-Express Bridge',
  [RC_END]: 'Root Complex Integrated Endpoint',
  [RC_EC]: 'Root Complex Event Collector',
};

const speeds = [null, '2.5GT/s', '5GT/s', '8GT/s', '16GT/s', '32GT/s', '64GT/s', '128GT/s'] as const;
const l0s = ['<64ns', '<128ns', '<256ns', '<512ns', '<1us', '<2us', '<4us', 'unlimited'];
const l1 = ['<1us', '<2us', '<4us', '<8us', '<16us', '<32us', '<64us', 'unlimited'];
const indicator = ['Unknown', 'On', 'Blink', 'Off'];
const deEmphasis = ['-6dB', '-3.5dB'];
const transmitMargin = [
  'Normal Operating Range',
  '800-1200mV(full-swing)/400-700mV(half-swing)',
  '200-400mV(full-swing)/100-200mV(half-swing)',
  '200-400mV(full-swing)/100-200mV(half-swing)',
  '200-400mV(full-swing)/100-200mV(half-swing)',
  '200-400mV(full-swing)/100-200mV(half-swing)',
];
/** De-emphasis and preshoot, dB. */
const presets = [
  ['-6', '0'],
  ['-3.5', '0'],
  ['-4.4', '0'],
  ['-2.5', '0'],
  ['0', '0'],
  ['0', '1.9'],
  ['0', '2.5'],
  ['-6.0', '3.5'],
  ['-3.5', '3.5'],
  ['0', '3.5'],
].map(([emphasis, preshoot]) => `${emphasis}dB de-emphasis, ${preshoot}dB preshoot`);
const timeouts: (string | null)[] = [
  '50us to 50ms',
  '50us to 100us',
  '1ms to 10ms',
  null,
  null,
  '16ms to 55ms',
  '65ms to 210ms',
  null,
  null,
];
timeouts.push('260ms to 900ms', '1s to 3.5s', null, null, '4s to 13s', '17s to 64s');
const timeoutRanges: (string | null)[] = ['Not Supported', 'Range A', 'Range B', 'Range AB', null, null, 'Range BC', 'Range ABC'];
timeoutRanges[14] = 'Range BCD';
timeoutRanges[15] = 'Range ABCD';
const componentPresence = ['Link Down - Not Determined', 'Link Down - Not Present', 'Link Down - Present', null, 'Link Up - Present'];
componentPresence.push('Link Up - Present and DRS Received');

export const expressChoices = {
  payload: choice([], (value) => String(128 << value)),
  phantom: choice([], (value) => String(2 ** value - 1)),
  l0s: choice(l0s),
  l1: choice(l1),
  linkSpeed: choice(speeds, 'unknown'),
  targetSpeed: choice(['2.5GT/s', ...speeds.slice(1)]),
  aspm: choice(['Disabled', 'L0s Enabled', 'L1 Enabled', 'L0s L1 Enabled']),
  rcb: choice(['64', '128']),
  indicator: choice(indicator),
  timeoutRange: choice(timeoutRanges),
  timeout: choice(timeouts),
  obffSupport: choice(['Not Supported', 'Via message', 'Via WAKE#', 'Via message/WAKE#']),
  obff: choice(['Disabled', 'Via message A', 'Via message B', 'Via WAKE#']),
  emergency: choice(['Not Supported', 'Dev Specific', 'Form Factor Dev Specific', 'Reserved']),
  cacheLines: choice(['Not Supported', '64byte cachelines', '128byte cachelines', 'Reserved']),
  margin: choice(transmitMargin),
  preset: choice(presets),
  deEmphasis: choice(deEmphasis),
  crosslink: choice(['unsupported', 'Upstream Port', 'Downstream Port', 'incomplete']),
  presence: choice(componentPresence, 'Reserved'),
};

/**
 * Watts as value and scale give them; values above 0xef mean fixed steps at scale 1.0 (PCI Express
 * Base 6.0, 7.5.3.3).
 */
export function powerLimit(value: number, scale: number): string {
  if (scale === 0 && value >= 0xf0)
    return (
      ['250', '275', '300', '325', '350', '375', '400', '425', '450', '475', '500', '525', '550', '575', '600'][value - 0xf0] ?? '>600'
    );
  return String(Number((value / 10 ** scale).toPrecision(3)));
}

export function decodeExpress(r: CapabilityReader, d: Decoding, context: CapabilityContext): Titles {
  const flags = r.u16(PciExp.FLAGS);
  const type = extract(flags, 7, 4);
  const slot = (type === ROOT_PORT || type === DOWNSTREAM || type === PCIE_BRIDGE) && (flags & PciExp.FLAGS_SLOT) !== 0;
  const slotText = type === ROOT_PORT || type === DOWNSTREAM || type === PCIE_BRIDGE ? d.text('flags', flags, ' (Slot{8})') : '';
  // lspci shows this only when it is set.
  const flit = (flags & PciExp.FLAGS_FLIT) !== 0 ? ', FLIT Mode Supported' : '';
  d.set('flags', 'FlitMode', flit !== '');
  const name = `${typeNames[type] ?? `Unknown type ${type}`}${slotText}, ${d.text('flags', flags, 'IntMsgNum {13:9}')}${flit}`;
  const version = extract(flags, 3, 0);
  d.set('flags', 'version', version).set('flags', 'type', typeNames[type] ?? type);
  const titles = { title: `Express ${name}`, full: `Express (v${version}) ${name}` };
  const linked = type !== RC_END && type !== RC_EC;
  const root = type === ROOT_PORT || type === RC_EC;
  if (!r.has(PciExp.DEVCAP, 16)) return titles;
  device(r, d, type);
  if (linked) link(r, d, type);
  if (slot && r.has(PciExp.SLTCAP, 8)) slotRegisters(r, d);
  if (root && r.has(PciExp.RTCTL, 8)) {
    d.line('RootCap', r.u16(PciExp.RTCAP), '\t\tRootCap: CRSVisible{0}');
    d.line('RootCtl', r.u16(PciExp.RTCTL), '\t\tRootCtl: ErrCorrectable{0} ErrNon-Fatal{1} ErrFatal{2} PMEIntEna{3} CRSVisible{4}');
    d.line('RootSta', r.u32(PciExp.RTSTA), '\t\tRootSta: PME ReqID {15:0 hex4}, PMEStatus{16} PMEPending{17}');
  }
  if (version < 2 || !r.has(PciExp.DEVCAP2, 16)) return titles;
  device2(r, d, type, context);
  if (linked) link2(r, d, type, context);
  return titles;
}

function device(r: CapabilityReader, d: Decoding, type: number): void {
  const cap = r.u32(PciExp.DEVCAP);
  const control = r.u16(PciExp.DEVCTL);
  const endpoint = type === ENDPOINT || type === LEG_END;
  const buttons = endpoint || type === UPSTREAM || type === PCI_BRIDGE ? ' AttnBtn{12} AttnInd{13} PwrInd{14}' : '';
  const flr = endpoint || type === RC_END ? ' FLReset{28}' : '';
  d.line(
    'DevCap',
    cap,
    `\t\tDevCap:\tMaxPayload {2:0 payload} bytes, PhantFunc {4:3 phantom}${endpoint ? ', Latency L0s {8:6 l0s}, L1 {11:9 l1}' : ''}`,
  );
  let second = d.text('DevCap', cap, `\t\t\tExtTag{5}${buttons} RBE{15}${flr}`);
  if (type === ENDPOINT || type === UPSTREAM || type === PCI_BRIDGE) {
    const watts = powerLimit(extract(cap, 25, 18), extract(cap, 27, 26));
    d.set('DevCap', 'SlotPowerLimit', watts);
    second += ` SlotPowerLimit ${watts}W`;
  }
  d.lines.push(second + d.text('DevCap', cap, ' TEE-IO{30}'));
  d.line('DevCtl', control, '\t\tDevCtl:\tCorrErr{0} NonFatalErr{1} FatalErr{2} UnsupReq{3}');
  const reset = (cap & PciExp.DEVCAP_FLR) !== 0 && flr !== '' ? ' FLReset{15}' : '';
  d.line(
    'DevCtl',
    control,
    `\t\t\tRlxdOrd{4} ExtTag{8} PhantFunc{9} AuxPwr{10} NoSnoop{11}${type === PCI_BRIDGE ? ' BrConfRtry{15}' : ''}${reset}`,
  );
  d.line('DevCtl', control, '\t\t\tMaxPayload {7:5 payload} bytes, MaxReadReq {14:12 payload} bytes');
  d.line('DevSta', r.u16(PciExp.DEVSTA), '\t\tDevSta:\tCorrErr{0} NonFatalErr{1} FatalErr{2} UnsupReq{3} AuxPwr{4} TransPend{5}');
}

/**
 * Compares the negotiated value with the largest one. lspci remarks on a smaller value only where
 * the port is the one that is plugged in.
 */
function comparison(status: number, capability: number, type: number): string {
  if (status > capability) return ' (overdriven)';
  if (status === capability || type === ROOT_PORT || type === DOWNSTREAM || type === PCIE_BRIDGE) return '';
  return ' (downgraded)';
}

function link(r: CapabilityReader, d: Decoding, type: number): void {
  const cap = r.u32(PciExp.LNKCAP);
  const latencies = ['', ', Exit Latency L0s {14:12 l0s}', ', Exit Latency L1 {17:15 l1}', ', Exit Latency L0s {14:12 l0s}, L1 {17:15 l1}'];
  const aspm = ['not supported', 'L0s', 'L1', 'L0s L1'][extract(cap, 11, 10)]!;
  d.line(
    'LnkCap',
    cap,
    `\t\tLnkCap:\tPort #{31:24}, Speed {3:0 linkSpeed}, Width x{Width=9:4}, ASPM ${aspm}${latencies[extract(cap, 11, 10)]}`,
  );
  d.set('LnkCap', 'ASPM', aspm);
  d.line('LnkCap', cap, '\t\t\tClockPM{18} Surprise{19} LLActRep{20} BwNot{21} ASPMOptComp{22}');
  const control = r.u16(PciExp.LNKCTL);
  const rcb = type === ROOT_PORT || type === ENDPOINT || type === LEG_END || type === PCI_BRIDGE ? ' RCB {3:3 rcb} bytes,' : '';
  d.line('LnkCtl', control, `\t\tLnkCtl:\tASPM {1:0 aspm};${rcb} LnkDisable{4} CommClk{6}`);
  d.line('LnkCtl', control, '\t\t\tExtSynch{7} ClockPM{8} AutWidDis{9} BWInt{10} AutBWInt{11} FltModeDis{13}');
  const status = r.u16(PciExp.LNKSTA);
  const speed = comparison(extract(status, 3, 0), extract(cap, 3, 0), type);
  const width = comparison(extract(status, 9, 4), extract(cap, 9, 4), type);
  d.line('LnkSta', status, `\t\tLnkSta:\tSpeed {3:0 linkSpeed}${speed}, Width x{Width=9:4}${width}`);
  d.line('LnkSta', status, '\t\t\tTrErr{10} Train{11} SlotClk{12} DLActive{13} BWMgmt{14} ABWMgmt{15}');
}

function slotRegisters(r: CapabilityReader, d: Decoding): void {
  const cap = r.u32(PciExp.SLTCAP);
  d.line('SltCap', cap, '\t\tSltCap:\tAttnBtn{0} PwrCtrl{1} MRL{2} AttnInd{3} PwrInd{4} HotPlug{6} Surprise{5}');
  const watts = powerLimit(extract(cap, 14, 7), extract(cap, 16, 15));
  d.set('SltCap', 'PowerLimit', watts);
  d.line('SltCap', cap, `\t\t\tSlot #{31:19}, PowerLimit ${watts}W; Interlock{17} NoCompl{18}`);
  const control = r.u16(PciExp.SLTCTL);
  d.line('SltCtl', control, '\t\tSltCtl:\tEnable: AttnBtn{0} PwrFlt{1} MRL{2} PresDet{3} CmdCplt{4} HPIrq{5} LinkChg{12}');
  d.line('SltCtl', control, '\t\t\tControl: AttnInd {7:6 indicator}, PwrInd {9:8 indicator}, Power{10} Interlock{11}');
  const status = r.u16(PciExp.SLTSTA);
  d.line('SltSta', status, '\t\tSltSta:\tStatus: AttnBtn{0} PowerFlt{1} MRL{5} CmdCplt{4} PresDet{6} Interlock{7}');
  d.line('SltSta', status, '\t\t\tChanged: MRL{MRLChanged=2} PresDet{PresDetChanged=3} LinkState{8}');
}

function device2(r: CapabilityReader, d: Decoding, type: number, context: CapabilityContext): void {
  const cap = r.u32(PciExp.DEVCAP2);
  const port = type === ROOT_PORT || type === DOWNSTREAM;
  const routes = port || type === UPSTREAM;
  d.line('DevCap2', cap, '\t\tDevCap2: Completion Timeout: {3:0 timeoutRange}, TimeoutDis{4} NROPrPrP{10} LTR{11}');
  // A field of 0 means four prefixes.
  const prefixes = (cap & 0x20_0000) === 0 ? '' : `, MaxEETLPPrefixes ${extract(cap, 23, 22) || 4}`;
  d.line('DevCap2', cap, `\t\t\t 10BitTagComp{16} 10BitTagReq{17} OBFF {19:18 obffSupport}, ExtFmt{20} EETLPPrefix{21}${prefixes}`);
  d.line('DevCap2', cap, '\t\t\t EmergencyPowerReduction {25:24 emergency}, EmergencyPowerReductionInit{26}');
  const hints = type === ROOT_PORT || type === ENDPOINT;
  // Extended hints alone are a reserved value, for which lspci prints a gap.
  const tph = !hints ? '' : extract(cap, 13, 12) === 2 ? ' ' : ' TPHComp{12} ExtTPHComp{13}';
  const lines = type === ROOT_PORT ? ` LN System CLS {15:14 cacheLines},` : '';
  d.line('DevCap2', cap, `\t\t\t FRS{31}${lines}${tph}${port ? ' ARIFwd{5}' : ''}`);
  const completer = type === ROOT_PORT || context.hasMemoryBar ? ' 32bit{7} 64bit{8} 128bitCAS{9}' : '';
  if (routes || completer !== '') d.line('DevCap2', cap, `\t\t\t AtomicOpsCap:${routes ? ' Routing{6}' : ''}${completer}`);

  const control = r.u16(PciExp.DEVCTL2);
  d.line('DevCtl2', control, `\t\tDevCtl2: Completion Timeout: {3:0 timeout}, TimeoutDis{4}${port ? ' ARIFwd{5}' : ''}`);
  const requester = type === ROOT_PORT || type === ENDPOINT || type === RC_END || type === LEG_END ? ' ReqEn{6}' : '';
  if (requester !== '' || routes) d.line('DevCtl2', control, `\t\t\t AtomicOpsCtl:${requester}${routes ? ' EgressBlck{7}' : ''}`);
  d.line('DevCtl2', control, '\t\t\t IDOReq{8} IDOCompl{9} LTR{10} EmergencyPowerReductionReq{11}');
  d.line('DevCtl2', control, '\t\t\t 10BitTagReq{12} OBFF {14:13 obff}, EETLPPrefixBlk{15}');
}

function speedRange(vector: number): string {
  const highest = vector === 0 ? 0 : 32 - Math.clz32(vector);
  if (highest === 0) return 'Unknown';
  return highest === 1 ? '2.5GT/s' : `2.5-${speeds[highest]}`;
}

function link2(r: CapabilityReader, d: Decoding, type: number, context: CapabilityContext): void {
  if (!r.has(PciExp.LNKCAP2, 8)) return;
  const cap = r.u32(PciExp.LNKCAP2);
  const control = r.u16(PciExp.LNKCTL2);
  const status = r.u16(PciExp.LNKSTA2);
  // Of the functions of a device only function 0 controls its link.
  const controls = (type !== ENDPOINT && type !== LEG_END) || (context.bdf.device === 0 && context.bdf.fn === 0);
  if (cap !== 0 && controls) {
    const range = speedRange(extract(cap, 7, 1));
    d.set('LnkCap2', 'SupportedLinkSpeeds', range);
    d.line('LnkCap2', cap, `\t\tLnkCap2: Supported Link Speeds: ${range}, Crosslink{8} Retimer{23} 2Retimers{24} DRS{31}`);
  }
  if (controls) {
    const selectable = type === DOWNSTREAM ? ', Selectable De-emphasis: {SelectableDeemphasis=6:6 deEmphasis}' : '';
    d.line('LnkCtl2', control, `\t\tLnkCtl2: Target Link Speed: {3:0 targetSpeed}, EnterCompliance{4} SpeedDis{5}${selectable}`);
    d.line('LnkCtl2', control, '\t\t\t Transmit Margin: {9:7 margin}, EnterModifiedCompliance{10} ComplianceSOS{11}');
    d.line('LnkCtl2', control, '\t\t\t Compliance Preset/De-emphasis: {Preset=15:12 preset}');
  }
  d.line('LnkSta2', status, '\t\tLnkSta2: Current De-emphasis Level: {0:0 deEmphasis}, EqualizationComplete{1} EqualizationPhase1{2}');
  d.line('LnkSta2', status, '\t\t\t EqualizationPhase2{3} EqualizationPhase3{4} LinkEqualizationRequest{5}');
  const drs = (cap & 0x8000_0000) !== 0 && (type === ROOT_PORT || type === DOWNSTREAM || type === PCIE_BRIDGE);
  d.line('LnkSta2', status, `\t\t\t Retimer{6} 2Retimers{7} CrosslinkRes: {9:8 crosslink}, FltMode{10}${drs ? ', DRS{15}' : ''}`);
  if (drs) d.line('LnkSta2', status, '\t\t\t DownstreamComp: {14:12 presence}');
}
