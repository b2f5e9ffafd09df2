/** Connects to a vfio-user server. Errors say how to start a server at the path. */
import { statSync } from 'node:fs';
import { VfioError } from '../base/errno.ts';
import { VfioUserDevice, type VfioUserOptions } from '../vfio-user/client.ts';
import { shellQuoted } from './shell-quoted.ts';

/**
 * @throws VfioError ENOENT, ECONNREFUSED when no server listens at the socket, with a command that
 *   starts one; else the errors of `VfioUserDevice.connect`
 */
export function connect(path: string, options: VfioUserOptions = {}): VfioUserDevice {
  try {
    return VfioUserDevice.connect(path, options);
  } catch (cause) {
    if (cause instanceof VfioError && cause.code === 'EINVAL' && isDirectory(path)) {
      throw new VfioError('EINVAL', cause.message, { cause, fix: `The sockets of a machine are in it: unix:${path}/BDF.sock` });
    }
    if (!(cause instanceof VfioError) || (cause.code !== 'ENOENT' && cause.code !== 'ECONNREFUSED')) throw cause;
    const what = cause.code === 'ENOENT' ? `there is no socket ${path}` : `no server listens at the socket ${path} any more`;
    throw new VfioError(cause.code, what, { cause, fix: `Start a server there: vfio serve DEVICE --socket-path ${shellQuoted(path)}` });
  }
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
