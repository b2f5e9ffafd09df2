/**
 * Changes of this computer: attributes of sysfs, files of /etc and /run, owners of nodes, modules.
 * Each call is one change, and throws the errno that the system gives.
 */
import { spawnSync } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { VfioError } from '../base/errno.ts';
import { addon, Sys } from './addon.ts';
import { fromNode, systemError } from './system-error.ts';

/** Owner and permission bits of a file. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

/** A user of this computer. */
export interface UserEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** How a program that changes the computer ended. */
export interface ProgramResult {
  /** The exit status; null for one that could not be started. */
  readonly status: number | null;
  /** The text that it printed on standard output, and on standard error. */
  readonly printed: string;
  readonly said: string;
}

/** The changes that the administrator's commands make. */
export interface HostChanges {
  /**
   * Write `value` to an attribute of sysfs, in one call.
   *
   * @throws SystemError with the errno of the kernel's refusal
   */
  attribute(path: string, value: string): void;
  /** Put `text` in place of a file, so that a reader sees the old or the new text. */
  file(path: string, text: string, mode: number): void;
  /** Remove a file; nothing when it is not there. */
  remove(path: string): void;
  own(path: string, owner: Owner): void;
  ownerOf(path: string): Owner | null;
  /** Whether this process may read and write the file. */
  permits(path: string): boolean;
  /** Whether this user may write a file, which may be closed to readers. */
  permitsWrite(path: string): boolean;
  /** Run a program to its end. */
  run(program: string, words: readonly string[]): ProgramResult;
  /** The user of this name or number; null for none. */
  user(name: string): UserEntry | null;
  /**
   * A lock that one process has at a time; disposing releases it.
   *
   * @throws VfioError EBUSY while another process has it
   */
  lock(path: string): Disposable;
  /** The user that this process runs as. */
  readonly uid: number;
}

/** Folders with the programs of an administrator, whether or not PATH has them. */
const PROGRAM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

function attempt<T>(what: string, act: () => T): T {
  try {
    return act();
  } catch (cause) {
    throw fromNode(cause, what);
  }
}

function writeAttribute(path: string, value: string): void {
  attempt(`writing ${JSON.stringify(value)} to ${path}`, () => {
    // Without O_CREAT: no file of ours stands where the kernel has none.
    const fd = openSync(path, constants.O_WRONLY);
    try {
      writeSync(fd, `${value}\n`);
    } finally {
      closeSync(fd);
    }
  });
}

function replaceFile(path: string, text: string, mode: number): void {
  attempt(`writing ${path}`, () => {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    const next = `${path}.${process.pid}.new`;
    try {
      writeFileSync(next, text, { mode, flag: 'wx' });
      const fd = openSync(next, constants.O_RDONLY);
      try {
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(next, path);
    } catch (error) {
      rmSync(next, { force: true });
      throw error;
    }
  });
}

function lockFile(path: string): Disposable {
  const fd = attempt(`locking ${path}`, () => {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    return openSync(path, constants.O_WRONLY | constants.O_CREAT, 0o600);
  });
  if (addon().flock(fd, Sys.LOCK_EX | Sys.LOCK_NB) !== 0) {
    closeSync(fd);
    throw new VfioError('EBUSY', `another process changes bindings: it has ${path} locked`, { fix: 'Wait until that process has ended.' });
  }
  return { [Symbol.dispose]: () => closeSync(fd) };
}

/**
 * getent also knows the users of directories such as LDAP. A number needs no entry: in containers
 * and small systems users have none.
 */
function userNamed(name: string): UserEntry | null {
  const asked = spawnSync('getent', ['passwd', name], { encoding: 'utf8', env: { PATH: PROGRAM_PATH } });
  const text = asked.status === 0 ? asked.stdout : passwords();
  for (const line of text.split('\n')) {
    const [found, , uid, gid] = line.split(':');
    if (found !== undefined && gid !== undefined && (found === name || uid === name))
      return { name: found, uid: Number(uid), gid: Number(gid) };
  }
  return /^\d{1,9}$/.test(name) ? { name, uid: Number(name), gid: 0 } : null;
}

function passwords(): string {
  try {
    return readFileSync('/etc/passwd', 'utf8');
  } catch {
    return '';
  }
}

/** The changes of this computer. */
export function hostChanges(): HostChanges {
  return {
    attribute: writeAttribute,
    file: replaceFile,
    remove: (path) => attempt(`removing ${path}`, () => rmSync(path, { force: true })),
    own: (path, { uid, gid, mode }) =>
      attempt(`changing the owner of ${path}`, () => {
        chownSync(path, uid, gid);
        chmodSync(path, mode);
      }),
    ownerOf: (path) => {
      const found = statSync(path, { throwIfNoEntry: false });
      return found === undefined ? null : { uid: found.uid, gid: found.gid, mode: found.mode & 0o7777 };
    },
    permits: (path) => allows(path, constants.R_OK | constants.W_OK),
    permitsWrite: (path) => allows(path, constants.W_OK),
    run: (program, words) => {
      const { status, stdout, stderr, error } = spawnSync(program, [...words], {
        encoding: 'utf8',
        env: { ...process.env, PATH: PROGRAM_PATH },
      });
      if (error === undefined) return { status, printed: stdout, said: stderr.trim() };
      return { status: null, printed: '', said: systemError((error as NodeJS.ErrnoException).code ?? 'EIO', program).message };
    },
    user: userNamed,
    lock: lockFile,
    uid: process.getuid?.() ?? 0,
  };
}

function allows(path: string, access: number): boolean {
  try {
    accessSync(path, access);
    return true;
  } catch {
    return false;
  }
}
