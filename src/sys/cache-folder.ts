/** The folder for files that are made on this computer and kept: a built addon, a kernel. */
import { mkdirSync, realpathSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { VfioError } from '../base/errno.ts';
import { fromNode } from './system-error.ts';

/** `vfio-ts` below `XDG_CACHE_HOME`, or below `~/.cache`. It need not exist. */
export function cachePath(): string {
  const { XDG_CACHE_HOME } = process.env;
  return join(XDG_CACHE_HOME?.startsWith('/') === true ? XDG_CACHE_HOME : join(homedir(), '.cache'), 'vfio-ts');
}

/**
 * The real path of the cache folder, which is made where it is missing. Code from it is run, so no
 * other user may be able to put a file there.
 *
 * @param what for messages: `the addon that is built for this computer`
 * @throws VfioError EACCES when other users can write into it or above it; errno of making it
 */
export function cacheFolder(what: string): string {
  const folder = cachePath();
  let real: string;
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    real = realpathSync(folder);
  } catch (cause) {
    throw fromNode(cause, `making ${folder}, the folder for ${what}`, { fix: 'Set XDG_CACHE_HOME to a folder that this user can write.' });
  }
  for (let at = real; ; at = dirname(at)) {
    const why = openTo(at, at === real);
    if (why !== null) {
      throw new VfioError('EACCES', `code would be loaded from ${folder}, but ${at} ${why}`, {
        fix: 'Set XDG_CACHE_HOME to a folder of this user that no other user can write, nor any folder above it.',
      });
    }
    if (at === dirname(at)) return real;
  }
}

/**
 * How a user other than this one and root could change entries of a directory; null when no such
 * user can.
 */
function openTo(directory: string, isFolder: boolean): string | null {
  const { uid, mode } = statSync(directory);
  const mine = process.getuid!();
  if (uid !== mine && (isFolder || uid !== 0)) return `belongs to user ${uid}`;
  // In a sticky directory such as /tmp, other users cannot replace an entry of this user's.
  const others = (mode & 0o022) !== 0 && (isFolder || (mode & 0o1000) === 0);
  return others ? 'can be written by other users' : null;
}
