/** The calls that trace threads of other processes, for the room `exec`. */
import { addon } from './addon.ts';
import type { TraceCalls } from './trace-calls.ts';

export type { TraceCalls } from './trace-calls.ts';

/** @throws VfioError ENOSYS without the addon */
export function traceCalls(): TraceCalls {
  return addon();
}
