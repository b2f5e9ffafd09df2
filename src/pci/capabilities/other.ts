/** A capability that has no file of its own, from its bytes. */
import { checkIndex } from '../../base/check.ts';
import type { Capability } from '../declaration.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';

/**
 * Any other capability: `bytes` from the third byte on (the header comes from the chain). Read-only
 * unless masks are given.
 */
export function otherCapability(
  id: number,
  name: string,
  bytes: Uint8Array,
  options: { writable?: Uint8Array; writeOneClears?: Uint8Array } & Placed = {},
): Capability {
  return new CapabilityBuilder(2 + bytes.length)
    .body(2, bytes, options.writable, options.writeOneClears)
    .build({ id: checkIndex(id, 0xff, 'capability id'), name }, options);
}

/**
 * Any other extended capability: `bytes` from the fifth byte on. Read-only unless masks are given.
 */
export function otherExtendedCapability(
  id: number,
  name: string,
  bytes: Uint8Array,
  options: { version?: number; writable?: Uint8Array; writeOneClears?: Uint8Array } & Placed = {},
): Capability {
  return new CapabilityBuilder(4 + bytes.length)
    .body(4, bytes, options.writable, options.writeOneClears)
    .build({ id: checkIndex(id, 0xffff, 'extended capability id'), extended: true, name }, options);
}
