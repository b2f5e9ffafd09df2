/** The counters of a wire, as the wire keeps them. */
import type { Losses, WireCounters } from './wire.ts';

/** Counts for one port. The object stays the same; its numbers grow. */
export class WireTally implements WireCounters {
  sent = 0;
  sentBytes = 0;
  copied = 0;
  received = 0;
  receivedBytes = 0;
  waiting = 0;
  readonly lost: Record<string, number> = {};
  readonly missed: Record<string, number> = {};

  countSent(length: number): void {
    this.sent++;
    this.sentBytes += length;
  }

  countReceived(length: number): void {
    this.received++;
    this.receivedBytes += length;
  }

  lose(reason: string, frames = 1): void {
    if (frames > 0) this.lost[reason] = (this.lost[reason] ?? 0) + frames;
  }

  miss(reason: string, frames = 1): void {
    if (frames > 0) this.missed[reason] = (this.missed[reason] ?? 0) + frames;
  }
}

/** The counters of a wire around another one: `outer` is what its port sees of itself. */
export function countersAround(outer: WireCounters, inner: WireCounters): WireCounters {
  const { sent, sentBytes, received, receivedBytes } = outer;
  return {
    sent,
    sentBytes,
    copied: outer.copied + inner.copied,
    received,
    receivedBytes,
    waiting: outer.waiting + inner.waiting,
    lost: sumOf(outer.lost, inner.lost),
    missed: sumOf(outer.missed, inner.missed),
  };
}

function sumOf(one: Losses, other: Losses): Losses {
  const sum: Record<string, number> = { ...one };
  for (const [reason, frames] of Object.entries(other)) sum[reason] = (sum[reason] ?? 0) + frames;
  return sum;
}

/** All frames of a record of losses. */
export function totalOf(losses: Losses): number {
  return Object.values(losses).reduce((sum, frames) => sum + frames, 0);
}
