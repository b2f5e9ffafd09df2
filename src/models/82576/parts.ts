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

/** What every room can ask the card. */
export interface CardPort {
  /** The function whose memory queue `queue` reaches; null: its VF is not there. */
  ownerOf(queue: number): FunctionSide | null;
  /** Null: that function is not there. */
  functionAt(index: number): FunctionSide | null;
  /** Virtual functions are enabled: queues belong to pools (7.8.2). */
  readonly virtualized: boolean;
}

/** Resets, from the weakest to the strongest (4.2). */
export type ResetKind =
  /** CTRL_EXT.VFRSTD, VTCTRL.RST, or an FLR of VF `vf`. */
  | { readonly kind: 'vf'; readonly vf: number }
  /** CTRL.RST: the port's logic; what the EEPROM has loaded stays. */
  | { readonly kind: 'software' }
  /** FLR of the PF, CTRL.DEV_RST, D3hot to D0, power-on. */
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
  /** The tag, as the descriptor reports it; -1: none, so there is none to strip. */
  vlan: number;
  /** RDESC.PKTTYPE of the advanced descriptor's write-back (7.1.5.2). */
  packetType: number;
  rssType: number;
  rssHash: number;
  /** RDESC.STATUS bits: IPCS, L4CS, UDPCS, PIF, VP. Without DD and EOP. */
  status: number;
  /** RDESC.ERRORS bits: IPE, L4E. */
  errors: number;
  /** Bytes of the headers, for header split (7.1.10); 0: not split. */
  headerLength: number;
}

/** Receive rings, seen by filter and switch. */
export interface ReceivePort {
  /**
   * Delivers a frame to the queues whose bits are set. A queue without descriptors keeps the frame
   * in the packet buffer, drops it (SRRCTL.Drop_En, QDE), or the card misses it (MPC).
   */
  receive(frame: ReceivedFrame, queues: number): void;
}

/** The switch, seen by transmit rings. */
export interface TransmitPort {
  /** Whether wire and switch take a packet now. The rings look between packets. */
  readonly ready: boolean;
  /**
   * A frame leaves queue `queue`: checks of its pool (anti-spoof), its VLAN, then pools and wire.
   * The bytes are the rings' own: the switch may insert a tag, for which there are 4 bytes of room
   * before `offset`, and it keeps nothing.
   */
  transmit(queue: number, bytes: Uint8Array, offset: number, length: number): void;
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
