/**
 * The requests of ioctl(2) by kind of file: their names in linux/vfio.h and linux/iommufd.h, the
 * structures behind their arguments, and the words for values in those. The names are also steps of
 * a plan of faults.
 */
import { IoasMapFlags, IommufdCommand, IommuHwptAllocFlags, IommuOption, IommuOptionOp, VfioIoasOp } from '../../abi/iommufd.ts';
import * as Iommufd from '../../abi/iommufd-structs.ts';
import {
  BindIommufdFlags,
  ContainerIoctl,
  DeviceFlags,
  DeviceIoctl,
  DirtyFlags,
  DmaMapFlags,
  DmaUnmapFlags,
  Extension,
  Feature,
  FeatureFlags,
  GroupFlags,
  GroupIoctl,
  HotResetInfoFlags,
  IommufdPtFlags,
  IommuInfoFlags,
  IrqIndex,
  IrqInfoFlags,
  IrqSetFlags,
  MigrationIoctl,
  RegionFlags,
  RegionIndex,
} from '../../abi/vfio.ts';
import * as Vfio from '../../abi/vfio-structs.ts';
import type { Field } from '../../base/struct.ts';
import type { FileBody } from '../../ioctl/file-table.ts';

/** A structure, as far as printing it needs. */
export interface Layout {
  readonly structSize: number;
  decode(view: DataView, base?: number): Readonly<Record<string, number | bigint>>;
}

/** `bits`: a set of flags. `one`: a number with a name. `low`: a number in 16 bits below flags. */
export interface Words {
  readonly bits?: Readonly<Record<string, number>>;
  readonly one?: Readonly<Record<string, number>>;
  readonly low?: Readonly<Record<string, number>>;
}

/** The argument of a request. */
export type Argument =
  | { readonly is: 'structure'; readonly layout: Layout; readonly words?: Readonly<Record<string, Words>>; readonly descriptors?: true }
  | { readonly is: 'number'; readonly words?: Words }
  /** A descriptor behind a pointer. */
  | { readonly is: 'descriptor' }
  /** The name of a device, which may have a token behind it. */
  | { readonly is: 'name' }
  | { readonly is: 'nothing' };

export interface Request {
  readonly name: string;
  readonly argument: Argument;
}

const nothing: Argument = { is: 'nothing' };
const bits = (names: Readonly<Record<string, number>>): Readonly<Record<string, Words>> => ({ flags: { bits: names } });

function structure(layout: Layout & Readonly<Record<string, Field | unknown>>, words: Readonly<Record<string, Words>> = {}): Argument {
  return { is: 'structure', layout, words };
}

const { DATA_TYPE_MASK: _, ACTION_TYPE_MASK: __, ...irqSetFlags } = IrqSetFlags;
const { MASK: ___, ...featureFlags } = FeatureFlags;
const irqIndex: Words = { one: IrqIndex };

const container: Readonly<Record<keyof typeof ContainerIoctl, Argument>> = {
  GET_API_VERSION: nothing,
  CHECK_EXTENSION: { is: 'number', words: { one: Extension } },
  SET_IOMMU: { is: 'number', words: { one: Extension } },
  IOMMU_GET_INFO: structure(Vfio.IommuType1Info, bits(IommuInfoFlags)),
  IOMMU_MAP_DMA: structure(Vfio.IommuType1DmaMap, bits(DmaMapFlags)),
  IOMMU_UNMAP_DMA: structure(Vfio.IommuType1DmaUnmap, bits(DmaUnmapFlags)),
  IOMMU_DIRTY_PAGES: structure(Vfio.IommuType1DirtyBitmap, bits(DirtyFlags)),
};

const group: Readonly<Record<keyof typeof GroupIoctl, Argument>> = {
  GET_STATUS: structure(Vfio.GroupStatus, bits(GroupFlags)),
  SET_CONTAINER: { is: 'descriptor' },
  UNSET_CONTAINER: nothing,
  GET_DEVICE_FD: { is: 'name' },
};

const device: Readonly<Record<keyof typeof DeviceIoctl, Argument>> = {
  GET_INFO: structure(Vfio.DeviceInfo, bits(DeviceFlags)),
  GET_REGION_INFO: structure(Vfio.RegionInfo, { ...bits(RegionFlags), index: { one: RegionIndex } }),
  GET_IRQ_INFO: structure(Vfio.IrqInfo, { ...bits(IrqInfoFlags), index: irqIndex }),
  SET_IRQS: { is: 'structure', layout: Vfio.IrqSet, words: { ...bits(irqSetFlags), index: irqIndex }, descriptors: true },
  RESET: nothing,
  GET_PCI_HOT_RESET_INFO: structure(Vfio.PciHotResetInfo, bits(HotResetInfoFlags)),
  PCI_HOT_RESET: structure(Vfio.PciHotReset),
  QUERY_GFX_PLANE: nothing,
  GET_GFX_DMABUF: nothing,
  IOEVENTFD: structure(Vfio.DeviceIoeventfd),
  FEATURE: structure(Vfio.DeviceFeature, { flags: { bits: featureFlags, low: Feature } }),
  BIND_IOMMUFD: structure(Vfio.DeviceBindIommufd, bits(BindIommufdFlags)),
  ATTACH_IOMMUFD_PT: structure(Vfio.DeviceAttachIommufdPt, bits(IommufdPtFlags)),
  DETACH_IOMMUFD_PT: structure(Vfio.DeviceDetachIommufdPt, bits(IommufdPtFlags)),
};

const iommufd: Readonly<Partial<Record<keyof typeof IommufdCommand, Argument>>> = {
  DESTROY: structure(Iommufd.IommuDestroy),
  IOAS_ALLOC: structure(Iommufd.IommuIoasAlloc),
  IOAS_ALLOW_IOVAS: structure(Iommufd.IommuIoasAllowIovas),
  IOAS_COPY: structure(Iommufd.IommuIoasCopy, bits(IoasMapFlags)),
  IOAS_IOVA_RANGES: structure(Iommufd.IommuIoasIovaRanges),
  IOAS_MAP: structure(Iommufd.IommuIoasMap, bits(IoasMapFlags)),
  IOAS_MAP_FILE: structure(Iommufd.IommuIoasMapFile, bits(IoasMapFlags)),
  IOAS_UNMAP: structure(Iommufd.IommuIoasUnmap),
  OPTION: structure(Iommufd.IommuOptionStruct, { option_id: { one: IommuOption }, op: { one: IommuOptionOp } }),
  VFIO_IOAS: structure(Iommufd.IommuVfioIoas, { op: { one: VfioIoasOp } }),
  HWPT_ALLOC: structure(Iommufd.IommuHwptAlloc, bits(IommuHwptAllocFlags)),
  GET_HW_INFO: structure(Iommufd.IommuHwInfo),
  HWPT_SET_DIRTY_TRACKING: structure(Iommufd.IommuHwptSetDirtyTracking),
  HWPT_GET_DIRTY_BITMAP: structure(Iommufd.IommuHwptGetDirtyBitmap),
  IOAS_CHANGE_PROCESS: structure(Iommufd.IommuIoasChangeProcess),
};

/** Requests of ';' have the type in their second byte. */
const TYPE = 0x3b00;

function rows<K extends string>(
  prefix: string,
  numbers: Readonly<Record<K, number>>,
  byName: Readonly<Partial<Record<K, Argument>>>,
): ReadonlyMap<number, Request> {
  const names = Object.keys(numbers) as K[];
  return new Map(names.map((name) => [numbers[name] | TYPE, { name: `${prefix}${name}`, argument: byName[name] ?? nothing }]));
}

const containerRequests = rows('VFIO_', ContainerIoctl, container);
const deviceRequests = rows('VFIO_DEVICE_', DeviceIoctl, device);

const requests: Readonly<Partial<Record<FileBody['kind'], ReadonlyMap<number, Request>>>> = {
  container: containerRequests,
  group: rows('VFIO_GROUP_', GroupIoctl, group),
  device: deviceRequests,
  cdev: deviceRequests,
  iommufd: new Map([...containerRequests, ...rows('IOMMU_', IommufdCommand, iommufd)]),
  migration: rows('VFIO_MIG_', MigrationIoctl, { GET_PRECOPY_INFO: structure(Vfio.PrecopyInfo) }),
};

/** The request with that number; one that the file does not know has its number for a name. */
export function requestOf(kind: FileBody['kind'], number: number): Request {
  return requests[kind]?.get(number) ?? { name: `0x${number.toString(16)}`, argument: nothing };
}

/** Names of all requests, for help and for the check of a plan of faults. */
export const requestNames: readonly string[] = [
  ...new Set(Object.values(requests).flatMap((of) => [...of.values()].map(({ name }) => name))),
];
