/**
 * Checksums of a received frame (7.1.11): hardware looks whether they are right, and the
 * descriptor has the answer.
 */

import { Rxcsum } from '../../../abi/82576.ts';
import { RxStatus } from '../../../abi/82576-descriptors.ts';
import { fold, sumWords } from '../internet-checksum.ts';
import { crc32c } from './crc.ts';
import { type Frame, L4 } from './frame.ts';

/** @returns bits of the doubleword with status and errors: IPCS, L4CS, UDPCS, IPE, L4E */
export function checkSums(frame: Frame, rxcsum: number, ipv6Off: boolean): number {
  let result = 0;
  if (frame.ipv4 !== 0 && (rxcsum & Rxcsum.IPOFLD) !== 0) result = ipv4Status(frame);
  if (frame.l4 === L4.NONE || (frame.ip === 6 && ipv6Off)) return result;
  if (frame.l4 === L4.SCTP) return (rxcsum & Rxcsum.CRCOFL) === 0 ? result : result | sctpStatus(frame);
  return (rxcsum & Rxcsum.TUOFLD) === 0 ? result : result | transportStatus(frame);
}

function ipv4Status(frame: Frame): number {
  const at = frame.start + frame.ipv4;
  const sum = fold(sumWords(frame.bytes, at, at + (frame.bytes[at]! & 0xf) * 4));
  return sum === 0xffff ? RxStatus.IPCS : RxStatus.IPCS | RxStatus.IPE;
}

function transportStatus(frame: Frame): number {
  const { bytes, l3End } = frame;
  const at = frame.start + frame.l4Offset;
  const udp = frame.l4 === L4.UDP;
  let end = l3End;
  if (udp) {
    // A checksum of 0 is none (RFC 768), and there is nothing to report.
    if (bytes[at + 6] === 0 && bytes[at + 7] === 0) return 0;
    end = at + ((bytes[at + 4]! << 8) | bytes[at + 5]!);
    // A length that lies: no sum is right.
    if (end < at + 8 || end > l3End) return RxStatus.L4CS | RxStatus.UDPCS | RxStatus.L4E;
  }
  // The addresses of IPv4 stand side by side.
  const addresses =
    frame.ip === 4
      ? sumWords(bytes, frame.sourceAt, frame.sourceAt + 8)
      : sumWords(bytes, frame.sourceAt, frame.sourceAt + 16) + sumWords(bytes, frame.destinationAt, frame.destinationAt + 16);
  const pseudo = addresses + (end - at) + (udp ? 17 : 6);
  const good = fold(pseudo + sumWords(bytes, at, end)) === 0xffff;
  return RxStatus.L4CS | (udp ? RxStatus.UDPCS : 0) | (good ? 0 : RxStatus.L4E);
}

function sctpStatus(frame: Frame): number {
  const { bytes } = frame;
  const at = frame.start + frame.l4Offset;
  const stored = bytes[at + 8]! | (bytes[at + 9]! << 8) | (bytes[at + 10]! << 16) | (bytes[at + 11]! << 24);
  return stored === crc32c(bytes, at, frame.l3End, at + 8) ? RxStatus.L4CS : RxStatus.L4CS | RxStatus.L4E;
}
