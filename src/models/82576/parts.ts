/**
 * How the rooms of the card meet. Each room declares its registers in the one `RegisterSpace`, and
 * knows the other rooms by the ports of this file alone.
 *
 *     wire ─► filter ─► rings (receive) ─► memory          rings (transmit) ─► switch ─► wire
 *               ▲                │                                               │
 *               └── switch ◄─────┼───────────────────────────────────────────────┘ to pools
 *                                └─► interrupts
 */
import type { DeviceHost } from '../../abi/device-host.ts';

export const QUEUES = 16;
/** Pools of the switch, and virtual functions (4.5, 7.8). */
export const POOLS = 8;

/** The physical function, as an index of functions; virtual functions are 0 to 7. */
export const PF = -1;

/** One function: where its queues do DMA, and where its interrupts go. */
export interface FunctionSide {
  /** `PF`, or the number of the VF. */
  readonly index: number;
  readonly host: DeviceHost;
}

/** The card, as every room can ask it. */
export interface CardPort {
  /** The function whose memory queue `queue` reaches; null: its VF is not there. */
  ownerOf(queue: number): FunctionSide | null;
  /** Null: that function is not there. */
  functionAt(index: number): FunctionSide | null;
  /** Virtual functions are enabled: queues belong to pools (7.8.2). */
  readonly virtualized: boolean;
  /** How many virtual functions are there. */
  readonly virtualFunctions: number;
}

/** Resets, from the weakest to the strongest (4.2). */
export type ResetKind =
  /** VTCTRL.RST, or an FLR of VF `vf`. `silent`: the PF does not hear of it (VFLRE). */
  | { readonly kind: 'vf'; readonly vf: number; readonly silent?: true }
  /** CTRL.RST: the port's logic; what the EEPROM has loaded stays. */
  | { readonly kind: 'software' }
  /** FLR of the PF, D3hot to D0, power-on. */
  | { readonly kind: 'device' };

/** A room of the card. */
export interface CardPart {
  /** After its registers have their values after a reset. */
  reset(reset: ResetKind): void;
  /** State that no register shows, as plain data, for migration. Absent: there is none. */
  save?(of: number): unknown;
  /** @param of `PF`, or the VF whose state it is. */
  load?(of: number, state: unknown): void;
}

/** A frame on its way to queues, with all that was found out about it. One object is used again. */
export interface ReceivedFrame {
  bytes: Uint8Array;
  offset: number;
  length: number;
  /** It came from a pool of this card, not from the wire (RDESC.STATUS.LB, 7.8.3). */
  looped: boolean;
  /** The tag to strip, as the descriptor reports it (7.4); -1: the frame stays as it is. */
  vlan: number;
  /** Where the tag to strip is in the frame: 12, or 16 behind an outer tag (7.4.5). */
  vlanOffset: number;
  /** RDESC.PKTTYPE of the advanced descriptor's write-back (7.1.5.2). */
  packetType: number;
  rssType: number;
  /** The RSS hash; with RXCSUM.PCSD clear, packet checksum << 16 | IP identification (7.1.5.2). */
  rssHash: number;
  /** RDESC.STATUS bits of the advanced write-back: IPCS, L4CS, UDPCS, PIF, VP, LB. No DD, EOP. */
  status: number;
  /** RDESC.ERRORS bits in the same doubleword: IPE, L4E. */
  errors: number;
  /** Bytes of the headers without the stripped tag, for header split (7.1.10); 0: not split. */
  headerLength: number;
}

/** Receive rings, seen by filter and switch. */
export interface ReceivePort {
  /**
   * Delivers a frame to the queues whose bits are set. A queue without descriptors keeps the frame
   * in the packet buffer, drops it (SRRCTL.Drop_En, QDE), or the card misses it (MPC).
   * @returns the queues that took it, into memory or into the packet buffer
   */
  receive(frame: ReceivedFrame, queues: number): number;
}

/** The switch, seen by transmit rings. */
export interface TransmitPort {
  /** Whether wire and switch take a packet now. The rings look between packets. */
  readonly ready: boolean;
  /**
   * A frame leaves queue `queue`: checks of its pool (anti-spoof), its VLAN, then pools and wire.
   * The bytes are the rings' own: the switch inserts the tag, for which there are 4 bytes of room
   * before `offset`, and it keeps nothing.
   * @param vlan the tag that the descriptor asks for (VLE); -1: none. VMVIR of the pool decides
   */
  transmit(queue: number, bytes: Uint8Array, offset: number, length: number, vlan: number): void;
}

/** Interrupt causes, seen by all rooms (7.3). */
export interface InterruptPort {
  received(queue: number): void;
  transmitted(queue: number): void;
  /** Sets bits of ICR (8.8.1). */
  cause(icr: number): void;
  /** A mailbox or reset has something for VF `vf`: the vector of VTIVAR_MISC. */
  causeOfVf(vf: number): void;
}

/** Statistics, seen by all rooms (8.18): counters by the offset of their register. */
export interface StatisticsPort {
  count(register: number, by?: number): void;
  /** A frame from the wire that a filter took, or one to the wire: totals, sizes, kinds. */
  received(frame: Uint8Array, offset: number, length: number): void;
  transmitted(frame: Uint8Array, offset: number, length: number): void;
  /** The per-function counters of pool `pool` (8.18.…: VFGPRC, VFGPTC …). */
  poolReceived(pool: number, length: number, multicast: boolean, looped: boolean): void;
  poolTransmitted(pool: number, length: number, looped: boolean): void;
}

/** The port's clock (8.16): rooms that see frames say when one passes. */
export interface TimePort {
  /** A frame whose descriptor asks for a time stamp (1588) has left. */
  transmitted(): void;
  /**
   * A frame that the filter knows as one of the precision time protocol has arrived; `ptp` is where
   * its header begins.
   */
  received(bytes: Uint8Array, ptp: number): void;
}

/** Frames from the wire, after the MAC has taken them: the filter's end. */
export interface FramePort {
  arrive(bytes: Uint8Array, offset: number, length: number): void;
}

/** The MAC's end of the wire, seen by the switch. */
export interface MacPort {
  /** Whether the wire takes a packet now. False without a link: queues keep their packets. */
  readonly ready: boolean;
  /** A frame leaves the card. In loopback of the PHY or the MAC it comes back. */
  send(bytes: Uint8Array, offset: number, length: number): void;
}
