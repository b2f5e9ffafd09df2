/** The cases of the 82576 driver, on any two cards that are plugged into one wire. */
import { describe } from 'vitest';
import { filterCases } from './filters.ts';
import { frameCases } from './frames.ts';
import { lifeCases } from './life.ts';
import { offloadCases } from './offloads.ts';
import { startCases } from './start.ts';
import type { OpenNet } from './subject.ts';
import { virtualCases } from './virtual.ts';

export function netConformance(name: string, open: OpenNet): void {
  describe(name, () => {
    startCases(open);
    frameCases(open);
    offloadCases(open);
    filterCases(open);
    lifeCases(open);
    virtualCases(open);
  });
}
