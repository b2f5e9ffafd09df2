/** A wire of this computer: one port, a bounded queue, and a channel for frames. */
import { Loss, MAX_FRAME, WIRE_SLACK, type Wire, type WireEnd, type WirePort } from '../../abi/wire.ts';
import { WireTally } from '../../abi/wire-tally.ts';
import { type Clock, SystemClock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import { callForeign, surface } from '../../base/foreign.ts';
import { FrameQueue } from '../../base/frame-queue.ts';
import { type ChannelUser, type FrameChannel, FULL } from './frame-channel.ts';

/** Bytes that wait for the channel before the port has to keep its frames. */
const QUEUE_BYTES = 2 ** 20;

/** Options of a wire of this computer. */
export interface HostWireOptions {
  /** For tries to reach a peer. Default: the system's. */
  readonly clock?: Clock;
  /** Gets lines about peers that come and go. Default: nothing does. */
  readonly report?: (line: string) => void;
}

/** Frames that come while no port is plugged in, or its link is off, are missed and counted. */
export class HostWire implements Wire, ChannelUser {
  readonly name: string;
  readonly clock: Clock;
  readonly tally = new WireTally();
  readonly #channel: FrameChannel;
  readonly #report: (line: string) => void;
  readonly #queue = new FrameQueue(QUEUE_BYTES + WIRE_SLACK);
  #port: WirePort | null = null;
  #link = false;
  #full = false;
  #disposed = false;

  /** Takes `channel` over. */
  constructor(channel: FrameChannel, { clock = new SystemClock(), report = () => {} }: HostWireOptions = {}) {
    this.#channel = channel;
    this.name = channel.name;
    this.clock = clock;
    this.#report = report;
    channel.start(this);
  }

  get counters(): WireTally {
    return this.tally;
  }

  plug(port: WirePort): WireEnd {
    if (this.#disposed) throw new VfioError('ENODEV', `${this.name} is gone`);
    if (this.#port !== null) {
      throw new VfioError('EBUSY', `a port is plugged into ${this.name} already`, { fix: 'Give each device a wire of its own.' });
    }
    this.#port = port;
    return new HostEnd(this, port);
  }

  /** For its end alone, as all members below. */
  get up(): boolean {
    return !this.#disposed && this.#channel.up;
  }

  get ready(): boolean {
    return !this.#full;
  }

  send(bytes: Uint8Array, offset: number, length: number): void {
    this.tally.countSent(length);
    if (length > MAX_FRAME) this.tally.lose(Loss.TOO_LONG);
    else if (!this.#link || !this.up) this.tally.lose(Loss.NO_CARRIER);
    else if (this.#queue.count > 0 || this.#channel.send(bytes, offset, length) === FULL) this.#enqueue(bytes, offset, length);
  }

  #enqueue(bytes: Uint8Array, offset: number, length: number): void {
    if (this.#queue.push(bytes, offset, length)) this.tally.waiting++;
    else this.tally.lose(Loss.OVERFLOW);
    if (this.#queue.held >= QUEUE_BYTES) this.#full = true;
  }

  setLink(on: boolean): void {
    if (this.#link === on || this.#disposed) return;
    this.#link = on;
    this.#channel.setLink?.(on);
  }

  unplug(): void {
    this.setLink(false);
    this.#port = null;
    this.#loseQueue();
  }

  #loseQueue(): void {
    const frames = this.#queue.clear();
    this.tally.waiting -= frames;
    this.tally.lose(Loss.NO_CARRIER, frames);
    this.#full = false;
  }

  arrived(bytes: Uint8Array, offset: number, length: number): void {
    const port = this.#port;
    if (length > MAX_FRAME) {
      this.tally.miss(Loss.TOO_LONG);
    } else if (port === null || !this.#link) {
      this.tally.miss(Loss.NO_CARRIER);
    } else {
      this.tally.countReceived(length);
      try {
        port.receive(bytes, offset, length);
      } catch (error) {
        surface(error);
      }
    }
  }

  carrierChanged(): void {
    const wasFull = this.#full;
    // Frames for a peer that has gone are of no use to the next one.
    if (!this.#channel.up) this.#loseQueue();
    const port = this.#port;
    if (port === null) return;
    callForeign(
      this.name,
      () => port.carrierChanged(),
      (_what, error) => surface(error),
    );
    if (wasFull && !this.#full) this.#readyAgain();
  }

  onRoom(): void {
    const queue = this.#queue;
    while (queue.count > 0) {
      if (this.#channel.send(queue.bytes, queue.frontOffset, queue.frontLength) === FULL) break;
      queue.shift();
      this.tally.waiting--;
    }
    if (!this.#full || queue.held >= QUEUE_BYTES / 2) return;
    this.#full = false;
    this.#readyAgain();
  }

  #readyAgain(): void {
    const port = this.#port;
    if (port !== null)
      callForeign(
        this.name,
        () => port.readyAgain(),
        (_what, error) => surface(error),
      );
  }

  report(line: string): void {
    this.#report(`${this.name}: ${line}`);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#loseQueue();
    this.#disposed = true;
    this.#port = null;
    this.#channel[Symbol.dispose]();
  }
}

class HostEnd implements WireEnd {
  readonly #wire: HostWire;
  #port: WirePort | null;

  constructor(wire: HostWire, port: WirePort) {
    this.#wire = wire;
    this.#port = port;
  }

  get up(): boolean {
    return this.#port !== null && this.#wire.up;
  }

  get ready(): boolean {
    return this.#wire.ready;
  }

  send(bytes: Uint8Array, offset: number, length: number): void {
    if (this.#port !== null) {
      this.#wire.send(bytes, offset, length);
      return;
    }
    this.#wire.tally.countSent(length);
    this.#wire.tally.lose(Loss.NO_CARRIER);
  }

  setLink(on: boolean): void {
    if (this.#port !== null) this.#wire.setLink(on);
  }

  [Symbol.dispose](): void {
    if (this.#port === null) return;
    this.#port = null;
    this.#wire.unplug();
  }
}
