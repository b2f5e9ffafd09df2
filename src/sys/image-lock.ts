/**
 * Which processes may use a disk image at one time: one writer, or any number of readers. The locks
 * are those of QEMU (block/file-posix.c), so QEMU and this package keep each other out. A process
 * locks one byte from 100 on for each permission that it uses, and one byte from 200 on for each
 * permission that others must not use. All locks are shared; asking whether an exclusive lock is
 * free finds those of others.
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

/** Why an image is opened. */
export type ImageUse = 'read' | 'write';

/**
 * Lock the image for as long as the open file lives. The locks belong to the open file, not to the
 * process (F_OFD_SETLK), and end with its last descriptor.
 *
 * @throws VfioError EBUSY when another process uses it in a conflicting way; ENOLCK where the
 *   filesystem has no locks
 */
export function lockImage(fd: OwnedFd, path: string, use: ImageUse): void {
  const { does, suffersNot } = use === 'write' ? writers : readers;
  // Lock first, then look for other locks: of two processes at one time neither gets the image,
  // rather than both.
  for (const permission of does) hold(fd, path, use, DOES + permission);
  for (const permission of suffersNot) hold(fd, path, use, SUFFERS_NOT + permission);
  for (const permission of suffersNot) if (isHeld(fd, path, DOES + permission)) throw busy(fd, path, use);
  for (const permission of does) if (isHeld(fd, path, SUFFERS_NOT + permission)) throw busy(fd, path, use);
}

const answer = new Int32Array(2);

function hold(fd: OwnedFd, path: string, use: ImageUse, byte: number): void {
  const result = addon().fcntlLock(fd.number, Sys.F_OFD_SETLK, Sys.F_RDLCK, byte, 1, answer);
  if (result === 0) return;
  // A program other than QEMU locks the whole file.
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
  const who = holder === null ? 'another process' : `${holder.name} (pid ${holder.pid})`;
  return use === 'write'
    ? new VfioError('EBUSY', `${path} is in use by ${who}`, {
        fix: `${holder === null ? 'End the process that uses it' : `End pid ${holder.pid}`}, or give another image; an image without a writer can be shared with --readonly or --overlay.`,
      })
    : new VfioError('EBUSY', `${path} is being written to by ${who}`, {
        fix: `${holder === null ? 'End the process that writes to it' : `End pid ${holder.pid}`}, or have it open the image read-only too.`,
      });
}

/**
 * The kernel does not report the owner of an open file's lock (its pid is -1, in /proc/locks too),
 * but each process's fdinfo lists its locks. Only processes that this user may inspect are found.
 *
 * @see linux/fs/locks.c, show_fd_locks()
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
    // No /proc, or the process has just ended: the error names no holder.
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
    // The cheap test first: sockets and pipes are no images.
    if (!readlinkSync(`${process}/fd/${number}`).startsWith('/')) return false;
    const { dev, ino } = statSync(`${process}/fd/${number}`, { bigint: true });
    return dev === image.dev && ino === image.ino && /^lock:/m.test(readFileSync(`${process}/fdinfo/${number}`, 'utf8'));
  } catch {
    return false;
  }
}
