/** A process that is traced because it has mapped registers. */
import type { TraceCalls } from '../../sys/trace.ts';
import { DeviceMemory, type MappedFiles } from './device-memory.ts';

export class TracedProcess {
  readonly pid: number;
  readonly memory: DeviceMemory;
  /** Its threads are detached at their next stop. */
  leaving = false;

  constructor(pid: number, files: MappedFiles, sys: TraceCalls) {
    this.pid = pid;
    this.memory = new DeviceMemory(pid, files, sys);
  }
}
