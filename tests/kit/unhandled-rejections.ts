/** Rejections that nothing in the test handles: in a process without a listener each would be its end. */
import { afterEach, beforeEach } from 'vitest';

/** Those of the test that runs: call it once, at the top of a file of tests. */
export function unhandledRejections(): readonly unknown[] {
  const seen: unknown[] = [];
  const note = (error: unknown) => void seen.push(error);
  beforeEach(() => {
    seen.length = 0;
    process.on('unhandledRejection', note);
  });
  afterEach(() => void process.off('unhandledRejection', note));
  return seen;
}
