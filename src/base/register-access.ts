/** Loads and stores of a register's width at a byte offset. */
export interface RegisterAccess {
  /** Loads 8 bits from `offset`. */
  read8(offset: number): number;
  /** Loads 16 bits, little-endian, from `offset`, a multiple of 2. */
  read16(offset: number): number;
  /** Loads 32 bits, little-endian, from `offset`, a multiple of 4. */
  read32(offset: number): number;
  /** Loads 64 bits, a bigint, little-endian, from `offset`, a multiple of 8. */
  read64(offset: number): bigint;
  /** Stores the low 8 bits of `value` at `offset`. */
  write8(offset: number, value: number): void;
  /** Stores 16 bits, little-endian, at `offset`, a multiple of 2. */
  write16(offset: number, value: number): void;
  /** Stores 32 bits, little-endian, at `offset`, a multiple of 4. */
  write32(offset: number, value: number): void;
  /** Stores 64 bits, a bigint, little-endian, at `offset`, a multiple of 8. */
  write64(offset: number, value: bigint): void;
}
