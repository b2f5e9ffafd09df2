/**
 * The size of the largest region 0. In Linux region 0 of a device file begins at offset 0, where
 * ordinary files are read too. A filter sees no difference, so it stops every access below this
 * size.
 */
import type { Machine } from '../engine/machine/machine.ts';
import type { DeviceModel, PciDeclaration } from '../pci/declaration.ts';

const PAGE = 4096;

function bar0({ bars = [] }: PciDeclaration): number {
  return bars.find(({ index }) => index === 0)?.size ?? 0;
}

function largest(declaration: PciDeclaration, model: DeviceModel | null): number {
  const vf = model?.sriov?.vf.declaration;
  return Math.max(bar0(declaration), vf === undefined ? 0 : bar0(vf));
}

/** Bytes, whole pages; VFs that do not exist yet count. */
export function firstRegionSize(machine: Machine): number {
  let size = 0;
  for (const { declaration, deviceModel } of machine.functions.values()) size = Math.max(size, largest(declaration, deviceModel));
  return Math.ceil(size / PAGE) * PAGE;
}
