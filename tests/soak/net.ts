/**
 * Two network cards and their drivers on a wire that loses, doubles, delays and swaps frames, by a
 * seed. Ports are reset in the middle of it. Counters of drivers, cards and wire add up, frames are
 * whole, a frame gets through in the end, and memory does not grow. The clock is the run's own: the
 * same seed gives the same run.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Stat } from '../../src/abi/82576-statistics.ts';
import type { Wire } from '../../src/abi/wire.ts';
import { totalOf } from '../../src/abi/wire-tally.ts';
import { simulate } from '../../src/api/simulation.ts';
import { ManualClock } from '../../src/base/clock.ts';
import { macBytes } from '../../src/drivers/82576/mac-address.ts';
import type { Port } from '../../src/drivers/82576/port.ts';
import { startPort } from '../../src/drivers/82576/start-port.ts';
import { DriverDevice } from '../../src/drivers/kit/driver-device.ts';
import { intel82576 } from '../../src/models/82576/82576.ts';
import { cable } from '../../src/models/wires/cable.ts';
import { impaired } from '../../src/models/wires/impaired.ts';
import { Random } from './random.ts';
import type { SoakOptions } from './run.ts';
import { settled, turn } from './settled.ts';

const FRAMES = 1_000_000;
/** Where a frame has its number, and its length: behind the header. */
const NUMBER_AT = 14;
const LENGTH_AT = 18;
const FILL_AT = 20;
const SIZE_MIN = 60;
const SIZE_MAX = 1514;
/** One step: at most so many frames into each ring, and so much time. */
const BURST = 24;
const STEP_MS = 0.2;
/** One step of so many resets a port. */
const RESET_EVERY = 400;
/** One step of so many begins a rest of a driver, and the longest rest. */
const REST_EVERY = 100;
const REST_STEPS = 40;
const PATIENCE_STEPS = 20_000;
const GROWTH_MAX = 24 * 2 ** 20;
/** A local experimental type (IEEE 802). */
const TYPE = [0x88, 0xb5];

/** @param frames sent by the two ports together; with `minutes`, as many as fit into that time */
export async function net({ minutes, seed }: SoakOptions, frames = FRAMES): Promise<string> {
  const clock = new ManualClock();
  const [left, inner] = cable();
  const right = impaired(inner, { loss: 0.01, duplicate: 0.005, reorder: 0.02, delayMs: 0.3, jitterMs: 0.5, seed }, clock);
  const random = new Random(seed);
  const sides = [await Side.start(left, clock, 1), await Side.start(right, clock, 2)] as const;
  try {
    for (const side of sides) await settled(clock, side.port.linkUp());
    const started = performance.now();
    const end = minutes === undefined ? Number.POSITIVE_INFINITY : started + minutes * 60_000;
    const [a, b] = sides;
    let steps = 0;
    let resets = 0;
    let warm = -1;
    const sent = () => a.sent + b.sent;
    while (minutes === undefined ? sent() < frames : performance.now() < end) {
      for (const [from, to] of [
        [a, b],
        [b, a],
      ] as const) {
        from.fill(to, random.below(BURST), random);
      }
      clock.advance(STEP_MS);
      // A driver that takes no frames for a while: the card keeps them, and then misses more.
      for (const side of sides) if (!side.rests(random)) side.take();
      if (++steps % 64 === 0) await turn();
      if (random.below(RESET_EVERY) === 0) {
        // Every second reset hits frames that are under way: those are lost, and not accounted for.
        if (resets % 2 === 0) {
          await drain(clock, sides);
          for (const side of sides) side.check();
        }
        await settled(clock, sides[random.below(2)]!.port.reset());
        for (const side of sides) await settled(clock, side.port.linkUp());
        await drain(clock, sides);
        for (const side of sides) side.begin();
        resets++;
      }
      if (warm < 0 && sent() > frames / 4) warm = memory();
    }
    await drain(clock, sides);
    for (const side of sides) side.check();
    checkWire(left, right);
    const grown = memory() - warm;
    if (minutes === undefined && grown > GROWTH_MAX) throw new Error(`memory grew by ${grown} bytes`);
    await lastFrame(clock, a, b, random);
    await lastFrame(clock, b, a, random);
    const lost = totalOf(left.counters.lost) + totalOf(right.counters.lost);
    const seconds = Math.round((performance.now() - started) / 1000);
    return `${sent()} frames sent, ${a.found + b.found} found whole, ${lost} lost by the wire, ${a.missed + b.missed} missed by cards, ${resets} resets, in ${seconds} s: all counters add up`;
  } finally {
    for (const side of sides) side.port[Symbol.dispose]();
    right[Symbol.dispose]();
    left[Symbol.dispose]();
  }
}

/** A port, and what it has sent and found. */
class Side {
  sent = 0;
  found = 0;
  missed = 0;
  readonly port: Port;
  readonly #wire: Wire;
  readonly #id: number;
  #resting = 0;
  /** Counters at the beginning of this part of the run, which a reset ends. */
  #before = { wireSent: 0, wireReceived: 0, committed: 0, found: 0, TPT: 0, TPR: 0, MPC: 0 };

  private constructor(port: Port, wire: Wire, id: number) {
    this.port = port;
    this.#wire = wire;
    this.#id = id;
    this.begin();
  }

  static async start(wire: Wire, clock: ManualClock, id: number): Promise<Side> {
    const { device, owns } = simulate(intel82576({ wire, mac: `52:54:00:00:00:0${id}` }), { clock });
    const port = await settled(
      clock,
      startPort(DriverDevice.attach(device, { owns, clock }), { interrupts: 'poll', transmitEntries: 64, receiveEntries: 64 }),
    );
    return new Side(port, wire, id);
  }

  fill(to: Side, frames: number, random: Random): void {
    const queue = this.port.transmitQueue();
    for (let i = 0; i < frames; i++) {
      const length = SIZE_MIN + random.below(SIZE_MAX - SIZE_MIN);
      const at = queue.reserve(length);
      if (at < 0) break;
      const { bytes } = queue;
      bytes.set(macBytes(to.port.mac), at);
      bytes.set(macBytes(this.port.mac), at + 6);
      bytes.set(TYPE, at + 12);
      const view = new DataView(bytes.buffer, bytes.byteOffset + at, length);
      view.setUint32(NUMBER_AT, this.sent);
      view.setUint16(LENGTH_AT, length);
      bytes.fill((this.sent + this.#id) & 0xff, at + FILL_AT, at + length);
      queue.commit(length);
      this.sent++;
    }
    queue.ring();
  }

  rests(random: Random): boolean {
    if (this.#resting > 0) this.#resting--;
    else if (random.once(REST_EVERY)) this.#resting = random.below(REST_STEPS);
    return this.#resting > 0;
  }

  /** Every frame that arrives is one that the other port has sent, with all of its bytes. */
  take(): void {
    const queue = this.port.receiveQueue();
    const arrived = queue.poll();
    const other = 3 - this.#id;
    for (let i = 0; i < arrived; i++) {
      const [at, length] = [queue.offsetOf(i), queue.lengthOf(i)];
      const view = new DataView(queue.bytes.buffer, queue.bytes.byteOffset + at, length);
      const fill = (view.getUint32(NUMBER_AT) + other) & 0xff;
      if (view.getUint16(LENGTH_AT) !== length) throw new Error(`a frame of ${view.getUint16(LENGTH_AT)} bytes arrived with ${length}`);
      for (let k = FILL_AT; k < length; k++) {
        if (queue.bytes[at + k] !== fill) throw new Error(`byte ${k} of a frame is ${queue.bytes[at + k]}, not ${fill}`);
      }
    }
    this.found += arrived;
    queue.release(arrived);
  }

  get idle(): boolean {
    const queue = this.port.transmitQueue();
    queue.reclaim();
    return queue.inFlight === 0 && this.#wire.counters.waiting === 0;
  }

  begin(): void {
    this.#before = this.#now();
  }

  /** Driver, card and wire agree on the frames since `begin`. */
  check(): void {
    const [before, now] = [this.#before, this.#now()];
    const grown = (name: keyof typeof now) => now[name] - before[name];
    const agree = (a: readonly [string, number], b: readonly [string, number]) => {
      if (a[1] !== b[1]) throw new Error(`port ${this.#id}: ${a[0]} are ${a[1]}, and ${b[0]} ${b[1]}: ${JSON.stringify({ before, now })}`);
    };
    agree(['frames that the driver sent', grown('committed')], ['frames that the card sent (TPT)', grown('TPT')]);
    agree(['frames that the card sent (TPT)', grown('TPT')], ['frames on the wire', grown('wireSent')]);
    agree(['frames that the wire delivered', grown('wireReceived')], ['frames that arrived (TPR)', grown('TPR')]);
    agree(['frames that arrived (TPR)', grown('TPR')], ['frames that were found or missed', grown('found') + grown('MPC')]);
    this.missed += grown('MPC');
    this.begin();
  }

  #now() {
    const { registers } = this.port.statistics();
    const { sent, received } = this.#wire.counters;
    const at = (name: keyof typeof Stat) => registers[name] ?? 0;
    const { committed } = this.port.transmitQueue();
    return { wireSent: sent, wireReceived: received, committed, found: this.found, TPT: at('TPT'), TPR: at('TPR'), MPC: at('MPC') };
  }
}

/** Every frame is in one place. */
function checkWire(...wires: readonly Wire[]): void {
  let entered = 0;
  let left = 0;
  for (const { counters } of wires) {
    entered += counters.sent + counters.copied;
    left += counters.received + totalOf(counters.lost) + totalOf(counters.missed) + counters.waiting;
  }
  if (entered !== left) throw new Error(`${entered} frames entered the wire, and ${left} are accounted for`);
}

/** Nothing is under way any more. */
async function drain(clock: ManualClock, sides: readonly [Side, Side]): Promise<void> {
  for (let step = 0; step < PATIENCE_STEPS; step++) {
    clock.advance(STEP_MS);
    for (const side of sides) side.take();
    if (step > 100 && sides.every((side) => side.idle)) return;
    if (step % 64 === 0) await turn();
  }
  throw new Error('frames stay under way: a ring or the wire is wedged');
}

/** No port is wedged: a frame arrives, although the wire may lose some. */
async function lastFrame(clock: ManualClock, from: Side, to: Side, random: Random): Promise<void> {
  const { found } = to;
  for (let i = 0; i < 100 && to.found === found; i++) {
    from.fill(to, 1, random);
    clock.advance(20);
    to.take();
    await turn();
  }
  if (to.found === found) throw new Error('no frame arrives any more');
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function memory(): number {
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
