/** Files with data of guests and devices: no other user may read them. */
import { closeSync, constants, existsSync, fchmodSync, fstatSync, ftruncateSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import { VfioError } from '../base/errno.ts';
import { systemError } from './system-error.ts';

/**
 * Open `path` for writing, made with mode 0600 or emptied. When other users can read the file, the
 * function first takes their rights away. It never waits for the reader of a pipe.
 *
 * @returns the descriptor
 * @throws VfioError EACCES when it cannot be opened, or others can read it and that stays so;
 * ENOENT, ENOTDIR, EISDIR, ENXIO, EROFS
 */
export function openPrivate(path: string): number {
  let fd: number;
  try {
    fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_NONBLOCK, 0o600);
  } catch (cause) {
    throw openError(path, cause);
  }
  try {
    const stat = fstatSync(fd);
    if (stat.isFile()) {
      if ((stat.mode & 0o077) !== 0) fchmodSync(fd, 0o600);
      ftruncateSync(fd, 0);
    }
    return fd;
  } catch (cause) {
    closeSync(fd);
    throw new VfioError('EACCES', `others can read ${path}, and that cannot be changed: ${(cause as NodeJS.ErrnoException).code}`, {
      cause,
      fix: 'Name a file that is not there yet, on a file system with modes.',
    });
  }
}

function openError(path: string, cause: unknown): VfioError {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === 'ENXIO')
    return new VfioError('ENXIO', `${path} is a pipe that no process reads, or a socket`, { cause, fix: 'Start its reader first.' });
  const what = `${path} cannot be written`;
  if (code === 'ENOENT' && !existsSync(dirname(path))) {
    return new VfioError('ENOENT', `${what}: there is no directory ${dirname(path)}`, { cause, fix: 'Make the directory first.' });
  }
  return systemError(code ?? 'EIO', what, { cause });
}
