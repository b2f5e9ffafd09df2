/**
 * The two cyclic redundancy checks that a receiver meets: Ethernet's frame check sequence (IEEE
 * 802.3, 3.2.9), and SCTP's CRC32c (RFC 9260, appendix A). Both are reflected.
 */

const ETHERNET = tableOf(0xedb8_8320);
const CASTAGNOLI = tableOf(0x82f6_3b78);

function tableOf(polynomial: number): Int32Array {
  return Int32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ polynomial : crc >>> 1;
    return crc;
  });
}

/** The frame check sequence of `bytes`: its least significant byte is sent first. */
export function frameCheckSequence(bytes: Uint8Array, from: number, to: number): number {
  let crc = -1;
  for (let i = from; i < to; i++) crc = ETHERNET[(crc ^ bytes[i]!) & 0xff]! ^ (crc >>> 8);
  return ~crc;
}

/** SCTP's checksum: the four bytes from `field` on, where it stands, count as 0. */
export function crc32c(bytes: Uint8Array, from: number, to: number, field: number): number {
  let crc = -1;
  for (let i = from; i < to; i++) {
    const byte = i >= field && i < field + 4 ? 0 : bytes[i]!;
    crc = CASTAGNOLI[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  }
  return ~crc;
}
