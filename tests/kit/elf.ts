/**
 * Reads which libraries and versions a 64-bit little-endian ELF file needs (System V ABI,
 * "Sections"; LSB Core, "Symbol Versioning").
 */

/** Section header types: the string table of names, and the versions that the file needs. */
const SHT_GNU_VERNEED = 0x6fff_fffe;
/** e_machine. */
const machines: Readonly<Record<number, string>> = { 62: 'x64', 183: 'arm64' };

export interface ElfNeeds {
  /** The processor, in the words of `process.arch`. */
  readonly arch: string;
  /** Versions by library, such as `GLIBC_2.28` of `libc.so.6`, in the file's order. */
  readonly versions: readonly { readonly library: string; readonly version: string }[];
}

export function elfNeeds(bytes: Buffer): ElfNeeds {
  if (bytes.readUInt32BE(0) !== 0x7f45_4c46 || bytes[4] !== 2 || bytes[5] !== 1) throw new Error('not a 64-bit little-endian ELF file');
  const sections = Number(bytes.readBigUInt64LE(0x28));
  const size = bytes.readUInt16LE(0x3a);
  const section = (index: number) => {
    const at = sections + index * size;
    return {
      type: bytes.readUInt32LE(at + 4),
      offset: Number(bytes.readBigUInt64LE(at + 0x18)),
      link: bytes.readUInt32LE(at + 0x28),
      entries: bytes.readUInt32LE(at + 0x2c),
    };
  };
  const text = (table: number, offset: number) => {
    const start = section(table).offset + offset;
    return bytes.toString('latin1', start, bytes.indexOf(0, start));
  };

  const versions: { library: string; version: string }[] = [];
  for (let index = 0; index < bytes.readUInt16LE(0x3c); index++) {
    const { type, offset, link, entries } = section(index);
    if (type !== SHT_GNU_VERNEED) continue;
    let file = offset;
    for (let i = 0; i < entries; i++) {
      const library = text(link, bytes.readUInt32LE(file + 4));
      let version = file + bytes.readUInt32LE(file + 8);
      for (let j = 0; j < bytes.readUInt16LE(file + 2); j++) {
        versions.push({ library, version: text(link, bytes.readUInt32LE(version + 8)) });
        version += bytes.readUInt32LE(version + 12);
      }
      file += bytes.readUInt32LE(file + 12);
    }
  }
  return { arch: machines[bytes.readUInt16LE(0x12)] ?? 'unknown', versions };
}
