/** The properties of tests/properties, with longer sequences, until the time is up. */
import fc from 'fast-check';
import { lifecycle as property } from '../properties/lifecycle.ts';
import { sharing } from '../properties/sharing.ts';
import type { SoakOptions } from './run.ts';

const STEPS = 400;
const RUNS = 200;
const DEFAULT_MINUTES = 2;

export async function lifecycle({ minutes = DEFAULT_MINUTES, seed }: SoakOptions): Promise<string> {
  const end = performance.now() + minutes * 60_000;
  let runs = 0;
  for (let each = seed; performance.now() < end; each = (each + 1) & 0x7fff_ffff) {
    try {
      fc.assert(property(STEPS) as fc.IProperty<unknown>, { numRuns: RUNS, seed: each });
      await fc.assert(sharing(STEPS), { numRuns: RUNS, seed: each });
    } catch (cause) {
      throw new Error(`failed after ${runs} sequences, seed ${each}`, { cause });
    }
    runs += 2 * RUNS;
  }
  return `${runs} sequences of up to ${STEPS} steps in ${minutes} minutes, all rules held, nothing left over`;
}
