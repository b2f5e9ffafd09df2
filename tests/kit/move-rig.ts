/**
 * A move within one process: a device in use, a device that waits, and a link between them that can
 * break.
 */
import type { Device } from '../../src/abi/device.ts';
import { RegionIndex } from '../../src/abi/vfio.ts';
import { type Arrived, arrive } from '../../src/api/migrate/arrival.ts';
import { type DepartureOptions, depart, type Subject } from '../../src/api/migrate/departure.ts';
import type { Figures } from '../../src/api/migrate/figures.ts';
import { Link } from '../../src/api/migrate/link.ts';
import { VfioError } from '../../src/base/errno.ts';
import type { DeviceFile } from '../../src/engine/device/device-file.ts';
import type { ByteStream, ListenOptions } from '../../src/sys/byte-stream.ts';
import type { OwnedFd } from '../../src/sys/owned-fd.ts';
import { UnixSocket } from '../../src/sys/unix-socket.ts';

/** Cuts the link after so many bytes, both ways together. Bytes sent before may still arrive. */
export class Breaker {
  left: number;

  constructor(bytes: number) {
    this.left = bytes;
  }
}

class BreakingStream implements ByteStream {
  readonly carriesFds = false;
  readonly #stream: UnixSocket;
  readonly #breaker: Breaker;

  constructor(stream: UnixSocket, breaker: Breaker) {
    this.#stream = stream;
    this.#breaker = breaker;
  }

  send(bytes: Uint8Array, start: number, end: number): number {
    const most = Math.min(end, start + this.#breaker.left);
    if (most <= start) {
      this.#stream[Symbol.dispose]();
      throw new VfioError('ECONNRESET', 'the link is cut');
    }
    const sent = this.#stream.send(bytes, start, most);
    if (sent > 0) this.#breaker.left -= sent;
    return sent;
  }

  receive(into: Uint8Array, start: number, end: number, fds: OwnedFd[]): number {
    return this.#stream.receive(into, start, end, fds);
  }

  wait(what: 'readable' | 'writable', timeoutMs: number): boolean {
    return this.#stream.wait(what, timeoutMs);
  }

  listen(onReadable: () => boolean, options?: ListenOptions): Disposable {
    return this.#stream.listen(onReadable, options);
  }

  onWritable(callback: () => void): Disposable {
    return this.#stream.onWritable(callback);
  }

  [Symbol.dispose](): void {
    this.#stream[Symbol.dispose]();
  }
}

/** A downtime that a slow machine does not exceed. A test that needs less says so. */
const PATIENT_MS = 60_000;

export interface MoveOutcome {
  readonly figures: Figures | null;
  /** Why either side gave up. */
  readonly sourceError: unknown;
  readonly destinationError: unknown;
  readonly arrived: Arrived | null;
  /** Whether the source's client was disconnected; whether it had to wait. */
  readonly gone: boolean;
  readonly paused: boolean;
  /** Bytes sent, both ways together. */
  readonly bytes: number;
}

export interface MoveRigOptions extends Partial<DepartureOptions> {
  readonly breakAfter?: number;
  readonly onPause?: () => void;
}

/** Memory decoding and bus mastering on. */
export function enable(device: Device): void {
  device.region(RegionIndex.CONFIG).write16(4, 6);
}

export async function moveBetween(source: DeviceFile, destination: DeviceFile, options: MoveRigOptions = {}): Promise<MoveOutcome> {
  const breaker = new Breaker(options.breakAfter ?? Number.MAX_SAFE_INTEGER);
  const [here, there] = UnixSocket.pair();
  using from = new Link(new BreakingStream(here, breaker));
  using to = new Link(new BreakingStream(there, breaker));
  const state = { gone: false, paused: false };
  const subject: Subject = {
    name: 'source',
    device: source,
    domain: source.container!.domains[0]!,
    isThere: () => true,
    pause: () => {
      state.paused = true;
      options.onPause?.();
      return {
        [Symbol.dispose]: () => {
          state.paused = false;
        },
      };
    },
    gone: () => {
      state.gone = true;
    },
  };
  let arrived: Arrived | null = null;
  const settled = await Promise.allSettled([
    depart(subject, from, { downtimeMs: PATIENT_MS, to: 'destination', ...options }).catch(async (error: unknown) => {
      if (error instanceof VfioError) await from.abort(error);
      from[Symbol.dispose]();
      throw error;
    }),
    arrive(to, {
      name: 'destination',
      open: () => destination,
      arrived: (device) => {
        arrived = device;
      },
    }).catch(async (error: unknown) => {
      if (error instanceof VfioError) await to.abort(error);
      to[Symbol.dispose]();
      throw error;
    }),
  ]);
  const [left, came] = settled;
  return {
    figures: left.status === 'fulfilled' ? left.value : null,
    sourceError: left.status === 'rejected' ? left.reason : null,
    destinationError: came.status === 'rejected' ? came.reason : null,
    arrived,
    ...state,
    bytes: (options.breakAfter ?? Number.MAX_SAFE_INTEGER) - breaker.left,
  };
}
