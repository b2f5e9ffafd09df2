/** Nodes of /dev: whose they are, and which processes have them open. */
import { accessSync, chownSync, constants, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { VfioError } from '../base/errno.ts';
import { fromNode } from './system-error.ts';
import { commandOf } from './task-status.ts';

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
 * Give a file to a user.
 *
 * @param user a name of /etc/passwd, or a number
 * @throws VfioError ENOENT for a user who does not exist; EPERM unless this user is root
 */
export function giveFile(path: string, user: string): void {
  const uid = /^\d+$/.test(user) ? Number(user) : uidOf(user);
  if (uid === null) throw new VfioError('ENOENT', `there is no user ${user} in /etc/passwd`);
  try {
    chownSync(path, uid, statSync(path).gid);
  } catch (cause) {
    throw fromNode(cause, `giving ${path} to user ${user}`);
  }
}

function uidOf(user: string): number | null {
  const line = readFileSync('/etc/passwd', 'latin1')
    .split('\n')
    .find((each) => each.startsWith(`${user}:`));
  return line === undefined ? null : Number(line.split(':')[2]);
}
