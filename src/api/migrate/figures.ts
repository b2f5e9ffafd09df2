/** How far a move is, and what it took. */

/** In bytes; those left are an estimate, and may grow. */
export interface Progress {
  readonly round: number;
  readonly sent: number;
  readonly left: number;
}

/** How a move went: bytes, rounds, and times in milliseconds. */
export interface Figures {
  /** The same on both sides. */
  readonly id: string;
  /** Copied while it ran. */
  readonly rounds: number;
  readonly memoryBytes: number;
  readonly deviceBytes: number;
  /** From its stop to the word that it runs. */
  readonly downtimeMs: number;
  readonly totalMs: number;
}

/** The number of a move. */
export const isMoveId = (value: unknown): value is string => typeof value === 'string' && /^[0-9a-f]{16}$/.test(value);

export const progressBody = (progress: Progress): object => ({ ...progress });

const count = (value: unknown): number => (typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : 0);

/** As a peer says it: what is no number counts as 0. */
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
