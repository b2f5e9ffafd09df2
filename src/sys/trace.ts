/** The calls that trace threads of other processes and reach their memory, for the room `exec`. */
import { type Addon, addon } from './addon.ts';
import type { TraceCalls as OfThreads } from './trace-calls.ts';

export { checked } from './addon.ts';
export type TraceCalls = OfThreads & Pick<Addon, 'processRead' | 'processWrite'>;

/** @throws VfioError ENOSYS without the addon */
export function traceCalls(): TraceCalls {
  return addon();
}
