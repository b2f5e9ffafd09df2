/** Payloads that are no JSON: pieces of memory, their pages, and what is mapped. */
import { Access } from '../../abi/memory.ts';
import { U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { struct } from '../../base/struct.ts';
import { PAYLOAD_MAX } from './frames.ts';

export const FORMAT = 'vfio-ts-move';
/** Of the whole conversation: a destination refuses one that is higher than its own. */
export const VERSION = 1;

export const PAGE = 4096;
/** Of one extent: what a window of memory holds. */
export const EXTENT_PAGES_MAX = 2 ** 20;
/** A frame carries at most so many. */
export const PAGES_MAX = 64;
/** Of extents and of mappings, in all. */
export const ROWS_MAX = 2 ** 20;

/**
 * A row of EXTENTS: extents are numbered from 0, in the order in which they come; each begins with
 * zeroes.
 */
export const ExtentRow = struct('move_extent', 8, { number: 'u32', pages: 'u32' });
/** PAGES: followed by `count` pages of 4096 bytes. ZEROES: by nothing. */
export const PagesHead = struct('move_pages', 12, { extent: 'u32', first: 'u32', count: 'u32' });
/** A row of MAPPINGS: [address, address + size) is the extent from `page` on. */
export const MappingRow = struct('move_mapping', 32, {
  address: 'u64',
  size: 'u64',
  extent: 'u32',
  page: 'u32',
  access: 'u32',
  reserved: 'u32',
});

export interface Mapping {
  readonly iova: bigint;
  readonly size: number;
  readonly extent: number;
  /** Of the extent. */
  readonly page: number;
  readonly access: Access;
}

export interface ExtentInfo {
  readonly number: number;
  readonly pages: number;
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Rows in as many payloads as they need. */
function* payloads<T>(rows: readonly T[], rowBytes: number, encode: (view: DataView, at: number, row: T) => void): Generator<Uint8Array> {
  const most = Math.floor(PAYLOAD_MAX / rowBytes);
  for (let from = 0; from < rows.length; from += most) {
    const some = rows.slice(from, from + most);
    const bytes = new Uint8Array(some.length * rowBytes);
    for (const [i, row] of some.entries()) encode(viewOf(bytes), i * rowBytes, row);
    yield bytes;
  }
}

export function encodeExtents(extents: readonly ExtentInfo[]): Generator<Uint8Array> {
  return payloads(extents, ExtentRow.structSize, (view, at, { number, pages }) => ExtentRow.encode(view, at, { number, pages }));
}

/** @throws VfioError EPROTO */
export function decodeExtents(payload: Uint8Array): ExtentInfo[] {
  return rows(payload, ExtentRow.structSize, 'EXTENTS', (view, at) => {
    const { number, pages } = ExtentRow.decode(view, at);
    if (pages === 0 || pages > EXTENT_PAGES_MAX) throw new VfioError('EPROTO', `an extent of ${pages} pages`);
    return { number, pages };
  });
}

export function encodeMappings(mappings: readonly Mapping[]): Generator<Uint8Array> {
  return payloads(mappings, MappingRow.structSize, (view, at, { iova, size, extent, page, access }) =>
    MappingRow.encode(view, at, { address: iova, size: BigInt(size), extent, page, access, reserved: 0 }),
  );
}

/** @throws VfioError EPROTO for what is not made of whole pages */
export function decodeMappings(payload: Uint8Array): Mapping[] {
  return rows(payload, MappingRow.structSize, 'MAPPINGS', (view, at) => {
    const { address, size, extent, page, access } = MappingRow.decode(view, at);
    const whole = ((address | size) & 4095n) === 0n && size > 0n && size <= BigInt(EXTENT_PAGES_MAX * PAGE);
    if (!whole || address + size - 1n > U64_MAX || access < Access.READ || access > Access.READ_WRITE) {
      throw new VfioError('EPROTO', `a mapping at 0x${address.toString(16)} of 0x${size.toString(16)} bytes`);
    }
    return { iova: address, size: Number(size), extent, page, access: access as Access };
  });
}

function rows<T>(payload: Uint8Array, rowBytes: number, what: string, decode: (view: DataView, at: number) => T): T[] {
  if (payload.length % rowBytes !== 0) throw new VfioError('EPROTO', `${what} of ${payload.length} bytes`);
  const view = viewOf(payload);
  return Array.from({ length: payload.length / rowBytes }, (_, i) => decode(view, i * rowBytes));
}

export function encodePagesHead(extent: number, first: number, count: number, into: Uint8Array): void {
  PagesHead.encode(viewOf(into), 0, { extent, first, count });
}

/** @throws VfioError EPROTO when the pages are not all there */
export function decodePages(
  payload: Uint8Array,
  withBytes: boolean,
): { readonly extent: number; readonly first: number; readonly count: number; readonly bytes: Uint8Array } {
  const bytes = payload.subarray(PagesHead.structSize);
  if (payload.length < PagesHead.structSize) throw new VfioError('EPROTO', `pages in ${payload.length} bytes`);
  const head = PagesHead.decode(viewOf(payload));
  // Of zeroes too: each page of them takes room here, and few bytes on the way.
  if (head.count > PAGES_MAX) throw new VfioError('EPROTO', `${head.count} pages in a frame; at most ${PAGES_MAX}`);
  if (head.count === 0 || bytes.length !== (withBytes ? head.count * PAGE : 0)) {
    throw new VfioError('EPROTO', `${head.count} pages in ${bytes.length} bytes`);
  }
  return { ...head, bytes };
}
