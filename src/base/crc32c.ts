/**
 * CRC32C (Castagnoli), as iSCSI and NVMe use it. It finds every burst error of up to 32 bits. A
 * step of the loop takes eight bytes.
 *
 * @see RFC 3720, 12.1
 */
const POLYNOMIAL = 0x82f6_3b78;

/** Table k begins at 256·k. It has the checksum of each byte that k zero bytes follow. */
const tables = makeTables();

function makeTables(): Uint32Array<ArrayBuffer> {
  const t = new Uint32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ POLYNOMIAL;
    t[byte] = crc;
  }
  for (let at = 256; at < t.length; at++) t[at] = (t[at - 256]! >>> 8) ^ t[t[at - 256]! & 0xff]!;
  return t;
}

/**
 * Checksum of bytes[from, to).
 *
 * @param crc  the checksum of the bytes before. Default: 0.
 */
export function crc32c(bytes: Uint8Array, from = 0, to = bytes.length, crc = 0): number {
  const t = tables;
  let sum = ~crc;
  let at = from;
  for (; at + 8 <= to; at += 8) {
    const low = sum ^ (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24));
    sum =
      t[1792 + (low & 0xff)]! ^
      t[1536 + ((low >>> 8) & 0xff)]! ^
      t[1280 + ((low >>> 16) & 0xff)]! ^
      t[1024 + (low >>> 24)]! ^
      t[768 + bytes[at + 4]!]! ^
      t[512 + bytes[at + 5]!]! ^
      t[256 + bytes[at + 6]!]! ^
      t[bytes[at + 7]!]!;
  }
  for (; at < to; at++) sum = (sum >>> 8) ^ t[(sum ^ bytes[at]!) & 0xff]!;
  return ~sum >>> 0;
}
