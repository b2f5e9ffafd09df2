/**
 * The door of a server: the socket through which the device moves and an administrator asks. This
 * file says where the door is and how to ask.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type ErrnoName, VfioError } from '../../base/errno.ts';
import { UnixSocket } from '../../sys/unix-socket.ts';
import { shellQuoted } from '../shell-quoted.ts';
import { Kind } from './frames.ts';
import { Link } from './link.ts';

/** The door's path beside the socket of the device. */
export const managePathOf = (path: string): string => `${path}.manage`;

/** In the directory where a whole machine is served, this name stands in place of a socket's. */
export const machinePathOf = (directory: string): string => join(directory, 'machine');

/**
 * A connection to the door of the server at `path`.
 *
 * @throws VfioError ENOENT, ECONNREFUSED, EACCES, with a fix
 */
export function connectDoor(path: string): UnixSocket {
  try {
    return UnixSocket.connect(managePathOf(path));
  } catch (cause) {
    if (!(cause instanceof VfioError) || (cause.code !== 'ENOENT' && cause.code !== 'ECONNREFUSED')) throw cause;
    throw noDoor(path, cause.code, cause);
  }
}

/** No server listens beside the socket at `path`. */
export function noDoor(path: string, code: ErrnoName, cause: Error): VfioError {
  const directory = dirname(path);
  const fix = existsSync(managePathOf(machinePathOf(directory)))
    ? `vfio show ${shellQuoted(directory)} says whether the function is bound to vfio-pci.`
    : `Serve a device there: vfio serve DEVICE --socket-path ${shellQuoted(path)}`;
  return new VfioError(code, `no server listens at ${managePathOf(path)}`, { cause, fix });
}

/** The server's status. */
export interface DoorStatus {
  readonly name: string;
  readonly state: string;
  readonly clients: number;
  /** The number of the last move in, and of the last move out; null when there was none. */
  readonly movedIn: string | null;
  readonly movedOut: string | null;
  readonly inDoubt?: string;
}

const ANSWER_MS = 10_000;

/**
 * Send a command to the server at `path`.
 *
 * @throws VfioError (rejects) ENOENT when there is nothing to resume or to release; the errors of
 *   `connectDoor`
 */
export async function askDoor(path: string, command: 'status' | 'resume' | 'let-go'): Promise<DoorStatus> {
  using link = new Link(connectDoor(path));
  await link.sendJson(Kind.HELLO, { command });
  return (await link.expect(Kind.STATUS, ANSWER_MS)) as unknown as DoorStatus;
}
