/** The descriptor's report about a frame's headers (7.1.5.2, 7.1.10, 7.1.11). */

import { Psrtype, Rxcsum } from '../../../abi/82576.ts';
import { PacketType, RxStatus } from '../../../abi/82576-descriptors.ts';
import { fold, sumWords } from '../internet-checksum.ts';
import { type Frame, L4 } from './frame.ts';

const TRANSPORT = [0, PacketType.TCP, PacketType.UDP, PacketType.SCTP] as const;

/** RDESC.PKTTYPE: the headers that were found. */
export function packetType(frame: Frame): number {
  let type = TRANSPORT[frame.l4] | (frame.tag >= 0 ? PacketType.VLAN : 0);
  if (frame.ipv4 !== 0) type |= PacketType.IPV4 | (frame.extended && frame.ip === 4 ? PacketType.IPV4_EX : 0);
  if (frame.ip === 6) type |= PacketType.IPV6 | (frame.extended ? PacketType.IPV6_EX : 0);
  return type;
}

/**
 * Bytes of the headers that PSRTYPE splits off (8.10.3); 0: none of its kinds is the frame's.
 *
 * @param stripped bytes of a tag that the queue does not get
 */
export function headerLength(frame: Frame, psrtype: number, stripped: number): number {
  if (psrtype === 0) return 0;
  const { l4 } = frame;
  const known = l4 === L4.TCP ? 1 : l4 === L4.UDP ? 2 : 0;
  if (frame.ip !== 0 && known !== 0 && (psrtype & (kindOf(frame) << known)) !== 0) return frame.l4Payload - stripped;
  // The network's header alone: for other transports, fragments, and where only that is asked for.
  if (frame.ip !== 0 && known === 0 && (psrtype & kindOf(frame)) !== 0) return networkEnd(frame) - stripped;
  return frame.ip === 0 && (psrtype & Psrtype.L2) !== 0 ? frame.l3 - stripped : 0;
}

/** The bit of the network's header alone; those with TCP and UDP are the next two. */
function kindOf(frame: Frame): number {
  if (frame.tunnel) return Psrtype.IPV4_IPV6;
  return frame.ip === 4 ? Psrtype.IPV4 : Psrtype.IPV6;
}

function networkEnd(frame: Frame): number {
  const { bytes, start, l3 } = frame;
  if (frame.ip === 4) return l3 + (bytes[start + l3]! & 0xf) * 4;
  return frame.fragment || frame.l4Offset <= l3 ? l3 + 40 : frame.l4Offset;
}

/** One object, filled again: the doubleword of the hash where RXCSUM.PCSD is clear, and a bit. */
const report = { value: 0, status: 0 };

/**
 * Packet checksum and IP identification, for frames without a hash (7.1.11). With RXCSUM.IPPCSE, a
 * fragment of UDP has the sum of its payload in place of the packet checksum.
 */
export function fragmentOrPacketSum(frame: Frame, rxcsum: number, strips: boolean): Readonly<typeof report> {
  const { bytes, start, end } = frame;
  const ip = start + frame.ipv4;
  const identification = frame.ipv4 === 0 ? 0 : (bytes[ip + 4]! << 8) | bytes[ip + 5]!;
  report.status = 0;
  if ((rxcsum & Rxcsum.IPPCSE) !== 0 && frame.ip === 4 && frame.fragment && bytes[ip + 9] === 17) {
    const payload = ip + (bytes[ip]! & 0xf) * 4;
    const first = (bytes[ip + 6]! & 0x1f) === 0 && bytes[ip + 7] === 0;
    if (first && payload + 8 <= frame.l3End && (bytes[payload + 6]! | bytes[payload + 7]!) !== 0) report.status = RxStatus.UDPV;
    report.value = (fold(sumWords(bytes, payload, frame.l3End)) << 16) | identification;
    return report;
  }
  const from = start + (rxcsum & Rxcsum.PCSS);
  report.value = (fold(strips ? sumAroundTag(frame, from) : sumWords(bytes, Math.min(from, end), end)) << 16) | identification;
  return report;
}

/** The sum of a frame whose tag is stripped: the checksum is that of the bytes in memory. */
function sumAroundTag(frame: Frame, from: number): number {
  const { bytes, end } = frame;
  const tag = frame.start + frame.tagOffset;
  if (from >= tag) return sumWords(bytes, Math.min(from + 4, end), end);
  const behind = fold(sumWords(bytes, tag + 4, end));
  // Behind an odd number of bytes, the halves of the words change places.
  const swapped = ((tag - from) & 1) === 0 ? behind : ((behind & 0xff) << 8) | (behind >>> 8);
  return sumWords(bytes, from, tag) + swapped;
}
