/**
 * How each cost grows with the number of functions, devices, mappings and pages. The figure is the
 * cost of one unit of work at each size; a cost that grows as its work has a growth of 1. Costs
 * that every size pays once (a call, a process) make it smaller.
 */
import type { Report } from './report.ts';
import { devices } from './scale-devices.ts';
import { machines } from './scale-machines.ts';
import { dirtyPages, mappings } from './scale-memory.ts';

export async function scaleBench(report: Report): Promise<void> {
  await machines(report);
  mappings(report);
  dirtyPages(report);
  await devices(report);
}
