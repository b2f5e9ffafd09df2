/** Code of the user's: devices and drivers, by the file they are in. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { VfioError } from '../base/errno.ts';
import { importAnew, resolveOwnName } from './package-resolver.ts';

/** The module in a file of the user's. @throws VfioError ENOENT when it is not there; EINVAL when it cannot be loaded, with the cause */
export function importFile(path: string): Promise<object> {
  return importWith(path, (url) => import(url.href) as Promise<object>);
}

/** The same, as the file is now, however often it was loaded before. `onFile` is told the files that it is made of. */
export function importFileAnew(path: string, onFile: (path: string) => void): Promise<object> {
  return importWith(path, (url) => importAnew(url, onFile));
}

async function importWith(path: string, load: (url: URL) => Promise<object>): Promise<object> {
  const file = resolve(path);
  if (!existsSync(file)) throw new VfioError('ENOENT', `there is no file ${path}`, { fix: `It would be ${file}.` });
  resolveOwnName();
  try {
    return await load(pathToFileURL(file));
  } catch (cause) {
    throw new VfioError('EINVAL', `${path} cannot be loaded: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
