/** The value of the bytes of a register, little-endian. */

/** The value of a register of 1, 2, 4 or 8 bytes; undefined for every other size. */
export function registerOf(bytes: Uint8Array): number | bigint | undefined {
  const { length } = bytes;
  if (length !== 1 && length !== 2 && length !== 4 && length !== 8) return undefined;
  let value = 0;
  for (let i = Math.min(length, 4) - 1; i >= 0; i--) value = value * 256 + bytes[i]!;
  if (length < 8) return value;
  let high = 0;
  for (let i = 7; i >= 4; i--) high = high * 256 + bytes[i]!;
  return (BigInt(high) << 32n) | BigInt(value);
}
