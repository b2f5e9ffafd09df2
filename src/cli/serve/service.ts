/** `vfio serve` as a service of systemd: readiness, status, and sockets that systemd listens at. */
import { VfioError } from '../../base/errno.ts';
import { type PassedSocket, passedSockets, ServiceManager } from '../../sys/service-manager.ts';
import { socketFromNumber, type UnixListener } from '../../sys/unix-listener.ts';
import type { UnixSocket } from '../../sys/unix-socket.ts';
import type { Stop } from '../until-stopped.ts';

export interface Service extends Disposable {
  /** The devices can be reached. Sends STOPPING when `stop` comes. */
  ready(status: string, stop: Stop): void;
}

/** The service manager of this process; messages go nowhere where there is none. */
export function service(): Service {
  const manager = ServiceManager.fromEnvironment(process.env, process.pid);
  return {
    ready: (status, { signal }) => {
      manager?.send('READY=1', `STATUS=${status}`);
      signal.addEventListener('abort', () => manager?.send('STOPPING=1', 'STATUS=closing'), { once: true });
    },
    [Symbol.dispose]: () => manager?.[Symbol.dispose](),
  };
}

/** The sockets that systemd passed; empty where it passed none. */
export function activationSockets(say: (line: string) => void): readonly PassedSocket[] {
  const { sockets, otherPid } = passedSockets(process.env, process.pid);
  if (otherPid !== null) {
    say(
      `(systemd passed sockets to process ${otherPid}, which is not this one: ExecStart= has to start vfio itself, without a shell or npx)`,
    );
  }
  return sockets;
}

/**
 * The socket for each device: by name where all sockets have the names of devices, else in order.
 *
 * @throws VfioError EINVAL where numbers or names do not fit
 */
export function socketsFor(names: readonly string[], sockets: readonly PassedSocket[]): readonly number[] {
  if (sockets.length !== names.length) {
    throw new VfioError('EINVAL', `systemd passed ${sockets.length} sockets for ${names.length} devices`, {
      fix: 'Give each device one ListenStream= of a socket unit, or --socket-path without a socket unit.',
    });
  }
  const named = names.map((name) => sockets.filter((socket) => socket.name === name));
  if (named.every((found) => found.length === 1)) return named.map(([found]) => found!.number);
  if (named.some((found) => found.length > 0)) {
    const has = sockets.map(({ name }) => name ?? 'no name').join(', ');
    throw new VfioError('EINVAL', `the sockets are named ${has}; the devices are ${names.join(', ')}`, {
      fix: 'Set FileDescriptorName= of each socket unit to the name of its device, or of none.',
    });
  }
  return sockets.map(({ number }) => number);
}

/**
 * @param origin the option or the unit that names the descriptor, for messages
 * @throws VfioError EBADF, EINVAL
 */
export function inheritedSocket(number: number, origin: string): UnixListener | UnixSocket {
  try {
    return socketFromNumber(number);
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    const what = error.code === 'EBADF' ? `this process was started without a descriptor ${number}` : error.message;
    throw new VfioError(error.code, `${origin}: ${what}`, {
      cause: error,
      fix: 'Pass a UNIX stream socket, listening or connected, under that number: ListenStream= of a socket unit, or the descriptor that a parent process opens.',
    });
  }
}
