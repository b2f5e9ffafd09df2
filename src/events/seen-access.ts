/** An access to a region as an event, for clients: the side that asks, and does not know why. */
import type { EventDetails } from '../abi/event.ts';
import { registerOf } from '../base/register-bytes.ts';
import { type EventSource, refusalOf } from './source.ts';

export type SeenAccess = Pick<EventDetails<'access'>, 'op' | 'region' | 'offset' | 'size'>;

/** Errors that have an event. */
const refused = new WeakSet<object>();

/**
 * Make an access, which is the cause of all events meanwhile. Call it only while there is a reader.
 *
 * @param memory whether the bytes are those of plain memory, whose values are data
 * @param act gives the bytes that were moved, or the name of the errno
 */
export function seeAccess(events: EventSource, access: SeenAccess, memory: boolean, act: () => Uint8Array | string): void {
  const seq = events.begin('access');
  try {
    const moved = events.during(seq, act);
    if (typeof moved === 'string') events.end(seq, 'access', { ...access, verdict: 'refused', errno: moved });
    else events.end(seq, 'access', { ...access, verdict: 'device', ...movedBytes(events, memory, moved) });
  } catch (error) {
    refused.add(error as object);
    events.end(seq, 'access', { ...access, verdict: 'refused', ...ruleOf(error) });
    throw error;
  }
}

/**
 * An access that this side refuses, and that no other side sees. An error that has an event gets no
 * second one.
 */
export function seeRefusedAccess(events: EventSource, access: SeenAccess, error: unknown): void {
  if (refused.has(error as object)) return;
  const offset = Number.isSafeInteger(access.offset) ? access.offset : 0;
  events.emit('access', { ...access, offset, verdict: 'refused', ...ruleOf(error) });
}

/** The value of a register. Longer accesses, and those of memory, have data. */
function movedBytes(events: EventSource, memory: boolean, bytes: Uint8Array): Pick<EventDetails<'access'>, 'value' | 'data'> {
  const value = memory ? undefined : registerOf(bytes);
  if (value !== undefined) return { value };
  return events.data ? { data: bytes } : {};
}

/** An error as the fields of the access that it refuses. */
function ruleOf(error: unknown): { readonly errno: string; readonly rule: string } {
  const { errno, reason } = refusalOf(error);
  return { errno, rule: reason };
}
