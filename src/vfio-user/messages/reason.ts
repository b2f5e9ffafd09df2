/**
 * The reason of a refusal: behind the header of an error, for a client that says that it reads
 * reasons (VERSION, `vfio_ts_reasons`).
 */
import type { VfioError } from '../../base/errno.ts';

export interface Reason {
  readonly message: string;
  readonly fix: string | undefined;
}

/** Characters of either sentence; longer ones are cut. */
const MAX_CHARS = 500;
const MAX_BYTES = 8192;

/** JSON, UTF-8: `{"message":"…","fix":"…"}`. */
export function encodeReason({ message, fix }: VfioError): Uint8Array {
  return new TextEncoder().encode(JSON.stringify({ message: message.slice(0, MAX_CHARS), fix: fix?.slice(0, MAX_CHARS) }));
}

/** @returns null where there is none, or it cannot be read: then the errno stands for itself */
export function decodeReason(payload: Uint8Array): Reason | null {
  if (payload.length === 0 || payload.length > MAX_BYTES) return null;
  try {
    const { message, fix } = (JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload)) ?? {}) as Partial<Reason>;
    if (typeof message !== 'string' || message === '') return null;
    return { message: message.slice(0, MAX_CHARS), fix: typeof fix === 'string' ? fix.slice(0, MAX_CHARS) : undefined };
  } catch {
    return null;
  }
}
