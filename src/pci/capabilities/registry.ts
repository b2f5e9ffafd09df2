/**
 * The capabilities that this package knows, in the order of their ids. A new capability is a file
 * of this folder and its line here. ../capabilities.ts exports builders that models call.
 */
import { accessControl } from './access-control.ts';
import { addressTranslation, pageRequests, processAddressSpaces } from './address-translation.ts';
import { advancedErrorReporting } from './advanced-error-reporting.ts';
import { advancedFeatures } from './advanced-features.ts';
import { acceleratedGraphics } from './agp.ts';
import { alternativeRouting } from './alternative-routing.ts';
import { bridgeSubsystem, debugPort, hotPlug, slotIdentification } from './bridge-capabilities.ts';
import { dataObjectExchange } from './data-object-exchange.ts';
import { designatedVendorSpecific } from './designated-vendor-specific.ts';
import { device3 } from './device3.ts';
import { dynamicPower } from './dynamic-power.ts';
import { enhancedAllocation } from './enhanced-allocation.ts';
import { extendedVendorSpecific } from './extended-vendor-specific.ts';
import { flitErrorInjection, flitLogging } from './flit.ts';
import { hyperTransport } from './hypertransport.ts';
import { dataEncryption } from './ide.ts';
import type { CapabilityKind } from './kind.ts';
import { l1Substates } from './l1-substates.ts';
import { latencyTolerance } from './latency-tolerance.ts';
import { messageInterrupts } from './msi.ts';
import { messageTable } from './msix.ts';
import { multicast } from './multicast.ts';
import { pciExpress } from './pci-express.ts';
import { pciX } from './pci-x.ts';
import { laneMargining, physicalLayer16, physicalLayer32, physicalLayer64 } from './physical-layer.ts';
import { portContainment } from './port-containment.ts';
import { powerBudget } from './power-budgeting.ts';
import { powerManagement } from './power-management.ts';
import { precisionTime } from './precision-time.ts';
import { processingHints } from './processing-hints.ts';
import { registerLocator } from './register-locator.ts';
import { resizableBars, resizableVfBars } from './resizable-bar.ts';
import { eventCollector, rootComplexLinks } from './root-complex.ts';
import { sata } from './sata.ts';
import { secondaryExpress } from './secondary-express.ts';
import { serialNumber } from './serial-number.ts';
import { singleRootVirtualization } from './single-root-virtualization.ts';
import { undecoded, undecodedExtended } from './undecoded.ts';
import { vendorDefined } from './vendor-specific.ts';
import { multiFunctionChannel, virtualChannel, virtualChannel9 } from './virtual-channel.ts';
import { vitalProductData } from './vpd.ts';

const byId = (kinds: readonly CapabilityKind[]): readonly CapabilityKind[] => kinds.toSorted((a, b) => a.id - b.id);

export const standardKinds: readonly CapabilityKind[] = byId([
  powerManagement,
  acceleratedGraphics,
  vitalProductData,
  slotIdentification,
  messageInterrupts,
  pciX,
  hyperTransport,
  vendorDefined,
  debugPort,
  hotPlug,
  bridgeSubsystem,
  pciExpress,
  messageTable,
  sata,
  advancedFeatures,
  enhancedAllocation,
  ...undecoded,
]);

export const extendedKinds: readonly CapabilityKind[] = byId([
  advancedErrorReporting,
  virtualChannel,
  virtualChannel9,
  multiFunctionChannel,
  serialNumber,
  powerBudget,
  rootComplexLinks,
  eventCollector,
  extendedVendorSpecific,
  designatedVendorSpecific,
  accessControl,
  alternativeRouting,
  addressTranslation,
  pageRequests,
  processAddressSpaces,
  singleRootVirtualization,
  multicast,
  resizableBars,
  resizableVfBars,
  dynamicPower,
  processingHints,
  latencyTolerance,
  secondaryExpress,
  portContainment,
  l1Substates,
  precisionTime,
  physicalLayer16,
  physicalLayer32,
  physicalLayer64,
  laneMargining,
  dataObjectExchange,
  device3,
  dataEncryption,
  flitLogging,
  flitErrorInjection,
  registerLocator,
  ...undecodedExtended,
]);

/** @throws Error when two kinds have one id */
function index(kinds: readonly CapabilityKind[]): ReadonlyMap<number, CapabilityKind> {
  const map = new Map<number, CapabilityKind>();
  for (const kind of kinds) {
    const other = map.get(kind.id);
    if (other !== undefined) throw new Error(`capabilities: ${kind.name} has the id of ${other.name}`);
    map.set(kind.id, kind);
  }
  return map;
}

const standard = index(standardKinds);
const extended = index(extendedKinds);

/** The kind of a capability; undefined for an id that no file knows. */
export function kindOf(id: number, isExtended: boolean): CapabilityKind | undefined {
  return (isExtended ? extended : standard).get(id);
}
