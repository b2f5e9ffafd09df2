/** Where sockets of served devices are. */
import { chmodSync, existsSync, mkdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { VfioError } from '../base/errno.ts';
import { fromNode } from '../sys/system-error.ts';

/**
 * The default path of the socket of a device called `name`: in the user's own run-time directory.
 *
 * @throws VfioError ENOENT when there is no such directory
 */
export function socketPathOf(name: string, runtimeDirectory = process.env.XDG_RUNTIME_DIR): string {
  if (runtimeDirectory === undefined || runtimeDirectory === '') {
    throw new VfioError('ENOENT', 'the socket has no default path: XDG_RUNTIME_DIR is not set', {
      fix: 'Give --socket-path PATH.',
    });
  }
  return join(runtimeDirectory, 'vfio-ts', `${name}.sock`);
}

/**
 * Make the directory of a socket, with mode 0700, if it lies in the user's own run-time directory.
 * Elsewhere a mistyped name would leave directories behind.
 *
 * @throws VfioError EACCES, EROFS and others when the directory cannot be made
 */
export function makeSocketDirectory(path: string, runtimeDirectory = process.env.XDG_RUNTIME_DIR ?? ''): void {
  const way = runtimeDirectory === '' ? '..' : relative(runtimeDirectory, path);
  if (way === '..' || way.startsWith('../') || existsSync(path)) return;
  try {
    if (mkdirSync(path, { recursive: true, mode: 0o700 }) !== undefined) chmodSync(path, 0o700);
  } catch (cause) {
    throw fromNode(cause, `the directory ${path} cannot be made`, { fix: 'Give another path with --socket-path PATH.' });
  }
}
