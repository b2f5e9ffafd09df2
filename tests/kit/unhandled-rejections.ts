/** Rejections that nothing in the test handles: each would end a process without a listener. */
import { afterEach, beforeEach } from 'vitest';

/** The rejections of the current test: call it once, at the top of a test file. */
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
