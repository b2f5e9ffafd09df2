/**
 * The door of a served machine: a client that connects gets the status, and may send one request:
 * an administrator's, or that a program joins the machine.
 */
import { type Clock, SystemClock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import { textOf } from '../../base/foreign.ts';
import type { EventSource } from '../../events/source.ts';
import type { ByteStream, PeerCredentials } from '../../sys/byte-stream.ts';
import { decodeJson, Kind, kindName } from '../migrate/frames.ts';
import { Link } from '../migrate/link.ts';
import { Strangers } from '../migrate/strangers.ts';
import type { AdminDesk } from './desk.ts';
import { serveAdmin } from './door.ts';

/** The time that a connection has for its request, before it ends. */
const ASK_MS = 10_000;
/** The most connections that have not sent a request. */
const STRANGERS_MAX = 64;

/**
 * Serves a program of the client at the other end of `link`, until it has ended.
 *
 * @throws VfioError (rejects) a reason, which the door sends
 */
export type JoinMachine = (link: Link, request: Record<string, unknown>, peer: PeerCredentials | null) => Promise<void>;

export interface MachineDoorOptions {
  readonly desk: AdminDesk;
  readonly join: JoinMachine | null;
  readonly events: EventSource;
  readonly clock?: Clock;
}

export class MachineDoor implements Disposable {
  readonly #options: MachineDoorOptions;
  readonly #links = new Set<Link>();
  readonly #strangers: Strangers<Link>;

  constructor(options: MachineDoorOptions) {
    this.#options = options;
    this.#strangers = new Strangers({
      clock: options.clock ?? new SystemClock(),
      max: STRANGERS_MAX,
      timeoutMs: ASK_MS,
      drop: (link, why) =>
        link.fail(
          why === 'late'
            ? new VfioError('ETIMEDOUT', `nothing was asked for in ${ASK_MS / 1000} s`)
            : new VfioError('EAGAIN', `more than ${STRANGERS_MAX} connections ask for something at the same time`, {
                fix: 'Try it again.',
              }),
        ),
    });
  }

  /** Serve the client at the other end of `stream`, and take the stream over. */
  async serve(stream: ByteStream): Promise<void> {
    using link = new Link(stream);
    const { desk, join, events } = this.#options;
    this.#links.add(link);
    this.#strangers.add(link);
    try {
      await link.sendJson(Kind.STATUS, await desk.status());
      const frame = await link.receive(2 * ASK_MS);
      if (frame.kind !== Kind.ADMIN && frame.kind !== Kind.PROGRAM)
        throw new VfioError('EPROTO', `${kindName(frame.kind)} came in place of a request`);
      const request = decodeJson(frame);
      this.#strangers.remove(link);
      if (frame.kind === Kind.ADMIN) await serveAdmin(link, request, desk, null);
      else if (join !== null) await join(link, request, peerOf(stream));
      else throw noJoin();
    } catch (error) {
      if (!(error instanceof VfioError)) events.note('error', 'administrator', `administrator: ${textOf(error)}`);
      // Most clients come only for the status. They have left by now and do not read the error.
      await link.abort(error instanceof VfioError ? error : new VfioError('EIO', 'an error of the server'));
    } finally {
      this.#strangers.remove(link);
      this.#links.delete(link);
    }
  }

  /** Every connection ends; requests under way go on. */
  [Symbol.dispose](): void {
    this.#strangers[Symbol.dispose]();
    for (const link of [...this.#links]) link.fail(new VfioError('ENODEV', 'the server is closed'));
  }
}

function peerOf(stream: ByteStream & { readonly peer?: PeerCredentials }): PeerCredentials | null {
  return stream.peer ?? null;
}

function noJoin(): VfioError {
  return new VfioError('EOPNOTSUPP', 'this machine runs in several threads, and a program joins one that runs in one thread', {
    fix: 'Serve the machine with --threads 1.',
  });
}
