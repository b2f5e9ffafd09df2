/** Answers of the kernel whose size the kernel alone knows, and which may grow meanwhile. */
import { VfioError } from '../base/errno.ts';

/** A kernel that wants more room is not believed: bytes. */
const MAX_BYTES = 1 << 20;
/** Requests until the answer has to fit. */
const ROUNDS = 8;

/**
 * Ask again with more room, until the answer fits.
 *
 * @param what the request, for the error
 * @param room elements that the first request has room for
 * @param unit bytes of an element. Default: 1
 * @param ask makes the request, and gives the room that the whole answer takes
 * @returns the room of the last request, whose answer fits
 * @throws VfioError EPROTO for an answer that is too large, or grows without end
 */
export function growingAnswer(
  what: string,
  { room, unit = 1 }: { readonly room: number; readonly unit?: number },
  ask: (room: number) => number,
): number {
  let has = room;
  for (let round = 0; round < ROUNDS; round++) {
    const needed = ask(has);
    if (needed <= has) return has;
    if (needed * unit > MAX_BYTES)
      throw new VfioError('EPROTO', `${what}: the kernel's answer takes ${needed * unit} bytes, which is too much`);
    has = needed;
  }
  throw new VfioError('EPROTO', `${what}: the kernel's answer grows without end`);
}
