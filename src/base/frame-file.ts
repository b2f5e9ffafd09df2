/**
 * Ethernet frames of a file that tcpdump or Wireshark has written: pcap with times in microseconds
 * or nanoseconds, or pcapng; of either byte order.
 */
import { viewOf } from './data-view.ts';
import { VfioError } from './errno.ts';
import { LINKTYPE_ETHERNET } from './frame-capture.ts';
import { PcapngBlock, PcapngOption, SECTION_MAGIC } from './pcapng.ts';

export interface FileFrame {
  /** Since 1970; 0 where the file does not say it. */
  readonly timeNs: bigint;
  /** A part of the file's bytes. */
  readonly bytes: Uint8Array;
}

/** The first four bytes of a pcap file, little-endian, and the nanoseconds of its unit of time. */
const pcapMagics: Readonly<Record<number, number>> = { 2712847316: 1000, 2712812621: 1 };
const PCAP_HEAD = 24;
const PCAP_RECORD_HEAD = 16;
/** The upper bits of a pcap file's link type are the length of the frame check sequence. */
const LINKTYPE_BITS = 0xffff;

/**
 * The frames of a file, in its order. Frames that the capture has cut short are left out: they are
 * no frames any more.
 *
 * @param name of the file, for messages
 * @throws VfioError EINVAL for another kind of file, a broken one, or another link type
 */
export function framesOf(bytes: Uint8Array, name: string): FileFrame[] {
  if (bytes.length < 12) return wrong(name, 'is no capture: it is too short');
  const view = viewOf(bytes);
  for (const little of [true, false]) {
    const unit = pcapMagics[view.getUint32(0, little)];
    if (unit !== undefined) return [...pcapFrames(bytes, view, little, unit, name)];
  }
  if (view.getUint32(0, true) === PcapngBlock.SECTION) return [...pcapngFrames(bytes, view, name)];
  return wrong(name, 'is no capture: it begins like neither pcap nor pcapng');
}

function* pcapFrames(bytes: Uint8Array, view: DataView, little: boolean, unitNs: number, name: string): Generator<FileFrame> {
  if (bytes.length < PCAP_HEAD) wrong(name, 'ends within its head');
  checkLink(view.getUint32(20, little) & LINKTYPE_BITS, name);
  for (let at = PCAP_HEAD; at < bytes.length; ) {
    if (at + PCAP_RECORD_HEAD > bytes.length) wrong(name, `ends within the record at byte ${at}`);
    const captured = view.getUint32(at + 8, little);
    const start = at + PCAP_RECORD_HEAD;
    if (start + captured > bytes.length) wrong(name, `ends within the frame at byte ${at}`);
    const timeNs = BigInt(view.getUint32(at, little)) * 1_000_000_000n + BigInt(view.getUint32(at + 4, little) * unitNs);
    if (captured === view.getUint32(at + 12, little)) yield { timeNs, bytes: bytes.subarray(start, start + captured) };
    at = start + captured;
  }
}

interface Interface {
  readonly ethernet: boolean;
  /** Units of its times in a second. */
  readonly unitsPerSecond: bigint;
}

function* pcapngFrames(bytes: Uint8Array, view: DataView, name: string): Generator<FileFrame> {
  let little = true;
  let interfaces: Interface[] = [];
  let other = 0;
  let found = 0;
  for (let at = 0; at < bytes.length; ) {
    if (at + 12 > bytes.length) wrong(name, `ends within the block at byte ${at}`);
    const isSection = view.getUint32(at, true) === PcapngBlock.SECTION;
    if (isSection) {
      little = view.getUint32(at + 8, true) === SECTION_MAGIC;
      if (view.getUint32(at + 8, little) !== SECTION_MAGIC) wrong(name, `has a section of no known byte order at byte ${at}`);
      interfaces = [];
    }
    const type = view.getUint32(at, little);
    const size = view.getUint32(at + 4, little);
    const least = leastBytes[type] ?? 12;
    if (size < least || size % 4 !== 0 || at + size > bytes.length)
      wrong(name, `ends within the block at byte ${at}, or has a wrong length there`);
    const end = at + size - 4;
    if (type === PcapngBlock.INTERFACE) {
      interfaces.push({
        ethernet: view.getUint16(at + 8, little) === LINKTYPE_ETHERNET,
        unitsPerSecond: unitsOf(bytes, view, at + 16, end, little),
      });
    }
    const packet =
      type === PcapngBlock.PACKET ? enhanced(view, at, little) : type === PcapngBlock.SIMPLE_PACKET ? simple(view, at, little) : null;
    if (packet !== null) {
      const of = interfaces[packet.number];
      if (of === undefined) wrong(name, `has a packet of interface ${packet.number}, which it does not describe, at byte ${at}`);
      if (packet.start + packet.captured > end) wrong(name, `has a packet that is longer than its block at byte ${at}`);
      if (!of.ethernet) other++;
      else if (packet.captured === packet.length) {
        found++;
        const timeNs = (packet.time * 1_000_000_000n) / of.unitsPerSecond;
        yield { timeNs, bytes: bytes.subarray(packet.start, packet.start + packet.captured) };
      }
    }
    at += size;
  }
  if (found === 0 && other > 0) checkLink(0, name);
}

const leastBytes: Readonly<Record<number, number>> = {
  [PcapngBlock.SECTION]: 28,
  [PcapngBlock.INTERFACE]: 20,
  [PcapngBlock.PACKET]: 32,
  [PcapngBlock.SIMPLE_PACKET]: 16,
};

interface Packet {
  readonly number: number;
  readonly time: bigint;
  readonly start: number;
  readonly captured: number;
  readonly length: number;
}

function enhanced(view: DataView, at: number, little: boolean): Packet {
  const time = (BigInt(view.getUint32(at + 12, little)) << 32n) | BigInt(view.getUint32(at + 16, little));
  const [captured, length] = [view.getUint32(at + 20, little), view.getUint32(at + 24, little)];
  return { number: view.getUint32(at + 8, little), time, start: at + 28, captured, length };
}

function simple(view: DataView, at: number, little: boolean): Packet {
  const length = view.getUint32(at + 8, little);
  const room = view.getUint32(at + 4, little) - 16;
  return { number: 0, time: 0n, start: at + 12, captured: Math.min(length, room), length };
}

/** if_tsresol: a negative power of 10, or of 2. Default: microseconds. */
function unitsOf(bytes: Uint8Array, view: DataView, from: number, end: number, little: boolean): bigint {
  for (let at = from; at + 4 <= end; ) {
    const code = view.getUint16(at, little);
    const length = view.getUint16(at + 2, little);
    if (code === PcapngOption.END || at + 4 + length > end) break;
    if (code === PcapngOption.IF_TSRESOL && length === 1) {
      const value = bytes[at + 4]!;
      return value < 0x80 ? 10n ** BigInt(value) : 2n ** BigInt(value & 0x7f);
    }
    at += 4 + Math.ceil(length / 4) * 4;
  }
  return 1_000_000n;
}

function checkLink(linkType: number, name: string): void {
  if (linkType !== LINKTYPE_ETHERNET) wrong(name, 'has no Ethernet frames: it was captured on a link of another type');
}

function wrong(name: string, problem: string): never {
  throw new VfioError('EINVAL', `${name} ${problem}`, { fix: 'Give a file that tcpdump -w or Wireshark has written on an Ethernet port.' });
}
