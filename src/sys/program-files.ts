/** Programs to start: where they are, and the descriptors that they may have. */
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join, normalize, resolve } from 'node:path';
import { VfioError } from '../base/errno.ts';
import { addon, checked } from './addon.ts';

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

/** RLIMIT_NOFILE of this process, which programs inherit: descriptors are below it. */
export function descriptorLimit(): number {
  const into = new Float64Array(4);
  checked(addon().processLimits(process.pid, into), 'the limits of this process');
  return into[3]! < 0 ? Number.POSITIVE_INFINITY : into[3]!;
}

/** An absolute path without '.', '..' and double slashes; links are not followed. */
export function plainPath(path: string): string {
  return path.includes('//') || path.includes('/.') ? normalize(path) : path;
}
