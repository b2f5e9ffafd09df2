/**
 * Ports of one process that exchange frames: the part that cables, hubs and switches share. A frame
 * arrives within the `send` that it leaves with. A port may send from within its `receive`: such a
 * frame waits in a bounded queue until the delivery that is under way has ended, so that no depth
 * of calls grows. Ports that answer each other without an end do not hold the event loop: after
 * `BURST` frames the rest waits for the next turn.
 */
import { Loss, MAX_FRAME, WIRE_SLACK, type Wire, type WireEnd, type WirePort } from '../../abi/wire.ts';
import { WireTally } from '../../abi/wire-tally.ts';
import { type Clock, SystemClock } from '../../base/clock.ts';
import { VfioError } from '../../base/errno.ts';
import { surface } from '../../base/foreign.ts';
import { FrameQueue } from '../../base/frame-queue.ts';

/** Options of cables, hubs and switches. */
export interface FabricOptions {
  /** For messages: `lan`. */
  readonly name?: string;
  /** Default: the system's. */
  readonly clock?: Clock;
  /**
   * Gets an error that a port throws out of `receive`. Default: it becomes an uncaught error, as
   * that of a listener.
   */
  readonly failed?: (error: unknown) => void;
}

/** Where a frame goes. */
export interface Forwarding {
  /** Whether a port of its own, when plugged in, has a partner. */
  up(port: FabricPort, ports: readonly FabricPort[]): boolean;
  /**
   * Calls `port.deliver` of each port that gets the frame. @returns how many of them took it, or
   * the reason why none could
   */
  forward(from: FabricPort, ports: readonly FabricPort[], bytes: Uint8Array, offset: number, length: number): number | string;
  /** A port was unplugged, or its link went off. */
  left?(port: FabricPort): void;
}

/** Bytes that wait for the end of a delivery before ports see that the wire is not ready. */
const QUEUE_BYTES = 2 ** 20;
/** Frames from the queue that one `send` delivers. */
const BURST = 256;

/** The ports of a cable, a hub or a switch, and the way of frames between them. */
export class Fabric {
  readonly name: string;
  readonly clock: Clock;
  readonly ports: FabricPort[] = [];
  readonly #forwarding: Forwarding;
  readonly #failed: (error: unknown) => void;
  readonly #queue = new FrameQueue(QUEUE_BYTES + WIRE_SLACK);
  /** A copy of the frame that leaves the queue: frames that join the queue may move its bytes. */
  #leaving = new Uint8Array(0);
  #delivering = false;
  #later: Disposable | null = null;
  #full = false;

  constructor(forwarding: Forwarding, { name = 'wire', clock = new SystemClock(), failed = surface }: FabricOptions) {
    this.#forwarding = forwarding;
    this.name = name;
    this.clock = clock;
    this.#failed = failed;
  }

  /** Whether the wire takes more frames. */
  get ready(): boolean {
    return !this.#full;
  }

  addPort(name: string): FabricPort {
    // Frames in the queue know their port by its number, which then cannot have a new owner.
    const free = this.#queue.count === 0 ? this.ports.findIndex(({ removed }) => removed) : -1;
    const port = new FabricPort(this, free < 0 ? this.ports.length : free, name);
    this.ports[port.index] = port;
    return port;
  }

  up(port: FabricPort): boolean {
    return this.#forwarding.up(port, this.ports);
  }

  /** A frame of `port`. */
  send(port: FabricPort, bytes: Uint8Array, offset: number, length: number): void {
    if (this.#delivering || this.#queue.count > 0) {
      this.#enqueue(port, bytes, offset, length);
      return;
    }
    this.#delivering = true;
    this.#forward(port, bytes, offset, length);
    this.#delivering = false;
    if (this.#queue.count > 0) this.#drain();
  }

  #enqueue(port: FabricPort, bytes: Uint8Array, offset: number, length: number): void {
    if (this.#queue.push(bytes, offset, length, port.index)) port.tally.waiting++;
    else port.tally.lose(Loss.OVERFLOW);
    if (this.#queue.held >= QUEUE_BYTES) this.#full = true;
    if (!this.#delivering) this.#drainLater();
  }

  #drain(): void {
    const queue = this.#queue;
    this.#delivering = true;
    for (let i = 0; i < BURST && queue.count > 0; i++) {
      const length = queue.frontLength;
      if (this.#leaving.length < length) this.#leaving = new Uint8Array(MAX_FRAME);
      const from = queue.frontOffset;
      this.#leaving.set(queue.bytes.subarray(from, from + length));
      const port = this.ports[queue.frontTag]!;
      queue.shift();
      port.tally.waiting--;
      this.#forward(port, this.#leaving, 0, length);
    }
    this.#delivering = false;
    if (queue.count > 0 || this.#full) this.#drainLater();
  }

  #drainLater(): void {
    this.#later ??= this.clock.after(0, () => {
      this.#later = null;
      this.#drain();
      if (!this.#full || this.#queue.held >= QUEUE_BYTES / 2) return;
      this.#full = false;
      for (const port of this.ports) port.call((plugged) => plugged.readyAgain());
    });
  }

  #forward(port: FabricPort, bytes: Uint8Array, offset: number, length: number): void {
    const taken = this.#forwarding.forward(port, this.ports, bytes, offset, length);
    if (typeof taken === 'string') port.tally.lose(taken);
    else port.tally.copied += taken - 1;
  }

  /** The link of `port` has changed, or it was plugged in or unplugged. */
  changed(port: FabricPort, wasUp: readonly boolean[]): void {
    if (!port.link) this.#forwarding.left?.(port);
    for (const [i, other] of this.ports.entries()) {
      if (other !== port && other.plugged && this.up(other) !== wasUp[i]) other.call((plugged) => plugged.carrierChanged());
    }
  }

  upNow(): readonly boolean[] {
    return this.ports.map((port) => this.up(port));
  }

  fail(error: unknown): void {
    this.#failed(error);
  }

  /** Frames that wait of a port that goes away are lost; the queue itself forgets none. */
  removePort(port: FabricPort): void {
    port.removed = true;
    if (this.ports.every((each) => each.removed)) {
      this.#later?.[Symbol.dispose]();
      this.#later = null;
      while (this.#queue.count > 0) {
        const { tally } = this.ports[this.#queue.frontTag]!;
        tally.waiting--;
        tally.lose(Loss.NO_CARRIER);
        this.#queue.shift();
      }
    }
  }
}

/** A place for a port on a cable, a hub or a switch. */
export class FabricPort implements Wire {
  readonly tally = new WireTally();
  readonly index: number;
  readonly name: string;
  /** The link of the port that is plugged in. */
  link = false;
  /** Disposed: it stays in the list, so that others keep their numbers. */
  removed = false;
  readonly #fabric: Fabric;
  #port: WirePort | null = null;

  constructor(fabric: Fabric, index: number, name: string) {
    this.#fabric = fabric;
    this.index = index;
    this.name = name;
  }

  get counters(): WireTally {
    return this.tally;
  }

  get plugged(): boolean {
    return this.#port !== null;
  }

  plug(port: WirePort): WireEnd {
    if (this.removed) throw new VfioError('ENODEV', `${this.name} is gone`);
    if (this.#port !== null) {
      throw new VfioError('EBUSY', `a port is plugged into ${this.name} already`, { fix: 'Give each device a wire of its own.' });
    }
    this.#port = port;
    return new FabricEnd(this.#fabric, this, () => {
      const wasUp = this.#fabric.upNow();
      this.#port = null;
      this.link = false;
      this.#fabric.changed(this, wasUp);
    });
  }

  /** Whether a frame can arrive here. */
  get takes(): boolean {
    return this.link && this.#port !== null;
  }

  /** A frame arrives. @returns whether the port has taken it */
  deliver(bytes: Uint8Array, offset: number, length: number): boolean {
    if (this.#port === null || !this.link) return false;
    this.tally.countReceived(length);
    try {
      this.#port.receive(bytes, offset, length);
    } catch (error) {
      this.#fabric.fail(error);
    }
    return true;
  }

  /** Calls the port that is plugged in. Its error reaches no other port. */
  call(action: (port: WirePort) => void): void {
    if (this.#port === null) return;
    try {
      action(this.#port);
    } catch (error) {
      this.#fabric.fail(error);
    }
  }

  [Symbol.dispose](): void {
    if (this.removed) return;
    const wasUp = this.#fabric.upNow();
    this.#port = null;
    this.link = false;
    this.#fabric.removePort(this);
    this.#fabric.changed(this, wasUp);
  }
}

class FabricEnd implements WireEnd {
  readonly #fabric: Fabric;
  readonly #port: FabricPort;
  #unplug: (() => void) | null;

  constructor(fabric: Fabric, port: FabricPort, unplug: () => void) {
    this.#fabric = fabric;
    this.#port = port;
    this.#unplug = unplug;
  }

  get up(): boolean {
    return this.#unplug !== null && !this.#port.removed && this.#fabric.up(this.#port);
  }

  get ready(): boolean {
    return this.#fabric.ready;
  }

  send(bytes: Uint8Array, offset: number, length: number): void {
    const { tally, link } = this.#port;
    tally.countSent(length);
    if (length > MAX_FRAME) tally.lose(Loss.TOO_LONG);
    else if (!link || !this.up) tally.lose(Loss.NO_CARRIER);
    else this.#fabric.send(this.#port, bytes, offset, length);
  }

  setLink(on: boolean): void {
    if (this.#unplug === null || this.#port.link === on) return;
    const wasUp = this.#fabric.upNow();
    this.#port.link = on;
    this.#fabric.changed(this.#port, wasUp);
  }

  [Symbol.dispose](): void {
    const unplug = this.#unplug;
    this.#unplug = null;
    unplug?.();
  }
}
