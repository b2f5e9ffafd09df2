/**
 * Identify data in words, as `nvme id-ctrl -H` and `nvme id-ns -H` print it.
 *
 * @see NVMe 1.4, 5.15.2
 */
import { versionText } from '../../abi/nvme.ts';
import { type IdentifyController, type IdentifyNamespace, Lbaf } from '../../abi/nvme-structs.ts';
import { type BitField, fieldMask } from '../../base/bit-fields.ts';
import { formatBinary, formatBytes, grouped } from '../quantities.ts';
import { bitNames, hexOf, type Row } from './rows.ts';

const x = (value: number, digits: number) => `0x${value.toString(16).padStart(digits, '0')}`;
const field = (value: number, of: BitField) => (value >>> of.lsb) & fieldMask(of);
const celsius = (kelvin: number) => `${kelvin - 273} °C`;
const counted = (count: number, what: string) => `${grouped(count)} ${what}${count === 1 ? '' : 's'}`;

const oacs = [
  'Security Send and Receive',
  'Format NVM',
  'Firmware Commit and Download',
  'Namespace Management',
  'Device Self-test',
  'Directives',
  'NVMe-MI',
  'Virtualization Management',
  'Doorbell Buffer Config',
  'Get LBA Status',
];
const oncs = [
  'Compare',
  'Write Uncorrectable',
  'Dataset Management',
  'Write Zeroes',
  'Save and Select of features',
  'Reservations',
  'Timestamp',
  'Verify',
];
const oaes = {
  8: 'Namespace Attribute Notices',
  9: 'Firmware Activation Notices',
  11: 'ANA Change',
  12: 'Predictable Latency',
  14: 'LBA Status',
};
const lpa = ['SMART of each namespace', 'Commands Supported and Effects', 'extended Get Log Page', 'Telemetry', 'Persistent Event'];
const types: Record<number, string> = { 1: 'I/O controller', 2: 'discovery controller', 3: 'administrative controller' };

/**
 * @param mdtsBytes  what MDTS is in bytes: it counts in the smallest memory page of the controller
 * (CAP.MPSMIN)
 */
export function controllerRows(id: IdentifyController, mdtsBytes: number): Row[] {
  return [
    ['vid', x(id.vid, 4), 'PCI vendor'],
    ['ssvid', x(id.ssvid, 4), 'PCI subsystem vendor'],
    ['sn', id.sn, ''],
    ['mn', id.mn, ''],
    ['fr', id.fr, ''],
    ['subnqn', id.subnqn === '' ? '-' : id.subnqn, ''],
    ['ver', x(id.ver, 6), id.ver === 0 ? 'not reported (older than 1.2)' : `NVM Express ${versionText(id.ver)}`],
    ['cntlid', x(id.cntlid, 4), 'controller'],
    ['cntrltype', `${id.cntrltype}`, types[id.cntrltype] ?? 'not reported (older than 1.4)'],
    ['ieee', hexOf(Uint8Array.from(id.ieee).reverse()), 'vendor (OUI)'],
    ['mdts', `${id.mdts}`, id.mdts === 0 ? 'no limit of a transfer' : `${formatBinary(mdtsBytes)} a transfer at most`],
    ['oaes', x(id.oaes, 8), bitNames(id.oaes, oaes)],
    ['oacs', x(id.oacs, 4), bitNames(id.oacs, oacs)],
    ['oncs', x(id.oncs, 4), bitNames(id.oncs, oncs)],
    ['lpa', x(id.lpa, 2), bitNames(id.lpa, lpa)],
    ['acl', `${id.acl}`, `${counted(id.acl + 1, 'Abort')} at a time`],
    ['aerl', `${id.aerl}`, `${counted(id.aerl + 1, 'Asynchronous Event Request')} at a time`],
    ['elpe', `${id.elpe}`, counted(id.elpe + 1, 'error log entry').replace('entrys', 'entries')],
    ['npss', `${id.npss}`, counted(id.npss + 1, 'power state')],
    ['wctemp', `${id.wctemp}`, id.wctemp === 0 ? 'not reported' : `warns from ${celsius(id.wctemp)} on`],
    ['cctemp', `${id.cctemp}`, id.cctemp === 0 ? 'not reported' : `critical from ${celsius(id.cctemp)} on`],
    ['tnvmcap', grouped(id.tnvmcap), id.tnvmcap === 0n ? 'not reported' : formatBytes(Number(id.tnvmcap))],
    ['kas', `${id.kas}`, id.kas === 0 ? 'no Keep Alive' : `Keep Alive in steps of ${id.kas * 100} ms`],
    ['sqes', x(id.sqes, 2), `submission queue entries of ${2 ** (id.sqes & 15)} to ${2 ** (id.sqes >> 4)} bytes`],
    ['cqes', x(id.cqes, 2), `completion queue entries of ${2 ** (id.cqes & 15)} to ${2 ** (id.cqes >> 4)} bytes`],
    ['maxcmd', `${id.maxcmd}`, id.maxcmd === 0 ? 'not reported' : `${grouped(id.maxcmd)} commands at a time`],
    ['nn', `${id.nn}`, counted(id.nn, 'namespace') + (id.nn === 1 ? '' : ' at most')],
    ['fuses', x(id.fuses, 4), id.fuses & 1 ? 'Compare and Write' : 'none'],
    ['vwc', x(id.vwc, 2), id.vwc & 1 ? 'volatile write cache: Flush matters' : 'no volatile write cache'],
    ['awun', `${id.awun}`, `writes of ${counted(id.awun + 1, 'block')} are atomic`],
    ['awupf', `${id.awupf}`, `and of ${counted(id.awupf + 1, 'block')} when power fails`],
    ['sgls', x(id.sgls, 8), ['no SGLs', 'SGLs, any alignment', 'SGLs, dword aligned', 'reserved'][id.sgls & 3]!],
  ];
}

/** Bytes of a block, and of the metadata with it, in the format that the namespace has. */
export function formatOf(ns: IdentifyNamespace): { readonly data: number; readonly metadata: number } {
  const format = ns.lbaf[ns.flbas & 15]!;
  return { data: 2 ** field(format, Lbaf.LBADS), metadata: field(format, Lbaf.MS) };
}

const nsfeat = [
  'Thin Provisioning',
  'its own atomic sizes',
  'errors of deallocated blocks',
  'identifiers never used again',
  'optimal I/O sizes',
];
const performance = ['best', 'better', 'good', 'degraded'];

export function namespaceRows(ns: IdentifyNamespace): Row[] {
  const { data, metadata } = formatOf(ns);
  const blocks = (count: bigint): string => formatBytes(Number(count) * data);
  const zero = (bytes: Uint8Array) => bytes.every((byte) => byte === 0);
  return [
    ['nsze', grouped(ns.nsze), `blocks, ${blocks(ns.nsze)}`],
    ['ncap', grouped(ns.ncap), `blocks, ${blocks(ns.ncap)}`],
    ['nuse', grouped(ns.nuse), `blocks, ${blocks(ns.nuse)} in use`],
    ['flbas', x(ns.flbas, 2), `format ${ns.flbas & 15}: ${data} bytes + ${metadata} of metadata`],
    ['nsfeat', x(ns.nsfeat, 2), bitNames(ns.nsfeat, nsfeat)],
    ['dlfeat', x(ns.dlfeat, 2), deallocation(ns.dlfeat)],
    ['dps', x(ns.dps, 2), (ns.dps & 7) === 0 ? 'no protection information' : `protection information type ${ns.dps & 7}`],
    ['nmic', x(ns.nmic, 2), ns.nmic & 1 ? 'may be shared by controllers' : 'of this controller alone'],
    ['noiob', `${ns.noiob}`, ns.noiob === 0 ? 'no I/O boundary' : `I/O should not cross every ${counted(ns.noiob, 'block')}`],
    ['nguid', zero(ns.nguid) ? '-' : hexOf(ns.nguid), ''],
    ['eui64', zero(ns.eui64) ? '-' : hexOf(ns.eui64), ''],
    ...ns.lbaf.slice(0, Math.min(ns.nlbaf, 15) + 1).map((format, i): Row => {
      const use = i === (ns.flbas & 15) ? ', in use' : '';
      const meaning = `${2 ** field(format, Lbaf.LBADS)} bytes + ${field(format, Lbaf.MS)} of metadata, performance ${performance[field(format, Lbaf.RP)]}${use}`;
      return [`lbaf ${i}`, x(format, 8), meaning];
    }),
  ];
}

function deallocation(dlfeat: number): string {
  const reads = ['not reported', 'zeroes', 'ones'][dlfeat & 7] ?? 'reserved';
  return `deallocated blocks read as ${reads}${dlfeat & 8 ? '; Write Zeroes can deallocate' : ''}`;
}
