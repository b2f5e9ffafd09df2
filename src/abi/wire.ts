/**
 * Wire: what an Ethernet port is plugged into. A wire is a cable to another port, a hub or a switch
 * of several, a tap of this computer, a socket of QEMU, a file of frames. Models get one and do not
 * know its kind.
 *
 * A frame is the bytes from the destination address to the end of the payload: without preamble,
 * and without frame check sequence. A wire pads nothing and cuts nothing. The receiver copies.
 */

/** The longest frame that a wire carries: a jumbo frame of 9728 bytes with two VLAN tags fits. */
export const MAX_FRAME = 16_384;

/**
 * Bytes that a wire still takes after `ready` has become false: a port looks at `ready` between
 * packets, and a packet may be cut into segments of 256 KiB together.
 */
export const WIRE_SLACK = 2 ** 18;

/** The port's half: what a wire calls. A call may come from within the port's own `send`. */
export interface WirePort {
  /**
   * A frame arrives: `length` bytes of `bytes` from `offset` on. They are valid during the call.
   */
  receive(bytes: Uint8Array, offset: number, length: number): void;
  /** `up` of the wire's end has changed. */
  carrierChanged(): void;
  /** `ready` of the wire's end is true again. Called later, never from within `send`. */
  readyAgain(): void;
}

/**
 * A port's place on a wire. Dispose unplugs the port; frames that wait for it are lost or missed,
 * and counted.
 */
export interface WireEnd extends Disposable {
  /** Whether a partner is at the other end, and its link is on: a port has no link without. */
  readonly up: boolean;
  /** Whether the wire takes more frames. While it is false, the port keeps its frames. */
  readonly ready: boolean;
  /**
   * Send a frame, whose bytes the wire copies before it returns. A frame that the wire cannot carry
   * (not up, longer than `MAX_FRAME`, beyond `WIRE_SLACK`) is lost and counted.
   */
  send(bytes: Uint8Array, offset: number, length: number): void;
  /** The port's own link: the partner sees it as `up`. Default: off. */
  setLink(on: boolean): void;
}

/** Why a frame arrived nowhere. Wires may have reasons of their own beside these. */
export const Loss = {
  /** An end was unplugged, or its link was off. */
  NO_CARRIER: 'no carrier',
  /** Longer than `MAX_FRAME`. */
  TOO_LONG: 'too long',
  /** The queue of the wire was full. */
  OVERFLOW: 'overflow',
  /** No port was there that could have received it. */
  NO_RECEIVER: 'no receiver',
  /** Its destination is an address that no bridge forwards: pause frames, spanning tree. */
  RESERVED_ADDRESS: 'reserved address',
  /** The wire loses frames on purpose. */
  CHANCE: 'chance',
  /** The port or a system call behind the wire failed. */
  FAILED: 'failed',
} as const;

/** Frames by the reason of their loss. A reason that never came is absent. */
export type Losses = Readonly<Record<string, number>>;

/**
 * Frames that a wire has carried, seen from its port. Each frame is in one place: over all ports of
 * a cable, a hub or a switch, sent + copied = received + lost + missed + waiting.
 */
export interface WireCounters {
  /** From the port, those that were lost later included. */
  readonly sent: number;
  readonly sentBytes: number;
  /** Frames that the wire added to those sent: copies of a hub or a switch, duplicates. */
  readonly copied: number;
  /** To the port. */
  readonly received: number;
  readonly receivedBytes: number;
  /** Frames that the wire holds now, in both directions. */
  readonly waiting: number;
  /** Frames from the port that arrived nowhere. */
  readonly lost: Losses;
  /** Frames for the port, from outside of this process, that did not reach it. */
  readonly missed: Losses;
}

/** A place where one port can be plugged in. */
export interface Wire extends Disposable {
  /** For messages: `tap vfio0`, `switch lan, port 2`. */
  readonly name: string;
  readonly counters: WireCounters;
  /** @throws VfioError EBUSY while a port is plugged in */
  plug(port: WirePort): WireEnd;
}
