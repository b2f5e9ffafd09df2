/**
 * Archives of tar, read piece by piece. An archive is not trusted: what is kept of it is bounded,
 * and names never lead out of it. Formats: POSIX ustar and pax, and GNU's long names.
 */
import { VfioError } from '../base/errno.ts';
import { MAX_FILE_BYTES } from './host-files.ts';
import type { FileEntry } from './memory-files.ts';

const BLOCK = 512;
/** Names on the path of an entry, and their characters: sysfs has fewer. Deep paths cost much. */
const MAX_DEPTH = 64;
const MAX_NAME = 4096;
/** Bytes of all files that are kept, and of the names on their paths. */
const MAX_KEPT = 256 * 2 ** 20;
const MAX_ENTRIES = 2_000_000;
/** Bytes of a long name or of a header of pax. */
const MAX_EXTRA = 2 ** 16;

/** Types of entries, by their character. */
const Type = {
  FILE: '0',
  OLD_FILE: '\0',
  HARD_LINK: '1',
  LINK: '2',
  DIRECTORY: '5',
  PAX: 'x',
  PAX_GLOBAL: 'g',
  LONG_NAME: 'L',
  LONG_LINK: 'K',
};

interface Entry {
  readonly name: string;
  readonly type: string;
  readonly link: string;
  readonly size: number;
}

const decoder = new TextDecoder('utf-8');

/** Takes the bytes of an archive, and keeps the wanted entries. */
export class TarReader {
  readonly #wanted: (path: string) => boolean;
  readonly #origin: string;
  readonly #entries = new Map<string, FileEntry>();
  #pending: Buffer = Buffer.alloc(0);
  #current: (Entry & { readonly pieces: Buffer[]; readonly keep: boolean }) | null = null;
  /** Bytes of the current entry, with its padding, that are still to come. */
  #left = 0;
  #padding = 0;
  #kept = 0;
  #entered = 0;
  #ended = false;
  /** Names for the next entry that its header has no room for. */
  #nextName: string | null = null;
  #nextLink: string | null = null;

  constructor(origin: string, wanted: (path: string) => boolean) {
    this.#origin = origin;
    this.#wanted = wanted;
  }

  /** @throws VfioError EINVAL for bytes that are no archive; EFBIG for too many */
  push(bytes: Uint8Array): void {
    if (this.#ended) return;
    let rest: Buffer = this.#pending.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#pending, bytes]);
    this.#pending = Buffer.alloc(0);
    while (rest.length > 0 && !this.#ended) {
      if (this.#current !== null) {
        rest = this.#take(rest);
        continue;
      }
      if (rest.length < BLOCK) {
        this.#pending = rest;
        return;
      }
      this.#begin(rest.subarray(0, BLOCK));
      rest = rest.subarray(BLOCK);
    }
  }

  /** All entries were there: bytes that follow do not count. */
  get ended(): boolean {
    return this.#ended;
  }

  /** The wanted entries. @throws VfioError EINVAL for an archive that breaks off */
  end(): ReadonlyMap<string, FileEntry> {
    if (this.#current !== null || this.#pending.length > 0) {
      throw new VfioError('EINVAL', `the archive ${this.#origin} breaks off in an entry`);
    }
    return this.#entries;
  }

  #begin(header: Buffer): void {
    if (header.every((byte) => byte === 0)) {
      this.#ended = true;
      return;
    }
    const entry = this.#entryOf(header);
    if (++this.#entered > MAX_ENTRIES) throw new VfioError('EFBIG', `the archive ${this.#origin} has more than ${MAX_ENTRIES} entries`);
    const isExtra = entry.type === Type.PAX || entry.type === Type.LONG_NAME || entry.type === Type.LONG_LINK;
    const isFile = entry.type === Type.FILE || entry.type === Type.OLD_FILE;
    if (isExtra && entry.size > MAX_EXTRA) throw new VfioError('EFBIG', `the archive ${this.#origin} has a name of ${entry.size} bytes`);
    const wanted = !isExtra && this.#isWanted(entry);
    const keep = isExtra || (isFile && wanted);
    if (wanted) this.#count(2 * BLOCK + entry.name.length * entry.name.split('/').length + entry.link.length);
    this.#padding = (BLOCK - (entry.size % BLOCK)) % BLOCK;
    this.#left = entry.size + this.#padding;
    this.#current = { ...entry, pieces: [], keep };
    if (this.#left === 0) this.#finish();
  }

  #isWanted({ name, link }: Pick<Entry, 'name' | 'link'>): boolean {
    const isLong = name.length > MAX_NAME || link.length > MAX_NAME || name.split('/').length > MAX_DEPTH;
    return !isLong && this.#wanted(name);
  }

  #count(bytes: number): void {
    this.#kept += bytes;
    if (this.#kept > MAX_KEPT) throw new VfioError('EFBIG', `the archive ${this.#origin} has too much to keep`);
  }

  #entryOf(header: Buffer): Entry {
    const sum = Number.parseInt(header.toString('latin1', 148, 156).replaceAll(/[\0 ]/g, ''), 8);
    let own = 0;
    for (let at = 0; at < BLOCK; at++) own += at >= 148 && at < 156 ? 0x20 : header[at]!;
    if (sum !== own) throw new VfioError('EINVAL', `${this.#origin} is no archive of tar: the checksum of an entry is wrong`);
    const text = (from: number, to: number) => decoder.decode(header.subarray(from, to)).split('\0')[0]!;
    const prefix = text(257, 262) === 'ustar' && header[262] === 0 ? text(345, 500) : '';
    const type = String.fromCharCode(header[156]!);
    const isExtra = type === Type.PAX || type === Type.PAX_GLOBAL || type === Type.LONG_NAME || type === Type.LONG_LINK;
    const name = (isExtra ? null : this.#nextName) ?? (prefix === '' ? text(0, 100) : `${prefix}/${text(0, 100)}`);
    const link = (isExtra ? null : this.#nextLink) ?? text(157, 257);
    if (!isExtra) {
      this.#nextName = null;
      this.#nextLink = null;
    }
    // Only files, and our own extra entries, have bytes behind them.
    const hasBytes = isExtra || type === Type.FILE || type === Type.OLD_FILE || !/[1-6]/.test(type);
    return { name: clean(name), type, link, size: hasBytes ? this.#sizeIn(header) : 0 };
  }

  #sizeIn(header: Buffer): number {
    // GNU writes a large size as a binary number.
    const size =
      (header[124]! & 0x80) !== 0 ? Number(header.readBigUInt64BE(128)) : Number.parseInt(header.toString('latin1', 124, 136), 8);
    if (Number.isSafeInteger(size) && size >= 0) return size;
    throw new VfioError('EINVAL', `${this.#origin} is no archive of tar: the size of an entry is no number`);
  }

  #take(bytes: Buffer): Buffer {
    const current = this.#current!;
    const count = Math.min(this.#left, bytes.length);
    const content = Math.max(0, Math.min(count, this.#left - this.#padding));
    if (current.keep && content > 0) {
      this.#count(content);
      // A copy: a piece must not keep the whole buffer of its stream alive.
      if (total(current.pieces) < MAX_FILE_BYTES) current.pieces.push(Buffer.from(bytes.subarray(0, content)));
    }
    this.#left -= count;
    if (this.#left === 0) this.#finish();
    return bytes.subarray(count);
  }

  #finish(): void {
    const { name, type, link, pieces, keep } = this.#current!;
    this.#current = null;
    const bytes = Buffer.concat(pieces);
    switch (type) {
      case Type.LONG_NAME:
        this.#nextName = decoder.decode(bytes).split('\0')[0]!;
        return;
      case Type.LONG_LINK:
        this.#nextLink = decoder.decode(bytes).split('\0')[0]!;
        return;
      case Type.PAX:
        this.#pax(decoder.decode(bytes));
        return;
      case Type.FILE:
      case Type.OLD_FILE:
        if (keep) this.#entries.set(name, { bytes: new Uint8Array(bytes) });
        return;
      case Type.LINK:
        if (this.#isWanted({ name, link })) this.#entries.set(name, { link });
        return;
      case Type.HARD_LINK: {
        const same = this.#entries.get(clean(link));
        if (same !== undefined && this.#isWanted({ name, link })) this.#entries.set(name, same);
        return;
      }
      case Type.DIRECTORY:
        if (this.#isWanted({ name, link })) this.#entries.set(name, { directory: true });
        return;
    }
  }

  /** Records of `LENGTH KEY=VALUE\n`. */
  #pax(text: string): void {
    for (const record of text.split('\n')) {
      const match = /^\d+ (path|linkpath)=(.*)$/.exec(record);
      if (match?.[1] === 'path') this.#nextName = match[2]!;
      if (match?.[1] === 'linkpath') this.#nextLink = match[2]!;
    }
  }
}

function total(pieces: readonly Buffer[]): number {
  return pieces.reduce((sum, piece) => sum + piece.length, 0);
}

function clean(name: string): string {
  return name
    .split('/')
    .filter((part) => part !== '' && part !== '.' && part !== '..')
    .join('/');
}
