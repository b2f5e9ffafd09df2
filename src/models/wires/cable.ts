/** A cable: two ends, and each port is the other's partner. */
import { Loss, type Wire } from '../../abi/wire.ts';
import { Fabric, type FabricOptions, type FabricPort, type Forwarding } from './fabric.ts';

/**
 * A cable between two ports. A port's link is up while the other one is plugged in with its link
 * on.
 */
export function cable(options: FabricOptions = {}): readonly [Wire, Wire] {
  const fabric = new Fabric(acrossCable, { name: 'cable', ...options });
  return [fabric.addPort(`${fabric.name}, end 1`), fabric.addPort(`${fabric.name}, end 2`)];
}

const other = (port: FabricPort, ports: readonly FabricPort[]): FabricPort => ports[1 - port.index]!;

const acrossCable: Forwarding = {
  up: (port, ports) => other(port, ports).takes,
  forward: (from, ports, bytes, offset, length) => (other(from, ports).deliver(bytes, offset, length) ? 1 : Loss.NO_CARRIER),
};
