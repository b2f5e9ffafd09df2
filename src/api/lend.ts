/**
 * A broker of devices: it opens a device of this computer for each process that asks at a socket,
 * and gives the open files away. So a worker drives hardware without the right to open it.
 *
 * The broker keeps no file of a device that it has lent. When the worker ends, in whichever way,
 * the kernel closes the device: it takes bus mastering and interrupts away, resets the device where
 * it can, and then unmaps its memory. When the broker ends, workers go on.
 */
import { Cleanup } from '../base/cleanup.ts';
import { VfioError } from '../base/errno.ts';
import type { Logger } from '../base/log.ts';
import { type EventStream, streamOf } from '../events/stream.ts';
import { sendOpened, sendRefusal } from '../kernel/lent-files.ts';
import { checkKernelDevice, openKernelDevice } from '../kernel/open-kernel-device.ts';
import { END_OF_STREAM } from '../sys/byte-stream.ts';
import { hostChanges } from '../sys/host-changes.ts';
import { giveSocket } from '../sys/node-users.ts';
import type { OwnedFd } from '../sys/owned-fd.ts';
import { commandOf } from '../sys/task-status.ts';
import { UnixListener } from '../sys/unix-listener.ts';
import type { UnixSocket } from '../sys/unix-socket.ts';
import { parseAddress } from './address.ts';
import { stderrLogger } from './stderr-logger.ts';

/** How a device is opened for those who ask, and who may ask. */
export interface LendOptions {
  /** The path of the socket. The socket gets mode 0600. */
  readonly path: string;
  /** The user who may ask, by name or number, and who gets the socket. Default: this user. */
  readonly user?: string | undefined;
  /** See `OpenOptions.via`. */
  readonly via?: 'group' | 'cdev' | undefined;
  /** See `OpenOptions.unsafeNoIommu`. Default: false. */
  readonly unsafeNoIommu?: boolean | undefined;
  /** VF token, a UUID. The workers do not get it. */
  readonly token?: string | undefined;
  /** Receives a line for each process that gets the device, and gives it back. Default: stderr. */
  readonly log?: Logger;
  /** The stream to which the opens are reported. Default: none. */
  readonly events?: EventStream;
}

/** A device that is lent at a socket, until it is disposed. Workers go on then. */
export interface Lender extends Disposable {
  readonly path: string;
  /** The process that has the device now; null for none. */
  readonly worker: number | null;
}

/**
 * Lend a device of this computer. Only one process has it at a time.
 *
 * @param address `0000:03:00.0`, or `mdev:UUID`
 * @throws VfioError EINVAL for an address that is no device of this computer; ENODEV, EBUSY,
 *   EOPNOTSUPP for a device that is not there, or not VFIO's; EADDRINUSE, EACCES, ENOENT for the
 *   path of the socket; ENOENT for a user who does not exist; EPERM when the socket cannot be given
 *   to `user`
 */
export function lend(address: string, options: LendOptions): Lender {
  const parsed = parseAddress(address);
  if (parsed.kind !== 'pci' && parsed.kind !== 'mdev') {
    throw new VfioError('EINVAL', `${address} is no device of this computer, which alone can be lent`, {
      fix: 'Give the address of a PCI device, such as 0000:03:00.0. A model is served: vfio serve.',
    });
  }
  const name = parsed.kind === 'pci' ? parsed.bdf : parsed.uuid;
  checkKernelDevice(parsed);
  const { path, user, via, unsafeNoIommu, token, log = stderrLogger } = options;
  const owner = user === undefined ? null : uidOf(user);
  using undo = new Cleanup();
  const stream = options.events ?? undo.use(streamOf(undefined, { log }));
  const source = undo.use(stream.source(name));
  const listener = undo.use(UnixListener.listen(path));
  if (owner !== null) giveSocket(path, owner);
  const workers = new Map<UnixSocket, number>();
  undo.defer(() => {
    for (const socket of workers.keys()) socket[Symbol.dispose]();
  });

  const answer = (socket: UnixSocket): void => {
    const { pid } = socket.peer;
    using refused = new Cleanup();
    refused.use(socket);
    try {
      const [other] = workers.values();
      if (other !== undefined) {
        throw new VfioError('EBUSY', `${name} is lent to process ${other} (${commandOf(other)})`, { fix: 'End that program first.' });
      }
      using opened = openKernelDevice(parsed, { source, via, unsafeNoIommu, token });
      sendOpened(opened, socket);
      log.log('info', `${name}: process ${pid} (${commandOf(pid)}) has it, by ${opened.via}`);
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      log.log('warn', `${name}: process ${pid} (${commandOf(pid)}) does not get it: ${error.message}`);
      refuse(error, socket);
      return;
    }
    refused.move();
    workers.set(socket, pid);
    watch(socket, () => {
      workers.delete(socket);
      socket[Symbol.dispose]();
      log.log('info', `${name}: process ${pid} has given it back`);
    });
  };
  undo.use(listener.onConnection(answer));
  const owns = undo.move();
  return {
    path,
    get worker() {
      return workers.values().next().value ?? null;
    },
    [Symbol.dispose]: () => owns[Symbol.dispose](),
  };
}

/** A process that hangs up meanwhile needs no answer. */
function refuse(error: VfioError, socket: UnixSocket): void {
  try {
    sendRefusal(error, socket);
  } catch (failure) {
    if (!(failure instanceof VfioError)) throw failure;
  }
}

/** @throws VfioError ENOENT for a name that this computer does not have */
function uidOf(user: string): number {
  if (/^\d+$/.test(user)) return Number(user);
  const entry = hostChanges().user(user);
  if (entry !== null) return entry.uid;
  throw new VfioError('ENOENT', `this computer has no user ${user}`, { fix: 'Give a name of /etc/passwd (getent passwd), or a number.' });
}

/** The worker keeps its end of the connection for as long as it has the device. */
function watch(socket: UnixSocket, ended: () => void): void {
  const scratch = new Uint8Array(64);
  socket.listen(() => {
    // A worker has nothing to send: its descriptors are closed.
    const fds: OwnedFd[] = [];
    try {
      if (socket.receive(scratch, 0, scratch.length, fds) !== END_OF_STREAM) return false;
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
    } finally {
      for (const fd of fds) fd[Symbol.dispose]();
    }
    ended();
    return false;
  });
}
