/** The records of transfers by message (dma-commands.ts). */
import type { VfioError } from '../../base/errno.ts';
import type { DmaLayout } from './dma-layout.ts';

export interface Transfer {
  readonly write: boolean;
  readonly address: bigint;
  readonly buffer: Uint8Array;
  /** Bytes that messages were made for, and bytes that replies came for. */
  started: number;
  finished: number;
  error: VfioError | null;
  /** The event that led to it, which is the cause of its messages. */
  readonly cause: number;
  readonly resolve: () => void;
  readonly reject: (error: VfioError) => void;
}

/** A message of a transfer that waits for its reply. */
export interface Pending {
  readonly transfer: Transfer;
  readonly start: number;
  readonly count: number;
  readonly layout: DmaLayout;
  readonly sentNs: number;
  /** `seq` of the message's event; 0 while there is no reader. */
  readonly event: number;
}

/** Where the writer emits its messages. */
export interface CommandEvents {
  readonly on: boolean;
  cause: number;
  /** `seq` of the message that was sent last. */
  readonly last: number;
}
