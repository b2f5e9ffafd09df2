/**
 * Errors that carry an errno. The number is the one that Linux answers; the message is for the
 * person who has to act on it. Numbers are those of x86-64 and arm64 Linux
 * (asm-generic/errno-base.h, asm-generic/errno.h).
 */
import { acrossCopies } from './across-copies.ts';
import { INSPECT } from './inspect.ts';
import { printable } from './printable.ts';

export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EMFILE: 24,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  EROFS: 30,
  EPIPE: 32,
  ERANGE: 34,
  EDEADLK: 35,
  ENAMETOOLONG: 36,
  ENOLCK: 37,
  ENOSYS: 38,
  ELOOP: 40,
  ENOMSG: 42,
  EPROTO: 71,
  EOVERFLOW: 75,
  EBADFD: 77,
  EUSERS: 87,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ENETDOWN: 100,
  ECONNRESET: 104,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EDQUOT: 122,
} as const;

/** The name of an errno that a `VfioError` can have. */
export type ErrnoName = keyof typeof Errno;

const nameOf = new Map<number, ErrnoName>(Object.entries(Errno).map(([name, value]) => [value, name as ErrnoName]));

/**
 * The name of an errno value, positive or negative; `undefined` for a number that the table does
 * not have.
 */
export function errnoName(value: number): ErrnoName | undefined {
  return nameOf.get(Math.abs(value));
}

/** One device that stands in the way, with the reason and the remedy (E-01). */
export interface Culprit {
  /** The device's address: `0000:00:04.0`. */
  readonly bdf: string;
  /** The driver that has the device; null for none. */
  readonly driver: string | null;
  /** The reason, as a sentence. */
  readonly why: string;
  /** The remedy: a command, or a sentence. */
  readonly fix: string;
}

/** Facts of a `VfioError` besides errno and message. */
export interface VfioErrorOptions extends ErrorOptions {
  /** The remedy that the caller has, as a full sentence. */
  readonly fix?: string;
  /** Devices that stand in the way. */
  readonly culprits?: readonly Culprit[];
  /**
   * Several faults, each on a line of its own behind the message. Line breaks within a fault are
   * escaped, so a fault cannot forge another line.
   */
  readonly details?: readonly string[];
}

/**
 * The caller's fault. `code` is the errno's name and `errno` its negative value, as in Node's own
 * system errors. A guest's or a device's fault does not throw; a bug of this package is a plain
 * `Error`.
 */
export class VfioError extends Error {
  /** The name of the errno: 'EBUSY'. */
  readonly code: ErrnoName;
  /** The errno as a negative number, as Node's system errors have it: -16. */
  readonly errno: number;
  /** The remedy that the caller has, as a sentence; undefined where there is none. */
  readonly fix: string | undefined;
  /** Devices that stand in the way; empty for most errors. */
  readonly culprits: readonly Culprit[];
  readonly #lines: readonly string[];

  /**
   * An error of the caller, with its errno.
   *
   * @param message one sentence without the errno, which the printed error begins with
   */
  constructor(code: ErrnoName, message: string, options: VfioErrorOptions = {}) {
    const { details = [] } = options;
    const lines = [details.length === 0 ? message : `${message}:`, ...details.map((detail) => `  ${detail}`)];
    super(lines.join('\n'), options);
    this.#lines = lines;
    this.code = code;
    this.errno = -Errno[code];
    this.fix = options.fix;
    this.culprits = options.culprits ?? [];
  }

  /**
   * The code. A printed error begins with it, be it as text, with its stack or uncaught (`EBUSY:
   * group 12 is …`). `message` does not contain it.
   */
  override get name(): string {
    return this.code;
  }

  /** The text that console.log prints: first the fault and the remedy, then the stack. */
  [INSPECT](): string {
    const frames = /\n {4}at [\s\S]*$/.exec(this.stack ?? '')?.[0] ?? '';
    const cause = this.cause instanceof Error ? `\n  cause: ${String(this.cause)}` : '';
    return this.explain() + frames + cause;
  }

  /** The error on several lines: the message, the culprits and the remedy. */
  explain(): string {
    const [first, ...more] = this.#lines;
    const lines = [`${this.code}: ${first}`, ...more];
    for (const c of this.culprits) lines.push(`  ${c.bdf} (${c.driver ?? 'no driver'}): ${c.why}`, `    fix: ${c.fix}`);
    if (this.fix !== undefined) lines.push(`  fix: ${this.fix}`);
    return lines.map(printable).join('\n');
  }
}
acrossCopies(VfioError, 'VfioError');

/**
 * The errno to answer a peer with: a `VfioError`'s own; `EIO` for any other error, which is a bug
 * of this package.
 */
export function errnoOf(error: unknown): ErrnoName {
  return error instanceof VfioError ? error.code : 'EIO';
}
