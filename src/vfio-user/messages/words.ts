/**
 * A payload in words, as its shape says (shape.ts). The Lua half of this is in tools/vfio-user.lua;
 * a test compares the two.
 */
import { withoutVfTokens } from '../../abi/vf-token.ts';
import { RegionCap } from '../../abi/vfio.ts';
import { InfoCapHeader, RegionInfoCapSparseMmap, RegionInfoCapType, SparseMmapArea } from '../../abi/vfio-structs.ts';
import { viewOf } from '../../base/data-view.ts';
import type { Case, Names, Ref, Shape, Test, Word } from './shape.ts';

/** Bytes of data that are shown; the others are counted. */
const SHOWN_BYTES = 16;
/** Elements of a list, areas of a region and runs of dirty pages that are shown. */
const SHOWN_ELEMENTS = 8;
const SHOWN_CHARS = 1024;
/** Capabilities of a peer are followed so far. */
const MAX_CAPABILITIES = 64;

/**
 * @param size bytes of the whole payload, of which `payload` is the beginning
 * @throws Error with the reason when the payload does not hold what the shape needs
 */
export function wordsOf(shape: Shape, payload: Uint8Array, size = payload.length): string {
  return new Reader(payload, size).shape(shape, 0).trim();
}

/**
 * `[01 02]`, `[01 02 … 20 bytes]`, `[20 bytes]` where those that it shows are not there; an empty
 * string for no bytes.
 *
 * @param size how many there are, of which `data` is the beginning
 */
export function shownBytes(data: Uint8Array, size = data.length): string {
  if (size === 0) return '';
  if (data.length < Math.min(size, SHOWN_BYTES)) return `[${size} bytes]`;
  const shown = Array.from(data.subarray(0, SHOWN_BYTES), (byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return size <= SHOWN_BYTES ? `[${shown}]` : `[${shown} … ${size} bytes]`;
}

/** The shape needs a part of the payload that is not there. */
function cut(): Error {
  return new Error('it was not captured in whole');
}

/** Text of a peer, without characters that a terminal acts on. */
export function printable(given: string): string {
  return given.replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

class Reader {
  readonly #payload: Uint8Array;
  readonly #view: DataView;
  /** Bytes of the whole payload. */
  readonly #size: number;

  constructor(payload: Uint8Array, size: number) {
    this.#payload = payload;
    this.#view = viewOf(payload);
    this.#size = size;
  }

  shape({ at = 0, structs = [], words }: Shape, base: number): string {
    const end = structs.reduce((sum, { structSize }) => sum + structSize, at);
    if (this.#size < base + end) throw new Error(`${this.#size} bytes, ${base + end} at least`);
    if (this.#payload.length < base + end) throw cut();
    return words.map((word) => this.#word(word, base)).join('');
  }

  /** @param base where the element starts that the word is about; else 0 */
  #word(word: Word, base: number): string {
    if (typeof word === 'string') return word;
    switch (word.kind) {
      case 'dec':
        return `${this.#number(word.ref, base)}`;
      case 'hex':
        return hexOf(this.#number(word.ref, base));
      case 'range':
        return rangeOf(this.#number(word.ref, base), this.#number(word.size, base));
      case 'name': {
        const number = this.#small(word.ref, base, word.mask);
        return nameIn(word.names, number) ?? `${word.otherwise} ${number}`;
      }
      case 'flags':
        return flagsOf(this.#number(word.ref, base), word.names);
      case 'value':
        return shownValue(...this.#data(word.at, word.count, base, word.most));
      case 'bytes':
        return shownBytes(...this.#data(word.at, word.count, base));
      case 'text':
        return this.#text(base + word.at);
      case 'vectors':
        return vectorsOf(this.#small(word.ref, base), this.#small(word.count, base));
      case 'dirty':
        return this.#dirty(base + word.at, this.#number(word.ref, base), this.#number(word.page, base));
      case 'each':
        return this.#each(base + word.at, this.#number(word.count, base), word.layouts);
      case 'capabilities':
        return this.#capabilities(this.#small(word.ref, base));
      case 'pick': {
        const found = word.cases.find(({ test }: Case) => this.#holds(test, base));
        return found === undefined ? '' : this.shape(found.shape, base);
      }
    }
  }

  #number({ at, bytes }: Ref, base: number): bigint {
    const where = base + at;
    if (where + bytes > this.#size) throw new Error(`${this.#size} bytes, ${where + bytes} at least`);
    if (where + bytes > this.#payload.length) throw cut();
    if (bytes === 8) return this.#view.getBigUint64(where, true);
    return BigInt(bytes === 4 ? this.#view.getUint32(where, true) : this.#view.getUint16(where, true));
  }

  #small(where: Ref, base: number, mask = 0xffff_ffff): number {
    return Number(this.#number(where, base) & BigInt(mask));
  }

  #holds(test: Test, base: number): boolean {
    if (test.kind === 'longer') return this.#size - base > test.than;
    if (test.kind === 'zero') return this.#number(test.ref, base) === 0n;
    return this.#small(test.ref, base, test.mask) === test.is;
  }

  /** The data that is there, and how much of it there is in the whole payload. */
  #data(at: number, count: Ref | null, base: number, most = Number.POSITIVE_INFINITY): [data: Uint8Array, size: number] {
    const start = base + at;
    const size = count === null ? Math.max(0, this.#size - start) : Math.min(this.#small(count, base), most);
    if (start + size > this.#size && size > 0) throw new Error(`${this.#size - start} bytes of data, ${size} announced`);
    return [this.#payload.subarray(start, start + size), size];
  }

  #text(at: number): string {
    const decoded = new TextDecoder().decode(this.#payload.subarray(at)).replace(/\0$/, '');
    return printable(withoutVfTokens(decoded).slice(0, SHOWN_CHARS));
  }

  #dirty(at: number, first: bigint, page: bigint): string {
    if (this.#payload.length < this.#size) return `a bitmap of ${this.#size - at} bytes`;
    const bitmap = this.#payload.subarray(at);
    let pages = 0;
    let begun = -1;
    const runs: string[] = [];
    for (let bit = 0; bit <= bitmap.length * 8; ) {
      // Bitmaps are large, and most of their bytes are all zeroes or all ones.
      const whole = (bit & 7) === 0 ? bitmap[bit >>> 3] : undefined;
      if ((whole === 0 && begun < 0) || (whole === 0xff && begun >= 0)) {
        pages += whole === 0 ? 0 : 8;
        bit += 8;
        continue;
      }
      const set = bit < bitmap.length * 8 && (bitmap[bit >>> 3]! & (1 << (bit & 7))) !== 0;
      if (set) pages++;
      if (set && begun < 0) begun = bit;
      else if (!set && begun >= 0) {
        runs.push(rangeOf(first + BigInt(begun) * page, BigInt(bit - begun) * page));
        begun = -1;
      }
      bit++;
    }
    if (pages === 0) return 'no page is dirty';
    const shown = runs.slice(0, SHOWN_ELEMENTS).join(', ');
    return `${pages === 1 ? '1 page is' : `${pages} pages are`} dirty: ${shown}${runs.length > SHOWN_ELEMENTS ? ', …' : ''}`;
  }

  #each(
    at: number,
    count: bigint,
    layouts: readonly { readonly struct: { readonly structSize: number }; readonly words: readonly Word[] }[],
  ) {
    const bytes = BigInt(this.#size - at);
    if (bytes === 0n) return '';
    const layout = layouts.find(({ struct }) => BigInt(struct.structSize) * count === bytes);
    if (layout === undefined) throw new Error(`${bytes} bytes for ${count} elements`);
    const there = Math.floor((this.#payload.length - at) / layout.struct.structSize);
    const shown = Math.min(Number(count), SHOWN_ELEMENTS, there);
    const elements = Array.from({ length: shown }, (_, i) => {
      const base = at + i * layout.struct.structSize;
      return layout.words.map((word) => this.#word(word, base)).join('');
    });
    return elements.join(', ') + (count > BigInt(shown) ? `${shown === 0 ? '' : ', '}…` : '');
  }

  #capabilities(first: number): string {
    const said: string[] = [];
    let hops = 0;
    for (let at = first; at !== 0; at = InfoCapHeader.next.get(this.#view, at)) {
      if (++hops > MAX_CAPABILITIES) throw new Error('the capability chain has no end');
      if (at + InfoCapHeader.structSize > this.#payload.length) throw new Error(`the capability chain leads to byte ${at}`);
      const id = InfoCapHeader.id.get(this.#view, at);
      if (id === RegionCap.SPARSE_MMAP) said.push(this.#areas(at));
      else if (id === RegionCap.TYPE) {
        const type = this.#number({ at: RegionInfoCapType.type.offset, bytes: 4 }, at);
        const subtype = this.#number({ at: RegionInfoCapType.subtype.offset, bytes: 4 }, at);
        said.push(`, type ${hexOf(type)}:${hexOf(subtype)}`);
      } else if (id === RegionCap.MSIX_MAPPABLE) said.push(', msix_mappable');
      else said.push(`, capability ${id}`);
    }
    return said.join('');
  }

  #areas(at: number): string {
    const count = Number(this.#number({ at: RegionInfoCapSparseMmap.nr_areas.offset, bytes: 4 }, at));
    const shown = Array.from({ length: Math.min(count, SHOWN_ELEMENTS) }, (_, i) => {
      const base = at + RegionInfoCapSparseMmap.structSize + i * SparseMmapArea.structSize;
      return rangeOf(this.#number({ at: 0, bytes: 8 }, base), this.#number({ at: 8, bytes: 8 }, base));
    });
    return `, areas ${shown.join(' ')}${count > shown.length ? ' …' : ''}`;
  }
}

const hexOf = (number: bigint): string => `0x${number.toString(16)}`;

function rangeOf(first: bigint, size: bigint): string {
  return size === 0n ? `${hexOf(first)}+0` : `${hexOf(first)}-${hexOf(BigInt.asUintN(64, first + size - 1n))}`;
}

function nameIn(names: Names, number: number): string | undefined {
  for (const each in names) if (names[each] === number) return each;
  return undefined;
}

function flagsOf(number: bigint, names: Names): string {
  const set = Object.entries(names).filter(([, bit]) => (number & BigInt(bit)) === BigInt(bit));
  const unknown = number & ~set.reduce((all, [, bit]) => all | BigInt(bit), 0n);
  return [...set.map(([each]) => each.toLowerCase()), ...(unknown === 0n ? [] : [hexOf(unknown)])].join('|') || 'no flags';
}

/** A register's value, or the first bytes of longer data. */
function shownValue(data: Uint8Array, size: number): string {
  if (![1, 2, 4, 8].includes(size) || data.length < size) return shownBytes(data, size);
  return `0x${[...data]
    .reverse()
    .map((byte) => byte.toString(16).padStart(2, '0'))
    .join('')}`;
}

function vectorsOf(start: number, count: number): string {
  if (count === 0) return 'all';
  return count === 1 ? `vector ${start}` : `vectors ${start} to ${start + count - 1}`;
}
