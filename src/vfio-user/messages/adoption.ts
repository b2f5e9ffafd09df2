/**
 * Taking over a device that was moved here (docs/moving.md): names of ours in VERSION, and a table
 * of the mappings, as a file. Other servers ignore the names, as any name that they do not know,
 * and other clients do not use them.
 */

import { Access } from '../../abi/memory.ts';
import { hex, U64_MAX } from '../../base/check.ts';
import { viewOf } from '../../base/data-view.ts';
import { VfioError } from '../../base/errno.ts';
import { struct } from '../../base/struct.ts';

/** In a client's VERSION: true, when it wants the device that was moved here. */
export const ADOPT_CAPABILITY = 'vfio_ts_adopt';
/**
 * In the reply to that: `{"mappings": rows of the table, "fd_index": of the table, "memories": how
 * many descriptors follow it}`.
 */
export const ADOPTED_CAPABILITY = 'vfio_ts_adopted';

/** The most mappings of an answer that is believed. */
const MAPPINGS_MAX = 2 ** 20;

export interface AdoptedCapability {
  readonly mappings: number;
  readonly fdIndex: number;
  readonly memories: number;
}

/**
 * A row of the table. `memory` counts the descriptors behind the table's, from 0; `offset` is in
 * bytes of it.
 */
export const AdoptedRow = struct('vfio_ts_adopted_mapping', 32, {
  address: 'u64',
  size: 'u64',
  offset: 'u64',
  access: 'u32',
  memory: 'u32',
});

/** The mapping of [iova, iova + size): bytes of one of the memories. */
export interface AdoptedMapping {
  readonly iova: bigint;
  readonly size: number;
  /** Which memory, from 0. */
  readonly memory: number;
  readonly offset: number;
  readonly access: Access;
}

export function encodeAdopted(mappings: readonly AdoptedMapping[], into: Uint8Array): void {
  const view = viewOf(into);
  mappings.forEach(({ iova, size, memory, offset, access }, i) => {
    const row = { address: iova, size: BigInt(size), offset: BigInt(offset), access, memory };
    AdoptedRow.encode(view, i * AdoptedRow.structSize, row);
  });
}

/**
 * @param table the file's bytes
 * @param sizes of the memories, in bytes
 * @throws VfioError EINVAL for rows that are not all there, not made of whole pages, or do not lie
 *   in their memory
 */
export function decodeAdopted(table: Uint8Array, count: number, sizes: readonly number[]): AdoptedMapping[] {
  if (count > MAPPINGS_MAX || count * AdoptedRow.structSize > table.length) {
    throw new VfioError('EINVAL', `${count} adopted mappings in a table of ${table.length} bytes`);
  }
  const view = viewOf(table);
  return Array.from({ length: count }, (_, i) => {
    const { address, size, offset, access, memory } = AdoptedRow.decode(view, i * AdoptedRow.structSize);
    const within = sizes[memory];
    const whole = ((address | size | offset) & 4095n) === 0n && size > 0n && address + size - 1n <= U64_MAX;
    if (within === undefined || !whole || offset + size > BigInt(within) || access < Access.READ || access > Access.READ_WRITE) {
      throw new VfioError('EINVAL', `adopted mapping ${hex(address)}+${hex(size)} is no part of memory ${memory}`);
    }
    return { iova: address, size: Number(size), memory, offset: Number(offset), access: access as Access };
  });
}
