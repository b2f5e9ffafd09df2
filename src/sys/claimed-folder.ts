/**
 * A folder that exists for as long as its process: the next process with a folder of the same kind
 * removes those of processes that were killed. The owner holds a lock of a file in it (flock(2)).
 */
import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Cleanup } from '../base/cleanup.ts';
import { Errno } from '../base/errno.ts';
import { addon, checked, Sys } from './addon.ts';
import { OwnedFd } from './owned-fd.ts';
import { fromNode } from './system-error.ts';

const LOCK = '.owner';
const OWNER_WRITES = 0o200;
/** A folder without a lock is older than this, or its owner is about to lock it: milliseconds. */
const MAKING_MS = 60_000;

export class ClaimedFolder implements Disposable {
  readonly path: string;
  readonly #owns: Cleanup;

  private constructor(path: string, owns: Cleanup) {
    this.path = path;
    this.#owns = owns;
  }

  /**
   * A new folder of mode 0700 in the user's run-time directory, else in shared memory or in the
   * temporary directory.
   *
   * @param kind begins its name
   * @throws VfioError EACCES, ENOSPC, EROFS
   */
  static make(kind: string, above = placeOfFolders()): ClaimedFolder {
    sweep(kind, above);
    using undo = new Cleanup();
    let path: string;
    try {
      path = mkdtempSync(join(above, `${kind}-`));
      undo.defer(() => rmSync(path, { recursive: true, force: true }));
      chmodSync(path, 0o700);
      const fresh = join(path, `${LOCK}.new`);
      const lock = undo.use(openOwned(fresh, 'w'));
      checked(addon().flock(lock.number, Sys.LOCK_EX | Sys.LOCK_NB), `locking ${fresh}`);
      // A lock file under its own name is locked while its owner lives.
      renameSync(fresh, join(path, LOCK));
    } catch (cause) {
      throw fromNode(cause, `a folder cannot be made in ${above}`, { fix: 'Set XDG_RUNTIME_DIR or TMPDIR to a directory of yours.' });
    }
    return new ClaimedFolder(path, undo.move());
  }

  /** The path of `inside`, which is a path from the folder on: `/sys/class`. */
  place(inside: string): string {
    return join(this.path, inside);
  }

  /** With the directories above it; one that is there stays. */
  makeFolder(inside: string): void {
    this.#attempt(() => {
      const first = mkdirSync(this.place(inside), { recursive: true });
      // The umask has cut the mode.
      for (let at = this.place(inside); first !== undefined && at.length >= first.length; at = dirname(at)) chmodSync(at, 0o755);
    });
  }

  makeLink(inside: string, to: string): void {
    this.#attempt(() => symlinkSync(to, this.place(inside)));
  }

  /** A file of these bytes, one for each character; or of as many zeroes. */
  makeFile(inside: string, mode: number, content: string | number): void {
    this.#attempt(() => {
      const place = this.place(inside);
      writeFileSync(place, typeof content === 'string' ? content : '', { encoding: 'latin1', flag: 'wx' });
      if (typeof content === 'number') truncateSync(place, content);
      chmodSync(place, mode);
    });
  }

  /** Its mode stays, also one that lets no user write it. */
  rewriteFile(inside: string, content: string): void {
    this.#attempt(() => {
      const place = this.place(inside);
      const { mode } = statSync(place);
      const isClosed = (mode & OWNER_WRITES) === 0;
      if (isClosed) chmodSync(place, mode | OWNER_WRITES);
      writeFileSync(place, content, 'latin1');
      if (isClosed) chmodSync(place, mode);
    });
  }

  /**
   * A character device node with number 0:0, which looks like a device and is none. Every user may
   * make such nodes, and an open of one fails with ENXIO. Before Linux 5.8 it is an empty file.
   *
   * @see linux/fs/namei.c, vfs_mknod(), WHITEOUT_DEV
   */
  makeNode(inside: string, mode: number): void {
    this.#attempt(() => {
      const place = this.place(inside);
      if (addon().mknod(place, Sys.S_IFCHR | mode, 0) < 0) closeSync(openSync(place, 'wx', mode));
      chmodSync(place, mode);
    });
  }

  /** With everything in it; nothing happens when it is not there. */
  remove(inside: string): void {
    this.#attempt(() => rmSync(this.place(inside), { recursive: true, force: true }));
  }

  /** @throws VfioError the errno of the file system, with the folder's name */
  #attempt(change: () => void): void {
    try {
      change();
    } catch (cause) {
      throw fromNode(cause, `the folder ${this.path} cannot be changed`);
    }
  }

  [Symbol.dispose](): void {
    this.#owns[Symbol.dispose]();
  }
}

const SHARED_MEMORY = '/dev/shm';

/**
 * In memory where that is possible: a folder of thousands of files takes seconds on some disks. A
 * run-time directory that this user may not write is that of the user before su(1).
 */
function placeOfFolders(): string {
  for (const place of [process.env.XDG_RUNTIME_DIR, SHARED_MEMORY]) {
    if (place === undefined || place === '') continue;
    try {
      accessSync(place, constants.W_OK);
      return place;
    } catch {
      // The next one.
    }
  }
  return tmpdir();
}

function openOwned(path: string, flags: string): OwnedFd {
  const fd = openSync(path, flags, 0o600);
  const owned = OwnedFd.duplicate(fd);
  closeSync(fd);
  return owned;
}

/** Remove folders of this user whose owners are gone. A folder that cannot be removed stays. */
function sweep(kind: string, above: string): void {
  let names: readonly string[] = [];
  try {
    names = readdirSync(above).filter((name) => name.startsWith(`${kind}-`));
  } catch {
    // The error of making a folder names the reason.
  }
  for (const name of names) {
    const path = join(above, name);
    try {
      const { uid, mtimeMs } = lstatSync(path);
      if (uid === process.geteuid!() && !isClaimed(path, mtimeMs)) rmSync(path, { recursive: true, force: true });
    } catch {
      // Removed in the meantime, or a folder that another process changes.
    }
  }
}

function isClaimed(path: string, mtimeMs: number): boolean {
  let lock: OwnedFd;
  try {
    lock = openOwned(join(path, LOCK), 'r');
  } catch {
    return Date.now() - mtimeMs < MAKING_MS;
  }
  try {
    return addon().flock(lock.number, Sys.LOCK_EX | Sys.LOCK_NB) === -Errno.EAGAIN;
  } finally {
    lock[Symbol.dispose]();
  }
}
