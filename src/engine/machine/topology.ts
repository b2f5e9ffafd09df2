/**
 * The functions that the IOMMU cannot keep apart, found from the fabric alone (S1-01).
 *
 * `linux`: the rule of Linux 7.3 (drivers/iommu/iommu.c, pci_device_group(); drivers/pci/pci.c,
 * pci_acs_enabled()). A device is alone when every port on its own path to the root has access
 * control. `strict`: also, the downstream ports of a switch isolate together or not at all. A port
 * without access control forwards what is sent through it to its neighbours, so a device behind it
 * reaches the devices behind the others.
 */
import { VfioError } from '../../base/errno.ts';
import { type FunctionKind, type Grouping, groupings } from './machine-spec.ts';

/** A function, as grouping sees it; `PciFunction` is one. */
export interface TopologyNode {
  readonly bdf: string;
  readonly kind: FunctionKind;
  readonly devfn: number;
  /** The bridge above; null on a root bus. */
  readonly parent: TopologyNode | null;
  readonly isMultifunction: boolean;
  /** Access control services are on. */
  readonly acs: boolean;
  /** The hardware is known to isolate, whatever its registers say. */
  readonly isolates: boolean;
  /** devfns of the same bus that its DMA appears under. */
  readonly dmaAliases: readonly number[];
  /** The same object for functions on the same bus. */
  readonly bus: object;
  /** The function of another bus whose requester id all its DMA carries; null for its own. */
  readonly requester: TopologyNode | null;
}

export interface IsolationClass<N extends TopologyNode> {
  /** In the order given. */
  readonly members: readonly N[];
  /** The reason why each member is in the class; the first has none. */
  readonly reasons: ReadonlyMap<N, string>;
}

/**
 * Whether requests that a function sends or forwards upstream cannot turn round below the IOMMU.
 */
function isolatesAlone(node: TopologyNode): boolean {
  if (node.isolates) return true;
  switch (node.kind) {
    case 'root-port':
    case 'downstream-port':
      return node.acs;
    case 'endpoint':
    case 'integrated-endpoint':
    case 'upstream-port':
      return !node.isMultifunction || node.acs;
    case 'conventional':
    case 'pci-bridge':
    case 'pcie-to-pci-bridge':
      return false;
    default:
      return node.kind satisfies never;
  }
}

/** @throws VfioError EINVAL for an unknown rule */
export function checkGrouping(grouping: Grouping = 'linux'): Grouping {
  if (groupings.includes(grouping)) return grouping;
  throw new VfioError('EINVAL', `unknown grouping '${String(grouping)}'; it is ${groupings.join(' or ')}`);
}

/** The classes of functions that need one owner, in the order of their first members. */
export function partition<N extends TopologyNode>(nodes: readonly N[], grouping: Grouping): IsolationClass<N>[] {
  const leader = new Map<TopologyNode, TopologyNode>(nodes.map((n) => [n, n]));
  const reasons = new Map<N, string>();
  const find = (node: TopologyNode): TopologyNode => {
    let at = node;
    for (let up = leader.get(at)!; up !== at; up = leader.get(at)!) at = up;
    return at;
  };
  const order = new Map<TopologyNode, number>(nodes.map((n, i) => [n, i]));
  const join = (node: N, other: TopologyNode, why: string) => {
    if (!reasons.has(node)) reasons.set(node, why);
    const [a, b] = [find(node), find(other)];
    if (a !== b) leader.set(order.get(a)! > order.get(b)! ? a : b, order.get(a)! > order.get(b)! ? b : a);
  };

  const switchPorts = new Map<object, N[]>();
  for (const n of grouping === 'strict' ? nodes : []) {
    if (n.kind !== 'downstream-port') continue;
    const ports = switchPorts.get(n.bus);
    if (ports === undefined) switchPorts.set(n.bus, [n]);
    else ports.push(n);
  }
  const leak = (node: TopologyNode): TopologyNode | null => {
    if (!isolatesAlone(node)) return node;
    return node.kind === 'downstream-port' ? (switchPorts.get(node.bus)?.find((p) => !isolatesAlone(p)) ?? null) : null;
  };
  /**
   * The first function from `node` up to the root that lets requests turn round; null when none
   * does.
   */
  const leakOnPath = (node: TopologyNode): TopologyNode | null => {
    for (let at: TopologyNode | null = node; at !== null; at = at.parent) {
      const found = leak(at);
      if (found !== null) return found;
    }
    return null;
  };

  const onBus = new Map<object, N[]>();
  for (const node of nodes) {
    const there = onBus.get(node.bus);
    if (there === undefined) onBus.set(node.bus, [node]);
    else there.push(node);
  }

  for (const node of nodes) {
    const { parent } = node;
    if (parent !== null) {
      if (parent.kind === 'pci-bridge' || parent.kind === 'pcie-to-pci-bridge') {
        join(node, parent, `it is on the shared bus behind ${parent.bdf}, whose requester id its DMA carries`);
      } else {
        const through = leakOnPath(parent);
        if (through !== null) join(node, parent, `requests can turn round at ${through.bdf}, which has no access control (ACS)`);
      }
    }
    const { requester } = node;
    if (requester !== null && order.has(requester)) join(node, requester, `its DMA carries the requester id of ${requester.bdf}`);
    const ports = switchPorts.get(node.bus);
    if (ports !== undefined && node.kind === 'downstream-port') {
      const free = ports.find((p) => !isolatesAlone(p));
      const first = ports[0]!;
      if (free !== undefined && first !== node)
        join(node, first, `switch port ${free.bdf} forwards to its neighbours without access control (ACS)`);
    }
    for (const other of onBus.get(node.bus)!) {
      if (other === node) continue;
      if (order.get(other)! < order.get(node)! && other.devfn >> 3 === node.devfn >> 3 && !isolatesAlone(node) && !isolatesAlone(other)) {
        join(node, other, `it is another function of the device of ${other.bdf}, without access control (ACS) between them`);
      }
      if (node.dmaAliases.includes(other.devfn)) join(node, other, `its DMA carries the requester id of ${other.bdf}`);
    }
  }

  const classes = new Map<TopologyNode, N[]>();
  for (const node of nodes) {
    const members = classes.get(find(node));
    if (members === undefined) classes.set(find(node), [node]);
    else members.push(node);
  }
  return [...classes.values()].map((members) => ({
    members,
    reasons: new Map(members.slice(1).map((m) => [m, reasons.get(m) ?? `${members[0]!.bdf} is bound to it`])),
  }));
}
