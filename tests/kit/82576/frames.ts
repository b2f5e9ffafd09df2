/** Ethernet frames for tests, with right checksums unless a test breaks them. */

export function macOf(text: string): number[] {
  return text.split(':').map((byte) => Number.parseInt(byte, 16));
}

export const BROADCAST = 'ff:ff:ff:ff:ff:ff';

function u16(value: number): number[] {
  return [(value >>> 8) & 0xff, value & 0xff];
}

function sum(bytes: readonly number[]): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i += 2) total += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x1_0000);
  return total;
}

/** A frame: addresses, tags, a type, a payload, and padding up to 60 bytes. */
export function ethernet(
  to: string,
  from: string,
  type: number,
  payload: readonly number[],
  { tags = [], pad = true }: { tags?: ReadonlyArray<readonly [type: number, tag: number]>; pad?: boolean } = {},
): Uint8Array {
  const bytes = [...macOf(to), ...macOf(from), ...tags.flatMap(([kind, tag]) => [...u16(kind), ...u16(tag)]), ...u16(type), ...payload];
  while (pad && bytes.length < 60) bytes.push(0);
  return Uint8Array.from(bytes);
}

export interface Ipv4 {
  readonly source?: readonly number[];
  readonly destination?: readonly number[];
  readonly options?: readonly number[];
  /** Flags and fragment offset. */
  readonly fragment?: number;
  readonly id?: number;
}

export function ipv4(
  protocol: number,
  payload: readonly number[],
  { source, destination, options = [], fragment = 0, id = 7 }: Ipv4 = {},
): number[] {
  const header = [
    0x45 + options.length / 4,
    0,
    ...u16(20 + options.length + payload.length),
    ...u16(id),
    ...u16(fragment),
    64,
    protocol,
    0,
    0,
    ...(source ?? [10, 0, 0, 1]),
    ...(destination ?? [10, 0, 0, 2]),
    ...options,
  ];
  const check = 0xffff - sum(header);
  header[10] = check >>> 8;
  header[11] = check & 0xff;
  return [...header, ...payload];
}

export const IPV6_SOURCE = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
export const IPV6_DESTINATION = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

export function ipv6(next: number, payload: readonly number[], source = IPV6_SOURCE, destination = IPV6_DESTINATION): number[] {
  return [0x60, 0, 0, 0, ...u16(payload.length), next, 64, ...source, ...destination, ...payload];
}

/** The checksum of a transport, over the addresses, too. */
function checked(
  segment: readonly number[],
  at: number,
  protocol: number,
  source: readonly number[],
  destination: readonly number[],
): number[] {
  const check = 0xffff - sum([...source, ...destination, 0, protocol, ...u16(segment.length), ...segment]);
  const result = [...segment];
  result[at] = check >>> 8;
  result[at + 1] = check & 0xff;
  return result;
}

interface Ends {
  readonly source?: readonly number[];
  readonly destination?: readonly number[];
  readonly from?: number;
  readonly to?: number;
}

export function udp(
  payload: readonly number[],
  { source = [10, 0, 0, 1], destination = [10, 0, 0, 2], from = 1000, to = 2000 }: Ends = {},
): number[] {
  return checked([...u16(from), ...u16(to), ...u16(8 + payload.length), 0, 0, ...payload], 6, 17, source, destination);
}

export function tcp(
  payload: readonly number[],
  { source = [10, 0, 0, 1], destination = [10, 0, 0, 2], from = 1000, to = 2000, flags = 0x10 }: Ends & { readonly flags?: number } = {},
): number[] {
  const header = [...u16(from), ...u16(to), 0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0x20, 0, 0, 0, 0, 0];
  return checked([...header, ...payload], 16, 6, source, destination);
}
