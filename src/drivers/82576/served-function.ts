/** The state of one virtual function, and the address that it has by itself. */
/** A virtual function, as the physical function's driver knows it. */
export interface VirtualFunctionState {
  readonly index: number;
  /** Its driver has asked for a reset, and works. */
  readonly started: boolean;
  /** Its address; null: it has none before its driver asks for a reset. */
  readonly mac: string | null;
  /** The administrator has chosen the address, and the function cannot change it. */
  readonly macFixed: boolean;
  /** The VLAN that the card puts on its frames and takes off; 0: none. */
  readonly vlan: number;
  /** VLANs that it has asked for. */
  readonly vlans: readonly number[];
  /** The card checks source addresses and VLANs of its frames. */
  readonly spoofCheck: boolean;
  /** It may ask for promiscuity, and change an address that was given. */
  readonly trusted: boolean;
  /** Messages that were answered, and those that were refused. */
  readonly requests: number;
  readonly refused: number;
}

/** The driver's own view: `VirtualFunctionState` shows it. */
export interface ServedFunction {
  clearToSend: boolean;
  mac: Uint8Array | null;
  macFixed: boolean;
  vlan: number;
  priority: number;
  spoofCheck: boolean;
  trusted: boolean;
  hashes: number[];
  allMulticast: boolean;
  promiscuous: boolean;
  frameMax: number;
  addresses: number;
  requests: number;
  refused: number;
  refusedAtNs: number;
  /** A message that could not be read or answered yet. */
  waiting: boolean;
  answer: number[] | null;
  /** While it is not 0, the function has not read the last answer. */
  unreadTicks: number;
  /** It is to look at the link, once the last answer is read. */
  pingDue: boolean;
}

/** Ethernet's longest frame with a tag and its check sequence. */
export const FRAME_STANDARD = 1522;

/**
 * The address of a function that the administrator has given none: of the physical function's, with
 * the bit of local administration. DPDK's driver does not start without an address.
 */
export function defaultMac(own: Uint8Array, vf: number): Uint8Array {
  const mac = Uint8Array.from(own);
  mac[0] = (mac[0]! & 0xfe) | 2;
  mac[1] = mac[1]! ^ (0x80 + vf);
  return mac;
}

/** A function before anything is known about it. */
export function newFunction(): ServedFunction {
  return {
    clearToSend: false,
    mac: null,
    macFixed: false,
    vlan: 0,
    priority: 0,
    spoofCheck: true,
    trusted: false,
    hashes: [],
    allMulticast: false,
    promiscuous: false,
    frameMax: FRAME_STANDARD,
    addresses: 0,
    requests: 0,
    refused: 0,
    refusedAtNs: Number.NEGATIVE_INFINITY,
    waiting: false,
    answer: null,
    unreadTicks: 0,
    pingDue: false,
  };
}
