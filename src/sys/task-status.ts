/**
 * Threads as /proc has them: proc_pid_status(5). Those that are gone have no parents and no
 * threads.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';

function status(tid: number): string {
  try {
    return readFileSync(`/proc/${tid}/status`, 'latin1');
  } catch {
    return '';
  }
}

function field(text: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(text)?.[1] ?? 0);
}

/** The thread group and the parent's thread group of a thread; 0 for one that is gone. */
export function readTask(tid: number): { readonly group: number; readonly parent: number } {
  const text = status(tid);
  return { group: field(text, 'Tgid'), parent: field(text, 'PPid') };
}

/** The thread that traces `tid`; 0: none does. */
export function tracerOf(tid: number): number {
  return field(status(tid), 'TracerPid');
}

/** Whether thread `tid` is one of this process. */
export function isOwnThread(tid: number): boolean {
  return tid > 0 && existsSync(`/proc/self/task/${tid}`);
}

export function threadsOf(pid: number): readonly number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(Number);
  } catch {
    return [];
  }
}

/** The name of a process, for messages. */
export function commandOf(pid: number): string {
  return /^Name:\s*(.*)$/m.exec(status(pid))?.[1] ?? 'gone';
}
