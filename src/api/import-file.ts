/** Loads a user's code, devices and drivers, by file name. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { VfioError } from '../base/errno.ts';
import { packageFile } from '../sys/package-files.ts';
import { importAnew, loadTypeScript, resolveOwnName } from './package-resolver.ts';
import { orNever } from './unsettled.ts';

/**
 * The module in a user's file.
 *
 * @throws VfioError ENOENT when the file does not exist; EINVAL when it cannot be loaded, with the
 *   cause
 */
export function importFile(path: string): Promise<object> {
  return importWith(path, (url) => import(url.href) as Promise<object>);
}

/**
 * The module in a user's file as the file is now, however often it was loaded before. `onFile` gets
 * the path of each file that the module consists of.
 */
export function importFileAnew(path: string, onFile: (path: string) => void): Promise<object> {
  return importWith(path, (url) => importAnew(url, onFile));
}

async function importWith(path: string, load: (url: URL) => Promise<object>): Promise<object> {
  const file = resolve(path);
  if (!existsSync(file)) throw new VfioError('ENOENT', `there is no file ${path}`, { fix: `It would be ${file}.` });
  await loadTypeScript(file);
  resolveOwnName();
  const slow = setTimeout(
    () => console.error(`vfio: ${path} is still being loaded: a promise that it awaits at its top level has not settled`),
    SLOW_MS,
  );
  slow.unref();
  try {
    return await orNever(load(pathToFileURL(file)), () => neverLoaded(path));
  } catch (cause) {
    if (cause instanceof NeverLoaded) throw cause;
    throw cannotLoad(path, cause);
  } finally {
    clearTimeout(slow);
  }
}

/**
 * The time after which the log reports that a load still runs: longer than a large project takes
 * on a loaded computer.
 */
const SLOW_MS = 30_000;

class NeverLoaded extends VfioError {}

function neverLoaded(path: string): NeverLoaded {
  return new NeverLoaded(
    'EINVAL',
    `${path} never finished loading: it, or a module that it imports, awaits at its top level a promise that never settles`,
    {
      fix: 'At the top level await only promises that settle.',
    },
  );
}

/** An error of bin/typescript-hooks.js. */
const NEEDS_TSX = 'ERR_VFIO_NEEDS_TSX';

/** Adds the place in the user's code. An error of this package keeps its text. */
function cannotLoad(path: string, cause: unknown): VfioError {
  const place = placeOf(cause);
  const [first, ...more] = (cause instanceof Error ? cause.message : String(cause)).split('\n');
  const text = `${path} cannot be loaded: ${first}`;
  if (cause instanceof Error && 'code' in cause && cause.code === NEEDS_TSX) {
    return new VfioError('EINVAL', text, { cause, fix: 'Type "npm install --save-dev tsx" in its project, or use Node 24 or newer.' });
  }
  const details = [...more.filter((line) => line.trim() !== ''), ...(place === null ? [] : [`at ${place}`])];
  if (!(cause instanceof VfioError)) return new VfioError('EINVAL', text, { cause, details });
  return new VfioError(cause.code, text, { cause, details, ...(cause.fix === undefined ? {} : { fix: cause.fix }) });
}

const ownFolders = () => ['src/', 'dist/', 'bin/'].map(packageFile);

/**
 * `/path/file.ts:3:7`: the first line of the user's code in the error's stack; null when the stack
 * names none.
 */
function placeOf(error: unknown): string | null {
  const stack = error instanceof Error ? (error.stack ?? '') : '';
  const own = ownFolders();
  for (const line of stack.split('\n')) {
    const found = /(?:^|[\s(])(?:file:\/\/)?(\/[^()?]*?\.[cm]?[jt]s)(?:\?[^:)]*)?:(\d+)(?::(\d+))?\)?$/.exec(line);
    if (found === null || found[1]!.includes('/node_modules/') || own.some((folder) => found[1]!.startsWith(folder))) continue;
    return [decodeURI(found[1]!), ...found.slice(2).filter((each) => each !== undefined)].join(':');
  }
  return null;
}
