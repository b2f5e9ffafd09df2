/**
 * Declarations of devices whose answers were recorded from real kernels, and config space as
 * firmware leaves it.
 */
import { Command, Config } from '../../src/abi/pci.ts';
import { ari, msi, msix, pcie, pm, sriov } from '../../src/pci/capabilities.ts';
import { ConfigSpace } from '../../src/pci/config-space.ts';
import type { PciDeclaration } from '../../src/pci/declaration.ts';

/** QEMU's edu: conventional PCI. */
export const eduDeclaration: PciDeclaration = {
  name: 'edu',
  vendor: 0x1234,
  device: 0x11e8,
  revision: 0x10,
  classCode: 0x00ff00,
  subsystemVendor: 0x1af4,
  subsystem: 0x1100,
  bars: [{ index: 0, size: 0x10_0000, type: 'mem32' }],
  interruptPin: 1,
  capabilities: [msi({ at: 0x40 })],
};

/** QEMU's nvme with SR-IOV: PCI Express with FLR. */
export const nvmeDeclaration: PciDeclaration = {
  name: 'nvme',
  vendor: 0x1b36,
  device: 0x0010,
  revision: 2,
  classCode: 0x010802,
  subsystemVendor: 0x1af4,
  subsystem: 0x1100,
  bars: [{ index: 0, size: 0x4000, type: 'mem64' }],
  interruptPin: 1,
  capabilities: [msix({ vectors: 3, tableOffset: 0x2000, pbaOffset: 0x3000, at: 0x40 }), pcie({ flr: true, at: 0x80 }), pm({ at: 0x60 })],
  extendedCapabilities: [ari({ at: 0x100 }), sriov({ totalVfs: 4, vfDevice: 0x0010, at: 0x120 })],
};

/**
 * The state that firmware and the kernel's probe leave for VFIO: addresses in BARs, decoding on, an
 * interrupt line.
 */
export function bootedConfig(
  declaration: PciDeclaration,
  addresses: readonly (readonly [bar: number, address: bigint])[] = [],
  line = 10,
): ConfigSpace {
  const config = new ConfigSpace(declaration);
  for (const [bar, address] of addresses) config.setBarAddress(bar, address);
  config.write(Config.COMMAND, 2, Command.IO | Command.MEMORY | Command.SERR);
  config.write(Config.INTERRUPT_LINE, 1, line);
  return config;
}
