/** Builders of extended capabilities: `extendedCapabilities` of 'vfio-ts'. */
export { acs } from './capabilities/access-control.ts';
export { ats } from './capabilities/address-translation.ts';
export { aer } from './capabilities/advanced-error-reporting.ts';
export { ari } from './capabilities/alternative-routing.ts';
export { dvsec } from './capabilities/designated-vendor-specific.ts';
export { vsec } from './capabilities/extended-vendor-specific.ts';
export { ltr } from './capabilities/latency-tolerance.ts';
export { otherExtendedCapability } from './capabilities/other.ts';
export { powerBudgeting } from './capabilities/power-budgeting.ts';
export { resizableBar } from './capabilities/resizable-bar.ts';
export { dsn } from './capabilities/serial-number.ts';
export { sriov, type VfBar } from './capabilities/single-root-virtualization.ts';
export { virtualChannels } from './capabilities/virtual-channel.ts';
