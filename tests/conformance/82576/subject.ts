/**
 * The subject of the 82576 driver's cases: two cards, plugged into one wire, behind any
 * implementation of `Device`. Each can be opened any number of times, one user after another.
 */
import { onTestFinished } from 'vitest';
import { VfioError } from '../../../src/base/errno.ts';
import type { PortOptions } from '../../../src/drivers/82576/options.ts';
import { PhysicalPort } from '../../../src/drivers/82576/physical-port.ts';
import type { Port } from '../../../src/drivers/82576/port.ts';
import { VirtualPort } from '../../../src/drivers/82576/virtual-port.ts';
import type { DriverDevice } from '../../../src/drivers/kit/driver-device.ts';

export interface NetSubject extends AsyncDisposable {
  /** A card, as after power-on or as the last user left it. */
  open(card: 0 | 1): DriverDevice;
  /** Take a card away from its user. Absent where the subject cannot. */
  unplug?(card: 0 | 1): Promise<void>;
  /**
   * Enables so many virtual functions of card 0, whose driver holds it. Absent where the subject
   * has none.
   */
  enableVfs?(count: number): Promise<void>;
  /** A virtual function of card 0. */
  openVf?(vf: number): DriverDevice;
  /** The cards are QEMU's, which differ from the datasheet in ways that a case names. */
  readonly qemu?: boolean;
}

export type OpenNet = () => Promise<NetSubject>;

/** Two ports whose links are up. */
export interface Pair {
  readonly subject: NetSubject;
  readonly left: PhysicalPort;
  readonly right: PhysicalPort;
}

/** Where a timeout is not the subject, work may take as long as the machine needs. */
const PATIENCE_MS = 60_000;

/** Two drivers, both closed when the test has ended. */
export async function begin(open: OpenNet, options: PortOptions = {}, ofRight: PortOptions = options): Promise<Pair> {
  const subject = await open();
  onTestFinished(() => subject[Symbol.asyncDispose]());
  const left = await drive(subject, 0, options);
  const right = await drive(subject, 1, ofRight);
  await left.linkUp({ timeoutMs: PATIENCE_MS });
  await right.linkUp({ timeoutMs: PATIENCE_MS });
  return { subject, left, right };
}

export async function drive(subject: NetSubject, card: 0 | 1, options: PortOptions = {}): Promise<PhysicalPort> {
  const port = await PhysicalPort.start(subject.open(card), { timeoutMs: PATIENCE_MS, ...options });
  onTestFinished(() => port[Symbol.dispose]());
  return port;
}

export async function driveVf(subject: NetSubject, vf: number, options: PortOptions = {}): Promise<VirtualPort> {
  const port = await VirtualPort.start(subject.openVf!(vf), options);
  onTestFinished(() => port[Symbol.dispose]());
  return port;
}

export function failure(work: Promise<unknown>): Promise<VfioError> {
  return work.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => {
      if (error instanceof VfioError) return error;
      throw error;
    },
  );
}

/** Frames that a port receives, in order, from now on. */
export class Inbox implements Disposable {
  readonly #frames: ReturnType<Port['frames']>;
  readonly #end = new AbortController();

  constructor(port: Port) {
    this.#frames = port.frames({ signal: this.#end.signal });
  }

  /** The next frame. */
  async next() {
    const { value } = await this.#frames.next();
    if (value === undefined) throw new Error('the port gives no frames any more');
    return value;
  }

  async take(count: number) {
    const frames = [];
    while (frames.length < count) frames.push(await this.next());
    return frames;
  }

  [Symbol.dispose](): void {
    this.#end.abort();
  }
}
