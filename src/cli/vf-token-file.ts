/**
 * A VF token for a command comes from a file, never from the command line, which every user of the
 * computer can read (`ps`).
 */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { parseVfToken } from '../abi/vf-token.ts';
import { VfioError } from '../base/errno.ts';

/** Longer files are no tokens, and are not read. */
const MAX_BYTES = 256;
const MAKE = (path: string) => `Make one: (umask 077; cat /proc/sys/kernel/random/uuid > ${path})`;

export interface VfTokenOptions {
  readonly vfTokenFile?: string | undefined;
}

/**
 * The token that a command was given; undefined for none.
 *
 * @throws VfioError as `readVfTokenFile`
 */
export function tokenOf({ vfTokenFile }: VfTokenOptions, terminal: { err(text: string): void }): string | undefined {
  return vfTokenFile === undefined ? undefined : readVfTokenFile(vfTokenFile, (text) => terminal.err(`warning: ${text}`));
}

/**
 * The token in `path`; `warn` gets a message when other users can read it too.
 *
 * @throws VfioError ENOENT, EACCES when it cannot be read; EINVAL when it holds no UUID. No error
 * quotes the file.
 */
export function readVfTokenFile(path: string, warn: (text: string) => void): string {
  let text: string;
  let fd = -1;
  try {
    fd = path === '-' ? 0 : openSync(path, 'r');
    const found = fstatSync(fd);
    const { mode, size } = found;
    if (found.isDirectory()) throw new VfioError('EINVAL', `${path} is a directory, and holds no VF token`, { fix: 'Name a file.' });
    if (fd !== 0 && (mode & 0o077) !== 0) warn(`${path} can be read by others; chmod 600 ${path}`);
    text = size > MAX_BYTES ? '' : readFileSync(fd, 'utf8').trim();
  } catch (cause) {
    if (cause instanceof VfioError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code === 'EACCES' ? 'EACCES' : 'ENOENT';
    const why = code === 'EACCES' ? 'it is not yours to read' : 'there is no such file';
    throw new VfioError(code, `the VF token cannot be read from ${path}: ${why}`, {
      cause,
      ...(code === 'EACCES' ? {} : { fix: MAKE(path) }),
    });
  } finally {
    if (fd > 0) closeSync(fd);
  }
  if (parseVfToken(text) !== null) return text;
  throw new VfioError('EINVAL', `${path} holds no VF token, which is one UUID`, { fix: MAKE(path === '-' ? 'FILE' : path) });
}
