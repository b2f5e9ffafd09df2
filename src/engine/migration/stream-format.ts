/**
 * The format of a device's data in a stream (docs/migration.md): a preamble, then sections. A
 * section's header has its kind, version, number and length, under a checksum of its own; the
 * payload has another one. A reader believes only checked data, and finds sections that are
 * missing, doubled or moved. A reader passes over a section of an unknown kind when the section's
 * writer has marked it as optional.
 *
 * All numbers are little-endian.
 */
import { crc32c } from '../../base/crc32c.ts';
import { VfioError } from '../../base/errno.ts';
import { textOf } from '../../base/foreign.ts';
import { struct } from '../../base/struct.ts';

/** 'vfio-ts\0' as a little-endian number, and `check` = CRC32C of the bytes before it. */
const Preamble = struct('preamble', 16, { magic: 'u64', format: 'u32', check: 'u32' });
const MAGIC = 0x0073_742d_6f69_6676n;
/** The version of this format. Sections have versions of their own. */
export const FORMAT = 1;

/** `check`: CRC32C of the bytes before it; `payload_check`: CRC32C of the payload. */
export const SectionHeader = struct('section', 24, {
  type: 'u16',
  version: 'u16',
  flags: 'u16',
  reserved: 'u16',
  sequence: 'u32',
  length: 'u32',
  payload_check: 'u32',
  check: 'u32',
});
export const SECTION_BYTES = SectionHeader.structSize;
/** OPTIONAL: a reader that does not know the section goes on without it. */
export const SectionFlags = { OPTIONAL: 1 } as const;

const PREAMBLE_CHECKED = Preamble.check.offset;
const HEADER_CHECKED = SectionHeader.check.offset;

export function encodePreamble(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(Preamble.structSize);
  const view = new DataView(bytes.buffer);
  Preamble.encode(view, 0, { magic: MAGIC, format: FORMAT });
  Preamble.check.set(view, 0, crc32c(bytes, 0, PREAMBLE_CHECKED));
  return bytes;
}

/** Numbers the sections of one stream. */
export class SectionWriter {
  #sequence = 0;

  /**
   * @param section with SECTION_BYTES of room in front of the payload, for the header @returns
   * `section`
   */
  seal(type: number, version: number, section: Uint8Array<ArrayBuffer>, flags = 0): Uint8Array<ArrayBuffer> {
    const view = new DataView(section.buffer, section.byteOffset, SECTION_BYTES);
    SectionHeader.encode(view, 0, {
      type,
      version,
      flags,
      reserved: 0,
      sequence: this.#sequence++,
      length: section.length - SECTION_BYTES,
      payload_check: crc32c(section, SECTION_BYTES),
    });
    SectionHeader.check.set(view, 0, crc32c(section, 0, HEADER_CHECKED));
    return section;
  }

  /** The same for a payload without room in front. */
  section(type: number, version: number, payload: Uint8Array, flags = 0): Uint8Array<ArrayBuffer> {
    const section = new Uint8Array(SECTION_BYTES + payload.length);
    section.set(payload, SECTION_BYTES);
    return this.seal(type, version, section, flags);
  }
}

/** A reader's knowledge of a kind of section. */
export interface SectionKind {
  readonly name: string;
  /** The newest version that the reader understands. */
  readonly version: number;
  /** Longest payload, bytes. */
  readonly max: number;
}

export interface SectionReaderOptions {
  /** Null for an unknown kind. */
  readonly kind: (type: number) => SectionKind | null;
  /** Takes a whole section, checked. An error that it throws ends the stream. */
  readonly onSection: (type: number, version: number, payload: Uint8Array<ArrayBuffer>) => void;
}

/** The first buffer of a payload; it grows as the payload arrives. */
const ROOM_BYTES = 64 * 1024;

/**
 * Takes a stream in pieces of any size. The first error ends the stream: every later `push` throws
 * the same.
 */
export class SectionReader {
  readonly #options: SectionReaderOptions;
  readonly #head = new Uint8Array(SECTION_BYTES);
  readonly #view = new DataView(this.#head.buffer);
  /** Bytes of the preamble or header that have arrived. */
  #have = 0;
  #sequence = -1;
  #kind: SectionKind | null = null;
  #inPayload = false;
  #room = new Uint8Array(0);
  #length = 0;
  #got = 0;
  #check = 0;
  #failed: VfioError | null = null;
  /** Payload bytes of sections that were passed over. */
  skippedBytes = 0;

  constructor(options: SectionReaderOptions) {
    this.#options = options;
  }

  get failed(): VfioError | null {
    return this.#failed;
  }

  /** Every section that began has ended. */
  get atBoundary(): boolean {
    return this.#sequence >= 0 && this.#have === 0 && !this.#inPayload;
  }

  /** @throws VfioError EINVAL for bytes that are no such stream; what `onSection` throws */
  push(bytes: Uint8Array): void {
    if (this.#failed !== null) throw this.#failed;
    try {
      for (let at = 0; at < bytes.length; ) at = this.#inPayload ? this.#takePayload(bytes, at) : this.#takeHead(bytes, at);
    } catch (error) {
      this.#failed =
        error instanceof VfioError ? error : new VfioError('EIO', `a section could not be taken: ${textOf(error)}`, { cause: error });
      this.#room = new Uint8Array(0);
      throw this.#failed;
    }
  }

  #takeHead(bytes: Uint8Array, at: number): number {
    const wanted = this.#sequence < 0 ? Preamble.structSize : SECTION_BYTES;
    const piece = Math.min(wanted - this.#have, bytes.length - at);
    this.#head.set(bytes.subarray(at, at + piece), this.#have);
    this.#have += piece;
    if (this.#have < wanted) return at + piece;
    this.#have = 0;
    if (this.#sequence < 0) this.#preamble();
    else this.#header();
    return at + piece;
  }

  #preamble(): void {
    const { magic, format, check } = Preamble.decode(this.#view);
    if (magic !== MAGIC) throw invalid('it does not begin as the data of a device of vfio-ts');
    if (check !== crc32c(this.#head, 0, PREAMBLE_CHECKED)) throw invalid('its preamble was changed on the way');
    if (format !== FORMAT) throw invalid(`its format is ${format}; ${FORMAT} is understood`);
    this.#sequence = 0;
  }

  #header(): void {
    const { type, version, flags, reserved, sequence, length, check } = SectionHeader.decode(this.#view);
    if (check !== crc32c(this.#head, 0, HEADER_CHECKED)) throw invalid(`the header of section ${this.#sequence} was changed on the way`);
    if (sequence !== this.#sequence) throw invalid(`section ${sequence} comes where section ${this.#sequence} was to come`);
    const known = this.#options.kind(type);
    const optional = (flags & SectionFlags.OPTIONAL) !== 0;
    const understood =
      known !== null && version >= 1 && version <= known.version && (flags & ~SectionFlags.OPTIONAL) === 0 && reserved === 0;
    if (!understood && !optional) {
      if (known === null) throw invalid(`it has a section of kind ${type}, which this version does not know`);
      throw invalid(`its section ${known.name} has version ${version}; 1 to ${known.version} are understood`);
    }
    this.#kind = understood ? known : null;
    if (this.#kind !== null && length > this.#kind.max)
      throw invalid(`its section ${this.#kind.name} has ${length} bytes; at most ${this.#kind.max}`);
    this.#length = length;
    this.#got = 0;
    this.#check = 0;
    this.#room = new Uint8Array(this.#kind === null ? 0 : Math.min(length, ROOM_BYTES));
    this.#inPayload = true;
    if (length === 0) this.#end();
  }

  #takePayload(bytes: Uint8Array, at: number): number {
    const piece = Math.min(this.#length - this.#got, bytes.length - at);
    this.#check = crc32c(bytes, at, at + piece, this.#check);
    if (this.#kind !== null) {
      this.#makeRoom(this.#got + piece);
      this.#room.set(bytes.subarray(at, at + piece), this.#got);
    } else this.skippedBytes += piece;
    this.#got += piece;
    if (this.#got === this.#length) this.#end();
    return at + piece;
  }

  /** Doubles each time, up to the length in the section's header. */
  #makeRoom(bytes: number): void {
    if (bytes <= this.#room.length) return;
    const room = new Uint8Array(Math.min(this.#length, Math.max(bytes, 2 * this.#room.length)));
    room.set(this.#room.subarray(0, this.#got));
    this.#room = room;
  }

  #end(): void {
    const { type, version, payload_check: check } = SectionHeader.decode(this.#view);
    if (check !== this.#check) throw invalid(`section ${this.#sequence} was changed on the way`);
    const kind = this.#kind;
    const payload = this.#room;
    this.#inPayload = false;
    this.#room = new Uint8Array(0);
    this.#sequence++;
    if (kind !== null) this.#options.onSection(type, version, payload);
  }
}

export function invalid(what: string): VfioError {
  return new VfioError('EINVAL', `the data of the device cannot be taken: ${what}`);
}
