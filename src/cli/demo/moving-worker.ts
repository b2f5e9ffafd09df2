/**
 * The user of the disk that the demo moves: a process of its own, without privileges, that never
 * stops reading and writing.
 */
import { setImmediate as turnOver } from 'node:timers/promises';
import { open } from '../../api/open.ts';
import type { DriverContext } from '../../api/run-driver.ts';
import { VfioError } from '../../base/errno.ts';
import type { DriverDevice } from '../../drivers/kit/driver-device.ts';
import { RingLoad } from './ring-load.ts';
import { doTasks } from './worker-process.ts';

/** Requests that the worker takes. */
export interface MovingTasks {
  /** Begin, and answer when the load is at work. */
  begin(): Promise<{ completed: number }>;
  /** After the move: what became of it. */
  report(): Promise<{ before: number; after: number; wrong: number; gapMs: number }>;
}

/** Completions that show that it is at work. */
const WARM = 2000;

/** The one argument: where the device will be. */
export async function main(address: string, { args: [destination] }: DriverContext): Promise<void> {
  const load = new RingLoad();
  let before = -1;
  let gapMs = 0;
  let failed: unknown = null;
  let ended = false;
  const at = async (completed: () => number) => {
    while (load.completed < completed() && failed === null) await new Promise((resolve) => setTimeout(resolve, 5));
    if (failed !== null) throw failed;
  };

  async function work(first: DriverDevice): Promise<void> {
    let dev = first;
    let last = performance.now();
    let seen = 0;
    try {
      while (!ended) {
        try {
          load.turn();
        } catch (error) {
          if (!(error instanceof VfioError) || before >= 0 || destination === undefined) throw error;
          before = load.completed;
          const there = await open(destination, { adopt: true });
          load.follow(there);
          dev[Symbol.dispose]();
          dev = there;
        }
        const now = performance.now();
        if (load.completed > seen) {
          if (seen >= WARM) gapMs = Math.max(gapMs, now - last);
          seen = load.completed;
          last = now;
        }
        await turnOver();
      }
    } catch (error) {
      failed = error;
    } finally {
      dev[Symbol.dispose]();
    }
  }

  let working: Promise<void> | null = null;
  await doTasks<MovingTasks>({
    async begin() {
      const dev = await open(address);
      await load.start(dev);
      working = work(dev);
      await at(() => WARM);
      return { completed: load.completed };
    },
    async report() {
      await at(() => (before < 0 ? Number.POSITIVE_INFINITY : before + WARM));
      return { before, after: load.completed - before, wrong: load.wrong, gapMs };
    },
  });
  ended = true;
  await working;
}
