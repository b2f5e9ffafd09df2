/** The memory that this process has locked, and may lock. */
import { readFileSync } from 'node:fs';
import { addon, checked } from './addon.ts';

/** linux/capability.h: RLIMIT_MEMLOCK does not hold for a process that has it. */
const CAP_IPC_LOCK = 14;

export interface Memlock {
  /** RLIMIT_MEMLOCK in bytes; Infinity where it does not hold. */
  readonly limit: number;
  /** Bytes locked now, by mlock(2) and by pins of the kernel (VmLck of proc_pid_status(5)). */
  readonly locked: number;
}

export function memlock(): Memlock {
  const into = new Float64Array(4);
  checked(addon().processLimits(process.pid, into), 'the limits of this process');
  const free = (into[0]! & (1 << CAP_IPC_LOCK)) !== 0;
  return { limit: free || into[2]! < 0 ? Number.POSITIVE_INFINITY : into[2]!, locked: lockedBytes() };
}

function lockedBytes(): number {
  try {
    return 1024 * Number(/^VmLck:\s*(\d+) kB/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
