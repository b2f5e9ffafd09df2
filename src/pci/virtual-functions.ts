/**
 * Physical and virtual functions (SR-IOV 1.1): what either declares, and where VFs appear. A device
 * that has VFs is a PF; its SR-IOV capability says how many, their device id, their BARs and their
 * routing ids.
 */
import { CapId, ExtCapId } from '../abi/pci.ts';
import { checkIndex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import type { BdfParts } from './bdf.ts';
import { Sriov } from './capabilities/single-root-virtualization.ts';
import { pcie } from './capabilities.ts';
import type { ConfigSpace } from './config-space.ts';
import type { BarDeclaration, PciDeclaration, SriovDeclaration } from './declaration.ts';
import { sriov, type VfBar } from './extended-capabilities.ts';

/**
 * `declaration` with the SR-IOV capability that `vfs` describes.
 *
 * @throws VfioError EINVAL for a device that cannot be a PF, or VFs that cannot be
 */
export function physicalFunctionOf(declaration: PciDeclaration, vfs: SriovDeclaration): PciDeclaration {
  const { name } = declaration;
  const extended = declaration.extendedCapabilities ?? [];
  if (!(declaration.capabilities ?? []).some((c) => c.id === CapId.EXP) || declaration.header === 'bridge') {
    throw new VfioError('EINVAL', `${name} cannot have virtual functions: only PCI Express endpoints do`, {
      fix: 'Give it a PCI Express capability; in device({ … }) leave out pcie: false.',
    });
  }
  if (extended.some((c) => c.id === ExtCapId.SRIOV)) throw new VfioError('EINVAL', `${name} declares an SR-IOV capability of its own`);
  if (checkIndex(vfs.totalVfs, 0xffff, `${name}: totalVfs`) === 0) throw new VfioError('EINVAL', `${name}: totalVfs is 0; from 1 to 65535`);
  const vf = virtualFunctionOf(declaration, vfs.vf.declaration);
  const capability = sriov({
    totalVfs: vfs.totalVfs,
    vfDevice: vf.device,
    firstOffset: vfs.firstOffset ?? 1,
    stride: vfs.stride ?? 1,
    bars: (vf.bars ?? []).map((bar) => vfBar(bar, name)),
    ...(vfs.at === undefined ? {} : { at: vfs.at }),
  });
  return { ...declaration, extendedCapabilities: [...extended, capability] };
}

function vfBar({ index, size, type, prefetchable }: BarDeclaration, name: string): VfBar {
  if (type === 'io') throw new VfioError('EINVAL', `${name}: BAR ${index} of its virtual functions is I/O space, which they cannot have`);
  return { index, size, type, prefetchable: prefetchable ?? false };
}

/**
 * The hardware of a VF of `pf`. Vendors are the PF's, there is no INTx and no ROM; a
 * PCI Express capability with FLR, which every VF has, is added when `vf` has none.
 */
export function virtualFunctionOf(pf: PciDeclaration, vf: PciDeclaration): PciDeclaration {
  const { rom: _, ...rest } = vf;
  const capabilities = vf.capabilities ?? [];
  const express = capabilities.some((c) => c.id === CapId.EXP);
  return {
    ...rest,
    vendor: pf.vendor,
    ...(pf.subsystemVendor === undefined ? {} : { subsystemVendor: pf.subsystemVendor }),
    interruptPin: 0,
    virtualFunction: true,
    capabilities: express ? capabilities : [...capabilities, pcie({ flr: true })],
    extendedCapabilities: (vf.extendedCapabilities ?? []).filter((c) => c.id !== ExtCapId.SRIOV),
  };
}

/**
 * Where VF `index` of the PF at `pf` appears: its routing id is the PF's + First VF Offset + index
 * · VF Stride. Null past the last bus.
 */
export function virtualFunctionAt(pf: BdfParts, config: ConfigSpace, index: number): BdfParts | null {
  const at = config.findExtendedCapability(ExtCapId.SRIOV);
  const first = config.read(at + Sriov.VF_OFFSET, 2);
  const id = ((pf.bus << 8) | (pf.device << 3) | pf.fn) + first + index * config.read(at + Sriov.VF_STRIDE, 2);
  return id > 0xffff ? null : { domain: pf.domain, bus: id >> 8, device: (id >> 3) & 31, fn: id & 7 };
}
