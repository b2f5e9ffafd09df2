/**
 * The events of accesses that the function's registers do not answer: VFIO refuses them, drops them
 * or answers them itself, or they reach plain memory. The function's host emits all others.
 *
 * Called only while there is a reader.
 */
import type { Width } from '../../abi/device-host.ts';
import type { AccessEvent, EventDetails } from '../../abi/event.ts';
import { registerOf } from '../../base/register-bytes.ts';
import { store } from '../../device/register-value.ts';
import { type EventSource, refusalOf } from '../../events/source.ts';

/** An access, as its user makes it. */
export interface SeenAccess {
  readonly write: boolean;
  readonly region: number;
  readonly offset: number;
  readonly size: number;
  /** The bytes that were read or written; null: none. */
  readonly bytes: Uint8Array | null;
}

/**
 * A load (`value` null) or store of a mapping, as the region has it.
 *
 * @param start  of the mapping in the region   @param offset  in the mapping
 */
export function mappedAccess(
  region: number,
  start: number,
  offset: number,
  size: Width | 8,
  value: number | null,
  read: number | null,
): SeenAccess {
  const moved = value ?? read;
  const bytes = moved === null || size === 8 ? null : new Uint8Array(size);
  if (bytes !== null) store(bytes, 0, size as Width, moved!);
  return { write: value !== null, region, offset: start + offset, size, bytes };
}

/**
 * The fields of an access that VFIO decides about, and no memory.
 *
 * @param rule absent where the device decides
 */
export function accessDetails(
  { write, region, offset, size, bytes }: SeenAccess,
  verdict: AccessEvent['verdict'],
  rule?: string,
): EventDetails<'access'> {
  const value = bytes === null ? undefined : registerOf(bytes);
  return {
    op: write ? 'write' : 'read',
    region,
    offset,
    size,
    ...(value === undefined ? {} : { value }),
    verdict,
    ...(rule === undefined ? {} : { rule }),
  };
}

/** An access of plain memory: one event, whatever its size. Its bytes are data. */
export function seeMemory(events: EventSource, { write, region, offset, size, bytes }: SeenAccess): void {
  const value = bytes === null ? undefined : registerOf(bytes);
  if (value === undefined) {
    const data = events.data && bytes !== null ? { data: bytes } : {};
    events.emit('access', { op: write ? 'write' : 'read', region, offset, size, verdict: 'device', ...data });
    return;
  }
  const [low, high] = typeof value === 'number' ? [value, 0] : [Number(value & 0xffff_ffffn), Number(value >> 32n)];
  const seq = events.access(write, region, offset, size, low, high, true);
  if (!write) events.read(seq, low, high);
}

/**
 * An access that failed.
 *
 * @param name of the region, which its messages begin with
 */
export function seeRefused(events: EventSource, access: SeenAccess, name: string, error: unknown): void {
  const { errno, reason } = refusalOf(error);
  const rule = reason.startsWith(`${name}: `) ? reason.slice(name.length + 2) : reason;
  events.emit('access', { ...accessDetails(access, 'refused', rule), errno });
}
