/** Ethernet addresses: text for people, six bytes for frames and registers. */
import { VfioError } from '../../base/errno.ts';

const TEXT = /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i;

/** `52:54:00:12:34:56`. */
export function macText(bytes: ArrayLike<number>, offset = 0): string {
  return Array.from({ length: 6 }, (_, i) => bytes[offset + i]!.toString(16).padStart(2, '0')).join(':');
}

/** @throws VfioError EINVAL for text that is no address */
export function macBytes(text: string): Uint8Array {
  if (typeof text !== 'string' || !TEXT.test(text)) {
    throw new VfioError('EINVAL', `'${String(text)}' is no Ethernet address`, { fix: 'Write six bytes, as in 52:54:00:12:34:56.' });
  }
  return Uint8Array.from(text.split(/[:-]/), (byte) => Number.parseInt(byte, 16));
}

/** The address of one station: neither a group's (its first bit is 1) nor zero. */
export function isStation(bytes: ArrayLike<number>): boolean {
  return (bytes[0]! & 1) === 0 && (bytes[0]! | bytes[1]! | bytes[2]! | bytes[3]! | bytes[4]! | bytes[5]!) !== 0;
}

/** @throws VfioError EINVAL for text that is no address of one station */
export function stationBytes(text: string): Uint8Array {
  const bytes = macBytes(text);
  if (isStation(bytes)) return bytes;
  throw new VfioError('EINVAL', `${text} is no address of a station`, { fix: 'Its first byte must be even, and it must not be zero.' });
}

/** The first four bytes, as RAL and word 1 of mailbox messages have them. */
export function macLow(bytes: ArrayLike<number>, offset = 0): number {
  return (bytes[offset]! | (bytes[offset + 1]! << 8) | (bytes[offset + 2]! << 16) | (bytes[offset + 3]! << 24)) >>> 0;
}

/** The last two bytes, as RAH and word 2 of mailbox messages have them. */
export function macHigh(bytes: ArrayLike<number>, offset = 0): number {
  return bytes[offset + 4]! | (bytes[offset + 5]! << 8);
}

/** The six bytes of a pair of words. */
export function macOfWords(low: number, high: number): Uint8Array {
  return Uint8Array.of(low, low >>> 8, low >>> 16, low >>> 24, high, high >>> 8);
}

/**
 * The hash of a group's address: 12 bits, which choose a bit of MTA (7.1.2.3). RCTL.MO 0: bits 47
 * to 36 of the address.
 */
export function multicastHash(bytes: ArrayLike<number>): number {
  return ((bytes[4]! >>> 4) | (bytes[5]! << 4)) & 0xfff;
}
