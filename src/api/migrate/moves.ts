/**
 * The moves of one server: one move at a time, in or out; the device that came and waits for its
 * client; the device in doubt, of which the server does not know whether it arrived.
 */
import type { Device } from '../../abi/device.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { type Clock, SystemClock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import type { LogLevel } from '../../base/log.ts';
import type { IommuDomain } from '../../hardware/iommu-domain.ts';
import type { ByteStream } from '../../sys/byte-stream.ts';
import type { MovedDevice } from '../../vfio-user/server/moved-device.ts';
import type { Session } from '../../vfio-user/session.ts';
import { type Arrived, arrive } from './arrival.ts';
import { depart, InDoubt, type Subject } from './departure.ts';
import { decodeJson, Kind, kindName } from './frames.ts';
import { Link, Refused } from './link.ts';
import { Strangers } from './strangers.ts';

export interface MovesOptions {
  readonly name: string;
  readonly clock?: Clock;
  readonly log: (level: LogLevel, text: string) => void;
  /** The clients that are served now. */
  readonly sessions: () => readonly Session[];
  /** @throws VfioError the reason why the device has to stay here */
  readonly mayLeave: () => void;
  /** Opens a device in its state after power-on, which no client has. */
  readonly open: () => Device;
  /**
   * Carries out a request that is not a move.
   *
   * @throws VfioError (rejects) the error to answer
   */
  readonly administer: (link: Link, request: Record<string, unknown>) => Promise<void>;
  /** The target of the DMA of such a device, or of a client's device. */
  readonly domainOf: (device: Device) => IommuDomain;
}

/** The states in a status, for programs. */
export type MoveState = 'idle' | 'in use' | 'moving out' | 'moving in' | 'waits for its client' | 'in doubt';

const HELLO_MS = 10_000;
const DOWNTIME_MS = 300;
const DOWNTIME_MAX_MS = 3_600_000;
/** The most connections to the door that have not sent a request. */
const LINKS_MAX = 16;

export class Moves implements Disposable {
  readonly #options: MovesOptions;
  readonly #links = new Set<Link>();
  /** Connections that have not sent a request. */
  readonly #strangers: Strangers<Link>;
  #busy: 'moving out' | 'moving in' | null = null;
  #waiting: Arrived | null = null;
  #doubt: InDoubt | null = null;
  /** The last device that came, and the last that went: an administrator compares their numbers. */
  #lastIn: string | null = null;
  #lastOut: string | null = null;

  constructor(options: MovesOptions) {
    this.#options = options;
    this.#strangers = new Strangers({
      clock: options.clock ?? new SystemClock(),
      max: LINKS_MAX,
      timeoutMs: HELLO_MS,
      drop: (link) => link.fail(new VfioError('ETIMEDOUT', 'nothing was asked in time, or too many others came')),
    });
  }

  get state(): MoveState {
    if (this.#busy !== null) return this.#busy;
    if (this.#doubt !== null) return 'in doubt';
    if (this.#waiting !== null) return 'waits for its client';
    return this.#options.sessions().length > 0 ? 'in use' : 'idle';
  }

  /**
   * The device for a client: null, unless a device that was moved here waits for the client.
   *
   * @throws VfioError EBUSY while a device arrives, or when one waits and the client does not ask
   *   for it; ENXIO when the client asks for one, and none waits
   */
  takeWaiting(adopt: boolean): MovedDevice | null {
    const { name } = this.#options;
    if (this.#busy === 'moving in')
      throw new VfioError('EBUSY', `a device is being moved to ${name}`, { fix: 'Connect when it is there.' });
    const waiting = this.#waiting;
    if (waiting === null) {
      if (!adopt) return null;
      throw new VfioError('ENXIO', `no device that was moved to ${name} waits for a client`, { fix: 'Move one: vfio migrate.' });
    }
    const fix = "Adopt it: open(address, { adopt: true }); or give it up: 'vfio migrate --let-go ADDRESS'.";
    if (!adopt) throw new VfioError('EBUSY', `${name} has a device that was moved here and waits for its client`, { fix });
    if (this.#busy !== null) throw new VfioError('EBUSY', `${name} is being moved away`, { fix: 'Connect at the destination.' });
    this.#waiting = null;
    return {
      device: waiting.device,
      mappings: waiting.mappings,
      memories: waiting.files,
      // The device is the session's from now on. The memory stays for as long as it is mapped.
      taken: () => {
        for (const file of waiting.files) file[Symbol.dispose]();
      },
      giveBack: () => {
        this.#waiting = waiting;
      },
    };
  }

  /**
   * Serve the client at the other end of `stream`: one question, or one move. The call takes the
   * stream over.
   */
  async serve(stream: ByteStream): Promise<void> {
    using link = new Link(stream);
    this.#links.add(link);
    this.#strangers.add(link);
    try {
      const frame = await link.receive(2 * HELLO_MS);
      this.#strangers.remove(link);
      if (frame.kind === Kind.ADMIN) {
        await this.#options.administer(link, decodeJson(frame));
        return;
      }
      if (frame.kind !== Kind.HELLO) throw new VfioError('EPROTO', `${kindName(frame.kind)} came in place of ${kindName(Kind.HELLO)}`);
      const { command, downtimeMs, to } = decodeJson(frame);
      switch (command) {
        case 'status':
          break;
        case 'out':
          await this.#out(link, downtimeOf(downtimeMs), typeof to === 'string' ? to.slice(0, 200) : 'another server');
          return;
        case 'in':
          await this.#in(link);
          return;
        case 'resume':
          this.#resume();
          break;
        case 'let-go':
          this.#letGo();
          break;
        default:
          throw new VfioError('EINVAL', `the door knows no command ${JSON.stringify(command)?.slice(0, 40)}`);
      }
      await link.sendJson(Kind.STATUS, this.#status());
    } catch (error) {
      if (!(error instanceof VfioError)) this.#options.log('error', `moving: ${error instanceof Error ? error.stack : String(error)}`);
      await link.abort(error instanceof VfioError ? error : new VfioError('EIO', 'an error of the server'));
    } finally {
      this.#strangers.remove(link);
      this.#links.delete(link);
    }
  }

  #status(): object {
    const { name, sessions } = this.#options;
    return {
      name,
      state: this.state,
      clients: sessions().length,
      movedIn: this.#lastIn,
      movedOut: this.#lastOut,
      ...(this.#doubt === null ? {} : { inDoubt: this.#doubt.id }),
    };
  }

  #checkFree(): void {
    const { name } = this.#options;
    if (this.#busy !== null) throw new VfioError('EBUSY', `${name} is ${this.#busy}`, { fix: 'Wait until that is done.' });
    if (this.#doubt === null) return;
    throw new VfioError('EBUSY', `it is not known yet what became of move ${this.#doubt.id} of ${name}`, { fix: this.#doubt.fix ?? '' });
  }

  async #out(link: Link, downtimeMs: number, to: string): Promise<void> {
    this.#checkFree();
    this.#options.mayLeave();
    const subject = this.#subject();
    const { log } = this.#options;
    this.#busy = 'moving out';
    log('info', `it is being moved to ${to}`);
    try {
      const figures = await depart(subject, link, { downtimeMs, to });
      this.#lastOut = figures.id;
      log('info', `it was moved to ${to} after ${figures.rounds} rounds, and stood still for ${figures.downtimeMs.toFixed(1)} ms`);
      this.#busy = null;
      // The move is done, whether the other end still listens or not.
      await link.sendJson(Kind.FIGURES, figures).catch(() => {});
    } catch (error) {
      if (error instanceof InDoubt) this.#doubt = error;
      const isGone = !(error instanceof InDoubt) && !subject.isThere();
      const told = isGone
        ? new VfioError('ENODEV', `the client of ${this.#options.name} has gone, and its device with it`, { cause: error })
        : error;
      const why = told instanceof VfioError ? told.message : 'an error of the server';
      const runs =
        error instanceof InDoubt
          ? ', and it stands still until an administrator says what became of it'
          : isGone
            ? ''
            : ', and it goes on here';
      log('warn', `the move to ${to} failed${runs}: ${why}`);
      throw told;
    } finally {
      this.#busy = null;
    }
  }

  /** The device of the client, or the one that waits for its client. */
  #subject(): Subject {
    const { name, sessions, domainOf } = this.#options;
    const waiting = this.#waiting;
    if (waiting !== null) {
      const { device } = waiting;
      const gone = (): void => {
        this.#waiting = null;
        waiting[Symbol.dispose]();
      };
      const pause = (): Disposable => ({ [Symbol.dispose]: () => {} });
      return { name, device, domain: domainOf(device), isThere: () => this.#waiting === waiting, pause, gone };
    }
    const session = sessions().find(({ device }) => device !== null);
    if (session === undefined) {
      throw new VfioError('ENODEV', `no client uses ${name}: there is nothing to move`, {
        fix: 'A device is moved with its client’s memory, while it is used.',
      });
    }
    const device = session.device!;
    return {
      name,
      device,
      domain: domainOf(device),
      isThere: () => sessions().includes(session),
      pause: () => session.pause(),
      gone: (reason) => session.close(reason),
    };
  }

  async #in(link: Link): Promise<void> {
    this.#checkFree();
    const { name, sessions, open, log } = this.#options;
    if (sessions().length > 0) throw new VfioError('EBUSY', `${name} is in use by a client`, { fix: 'Move to a server without a client.' });
    if (this.#waiting !== null) {
      const fix = "Adopt that one, or give it up: 'vfio migrate --let-go ADDRESS'.";
      throw new VfioError('EBUSY', `${name} has a device that was moved here and waits for its client`, { fix });
    }
    this.#busy = 'moving in';
    log('info', 'a device is being moved here');
    try {
      const arrived = (device: Arrived): void => {
        this.#waiting = device;
        this.#lastIn = device.id;
        this.#busy = null;
        // The machine has no user here whom it could ask to release the device.
        device.device.on(() => {
          if (this.#waiting === device && this.#busy === null) this.drop();
        }, ['request']);
        log('info', 'a device was moved here, runs, and waits for its client');
      };
      await arrive(link, { name, open, arrived });
    } catch (error) {
      const by = error instanceof Refused ? 'the source gave up' : 'the move failed';
      log(
        'warn',
        `the device that was being moved here is dropped, ${by}: ${error instanceof VfioError ? error.message : 'an error of the server'}`,
      );
      throw error;
    } finally {
      if (this.#busy === 'moving in') this.#busy = null;
    }
  }

  /**
   * Resolve a move in doubt: the device did not arrive.
   *
   * @throws VfioError ENOENT when none is in doubt
   */
  #resume(): void {
    if (this.#doubt === null) throw new VfioError('ENOENT', `no move of ${this.#options.name} is in doubt`);
    this.#doubt.resume();
    this.#options.log('info', `move ${this.#doubt.id} did not arrive, says its administrator: it goes on here`);
    this.#doubt = null;
  }

  /**
   * Give up the device here: the one that is in doubt, or that waits for its client.
   *
   * @throws VfioError ENOENT when there is none
   */
  #letGo(): void {
    const { name, log } = this.#options;
    if (this.#doubt !== null) {
      this.#lastOut = this.#doubt.id;
      this.#doubt.letGo();
      this.#doubt = null;
    } else if (this.#waiting !== null && this.#busy === null) this.drop();
    else throw new VfioError('ENOENT', `${name} has no device to give up: none is in doubt, and none waits for its client`);
    log('info', 'its administrator gave the device up');
  }

  /** The device that waits is switched off. */
  drop(): void {
    this.#waiting?.[Symbol.dispose]();
    this.#waiting = null;
  }

  /** Ends all moves. */
  [Symbol.dispose](): void {
    using undo = new Cleanup();
    undo.defer(() => this.drop());
    for (const link of this.#links) link.fail(new VfioError('ENODEV', 'the server is closed'));
  }
}

function downtimeOf(value: unknown): number {
  if (value === undefined) return DOWNTIME_MS;
  // JSON has no infinity.
  if (value === null) return Number.POSITIVE_INFINITY;
  if (typeof value === 'number' && value > 0 && value <= DOWNTIME_MAX_MS) return value;
  throw new VfioError('EINVAL', `a downtime of ${JSON.stringify(value)?.slice(0, 20)} ms; give more than 0 and at most ${DOWNTIME_MAX_MS}`);
}
