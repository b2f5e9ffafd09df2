/** A descriptor that takes and gives frames: the inner part of a wire of this computer. */
import type { WireTally } from '../../abi/wire-tally.ts';
import type { Clock } from '../../base/clock.ts';

/** Results of `send`. */
export const TAKEN = 1;
/** The channel has no room now: `onRoom` of its user is called when it has. */
export const FULL = 0;
/** The frame cannot be sent; the channel has counted it. */
export const LOST = -1;

/** The wire, as its channel sees it. */
export interface ChannelUser {
  readonly tally: WireTally;
  readonly clock: Clock;
  /** A frame has come. */
  arrived(bytes: Uint8Array, offset: number, length: number): void;
  /** `up` has changed. */
  carrierChanged(): void;
  /** The channel takes frames again. */
  onRoom(): void;
  /** A line for people: the peer is there, the peer has gone. */
  report(line: string): void;
}

/** Frames over a descriptor. Neither side waits for the other. */
export interface FrameChannel extends Disposable {
  /** For messages: `tap vfio0`. */
  readonly name: string;
  /** Whether frames can be sent: a peer is there. */
  readonly up: boolean;
  /** Frames arrive from now on, and `up` follows the peer. */
  start(user: ChannelUser): void;
  /** One of `TAKEN`, `FULL` and `LOST`; the bytes are copied. */
  send(bytes: Uint8Array, offset: number, length: number): number;
  /** The port's own link, for a peer that can see it. */
  setLink?(on: boolean): void;
}

/** Frames that one call of the event loop delivers, so that others have their turn. */
export const FRAMES_PER_TURN = 64;

/** Time between two tries to reach a peer, as QEMU's `reconnect-ms` is set by people. */
export const RETRY_MS = 1000;
