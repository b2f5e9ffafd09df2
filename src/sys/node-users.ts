/** Nodes of /dev: whose they are, and which processes have them open. */
import {
  accessSync,
  chownSync,
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
} from 'node:fs';
import { VfioError } from '../base/errno.ts';
import { fromNode } from './system-error.ts';
import { commandOf } from './task-status.ts';

/** open(2): the file itself, of which nothing is read. Node has no name for it. */
const O_PATH = 0o10000000;

/** Whether there is a node at `path`, and this user may read and write it. */
export function nodeState(path: string): 'missing' | 'denied' | 'open' {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return 'open';
  } catch (error) {
    const { code } = error as { readonly code?: string };
    return code === 'EACCES' || code === 'EPERM' || code === 'EROFS' ? 'denied' : 'missing';
  }
}

/** `user root and group 0, with mode 600`; null when that is not known. */
export function ownerOfNode(path: string): string | null {
  try {
    const { uid, gid, mode } = statSync(path);
    return `user ${userName(uid)} and group ${gid}, with mode ${(mode & 0o777).toString(8).padStart(3, '0')}`;
  } catch {
    return null;
  }
}

/** The name of this user, or the number. */
export function thisUser(): string {
  return userName(process.geteuid?.() ?? 0);
}

function userName(uid: number): string {
  try {
    const lines = readFileSync('/etc/passwd', 'latin1').split('\n');
    return lines.find((line) => line.split(':')[2] === String(uid))?.split(':')[0] ?? String(uid);
  } catch {
    return String(uid);
  }
}

/**
 * The processes that have `path` open: `process 12 (qemu), this process`; empty when none is found.
 * Files of other users' processes are visible to root only.
 *
 * @param mine descriptors of this process that do not count. Default: 0.
 */
export function processesWith(path: string, mine = 0): string {
  const users: string[] = [];
  for (const pid of names('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const count = names(`/proc/${pid}/fd`).filter((fd) => target(pid, fd) === path).length;
    const own = Number(pid) === process.pid;
    if (count > (own ? mine : 0)) users.push(own ? 'this process' : `process ${pid} (${commandOf(Number(pid))})`);
  }
  return users.join(', ');
}

function names(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function target(pid: string, fd: string): string | null {
  try {
    return readlinkSync(`/proc/${pid}/fd/${fd}`);
  } catch {
    return null;
  }
}

/**
 * Give a socket to a user. A link, or another file that a user of the directory has put in the
 * socket's place meanwhile, is not given away.
 *
 * @throws VfioError EPERM unless this user is root; EINVAL for a file that is no socket
 */
export function giveSocket(path: string, uid: number): void {
  let fd: number | null = null;
  try {
    fd = openSync(path, O_PATH | constants.O_NOFOLLOW);
    const there = fstatSync(fd);
    if (!there.isSocket()) throw new VfioError('EINVAL', `${path} is no socket any more`, { fix: 'Use a directory of your own.' });
    chownSync(`/proc/self/fd/${fd}`, uid, there.gid);
  } catch (cause) {
    if (cause instanceof VfioError) throw cause;
    throw fromNode(cause, `giving ${path} to user ${uid}`);
  } finally {
    if (fd !== null) closeSync(fd);
  }
}
