/** The loops of `vfio net send` and `bench`, on rings of memory and a clock of their own. */
import { describe, expect, it } from 'vitest';
import { NUMBER_AT } from './generated.ts';
import { type LoadOptions, runLoad } from './load-loop.ts';
import type { LoopTools, ReceiveRing, SendRing } from './rings.ts';
import { ListedFrames, NumberedFrames, sendFrames } from './send-loop.ts';

const SLOT = 2048;
const SLOTS = 64;
const from = new Uint8Array([2, 0, 0, 0, 0, 1]);
const to = new Uint8Array([2, 0, 0, 0, 0, 2]);

/** Time goes on by a microsecond for each look at the clock, and by as much as a loop sleeps. */
class Time implements LoopTools {
  ns = 0;
  slept = 0;
  turns = 0;
  readonly now = () => (this.ns += 1000);
  readonly turn = async () => void this.turns++;
  readonly sleep = async (ms: number) => {
    this.slept += ms;
    this.ns += ms * 1e6;
  };
}

/** A wire from a ring to itself: `carries` says whether a frame arrives, and how often. */
class Loop implements SendRing, ReceiveRing {
  readonly bytes = new Uint8Array(SLOT * SLOTS);
  committed = 0;
  completed = 0;
  rings = 0;
  /** Frames as they arrived. */
  readonly seen: number[] = [];
  readonly #carries: (index: number) => number;
  readonly #lengths: number[] = [];
  #queue: { at: number; length: number }[] = [];
  #arrived: { at: number; length: number }[] = [];

  constructor(carries: (index: number) => number = () => 1) {
    this.#carries = carries;
  }

  reserve(): number {
    return this.committed - this.completed < SLOTS ? (this.committed % SLOTS) * SLOT : -1;
  }

  commit(length: number): void {
    this.#queue.push({ at: (this.committed % SLOTS) * SLOT, length });
    this.#lengths.push(length);
    this.committed++;
  }

  ring(): void {
    this.rings++;
    for (const frame of this.#queue.splice(0)) {
      for (let copies = this.#carries(this.completed); copies > 0; copies--) this.#arrived.push(frame);
      this.completed++;
    }
  }

  reclaim(): number {
    return 0;
  }

  poll(): number {
    return this.#arrived.length;
  }

  offsetOf(index: number): number {
    return this.#arrived[index]!.at;
  }

  lengthOf(index: number): number {
    return this.#arrived[index]!.length;
  }

  release(frames: number): void {
    for (const { at } of this.#arrived.splice(0, frames)) this.seen.push(this.bytes[at + NUMBER_AT + 3]!);
  }
}

/** A ring that takes nothing. */
class Stuck extends Loop {
  override ring(): void {}
}

const load = (ring: Loop, options: Partial<LoadOptions> = {}) =>
  runLoad(ring, ring, { size: 60, from, to, depth: 8, seconds: 0.01, warmupSeconds: 0.001, tools: new Time(), ...options });

describe('runLoad', () => {
  it('house: counts frames and their times, and leaves none in flight', async () => {
    const ring = new Loop();
    const { frames, lost, others, framesPerSecond, latency, seconds } = await load(ring);
    expect(frames).toBeGreaterThan(100);
    expect([lost, others, latency.count >= frames]).toEqual([0, 0, true]);
    expect(framesPerSecond).toBeCloseTo(frames / seconds);
    expect(ring.poll()).toBe(0);
  });

  it('house: frames that never arrive are lost, and second copies are not counted twice', async () => {
    const third = await load(new Loop((i) => (i % 3 === 0 ? 0 : 1)), { lostMs: 0.5 });
    expect(third.lost).toBeGreaterThan(10);
    expect(third.frames / (third.frames + third.lost)).toBeCloseTo(2 / 3, 1);
    const doubled = await load(new Loop(() => 2));
    expect([doubled.lost, Math.abs(doubled.others - doubled.frames) <= 16]).toEqual([0, true]);
  });

  it('house: two ports without a way between them are ETIMEDOUT', async () => {
    await expect(load(new Loop(() => 0), { lostMs: 0.1, seconds: 1 })).rejects.toMatchObject({ code: 'ETIMEDOUT' });
  });

  it('house: the signal ends it', async () => {
    const stop = new AbortController();
    stop.abort();
    expect((await load(new Loop(), { signal: stop.signal, seconds: 1000 })).frames).toBe(0);
  });
});

describe('sendFrames', () => {
  it('house: sends so many, each with its number', async () => {
    const ring = new Loop();
    const result = await sendFrames(ring, new NumberedFrames(60, from, to), { count: 200, tools: new Time() });
    expect([result.frames, result.bytes]).toEqual([200, 12_000]);
    ring.release(200);
    expect(ring.seen).toEqual(Array.from({ length: 200 }, (_, i) => (i < 200 - SLOTS ? expect.any(Number) : i & 0xff)));
  });

  it('house: frames of a list begin anew at its end', async () => {
    const frames = new ListedFrames([new Uint8Array(60), new Uint8Array(100)]);
    expect((await sendFrames(new Loop(), frames, { count: 5, tools: new Time() })).bytes).toBe(60 * 3 + 100 * 2);
  });

  it('house: a rate is kept, by sleeping where it is low', async () => {
    const time = new Time();
    const slow = await sendFrames(new Loop(), new NumberedFrames(60, from, to), { count: 11, rate: 10, tools: time });
    expect(slow.seconds).toBeCloseTo(1, 1);
    expect(time.slept).toBeGreaterThan(900);
    const fast = await sendFrames(new Loop(), new NumberedFrames(60, from, to), { seconds: 0.1, rate: 50_000, tools: new Time() });
    expect(fast.frames).toBeGreaterThan(4900);
    expect(fast.frames).toBeLessThanOrEqual(5001);
  });

  it('house: a card that takes nothing is ETIMEDOUT, and says how many it took', async () => {
    const sent = sendFrames(new Stuck(), new NumberedFrames(60, from, to), { count: 3, patienceSeconds: 0.01, tools: new Time() });
    await expect(sent).rejects.toMatchObject({ code: 'ETIMEDOUT', message: expect.stringContaining('0 of 3') });
  });

  it('house: the signal ends it, and frames in the ring are sent', async () => {
    const stop = new AbortController();
    const time = new Time();
    const ring = new Loop();
    const turn = async () => {
      if (++time.turns === 3) stop.abort();
    };
    const tools: LoopTools = { now: time.now, turn, sleep: time.sleep };
    const { frames } = await sendFrames(ring, new NumberedFrames(60, from, to), { signal: stop.signal, tools });
    expect([frames, ring.completed]).toEqual([ring.committed, ring.committed]);
  });
});
