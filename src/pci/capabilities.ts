/**
 * Builders of capabilities: `capabilities` of 'vfio-ts'. Each builder stands in a file with the
 * registers and the decoder of its capability; capabilities/registry.ts lists those files.
 */
export { af } from './capabilities/advanced-features.ts';
export { msi } from './capabilities/msi.ts';
export { msix } from './capabilities/msix.ts';
export { otherCapability } from './capabilities/other.ts';
export { type PcieOptions, type PciePortType, pcie } from './capabilities/pci-express.ts';
export { pcix } from './capabilities/pci-x.ts';
export { type PmOptions, pm } from './capabilities/power-management.ts';
export { vendorSpecific } from './capabilities/vendor-specific.ts';
export { type VpdCapability, vpd } from './capabilities/vpd.ts';
export * from './extended-capabilities.ts';
