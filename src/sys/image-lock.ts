/**
 * Who may use a disk image beside us: one writer, or any number of readers. The locks are those of QEMU (block/file-posix.c), so that QEMU and this
 * package keep each other out: what a program does with an image is a lock on a byte from 100 on, what it suffers no other to do one on a byte
 * from 200 on, one byte for each permission. All are shared locks; the other's are found by asking whether an exclusive one could be had.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { Errno, VfioError } from '../base/errno.ts';
import { addon, Sys, sysError } from './addon.ts';
import type { OwnedFd } from './owned-fd.ts';

const DOES = 100;
const SUFFERS_NOT = 200;
/** BLK_PERM_* of QEMU's include/block/block-common.h, as bit numbers. */
const Permission = { CONSISTENT_READ: 0, WRITE: 1, RESIZE: 3 } as const;
const readers = { does: [Permission.CONSISTENT_READ], suffersNot: [Permission.WRITE, Permission.RESIZE] };
const writers = { does: [Permission.CONSISTENT_READ, Permission.WRITE], suffersNot: [Permission.WRITE, Permission.RESIZE] };

/** What an image is opened for. */
export type ImageUse = 'read' | 'write';

/**
 * Lock the image for as long as the open file lives: the locks belong to it, not to the process (F_OFD_SETLK), and go when its last descriptor does.
 *
 * @throws VfioError EBUSY when somebody else uses it in a way that does not go with this; ENOLCK where the filesystem has no locks
 */
export function lockImage(fd: OwnedFd, path: string, use: ImageUse): void {
  const { does, suffersNot } = use === 'write' ? writers : readers;
  // First ours, then a look at the others': of two that come at once neither gets it, rather than both.
  for (const permission of does) hold(fd, path, use, DOES + permission);
  for (const permission of suffersNot) hold(fd, path, use, SUFFERS_NOT + permission);
  for (const permission of suffersNot) if (isHeld(fd, path, DOES + permission)) throw busy(fd, path, use);
  for (const permission of does) if (isHeld(fd, path, SUFFERS_NOT + permission)) throw busy(fd, path, use);
}

const answer = new Int32Array(2);

function hold(fd: OwnedFd, path: string, use: ImageUse, byte: number): void {
  const result = addon().fcntlLock(fd.number, Sys.F_OFD_SETLK, Sys.F_RDLCK, byte, 1, answer);
  if (result === 0) return;
  // Somebody who is no QEMU locks the whole file.
  if (result === -Errno.EAGAIN || result === -Errno.EACCES) throw busy(fd, path, use);
  throw noLocks(result, path);
}

function isHeld(fd: OwnedFd, path: string, byte: number): boolean {
  const result = addon().fcntlLock(fd.number, Sys.F_OFD_GETLK, Sys.F_WRLCK, byte, 1, answer);
  if (result < 0) throw noLocks(result, path);
  return answer[0] !== Sys.F_UNLCK;
}

function noLocks(result: number, path: string): VfioError {
  return new VfioError('ENOLCK', `${path} cannot be locked: ${sysError(result, 'its filesystem').message}`, {
    fix: 'Keep the image on a filesystem with locks: without one, two servers could write to it at once.',
  });
}

function busy(fd: OwnedFd, path: string, use: ImageUse): VfioError {
  const holder = findHolder(fd);
  const who = holder === null ? 'somebody else' : `${holder.name} (pid ${holder.pid})`;
  return use === 'write'
    ? new VfioError('EBUSY', `${path} is in use by ${who}`, {
        fix: `${holder === null ? 'End whoever uses it' : `End pid ${holder.pid}`}, or give another image; an image that nobody writes to can be shared with --readonly or --overlay.`,
      })
    : new VfioError('EBUSY', `${path} is being written to by ${who}`, {
        fix: `${holder === null ? 'End whoever writes to it' : `End pid ${holder.pid}`}, or have it open the image read-only too.`,
      });
}

/**
 * The kernel does not say whose an open file's lock is (its pid is -1, in /proc/locks too), but each process's descriptors tell their locks. Only
 * processes that we may look at are found. @see linux/fs/locks.c, show_fd_locks()
 */
function findHolder(fd: OwnedFd): { readonly pid: number; readonly name: string } | null {
  try {
    const image = statSync(`/proc/self/fd/${fd.number}`, { bigint: true });
    const ours = `${process.pid}/fd/${fd.number}`;
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      for (const number of openFilesOf(pid)) {
        if (`${pid}/fd/${number}` === ours) continue;
        if (isSameAndLocked(`/proc/${pid}`, number, image))
          return { pid: Number(pid), name: readFileSync(`/proc/${pid}/comm`, 'utf8').trim() };
      }
    }
  } catch {
    // Without /proc, or a process that ended while we looked: then nobody is named.
  }
  return null;
}

function openFilesOf(pid: string): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`);
  } catch {
    return [];
  }
}

function isSameAndLocked(process: string, number: string, image: { readonly dev: bigint; readonly ino: bigint }): boolean {
  try {
    // Cheap first: sockets and pipes are no images, and need not be asked.
    if (!readlinkSync(`${process}/fd/${number}`).startsWith('/')) return false;
    const { dev, ino } = statSync(`${process}/fd/${number}`, { bigint: true });
    return dev === image.dev && ino === image.ino && /^lock:/m.test(readFileSync(`${process}/fdinfo/${number}`, 'utf8'));
  } catch {
    return false;
  }
}
