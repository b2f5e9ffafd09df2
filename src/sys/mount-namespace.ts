/** The processes of a program that has a mount namespace of its own. */
import { readdirSync, readlinkSync } from 'node:fs';
import { addon } from './addon.ts';
import { OwnedFd } from './owned-fd.ts';

const SIGKILL = 9;

/** The mount namespace of a process; null when it is gone. */
export function mountNamespace(pid: number | 'self'): string | null {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`);
  } catch {
    return null;
  }
}

/**
 * Kill all processes of a mount namespace that is not this process's, whatever their parent is.
 * A process that is started meanwhile may stay.
 */
export function killNamespace(namespace: string): void {
  if (namespace === mountNamespace('self')) return;
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || mountNamespace(pid) !== namespace) continue;
    const pidfd = addon().pidfdOpen(pid);
    if (pidfd < 0) continue;
    using owned = OwnedFd.own(pidfd, `process ${pid}`);
    // The number may be another process's by now.
    if (mountNamespace(pid) === namespace) addon().pidfdSignal(owned.number, SIGKILL);
  }
}
