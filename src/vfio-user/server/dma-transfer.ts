/** The records of transfers by message (dma-commands.ts). */
import type { VfioError } from '../../base/errno.ts';
import type { DmaLayout } from './dma-layout.ts';

export interface Transfer {
  readonly write: boolean;
  /** Where it begins: a page of 4096 bytes, and a byte from the start of that page. */
  readonly page: number;
  readonly byte: number;
  /**
   * Of a write: the bytes that are still to be sent, or sent again. Of a read: where the bytes go,
   * or are collected.
   */
  buffer: Uint8Array;
  readonly size: number;
  /** Bytes that messages were made for, and bytes that replies came for. */
  started: number;
  finished: number;
  error: VfioError | null;
  /** The event that led to it, which is the cause of its messages. */
  readonly cause: number;
  /** All has come: a read of several messages stores what it has collected. */
  readonly resolve: () => void;
  readonly reject: (error: VfioError) => void;
  /** Of a read: whether its bytes may be stored now. Null: they may. */
  readonly lands: (() => boolean) | null;
}

/** A message of a transfer that waits for its reply. */
export interface Pending {
  readonly transfer: Transfer;
  readonly start: number;
  readonly count: number;
  /** The address of its first byte, as the message has it: two halves of 32 bits. */
  readonly low: number;
  readonly high: number;
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
