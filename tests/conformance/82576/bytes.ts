/** Frames that the cases send, and the sums that a card should have put into them. */
import { macBytes } from '../../../src/drivers/82576/mac-address.ts';

/** An EtherType for local experiments (IEEE 802). */
export const EXPERIMENT = 0x88b5;
export const BROADCAST = 'ff:ff:ff:ff:ff:ff';

/** A frame of `length` bytes whose payload shows its number and position. */
export function frame(to: string, from: string, length = 60, seed = 0, type = EXPERIMENT): Uint8Array {
  const bytes = Uint8Array.from({ length }, (_, i) => (i * 7 + seed * 13 + (i >> 8)) & 0xff);
  bytes.set(macBytes(to), 0);
  bytes.set(macBytes(from), 6);
  put16(bytes, 12, type);
  if (length >= 18) new DataView(bytes.buffer).setUint32(14, seed);
  return bytes;
}

/** The number that `frame` was given. */
export function seedOf(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(14);
}

export interface Packet {
  readonly protocol: 'tcp' | 'udp';
  readonly family: 4 | 6;
  readonly payload: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly source?: readonly number[];
  readonly destination?: readonly number[];
}

const ADDRESSES = { 4: [10, 0, 0, 1, 10, 0, 0, 2], 6: [...address6(1), ...address6(2)] } as const;

function address6(last: number): number[] {
  return [0xfd, ...Array.from({ length: 14 }, () => 0), last];
}

/** TCP or UDP, with right checksums. */
export function packet(to: string, from: string, what: Packet): Uint8Array {
  const { protocol, family, payload, sourcePort = 1000, destinationPort = 2000 } = what;
  const l4 = protocol === 'tcp' ? 20 : 8;
  const ip = family === 4 ? 20 : 40;
  const bytes = frame(to, from, 14 + ip + l4 + payload, 5, family === 4 ? 0x0800 : 0x86dd);
  const header = bytes.subarray(14, 14 + ip + l4);
  header.fill(0);
  const addresses = what.source === undefined ? ADDRESSES[family] : [...what.source, ...what.destination!];
  if (family === 4) {
    header.set([0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol === 'tcp' ? 6 : 17]);
    put16(header, 2, ip + l4 + payload);
    header.set(addresses, 12);
    put16(header, 10, checksum(header.subarray(0, 20)));
  } else {
    header.set([0x60]);
    put16(header, 4, l4 + payload);
    header.set([protocol === 'tcp' ? 6 : 17, 64], 6);
    header.set(addresses, 8);
  }
  put16(header, ip, sourcePort);
  put16(header, ip + 2, destinationPort);
  if (protocol === 'tcp') {
    new DataView(bytes.buffer).setUint32(14 + ip + 4, 1000);
    header.set([0x50, 0x18, 0xff, 0xff], ip + 12);
  } else {
    put16(header, ip + 4, 8 + payload);
  }
  put16(header, ip + (protocol === 'tcp' ? 16 : 6), l4Checksum(bytes));
  return bytes;
}

/** Whether the checksums of IPv4 and of TCP or UDP are right. */
export function goodChecksums(bytes: Uint8Array): { readonly ip: boolean; readonly l4: boolean } {
  const v4 = bytes[12] === 8;
  return { ip: !v4 || checksum(bytes.subarray(14, 34)) === 0, l4: l4Checksum(bytes) === 0 };
}

/** TCP's or UDP's checksum over a packet, with what stands in the field itself; 0: it is right. */
function l4Checksum(bytes: Uint8Array): number {
  const v4 = bytes[12] === 8;
  const ip = v4 ? 20 : 40;
  // A short frame has padding behind the packet.
  const length = v4 ? get16(bytes, 16) - 20 : get16(bytes, 18);
  const segment = bytes.subarray(14 + ip, 14 + ip + length);
  const addresses = v4 ? bytes.subarray(26, 34) : bytes.subarray(22, 54);
  const protocol = v4 ? bytes[23]! : bytes[20]!;
  return checksum(segment, sum(addresses) + protocol + segment.length);
}

function checksum(bytes: Uint8Array, more = 0): number {
  let total = sum(bytes) + more;
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return ~total & 0xffff;
}

function sum(bytes: Uint8Array): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i += 2) total += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  return total;
}

export function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

export function get16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}
