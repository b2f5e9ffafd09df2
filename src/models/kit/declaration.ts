/** From a `device({ … })` to the PCI declaration that config space is built from. */
import { VfioError } from '../../base/errno.ts';
import { msi, msix, pcie, pm } from '../../pci/capabilities.ts';
import { parseClass } from '../../pci/class-codes.ts';
import type { BarDeclaration, Capability, PciDeclaration, RegionDeclaration } from '../../pci/declaration.ts';
import { parseIds } from '../../pci/vendor-device.ts';
import { type AnyBar, regionSize } from './bar.ts';
import type { ConfigRegisters } from './config-registers.ts';
import type { DeviceFeatures, DeviceIds, MsixPlacement, RegionSpec } from './device-spec.ts';

const pins = { A: 1, B: 2, C: 3, D: 4 } as const;

export function makeDeclaration(
  spec: DeviceIds & DeviceFeatures,
  bars: readonly (AnyBar | undefined)[],
  regions: readonly RegionSpec<never>[] = [],
  config?: ConfigRegisters | undefined,
): PciDeclaration {
  const { vendor, device: deviceId } = parseIds(spec.id, 'id');
  const subsystem = spec.subsystem === undefined ? undefined : parseIds(spec.subsystem, 'subsystem');
  const declared: BarDeclaration[] = bars.flatMap((bar, index) => (bar === undefined ? [] : [{ index, ...placed(bar) }]));
  const capabilities: Capability[] = [];
  if (spec.pm !== undefined && spec.pm !== false) capabilities.push(pm(spec.pm === true ? {} : spec.pm));
  if (spec.msi !== undefined) capabilities.push(msi(typeof spec.msi === 'number' ? { vectors: spec.msi } : spec.msi));
  if (spec.msix !== undefined) {
    const placed = placeMsix(typeof spec.msix === 'number' ? { vectors: spec.msix } : spec.msix, declared);
    capabilities.push(placed.capability);
    if (placed.added !== null) declared.push(placed.added);
  }
  if (spec.pcie !== false) capabilities.push(pcie({ flr: typeof spec.pcie === 'object' ? spec.pcie.flr : true }));
  capabilities.push(...(spec.capabilities ?? []));
  if (spec.extendedCapabilities !== undefined && spec.pcie === false) {
    throw new VfioError('EINVAL', `${spec.id}: extended capabilities need PCI Express; leave out pcie: false`);
  }
  return {
    name: spec.name ?? spec.id,
    vendor,
    device: deviceId,
    revision: spec.revision ?? 0,
    classCode: parseClass(spec.class ?? 'unclassified', 'class of device()'),
    ...(subsystem === undefined ? {} : { subsystemVendor: subsystem.vendor, subsystem: subsystem.device }),
    bars: declared.sort((a, b) => a.index - b.index),
    ...(spec.rom === undefined ? {} : { rom: spec.rom }),
    ...(regions.length === 0 ? {} : { regions: regions.map(declareRegion) }),
    interruptPin: spec.intx === undefined ? 0 : pins[spec.intx],
    ...(spec.interruptDisable === undefined ? {} : { interruptDisable: spec.interruptDisable }),
    ...(spec.busMaster === undefined ? {} : { busMaster: spec.busMaster }),
    capabilities,
    extendedCapabilities: spec.extendedCapabilities ?? [],
    ...(config === undefined ? {} : { registers: config.declared }),
  };
}

function declareRegion({ type, subtype, size, read, write }: RegionSpec<never>): RegionDeclaration {
  const plain = read === undefined && write === undefined;
  return {
    type,
    subtype,
    size: regionSize(size),
    backing: plain ? 'memory' : 'registers',
    access: plain || (read !== undefined && write !== undefined) ? 'read-write' : read !== undefined ? 'read-only' : 'write-only',
  };
}

function placed({ size, type, prefetchable, backing, mappable, doorbells }: AnyBar): Omit<BarDeclaration, 'index'> {
  return { size, type, prefetchable, backing, ...(mappable ? {} : { mappable }), ...(doorbells.length === 0 ? {} : { doorbells }) };
}

const ENTRY = 16;
const PAGE = 4096;

/**
 * Table first, pending bits on the next page; in the BAR named, or in one added at the first free
 * index from the top.
 */
function placeMsix(want: MsixPlacement, declared: readonly BarDeclaration[]): { capability: Capability; added: BarDeclaration | null } {
  const { vectors } = want;
  const taken = new Set(declared.flatMap((b) => (b.type === 'mem64' ? [b.index, b.index + 1] : [b.index])));
  const index = want.bar ?? [5, 4, 3, 2, 1, 0].find((i) => !taken.has(i));
  if (index === undefined)
    throw new VfioError('EINVAL', 'no BAR is left for the MSI-X table; name one with msix: { vectors, bar, tableOffset, pbaOffset }');
  const tableOffset = want.tableOffset ?? 0;
  const pbaOffset = want.pbaOffset ?? Math.ceil((tableOffset + ENTRY * vectors) / PAGE) * PAGE;
  const capability = msix({ vectors, tableBar: index, tableOffset, pbaBar: index, pbaOffset });
  const end = Math.max(tableOffset + ENTRY * vectors, pbaOffset + Math.ceil(vectors / 64) * 8);
  const present = declared.find((b) => b.index === index);
  if (present !== undefined && end > present.size)
    throw new VfioError('EINVAL', `the MSI-X table and pending bits end at 0x${end.toString(16)}, past the end of BAR ${index}`);
  if (present !== undefined) return { capability, added: null };
  if (taken.has(index)) throw new VfioError('EINVAL', `BAR ${index} is the upper half of a 64-bit BAR; it cannot hold the MSI-X table`);
  return {
    capability,
    added: { index, size: 2 ** Math.ceil(Math.log2(Math.max(end, PAGE))), type: 'mem32', prefetchable: false, backing: 'registers' },
  };
}
