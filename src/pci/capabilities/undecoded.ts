/** Capabilities of which lspci prints at most a title. VFIO hides all of them. */
import { CapId, ExtCapId } from '../../abi/pci.ts';
import { type CapabilityAccess, hidden, Why } from '../permissions/rows.ts';
import { type CapabilityKind, titleOnly } from './kind.ts';

type Row = readonly [id: number, name: string, title: string | undefined, access?: CapabilityAccess];

const unsupported = hidden(Why.NOT_SUPPORTED);
const beyond = hidden(Why.REACHES_BEYOND);
const rootOnly = hidden(Why.ROOT);

const standard: readonly Row[] = [
  [CapId.NULL, 'Null', 'Null'],
  [CapId.CHSWP, 'CompactPCI Hot Swap', 'CompactPCI hot-swap <?>', unsupported],
  [CapId.CCRC, 'CompactPCI Resource Control', 'CompactPCI central resource control <?>', unsupported],
  [CapId.AGP3, 'AGP 8x', 'AGP3 <?>', unsupported],
  [CapId.SECDEV, 'Secure Device', 'Secure device <?>', unsupported],
];

const extended: readonly Row[] = [
  [ExtCapId.NULL, 'Null', 'Null'],
  [ExtCapId.RCILC, 'Root Complex Internal Link Control', 'Root Complex Internal Link <?>', rootOnly],
  [ExtCapId.RCRB, 'Root Complex Register Block', 'Root Complex Register Block <?>', rootOnly],
  [ExtCapId.CAC, 'Configuration Access Correlation', undefined, hidden('obsolete')],
  [ExtCapId.MRIOV, 'Multi-Root I/O Virtualization', 'Multi-Root I/O Virtualization <?>', beyond],
  [ExtCapId.AMD_XXX, 'AMD reserved', undefined, beyond],
  [ExtCapId.PMUX, 'Protocol Multiplexing', 'Protocol Multiplexing <?>', beyond],
  [ExtCapId.LN, 'LN Requester', 'LN Requester <?>'],
  [ExtCapId.MPHY, 'PCI Express over M-PHY', 'PCI Express over M_PHY <?>'],
  [ExtCapId.FRS, 'FRS Queueing', 'FRS Queueing <?>'],
  [ExtCapId.RTR, 'Readiness Time Reporting', 'Readiness Time Reporting <?>'],
  [ExtCapId.DLF, 'Data Link Feature', 'Data Link Feature <?>', beyond],
  [ExtCapId.HIERARCHY, 'Hierarchy ID', 'Hierarchy ID <?>'],
  [ExtCapId.NPEM, 'Native PCIe Enclosure Management', 'Native PCIe Enclosure Management <?>'],
];

function kinds(rows: readonly Row[], head: Pick<CapabilityKind, 'extended'>): readonly CapabilityKind[] {
  return rows.map(([id, name, title, access]) => ({
    id,
    ...head,
    name,
    ...(access === undefined ? {} : { access }),
    ...(title === undefined ? {} : { decode: titleOnly(title) }),
  }));
}

export const undecoded: readonly CapabilityKind[] = kinds(standard, {});
export const undecodedExtended: readonly CapabilityKind[] = kinds(extended, { extended: true });
