/** Payloads that are not JSON: pieces of memory, their pages, and the mappings. */
import { Access } from '../../abi/memory.ts';
import { U64_MAX } from '../../base/check.ts';
import { viewOf } from '../../base/data-view.ts';
import { VfioError } from '../../base/errno.ts';
import { struct } from '../../base/struct.ts';
import { PAYLOAD_MAX } from './frames.ts';

export const FORMAT = 'vfio-ts-move';
/** The version of the whole conversation. A destination refuses a version higher than its own. */
export const VERSION = 1;

export const PAGE = 4096;
/** The most pages of one extent, as many as a window of memory holds. */
export const EXTENT_PAGES_MAX = 2 ** 20;
/** The most pages in one frame. */
export const PAGES_MAX = 64;
/** The most extents, and the most mappings, of a move. */
export const ROWS_MAX = 2 ** 20;

/**
 * A row of EXTENTS. Extents are numbered from 0, in the order in which they come. Each begins with
 * zeroes.
 */
export const ExtentRow = struct('move_extent', 8, { number: 'u32', pages: 'u32' });
/** PAGES: `count` pages of 4096 bytes follow. ZEROES: nothing follows. */
export const PagesHead = struct('move_pages', 12, { extent: 'u32', first: 'u32', count: 'u32' });
/** A row of MAPPINGS: [address, address + size) maps the extent from `page` on. */
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
  /** The first page in the extent. */
  readonly page: number;
  readonly access: Access;
}

export interface ExtentInfo {
  readonly number: number;
  readonly pages: number;
}

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

/** @throws VfioError EPROTO for mappings that are not whole pages */
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

/** @throws VfioError EPROTO when pages are missing */
export function decodePages(
  payload: Uint8Array,
  withBytes: boolean,
): { readonly extent: number; readonly first: number; readonly count: number; readonly bytes: Uint8Array } {
  const bytes = payload.subarray(PagesHead.structSize);
  if (payload.length < PagesHead.structSize) throw new VfioError('EPROTO', `pages in ${payload.length} bytes`);
  const head = PagesHead.decode(viewOf(payload));
  // The limit is for zeroes too: each page of zeroes takes room here, and few bytes in transit.
  if (head.count > PAGES_MAX) throw new VfioError('EPROTO', `${head.count} pages in a frame; at most ${PAGES_MAX}`);
  if (head.count === 0 || bytes.length !== (withBytes ? head.count * PAGE : 0)) {
    throw new VfioError('EPROTO', `${head.count} pages in ${bytes.length} bytes`);
  }
  return { ...head, bytes };
}
