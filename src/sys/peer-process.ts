/**
 * The process at the other end of a socket, distinct from every other process that has had, or will
 * have, its number.
 */
import { fstatSync, readFileSync, statfsSync } from 'node:fs';
import { VfioError } from '../base/errno.ts';
import { addon, Sys } from './addon.ts';
import { OwnedFd } from './owned-fd.ts';
import { type ProcessIdentity, readProcess, startTime } from './process-identity.ts';

export interface PeerProcess {
  /** The same for all connections of one process, and for no other's, ever. */
  readonly key: string;
  /**
   * Null where /proc does not show the process: it is in another pid namespace, hidden, or gone.
   */
  readonly found: ProcessIdentity | null;
}

/**
 * statfs(2) of a pidfd that has an inode of its own, which no other process gets: Linux 6.9,
 * linux/magic.h
 */
const PID_FS_MAGIC = 0x50494446;

/**
 * @param socket connected
 * @param pid as SO_PEERCRED has it
 * @returns null for a process that cannot be distinguished from others
 */
export function peerProcess(socket: OwnedFd, pid: number): PeerProcess | null {
  const number = addon().getsockopt(socket.number, Sys.SO_PEERPIDFD);
  // Linux before 6.5 has no such option, and none gives a pidfd of a process that has been reaped.
  if (number < 0) return processOf(pid);
  using pidfd = OwnedFd.own(number, 'asking which process the peer is');
  const named = processOf(pid);
  // A number that the kernel assigns anew names another process. The data of /proc is the peer's if
  // the peer was there after the read.
  const found = named !== null && isAlive(pidfd) ? named : null;
  if (!hasOwnInode(pidfd)) return found;
  return { key: `pidfd ${fstatSync(pidfd.number, { bigint: true }).ino}`, found: found?.found ?? null };
}

/** By its number and start time. @returns null for a process that is not visible here */
export function processOf(pid: number): PeerProcess | null {
  try {
    const before = startTime(pid);
    const found = readProcess(pid);
    return before === startTime(pid) ? { key: `pid ${pid} of ${before}`, found } : null;
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    return null;
  }
}

/**
 * The kernel shows -1 in place of the number once the process has ended
 * (Documentation/filesystems/proc.rst, 3.8).
 */
function isAlive(pidfd: OwnedFd): boolean {
  try {
    return /^Pid:\t[1-9]/m.test(readFileSync(`/proc/self/fdinfo/${pidfd.number}`, 'latin1'));
  } catch {
    return false;
  }
}

function hasOwnInode(pidfd: OwnedFd): boolean {
  try {
    return statfsSync(`/proc/self/fd/${pidfd.number}`).type === PID_FS_MAGIC;
  } catch {
    // No /proc here.
    return false;
  }
}
