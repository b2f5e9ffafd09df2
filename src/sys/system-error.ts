/**
 * Refusals of the operating system, for its own reasons and by no rule of VFIO. Each names the
 * failed call, the file and the remedy.
 */
import { acrossCopies } from '../base/across-copies.ts';
import { Errno, type ErrnoName, VfioError, type VfioErrorOptions } from '../base/errno.ts';

export class SystemError extends VfioError {}
acrossCopies(SystemError, 'SystemError');

/** The meaning of a code for the user of a command, and the remedy. */
const meanings: Partial<Record<string, readonly [why: string, fix?: string]>> = {
  ENOENT: ['there is no such file or directory'],
  EACCES: ['permission denied', 'Use a place that this user may use, or have its permissions changed.'],
  EPERM: ['it is not permitted', 'Use a place that this user may use, or have its permissions changed.'],
  EROFS: ['the file system is read-only', 'Use a place that can be written.'],
  ENOSPC: ['no space is left', 'Free some, or use a place on another file system.'],
  EDQUOT: ['the quota of this user is used up', 'Free some space, or use a place on another file system.'],
  EISDIR: ['it is a directory'],
  ENOTDIR: ['a part of the path is no directory'],
  EEXIST: ['it is there already'],
  ENODEV: ['there is no such device, or the driver does not take it'],
  ENOTEMPTY: ['the directory is not empty'],
  ELOOP: ['it is a symbolic link, or there are too many on the way'],
  ENAMETOOLONG: ['the name is too long'],
  EMFILE: ['this process has as many files open as it may', 'Raise the limit of open files (ulimit -n).'],
  ENFILE: ['this computer has as many files open as it can'],
  ETXTBSY: ['it is a program that runs'],
  EIO: ['input or output failed'],
  EPIPE: ['its reader is gone'],
};

/** An errno of the operating system by its name. @param fix replaces the general one */
export function systemError(code: string, what: string, options: VfioErrorOptions = {}): SystemError {
  const [why, fix] = meanings[code] ?? [code];
  const known = Object.hasOwn(Errno, code) ? (code as ErrnoName) : 'EIO';
  return new SystemError(known, `${what}: ${why}`, { ...(fix === undefined ? {} : { fix }), ...options });
}

/**
 * Errors that Node's own functions throw, and streams fail with, when the operating system refuses.
 */
export function isNodeSystemError(error: unknown): error is NodeJS.ErrnoException & { code: string } {
  if (!(error instanceof Error) || error instanceof VfioError) return false;
  const { code, syscall } = error as NodeJS.ErrnoException;
  return typeof code === 'string' && (typeof syscall === 'string' || Object.hasOwn(Errno, code) || code.startsWith('ERR_STREAM_'));
}

const doing: Partial<Record<string, string>> = {
  open: 'opening',
  read: 'reading',
  write: 'writing',
  mkdir: 'making the directory',
  mkdtemp: 'making a directory',
  scandir: 'reading the directory',
  unlink: 'removing',
  rm: 'removing',
  rename: 'renaming',
  stat: 'looking at',
  lstat: 'looking at',
  realpath: 'looking for',
  copyfile: 'copying',
  chmod: 'changing the mode of',
  ftruncate: 'changing the size of',
  connect: 'connecting to',
  bind: 'listening at',
  listen: 'listening at',
  spawn: 'starting',
};

/**
 * Node's error in our words; the cause itself when it is another error, such as a bug.
 *
 * @param what the part that failed, when the caller knows more than the error says
 */
export function fromNode(cause: unknown, what?: string, options: VfioErrorOptions = {}): Error {
  if (!isNodeSystemError(cause)) return cause instanceof Error ? cause : new Error(String(cause));
  const { path, syscall = 'a call' } = cause;
  const said = `${doing[syscall.split(' ')[0]!] ?? syscall}${path === undefined ? '' : ` ${path}`}`;
  return systemError(cause.code, what ?? said, { cause, ...options });
}
