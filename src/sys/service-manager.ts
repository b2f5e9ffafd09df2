/**
 * The service manager that started this process, such as systemd: the sockets that it passed, and
 * the messages that it waits for.
 *
 * @see sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3)
 */
import { VfioError } from '../base/errno.ts';
import { addon, checked, Sys } from './addon.ts';
import { OwnedFd } from './owned-fd.ts';
import { SystemError } from './system-error.ts';

/** SD_LISTEN_FDS_START */
const FIRST_FD = 3;

export interface PassedSocket {
  readonly number: number;
  /** FileDescriptorName= of the socket unit; null where the manager gives none. */
  readonly name: string | null;
}

export interface PassedSockets {
  readonly sockets: readonly PassedSocket[];
  /** The pid of the process that the sockets are for, where it is not this one; else null. */
  readonly otherPid: number | null;
}

type Environment = Record<string, string | undefined>;

/** Shells below a service inherit the variable. */
const WITHOUT_NOTIFY = 'Start the command without NOTIFY_SOCKET (env -u NOTIFY_SOCKET), or by systemd.';

/**
 * The sockets that the manager passed to this process. The variables go, so that programs that this
 * process starts do not take them for theirs.
 *
 * @throws VfioError EINVAL for variables that are no numbers
 */
export function passedSockets(env: Environment, pid: number): PassedSockets {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = env;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PIDFDID']) delete env[name];
  if (LISTEN_PID === undefined || LISTEN_FDS === undefined) return { sockets: [], otherPid: null };
  if (!/^\d{1,9}$/.test(LISTEN_PID) || !/^\d{1,4}$/.test(LISTEN_FDS)) {
    throw new VfioError('EINVAL', `LISTEN_PID and LISTEN_FDS, ${LISTEN_PID} and ${LISTEN_FDS}, are no numbers of the service manager`, {
      fix: 'Start the command without these variables, or by systemd.',
    });
  }
  if (Number(LISTEN_PID) !== pid) return { sockets: [], otherPid: Number(LISTEN_FDS) === 0 ? null : Number(LISTEN_PID) };
  const names = LISTEN_FDNAMES === undefined ? [] : LISTEN_FDNAMES.split(':');
  const sockets = Array.from({ length: Number(LISTEN_FDS) }, (_, i) => ({
    number: FIRST_FD + i,
    // The manager says `unknown` for a descriptor without a name.
    name: names[i] === undefined || names[i] === '' || names[i] === 'unknown' ? null : names[i]!,
  }));
  return { sockets, otherPid: null };
}

/** The socket at which the manager waits for messages of its service. */
export class ServiceManager implements Disposable {
  readonly #fd: OwnedFd;
  readonly #watchdog: NodeJS.Timeout | null;

  private constructor(fd: OwnedFd, watchdogMs: number | null) {
    this.#fd = fd;
    this.#watchdog = watchdogMs === null ? null : setInterval(() => this.send('WATCHDOG=1'), watchdogMs);
    this.#watchdog?.unref();
  }

  /**
   * Null where no manager waits. The variables go.
   *
   * @throws VfioError EINVAL for a socket that is neither a path nor an abstract name; ENOENT,
   *   ECONNREFUSED when the manager is not there
   */
  static fromEnvironment(env: Environment, pid: number): ServiceManager | null {
    const { NOTIFY_SOCKET: address, WATCHDOG_USEC: usec, WATCHDOG_PID: watched } = env;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name];
    if (address === undefined || address === '') return null;
    if (!/^[/@]./.test(address)) {
      throw new VfioError('EINVAL', `NOTIFY_SOCKET is ${address}, which is neither a path nor an abstract name`, {
        fix: WITHOUT_NOTIFY,
      });
    }
    const fd = OwnedFd.own(addon().socket(Sys.AF_UNIX, Sys.SOCK_DGRAM), 'creating a socket');
    try {
      const sys = addon();
      const result = address.startsWith('@') ? sys.connectAbstract(fd.number, address.slice(1)) : sys.connect(fd.number, address);
      checked(result, `connecting to the service manager at ${address} (NOTIFY_SOCKET)`);
    } catch (error) {
      fd[Symbol.dispose]();
      if (!(error instanceof VfioError)) throw error;
      throw new SystemError(error.code, error.message, { cause: error, fix: WITHOUT_NOTIFY });
    }
    const isWatched =
      usec !== undefined && /^\d{1,15}$/.test(usec) && Number(usec) > 0 && (watched === undefined || Number(watched) === pid);
    // Half of the time, as sd_watchdog_enabled(3) recommends.
    return new ServiceManager(fd, isWatched ? Math.max(1, Number(usec) / 2000) : null);
  }

  /**
   * Send assignments, such as `READY=1`. A manager that takes no messages does not stop the
   * service.
   */
  send(...lines: readonly string[]): void {
    const bytes = new TextEncoder().encode(lines.map((line) => line.replaceAll('\n', ' ')).join('\n'));
    addon().sendmsg(this.#fd.number, bytes, 0, bytes.length, NONE, 0);
  }

  [Symbol.dispose](): void {
    if (this.#watchdog !== null) clearInterval(this.#watchdog);
    this.#fd[Symbol.dispose]();
  }
}

const NONE = new Int32Array(0);
