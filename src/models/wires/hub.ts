/** A hub, and a switch: wires of several ports. */
import { Loss, type Wire } from '../../abi/wire.ts';
import { AddressTable, keyOf, MULTICAST } from './address-table.ts';
import { Fabric, type FabricOptions, type FabricPort, type Forwarding } from './fabric.ts';

/** A wire that ports can join. */
export interface SharedWire {
  readonly name: string;
  /** A place for one more port. Dispose it, and the place is gone. */
  port(): Wire;
}

/** A repeater: each frame goes to all other ports. */
export function hub(options: FabricOptions = {}): SharedWire {
  const fabric = new Fabric(toAllOthers, { name: 'hub', ...options });
  return shared(fabric);
}

function shared(fabric: Fabric): SharedWire {
  let number = 0;
  return { name: fabric.name, port: () => fabric.addPort(`${fabric.name}, port ${++number}`) };
}

function flood(from: FabricPort, ports: readonly FabricPort[], bytes: Uint8Array, offset: number, length: number): number | string {
  let taken = 0;
  for (let i = 0; i < ports.length; i++) {
    const port = ports[i]!;
    if (port !== from && port.deliver(bytes, offset, length)) taken++;
  }
  return taken === 0 ? Loss.NO_RECEIVER : taken;
}

const toAllOthers: Forwarding = { up: () => true, forward: flood };

/** Options of a switch. */
export interface SwitchOptions extends FabricOptions {
  /** Addresses that it remembers at most. Default: 4096. */
  readonly addresses?: number;
  /** How long it remembers an address that sends nothing. Default: 300, as IEEE 802.1D has it. */
  readonly ageingSeconds?: number;
}

/**
 * A bridge that learns (IEEE 802.1D): a frame goes to the port behind which its destination was
 * seen last, and to all other ports while that is not known. It forwards no frame to the addresses
 * 01-80-C2-00-00-00 to -0F.
 */
export function learningSwitch({ addresses = 4096, ageingSeconds = 300, ...options }: SwitchOptions = {}): SharedWire {
  const fabric: Fabric = new Fabric(new Learning(new AddressTable(addresses, ageingSeconds * 1e9), () => fabric.clock.nowNs()), {
    name: 'switch',
    ...options,
  });
  return shared(fabric);
}

class Learning implements Forwarding {
  readonly #table: AddressTable;
  readonly #now: () => number;

  constructor(table: AddressTable, now: () => number) {
    this.#table = table;
    this.#now = now;
  }

  up(): boolean {
    return true;
  }

  forward(from: FabricPort, ports: readonly FabricPort[], bytes: Uint8Array, offset: number, length: number): number | string {
    // Shorter than two addresses: nothing says where it goes.
    if (length < 12) return Loss.NO_RECEIVER;
    const now = this.#now();
    // A group's address is no source (IEEE 802.3, 3.2.3).
    if ((bytes[offset + 6]! & MULTICAST) === 0) this.#table.learn(keyOf(bytes, offset + 6), from.index, now);
    if ((bytes[offset]! & MULTICAST) !== 0) {
      return isReserved(bytes, offset) ? Loss.RESERVED_ADDRESS : flood(from, ports, bytes, offset, length);
    }
    const known = this.#table.find(keyOf(bytes, offset), now);
    if (known < 0) return flood(from, ports, bytes, offset, length);
    // A frame that stays behind its own port has reached its receiver there already.
    if (known === from.index) return Loss.NO_RECEIVER;
    return ports[known]!.deliver(bytes, offset, length) ? 1 : Loss.NO_RECEIVER;
  }

  left(port: FabricPort): void {
    this.#table.forget(port.index);
  }
}

/** Addresses that no bridge forwards (IEEE 802.1D, table 7-10). */
function isReserved(bytes: Uint8Array, at: number): boolean {
  return (
    bytes[at] === 0x01 &&
    bytes[at + 1] === 0x80 &&
    bytes[at + 2] === 0xc2 &&
    bytes[at + 3] === 0 &&
    bytes[at + 4] === 0 &&
    (bytes[at + 5]! & 0xf0) === 0
  );
}
