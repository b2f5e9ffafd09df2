/**
 * Checksums that the card inserts into a frame (7.2.5). Drivers put the sum of the pseudo header
 * into the field, and the card adds the rest. Lengths of a context that lie past the frame insert
 * nothing.
 */
import { TxContext } from '../../../abi/82576-descriptors.ts';
import { crc32c } from '../filter/crc.ts';
import { fold, sumWords } from '../internet-checksum.ts';

/** Where the field is, behind the start of the header. */
const IP_FIELD = 10;
const TCP_FIELD = 16;
const UDP_FIELD = 6;
const SCTP_FIELD = 8;

/** Where a context says that IP and L4 begin, in bytes of the frame. */
export function macLength(lengths: number): number {
  return (lengths & TxContext.MACLEN) >>> TxContext.MACLEN_SHIFT;
}
export function ipLength(lengths: number): number {
  return lengths & TxContext.IPLEN;
}

function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

/** IPv4's header of `length` bytes at `ip` gets its checksum (7.2.5.1). */
export function insertIpChecksum(bytes: Uint8Array, ip: number, length: number, end: number): void {
  if (length < IP_FIELD + 2 || ip + length > end) return;
  put16(bytes, ip + IP_FIELD, 0);
  put16(bytes, ip + IP_FIELD, ~fold(sumWords(bytes, ip, ip + length)));
}

/**
 * The header at `l4` of the kind that the context says gets its checksum, over all up to `end`.
 *
 * @param addend of the pseudo header, which the field does not have yet
 */
export function insertL4Checksum(bytes: Uint8Array, l4: number, end: number, kind: number, addend: number): void {
  const type = kind & TxContext.L4T;
  if (type === TxContext.L4T_SCTP) {
    if (l4 + SCTP_FIELD + 4 > end) return;
    const crc = crc32c(bytes, l4, end, l4 + SCTP_FIELD);
    for (let i = 0; i < 4; i++) bytes[l4 + SCTP_FIELD + i] = crc >>> (8 * i);
    return;
  }
  const tcp = type === TxContext.L4T_TCP;
  const field = l4 + (tcp ? TCP_FIELD : UDP_FIELD);
  if ((!tcp && type !== TxContext.L4T_UDP) || field + 2 > end) return;
  const sum = ~fold(sumWords(bytes, l4, end) + addend) & 0xffff;
  // A sum of zero would say that UDP has none (RFC 768).
  put16(bytes, field, sum === 0 && !tcp ? 0xffff : sum);
}

/** CSS and CSO of a legacy descriptor (7.2.2.1). */
export function insertLegacyChecksum(bytes: Uint8Array, from: number, field: number, end: number): void {
  if (from >= end || field + 2 > end) return;
  put16(bytes, field, ~fold(sumWords(bytes, from, end)));
}
