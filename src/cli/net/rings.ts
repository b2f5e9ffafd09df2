/** Rings of a port as the loops of commands use them: the driver's queues are such rings. */

export interface SendRing {
  /** The memory of all buffers. */
  readonly bytes: Uint8Array;
  /** Frames committed, and frames that the card has taken. */
  readonly committed: number;
  readonly completed: number;
  /** Where in `bytes` a frame goes that `commit` sends; -1: there is no room. */
  reserve(length: number): number;
  commit(length: number): void;
  /** Announces the frames that were committed. */
  ring(): void;
  /** Looks which frames the card has taken. */
  reclaim(): number;
}

export interface ReceiveRing {
  readonly bytes: Uint8Array;
  /** How many frames are there; the oldest has index 0. */
  poll(): number;
  offsetOf(index: number): number;
  lengthOf(index: number): number;
  /** The card gets the buffers of the oldest `frames` back. */
  release(frames: number): void;
}

/** Time, as a loop sees it. */
export interface LoopTools {
  /** Nanoseconds. */
  readonly now: () => number;
  /** Everything else in this process gets a turn: signals, sockets, a model's timers. */
  readonly turn: () => Promise<void>;
  /** Waits so long. */
  readonly sleep: (ms: number) => Promise<void>;
}

export const processTools: LoopTools = {
  now: () => performance.now() * 1e6,
  turn: () => new Promise((resolve) => setImmediate(resolve)),
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
};
