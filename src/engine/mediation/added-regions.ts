/**
 * Regions that a mediator adds to a device (S0-05): each is a region of hooks over its memory, or
 * over nothing.
 */
import type { RegionInfo } from '../../abi/device.ts';
import { type AddedRegion, PASS_THROUGH, type RegionHooks } from '../../abi/mediator.ts';
import type { DirectMemory } from '../../abi/memory.ts';
import { checkRegions } from '../../pci/check-regions.ts';
import type { RegionDeclaration } from '../../pci/declaration.ts';
import { deviceRegionInfo } from '../device/region-info.ts';

export interface MediatorRegion {
  readonly info: RegionInfo;
  /** Null: the region is plain memory. */
  readonly hooks: RegionHooks<unknown> | null;
  readonly memory: DirectMemory | null;
}

/**
 * @throws TypeError, VfioError EINVAL for a value that is no region: the mediator has then not
 * accepted
 */
export function addedRegions(
  mediator: string,
  added: readonly AddedRegion<unknown>[] | undefined,
  first: number,
): readonly MediatorRegion[] {
  if (added === undefined) return [];
  if (!Array.isArray(added)) throw new TypeError('its added regions are no list');
  const declared = added.map(declare);
  checkRegions(`mediator '${mediator}'`, declared);
  return added.map((region, i) => ({
    info: deviceRegionInfo(first + i, declared[i]!),
    hooks: hooksOf(region),
    memory: region.memory ?? null,
  }));
}

function declare({ type, subtype, size, read, write, memory }: AddedRegion<unknown>): RegionDeclaration {
  for (const hook of [read, write])
    if (hook !== undefined && typeof hook !== 'function') throw new TypeError('a hook of an added region is no function');
  if (memory !== undefined && !(memory.kind === 'direct' && memory.size >= size)) {
    throw new TypeError(`an added region of ${size} bytes has not so much memory`);
  }
  if (memory === undefined && read === undefined && write === undefined)
    throw new TypeError('an added region has neither hooks nor memory');
  const readable = read !== undefined || memory !== undefined;
  const writable = write !== undefined || memory !== undefined;
  const plain = memory !== undefined && read === undefined && write === undefined;
  return {
    type,
    subtype,
    size,
    backing: plain ? 'memory' : 'registers',
    access: readable && writable ? 'read-write' : readable ? 'read-only' : 'write-only',
  };
}

/** An access past the end goes on to the region itself, which refuses it. */
function hooksOf({ size, read, write }: AddedRegion<unknown>): RegionHooks<unknown> | null {
  if (read === undefined && write === undefined) return null;
  return {
    ...(read === undefined
      ? {}
      : { read: (handle, offset, into) => (offset >= size ? PASS_THROUGH : read(handle, offset, into.subarray(0, size - offset))) }),
    ...(write === undefined
      ? {}
      : { write: (handle, offset, from) => (offset >= size ? PASS_THROUGH : write(handle, offset, from.subarray(0, size - offset))) }),
  };
}
