/** The progress and the figures of a move. */

/** In bytes. The bytes that are left are an estimate, and may grow. */
export interface Progress {
  readonly round: number;
  readonly sent: number;
  readonly left: number;
}

/** How a move went: bytes, rounds, and times in milliseconds. */
export interface Figures {
  /** The number of the move, the same on both sides. */
  readonly id: string;
  /** Rounds of copying while the device ran. */
  readonly rounds: number;
  readonly memoryBytes: number;
  readonly deviceBytes: number;
  /** From the device's stop to the message that it runs. */
  readonly downtimeMs: number;
  readonly totalMs: number;
}

/** The number of a move. */
export const isMoveId = (value: unknown): value is string => typeof value === 'string' && /^[0-9a-f]{16}$/.test(value);

export const progressBody = (progress: Progress): object => ({ ...progress });

const count = (value: unknown): number => (typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : 0);

/** A number in a peer's message. Any other value counts as 0. */
export function progressOf(body: Record<string, unknown>): Progress {
  return { round: count(body.round), sent: count(body.sent), left: count(body.left) };
}

export function figuresOf(body: Record<string, unknown>): Figures {
  return {
    id: isMoveId(body.id) ? body.id : '',
    rounds: count(body.rounds),
    memoryBytes: count(body.memoryBytes),
    deviceBytes: count(body.deviceBytes),
    downtimeMs: count(body.downtimeMs),
    totalMs: count(body.totalMs),
  };
}
