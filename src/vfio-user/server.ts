/**
 * Serves a device to vfio-user clients, one after the other. The caller accepts connections and
 * hands each stream to `serve`.
 *
 *     const server = new VfioUserServer({ name: 'edu', open: (peer) => openDevice(peer) });
 *     listener.onConnection((socket) => server.serve(socket));
 */
import type { Device } from '../abi/device.ts';
import { type Clock, SystemClock } from '../base/clock.ts';
import { VfioError } from '../base/errno.ts';
import { type Logger, silentLogger } from '../base/log.ts';
import type { EventSource } from '../events/source.ts';
import { type EventStream, streamOf } from '../events/stream.ts';
import type { ByteStream, PeerCredentials } from '../sys/byte-stream.ts';
import { checkLimits, type ServerLimits } from './limits.ts';
import type { MovedDevice } from './server/moved-device.ts';
import { Session } from './session.ts';

export interface VfioUserServerOptions {
  /**
   * Opens the device for a client that has said VERSION; disposed when the client is gone. The
   * client gets the error that it throws. `vfToken` is the token that the client showed, 16 bytes:
   * not to be kept, and not to be shown. `adopt`: the client wants the device that was moved here,
   * and no other.
   */
  readonly open: (peer: PeerCredentials | null, vfToken: Uint8Array | null, adopt: boolean) => Device | MovedDevice;
  /**
   * The holder that keeps this client from having the device, though the server serves no other
   * client here. The client then waits as behind another client, until `admitWaiting` finds that
   * the holder is gone. Null: no holder. Default: null.
   */
  readonly heldBy?: (peer: PeerCredentials | null) => string | null;
  /** The name in messages. Default: 'vfio-user'. */
  readonly name?: string;
  /** Receives lines of the server's own stream; a stream that is given has a log of its own. */
  readonly log?: Logger;
  /** The stream to which the server emits. Default: one of its own. */
  readonly events?: EventStream;
  /**
   * The device's name in the stream, `info.name`: its messages go there beside what the device
   * does. Default: `name`.
   */
  readonly device?: string;
  readonly clock?: Clock;
  readonly limits?: Partial<ServerLimits>;
  /** Clients served at one time; others wait. Default: 1. */
  readonly maxClients?: number;
  /** Whether a client keeps this process alive. Default: true. */
  readonly keepAlive?: boolean;
}

export class VfioUserServer implements Disposable {
  readonly #options: VfioUserServerOptions;
  readonly #limits: ServerLimits;
  readonly #clock: Clock;
  readonly #events: EventSource;
  readonly #wire: EventSource;
  readonly #ownStream: EventStream | null;
  readonly #name: string;
  readonly #maxClients: number;
  readonly #active = new Set<Session>();
  readonly #waiting = new Map<Session, Disposable>();
  /** Clients that are admitted only to learn that the device is taken. */
  readonly #refused = new Set<Session>();
  #disposed = false;

  /** @throws VfioError EINVAL for limits out of range */
  constructor(options: VfioUserServerOptions) {
    this.#options = options;
    this.#limits = checkLimits(options.limits ?? {});
    this.#clock = options.clock ?? new SystemClock();
    this.#name = options.name ?? 'vfio-user';
    const stream = streamOf(options.events, { clock: this.#clock, log: options.log ?? silentLogger });
    this.#ownStream = options.events === undefined ? stream : null;
    this.#events = stream.source(this.#name);
    this.#wire = stream.source(options.device ?? this.#name);
    this.#maxClients = options.maxClients ?? 1;
  }

  /** The clients that are served now, without those that wait. */
  get sessions(): readonly Session[] {
    return [...this.#active];
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /**
   * Serves the client at the other end of `stream`, which the server takes over. While another
   * client is served it waits: a client that was killed and comes back must not find its own old
   * connection in the way.
   * @param peer who it is; by default what the stream says
   */
  serve(stream: ByteStream, peer: PeerCredentials | null = peerOf(stream)): Session {
    const session: Session = new Session({
      name: this.#name,
      stream,
      peer,
      open: (who, vfToken, adopt) => this.#open(session, who, vfToken, adopt),
      limits: this.#limits,
      clock: this.#clock,
      events: this.#events,
      wire: this.#wire,
      keepAlive: this.#options.keepAlive ?? true,
      onEnd: (ended) => this.#ended(ended),
    });
    if (this.#disposed) session.close('the server is closed');
    else if (this.#active.size < this.#maxClients && this.#heldBy(session) === null) this.#admit(session);
    else if (this.#waiting.size >= this.#limits.maxWaiting && !this.#evictSilent()) session.close('too many clients wait');
    else {
      this.#waiting.set(
        session,
        this.#clock.after(this.#limits.waitMs, () => this.#refuse(session)),
      );
    }
    return session;
  }

  /** Ends every session. Idempotent. */
  [Symbol.dispose](): void {
    this.#disposed = true;
    for (const session of [...this.#waiting.keys(), ...this.#refused, ...this.#active]) session.close('the server is closed');
    for (const each of [this.#wire, this.#events, this.#ownStream]) each?.[Symbol.dispose]();
  }

  #admit(session: Session): void {
    this.#active.add(session);
    session.start();
  }

  /** Closes the first waiting client that has sent nothing. False when all have sent something. */
  #evictSilent(): boolean {
    for (const waiting of this.#waiting.keys()) {
      if (waiting.hasSpoken) continue;
      waiting.close('it said nothing, and too many clients wait');
      return true;
    }
    return false;
  }

  #heldBy({ peer }: Session): string | null {
    return this.#options.heldBy?.(peer) ?? null;
  }

  /**
   * A resource that another client held has become free: a client that waits here is served, if it
   * waited only for that.
   */
  admitWaiting(): void {
    for (const session of [...this.#waiting.keys()]) {
      if (this.#disposed || this.#active.size >= this.#maxClients) return;
      if (this.#heldBy(session) !== null) continue;
      this.#stopWaiting(session);
      this.#admit(session);
    }
  }

  /** The client has waited long enough for its turn, unless the holder only keeps others out. */
  #refuse(session: Session): void {
    this.#stopWaiting(session);
    for (const active of this.#active) {
      if (active.version !== null) continue;
      this.#active.delete(active);
      active.close('it did not negotiate a version, and another client waits');
      this.#admit(session);
      return;
    }
    this.#refused.add(session);
    session.start();
  }

  #open(session: Session, peer: PeerCredentials | null, vfToken: Uint8Array | null, adopt: boolean): Device | MovedDevice {
    if (!this.#refused.has(session)) return this.#options.open(peer, vfToken, adopt);
    const holders = [...this.#active].map((each) => describePeer(each.peer));
    const holder = holders.join(', ') || this.#heldBy(session);
    // The holder has gone a moment ago.
    if (holder === null) return this.#options.open(peer, vfToken, adopt);
    throw new VfioError('EBUSY', `${this.#name} is in use by ${holder}`, { fix: 'Disconnect that one first.' });
  }

  #stopWaiting(session: Session): boolean {
    this.#waiting.get(session)?.[Symbol.dispose]();
    return this.#waiting.delete(session);
  }

  #ended(session: Session): void {
    this.#stopWaiting(session);
    this.#refused.delete(session);
    if (this.#active.delete(session)) this.admitWaiting();
  }
}

function describePeer(peer: PeerCredentials | null): string {
  if (peer === null) return 'a client';
  const name = peer.process?.found?.name ?? '';
  return `process ${peer.pid} (${name === '' ? '' : `${name}, `}uid ${peer.uid})`;
}

function peerOf(stream: ByteStream): PeerCredentials | null {
  return (stream as ByteStream & { readonly peer?: PeerCredentials }).peer ?? null;
}
