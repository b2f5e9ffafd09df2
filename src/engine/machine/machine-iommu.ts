/**
 * The IOMMUs of a machine: from their declaration to the properties that groups and containers see.
 */
import { IommuHwInfoType } from '../../abi/iommufd.ts';
import { IommuHwInfoVtd } from '../../abi/iommufd-structs.ts';
import { checkIndex, checkU64, hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { IommuProperties } from '../dma/iommu-properties.ts';
import type { IommuSpec, MachineSpec, ReservedWindow } from './machine-spec.ts';

const kinds = ['none', 'translation', 'full'];
const reservedKinds = ['direct', 'relaxable', 'reserved', 'msi'];

/** 4 KiB, 2 MiB, 1 GiB: an Intel IOMMU. */
const DEFAULT_PAGE_SIZES = 0x4020_1000n;
/** PCI Express has 20 bits for a PASID. */
const PASID_BITS_MAX = 20;
const DEFAULT_LAST = 2n ** 48n - 1n;
/**
 * The registers of QEMU's Intel IOMMU, as GET_HW_INFO gives them: struct iommu_hw_info_vtd with the
 * flag of the errata that its kernel assumes, CAP and ECAP.
 */
function vtdRegisters(): Uint8Array {
  const view = new DataView(new ArrayBuffer(IommuHwInfoVtd.structSize));
  IommuHwInfoVtd.encode(view, 0, { flags: 1, reserved: 0, cap_reg: 0x80d2_008c_222f_0686n, ecap_reg: 0xf0_0f4an });
  return new Uint8Array(view.buffer);
}

/** Writes here are interrupts on x86, whatever the page tables say. */
const X86_MSI: ReservedWindow = { first: 0xfee0_0000n, last: 0xfeef_ffffn, kind: 'msi' };

/** @throws VfioError EINVAL */
export function checkReserved(windows: readonly ReservedWindow[], whose: string): readonly ReservedWindow[] {
  for (const w of windows) {
    checkU64(w.first, `${whose}: first address of a reserved window`);
    checkU64(w.last, `${whose}: last address of a reserved window`);
    if (w.last < w.first) throw new VfioError('EINVAL', `${whose}: reserved window ${hex(w.first)}-${hex(w.last)} ends before it starts`);
    if (!reservedKinds.includes(w.kind)) throw new VfioError('EINVAL', `${whose}: unknown kind of reserved window '${String(w.kind)}'`);
  }
  return windows;
}

/** @throws VfioError EINVAL for page sizes, apertures or windows that no IOMMU has */
function iommuProperties(spec: IommuSpec, name: string): IommuProperties {
  const kind = spec.kind ?? 'full';
  if (!kinds.includes(kind)) throw new VfioError('EINVAL', `${name}: unknown kind '${String(kind)}'; it is ${kinds.join(', ')}`);
  const pageSizes = checkU64(spec.pageSizes ?? DEFAULT_PAGE_SIZES, `${name}: pageSizes`);
  if (pageSizes === 0n || (pageSizes & 0xfffn) !== 0n) {
    throw new VfioError('EINVAL', `${name}: pageSizes is ${hex(pageSizes)}; it is a bitmap of sizes, the smallest at least 4096`);
  }
  const apertureFirst = checkU64(spec.aperture?.first ?? 0n, `${name}: first address of the aperture`);
  const apertureLast = checkU64(spec.aperture?.last ?? DEFAULT_LAST, `${name}: last address of the aperture`);
  if (apertureLast < apertureFirst) {
    throw new VfioError('EINVAL', `${name}: aperture ${hex(apertureFirst)}-${hex(apertureLast)} ends before it starts`);
  }
  return {
    unit: Object.freeze({ name }),
    kind,
    isolatedMsi: spec.isolatedMsi ?? true,
    coherent: spec.coherent ?? true,
    enforcesCoherency: spec.enforcesCoherency ?? false,
    pageSizes,
    apertureFirst,
    apertureLast,
    reserved: checkReserved(spec.reserved ?? [X86_MSI], name),
    dirtyTracking: spec.dirtyTracking ?? false,
    pasidBits: checkIndex(spec.pasidBits ?? 0, PASID_BITS_MAX, `${name}: pasidBits`),
    hardware: { type: IommuHwInfoType.INTEL_VTD, data: vtdRegisters() },
  };
}

/**
 * All IOMMUs of a machine by name, in the order in which the kernel starts them; `''` is the one of
 * devices that name none.
 */
export class IommuTable {
  readonly #units = new Map<string, IommuProperties>();

  constructor(spec: Pick<MachineSpec, 'iommu' | 'iommus'>) {
    for (const [name, unit] of Object.entries(spec.iommus ?? {})) this.#units.set(name, iommuProperties(unit, `iommu ${name}`));
    this.#units.set('', iommuProperties(spec.iommu ?? {}, 'iommu'));
  }

  /**
   * Each IOMMU with its place: those that devices name, in the order of their declaration, then the
   * one of all other devices.
   */
  order(): ReadonlyMap<IommuProperties, number> {
    return new Map([...this.#units.values()].map((unit, i) => [unit, i]));
  }

  /** @throws VfioError EINVAL for a name that was not declared */
  get(name: string | undefined, who: string): IommuProperties {
    const found = this.#units.get(name ?? '');
    if (found !== undefined) return found;
    const known = [...this.#units.keys()].filter((n) => n !== '');
    throw new VfioError('EINVAL', `${who}: there is no IOMMU named '${String(name)}'`, {
      fix: known.length === 0 ? 'Declare it under `iommus`.' : `Declared are ${known.join(', ')}.`,
    });
  }
}
