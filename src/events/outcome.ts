/** Events of requests that may be refused: one event each, with the errno of the refusal. */
import type { EventDetails, EventKind } from '../abi/event.ts';
import { VfioError } from '../base/errno.ts';
import type { EventSource } from './source.ts';

/** Kinds of requests. */
type RequestKind = {
  [K in EventKind]: EventDetails<K> extends { readonly errno?: string; readonly reason?: string } ? K : never;
}[EventKind];

/** The fields by which an event says that its request was refused. */
export function refusalOf(error: unknown): { readonly errno: string; readonly reason: string } {
  if (error instanceof VfioError) return { errno: error.code, reason: error.message };
  // A bug, which goes on to the caller.
  return { errno: 'EIO', reason: 'an error of the program' };
}

/**
 * Carry out a request, and emit it with its outcome. Events that come from the request stand
 * before it.
 *
 * @returns what `act` returns
 * @throws what `act` throws
 */
export function emitted<K extends RequestKind, T>(events: EventSource, kind: K, details: EventDetails<K>, act: () => T): T {
  let done: T;
  try {
    done = act();
  } catch (error) {
    events.emit(kind, { ...details, ...refusalOf(error) });
    throw error;
  }
  events.emit(kind, details);
  return done;
}
