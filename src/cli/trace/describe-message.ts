/** A vfio-user message as one line of text. It never throws: what cannot be read is told as what it is. */
import { DmaUnmapFlags, Feature, IrqIndex, IrqInfoFlags, RegionFlags, RegionIndex } from '../../abi/vfio.ts';
import {
  Command,
  commandName,
  DmaAccess,
  DmaMap,
  HEADER_BYTES,
  Header,
  HeaderFlags,
  RegionAccess,
  UserDeviceInfo,
  UserDmaMapFlags,
  Version,
  WriteMulti,
  WriteMultiEntry,
} from '../../abi/vfio-user.ts';
import { hex } from '../../base/check.ts';
import { errnoName } from '../../base/errno.ts';
import {
  decodeDmaUnmap,
  decodeFeature,
  decodeIoFds,
  decodeIrqInfo,
  decodeReason,
  decodeRegionInfo,
  decodeSetIrqs,
  viewOf,
} from '../../vfio-user/messages.ts';
import { masked } from './masked.ts';

/** Bytes of data that are shown; the rest is counted. */
const SHOWN_BYTES = 16;

export interface Described {
  readonly id: number;
  readonly command: string;
  readonly kind: 'command' | 'posted' | 'reply' | 'error';
  /** What it says, without id and command. */
  readonly text: string;
}

/** @param seen all of it, header included, as it was on the wire */
export function describeMessage(seen: Uint8Array): Described {
  const message = masked(seen);
  const view = viewOf(message);
  if (message.length < HEADER_BYTES) return { id: 0, command: '?', kind: 'error', text: `${message.length} bytes, less than a header` };
  const { id, command, flags, error } = Header.decode(view);
  const isReply = (flags & HeaderFlags.TYPE_MASK) === HeaderFlags.REPLY;
  const name = commandName(command);
  if (isReply && (flags & HeaderFlags.ERROR) !== 0) {
    const reason = decodeReason(message.subarray(HEADER_BYTES));
    const text = errnoName(error) ?? `errno ${error}`;
    return { id, command: name, kind: 'error', text: reason === null ? text : `${text}: ${printable(reason.message)}` };
  }
  const kind = isReply ? 'reply' : (flags & HeaderFlags.NO_REPLY) !== 0 ? 'posted' : 'command';
  const payload = message.subarray(HEADER_BYTES);
  let text: string;
  try {
    text = describers[command]?.(payload, isReply) ?? bytesOf(payload);
  } catch (problem) {
    text = `malformed (${(problem as Error).message}): ${bytesOf(payload)}`;
  }
  return { id, command: name, kind, text };
}

type Describe = (payload: Uint8Array, isReply: boolean) => string;

const describers: Readonly<Record<number, Describe>> = {
  [Command.VERSION]: (payload) => {
    const { major, minor } = Version.decode(viewOf(payload));
    const json = new TextDecoder().decode(payload.subarray(Version.structSize)).replace(/\0$/, '');
    return `${major}.${minor} ${printable(json.slice(0, 1024))}`.trimEnd();
  },
  [Command.DMA_MAP]: (payload, isReply) => {
    if (isReply) return 'ok';
    const { flags, offset, address, size } = DmaMap.decode(viewOf(payload));
    return `${range(address, size)} ${flagNames(flags, UserDmaMapFlags)}, offset ${hex(offset)} of its memory`;
  },
  [Command.DMA_UNMAP]: (payload) => {
    const { flags, address, size, bitmap } = decodeDmaUnmap(payload, Number.MAX_SAFE_INTEGER);
    if ((flags & DmaUnmapFlags.ALL) !== 0) return 'all';
    return `${range(address, size)}${bitmap === undefined ? '' : `, with its dirty bitmap of ${bitmap.size} bytes`}`;
  },
  [Command.DEVICE_GET_INFO]: (payload, isReply) => {
    if (!isReply) return '';
    const info = UserDeviceInfo.decode(viewOf(payload));
    return `${info.num_regions} regions, ${info.num_irqs} interrupt indexes, flags ${hex(info.flags)}`;
  },
  [Command.DEVICE_GET_REGION_INFO]: (payload, isReply) => {
    const { argsz, info, offset } = decodeRegionInfo(payload);
    if (!isReply) return `${regionName(info.index)}, room for ${argsz} bytes`;
    if (info.size === 0) return `${regionName(info.index)}: none`;
    const areas = info.sparseAreas?.map((a) => range(BigInt(a.offset), BigInt(a.size))).join(' ');
    const mapped = (info.flags & RegionFlags.MMAP) === 0 ? '' : `, offset ${hex(offset)}${areas === undefined ? '' : `, areas ${areas}`}`;
    return `${regionName(info.index)}: ${hex(info.size)} bytes ${flagNames(info.flags, RegionFlags)}${mapped}`;
  },
  [Command.DEVICE_GET_REGION_IO_FDS]: (payload, isReply) => {
    const index = viewOf(payload).getUint32(8, true);
    if (!isReply) return regionName(index);
    const { count, entries } = decodeIoFds(payload);
    return `${regionName(index)}: ${count} ${entries.map((e) => `${range(e.offset, e.size)} fd ${e.fdIndex}`).join(', ')}`.trimEnd();
  },
  [Command.DEVICE_GET_IRQ_INFO]: (payload, isReply) => {
    const { index, flags, count } = decodeIrqInfo(payload);
    return isReply ? `${irqName(index)}: ${count} ${flagNames(flags, IrqInfoFlags)}` : irqName(index);
  },
  [Command.DEVICE_SET_IRQS]: (payload, isReply) => {
    if (isReply) return 'ok';
    const { index, start, count, action, data, values } = decodeSetIrqs(payload);
    const which = count === 0 ? 'all' : count === 1 ? `vector ${start}` : `vectors ${start} to ${start + count - 1}`;
    return `${irqName(index)} ${action} ${which}, ${data}${values === undefined ? '' : ` ${bytesOf(values)}`}`;
  },
  [Command.REGION_READ]: (payload, isReply) => regionAccess(payload, isReply),
  [Command.REGION_WRITE]: (payload, isReply) => regionAccess(payload, !isReply),
  [Command.DMA_READ]: (payload, isReply) => dmaAccess(payload, isReply),
  [Command.DMA_WRITE]: (payload, isReply) => dmaAccess(payload, !isReply),
  [Command.DEVICE_RESET]: (_payload, isReply) => (isReply ? 'ok' : ''),
  [Command.REGION_WRITE_MULTI]: (payload, isReply) => {
    const view = viewOf(payload);
    const count = WriteMulti.count.get(view, 0);
    if (isReply) return `${count} written`;
    const shown: string[] = [];
    for (let at: number = WriteMulti.structSize; at < payload.length && shown.length < 8; at += WriteMultiEntry.structSize) {
      const entry = WriteMultiEntry.decode(view, at);
      const from = at + WriteMultiEntry.data.offset;
      shown.push(`${regionName(entry.region)}+${hex(entry.offset)} ${shownValue(payload.subarray(from, from + Math.min(entry.count, 8)))}`);
    }
    return `${count}: ${shown.join(', ')}${count > shown.length ? ', …' : ''}`;
  },
  [Command.DEVICE_FEATURE]: (payload) => {
    const { feature, get, set, probe, data } = decodeFeature(payload);
    const name = nameIn(Feature, feature) ?? `feature ${feature}`;
    return `${name}${get ? ' get' : ''}${set ? ' set' : ''}${probe ? ' probe' : ''} ${bytesOf(data)}`.trimEnd();
  },
};

function regionAccess(payload: Uint8Array, hasData: boolean): string {
  // A count of 0 is answered with the header alone.
  if (payload.length === 0) return 'ok';
  const { offset, region, count } = RegionAccess.decode(viewOf(payload));
  const where = `${regionName(region)}+${hex(offset)}`;
  return hasData ? `${where} = ${shownValue(payload.subarray(RegionAccess.structSize))}` : `${where}, ${count} bytes`;
}

function dmaAccess(payload: Uint8Array, hasData: boolean): string {
  if (payload.length === 0) return 'ok';
  const { address, count } = DmaAccess.decode(viewOf(payload));
  // QEMU's count has 32 bits, and data begins in its upper half.
  const bytes = Number(count & 0xffff_ffffn);
  const data = payload.subarray(payload.length - Math.min(bytes, payload.length));
  return hasData && data.length === bytes && payload.length > bytes
    ? `${hex(address)} = ${shownValue(data)}`
    : `${hex(address)}, ${bytes} bytes`;
}

/** A register's value, or the first bytes of something longer. */
function shownValue(data: Uint8Array): string {
  const view = viewOf(data);
  if (data.length === 1) return hexDigits(BigInt(data[0]!), 1);
  if (data.length === 2) return hexDigits(BigInt(view.getUint16(0, true)), 2);
  if (data.length === 4) return hexDigits(BigInt(view.getUint32(0, true)), 4);
  if (data.length === 8) return hexDigits(view.getBigUint64(0, true), 8);
  return bytesOf(data);
}

const hexDigits = (value: bigint, bytes: number) => `0x${value.toString(16).padStart(2 * bytes, '0')}`;

function bytesOf(data: Uint8Array): string {
  if (data.length === 0) return '';
  const shown = Array.from(data.subarray(0, SHOWN_BYTES), (b) => b.toString(16).padStart(2, '0')).join(' ');
  return data.length <= SHOWN_BYTES ? `[${shown}]` : `[${shown} … ${data.length} bytes]`;
}

const range = (first: bigint, size: bigint) => (size === 0n ? `${hex(first)}+0` : `${hex(first)}-${hex(first + size - 1n)}`);

function regionName(index: number): string {
  return nameIn(RegionIndex, index) ?? `region ${index}`;
}

function irqName(index: number): string {
  return nameIn(IrqIndex, index) ?? `interrupt index ${index}`;
}

function nameIn(table: Readonly<Record<string, number>>, value: number): string | undefined {
  for (const name in table) if (table[name] === value) return name;
  return undefined;
}

function flagNames(flags: number, table: Readonly<Record<string, number>>): string {
  const names = Object.entries(table).filter(([, bit]) => (flags & bit) === bit);
  const unknown = flags & ~names.reduce((all, [, bit]) => all | bit, 0);
  return [...names.map(([name]) => name.toLowerCase()), ...(unknown === 0 ? [] : [hex(unknown)])].join('|') || 'no flags';
}

/** Text from a peer, without anything that a terminal would act on. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
