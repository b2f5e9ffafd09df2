/** Programs to start: where they are, and the descriptors that they may have. */
import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { delimiter, join, normalize, resolve } from 'node:path';
import { VfioError } from '../base/errno.ts';

/**
 * The file of a program, as execvp(3) finds it.
 * @throws VfioError ENOENT, EACCES
 */
export function programFile(name: string, path: string): string {
  const places = name.includes('/')
    ? [resolve(name)]
    : path.split(delimiter).map((directory) => join(directory === '' ? '.' : directory, name));
  let refused: VfioError | null = null;
  for (const file of places) {
    try {
      if (!statSync(file).isFile()) continue;
      accessSync(file, constants.X_OK);
      return resolve(file);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'EACCES') refused = new VfioError('EACCES', `${file} may not be executed`, { cause });
    }
  }
  throw refused ?? new VfioError('ENOENT', `there is no program ${name}`, { fix: 'Give a path, or a name of a program in PATH.' });
}

/** RLIMIT_NOFILE of a process: descriptors are below it. @throws VfioError ESRCH */
export function descriptorLimit(pid: number | 'self'): number {
  let limits: string;
  try {
    limits = readFileSync(`/proc/${pid}/limits`, 'latin1');
  } catch (cause) {
    throw new VfioError('ESRCH', `process ${pid} has ended`, { cause });
  }
  const limit = /^Max open files\s+(\w+)/m.exec(limits)?.[1];
  return limit === 'unlimited' ? Number.POSITIVE_INFINITY : Number(limit);
}

/** An absolute path without '.', '..' and double slashes; links are not followed. */
export function plainPath(path: string): string {
  return path.includes('//') || path.includes('/.') ? normalize(path) : path;
}
