/** The Internet checksum (RFC 1071) of a part of `bytes`, whose checksum field counts as it is. */
export function internetChecksum(bytes: Uint8Array, from: number, to: number, start = 0): number {
  let sum = start;
  let at = from;
  for (; at + 1 < to; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
  // An odd byte at the end is the upper half of a word.
  if (at < to) sum += bytes[at]! << 8;
  while (sum > 0xffff) sum = (sum % 0x1_0000) + Math.floor(sum / 0x1_0000);
  return ~sum & 0xffff;
}
