/** The cases of the NVMe driver, on any controller with the disk of `disk.ts`. */
import { describe } from 'vitest';
import { adminCases } from './admin.ts';
import { ioCases } from './io.ts';
import { lifeCases } from './life.ts';
import { queueCases } from './queues.ts';
import type { OpenNvme } from './subject.ts';

export function nvmeConformance(name: string, open: OpenNvme): void {
  describe(name, () => {
    adminCases(open);
    ioCases(open);
    queueCases(open);
    lifeCases(open);
  });
}
