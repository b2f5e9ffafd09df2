/** The states of a port, and the events that `port.on` reports. */
import { Emitter } from '../../base/emitter.ts';
import { surface } from '../../base/foreign.ts';

/** The states of a port. starting and resetting: only the driver itself uses the port. */
export type PortState = 'starting' | 'live' | 'resetting' | 'failed' | 'closed' | 'gone';

/** A link, as the port sees it. */
export interface Link {
  readonly up: boolean;
  /** Mbit/s; 0 while the link is down. */
  readonly speed: number;
  readonly fullDuplex: boolean;
}

/** An event that the card or its driver reports. */
export type PortEvent =
  | { readonly kind: 'link'; readonly link: Link }
  /** The port is being reset. Frames in its rings are lost. */
  | { readonly kind: 'reset'; readonly reason: string }
  /** The port works again. */
  | { readonly kind: 'recovered' }
  /** The port did not come back. `port.reset()` tries again. */
  | { readonly kind: 'failed'; readonly error: Error }
  | { readonly kind: 'gone'; readonly reason: string }
  /** A virtual function has asked for its reset: its driver has started. */
  | { readonly kind: 'vf-started'; readonly vf: number; readonly mac: string }
  /** A function-level reset, or its disable, has ended the work of a virtual function. */
  | { readonly kind: 'vf-reset'; readonly vf: number }
  /** A request of a virtual function was refused. */
  | { readonly kind: 'vf-refused'; readonly vf: number; readonly request: string; readonly reason: string }
  /** The card has caught a virtual function that sent from an address or VLAN of another. */
  | { readonly kind: 'vf-spoofed'; readonly queues: number }
  /** The administrator has enabled or disabled virtual functions. */
  | { readonly kind: 'vfs'; readonly count: number }
  /** The physical function has new values for this virtual function: its driver starts anew. */
  | { readonly kind: 'pf-reset' };

/** A listener of `port.on`. */
export type PortListener = (event: PortEvent) => void;

/**
 * The failure of a listener surfaces as an uncaught error. The event reaches the others all the
 * same.
 */
export class PortListeners extends Emitter<PortEvent> {
  constructor() {
    super((_event, error) => surface(error));
  }
}
