/**
 * A container of the kernel, /dev/vfio/vfio, with the groups that this process has in it, and
 * type1's mappings.
 *
 * @see linux/drivers/vfio/container.c, vfio_iommu_type1.c
 */
import type { IovaRange } from '../abi/device.ts';
import type { Access } from '../abi/memory.ts';
import {
  API_VERSION,
  DirtyFlags,
  DMA_ENTRY_LIMIT,
  DmaUnmapFlags,
  Extension,
  GroupFlags,
  IommuInfoCap,
  IommuInfoFlags,
} from '../abi/vfio.ts';
import {
  Bitmap,
  GroupStatus,
  IommuInfoCapDmaAvail,
  IommuInfoCapIovaRange,
  IommuType1DirtyBitmap,
  IommuType1DirtyBitmapGet,
  IommuType1DmaMap,
  IommuType1DmaUnmap,
  IommuType1Info,
  IovaRangeEntry,
} from '../abi/vfio-structs.ts';
import { U64_MAX } from '../base/check.ts';
import { Cleanup } from '../base/cleanup.ts';
import { viewOf } from '../base/data-view.ts';
import { VfioError } from '../base/errno.ts';
import { addressOf, descriptorBytes, type KernelFile } from '../sys/kernel-file.ts';
import { ContainerCall, callFailure, callKernel, GroupCall } from './calls.ts';
import type { DirtyBackend, DmaAbilities, DmaBackend } from './dma-backend.ts';
import { growingAnswer } from './growing-answer.ts';
import { checkCapability, infoCapabilities } from './info-capabilities.ts';
import type { GroupPlace } from './location.ts';
import { openNode } from './node-error.ts';

/** Room for the answer of IOMMU_GET_INFO with its capabilities, at first. */
const INFO_BYTES = 512;
const everywhere: readonly IovaRange[] = [{ first: 0n, last: U64_MAX }];

/** A group of this process in the container. */
interface HeldGroup {
  readonly file: KernelFile;
  /** Devices of the group that are open. */
  uses: number;
}

/** The device that a group is opened for, in errors. */
interface GroupUser {
  readonly device: string;
  /** The device's own file, which blocks the group's while it is in use. */
  readonly blockedBy: string | undefined;
  /** The error for a group that is not viable. */
  whyNotViable(): VfioError;
}

export class KernelContainer implements DmaBackend, Disposable {
  readonly mapName = ContainerCall.MAP_DMA.name;
  readonly unmapName = ContainerCall.UNMAP_DMA.name;
  readonly path: string;
  readonly #file: KernelFile;
  readonly #groups = new Map<number, HeldGroup>();
  #iommu: number | null = null;
  #unmapsAll = false;
  #maxMaps: number | null = null;
  #dirty: DirtyBackend | null = null;
  readonly #map = new Uint8Array(IommuType1DmaMap.structSize);
  readonly #mapView = viewOf(this.#map);

  private constructor(file: KernelFile) {
    this.#file = file;
    this.path = file.path;
  }

  /**
   * @param path /dev/vfio/vfio
   * @param device the device that it is opened for, for errors
   * @throws VfioError ENOENT without the module vfio; EACCES; EPROTO for another version of the API
   */
  static open(path: string, device: string): KernelContainer {
    using undo = new Cleanup();
    const file = undo.use(openNode(path, { device, what: 'the container', missing: 'Load the module: modprobe vfio.' }));
    const version = callKernel(file, ContainerCall.GET_API_VERSION, 0, path);
    if (version !== API_VERSION) {
      throw new VfioError('EPROTO', `${path} speaks version ${version} of VFIO's interface, and this package version ${API_VERSION}`);
    }
    undo.move();
    return new KernelContainer(file);
  }

  /** A container that another process has set up, with its IOMMU. */
  static lent(file: KernelFile, iommu: number): KernelContainer {
    const container = new KernelContainer(file);
    container.#settle(iommu);
    return container;
  }

  /** The container's own file, to lend it. */
  get file(): KernelFile {
    return this.#file;
  }

  /** The type that SET_IOMMU chose; null before the first group. */
  get iommu(): number | null {
    return this.#iommu;
  }

  /**
   * Open a group and put it into the container, unless it is there already; for one device.
   *
   * @param by the device that the group is opened for, for errors
   * @returns the group's file, which `leave` closes
   * @throws VfioError EACCES, EBUSY for the group's file; EPERM for a group that is not viable;
   *   EINVAL, EPERM for a group that does not fit to those in the container
   */
  join(group: GroupPlace, by: GroupUser): KernelFile {
    const there = this.#groups.get(group.number);
    if (there !== undefined) {
      there.uses++;
      return there.file;
    }
    using undo = new Cleanup();
    const { device, blockedBy } = by;
    const words = { device, blockedBy, what: `the file of group ${group.number}`, missing: 'Load the module: modprobe vfio-pci.' };
    const file = undo.use(openNode(group.path, words));
    const status = new Uint8Array(GroupStatus.structSize);
    GroupStatus.argsz.set(viewOf(status), 0, status.length);
    callKernel(file, GroupCall.GET_STATUS, status, `${device}: ${group.path}`);
    if ((GroupStatus.flags.get(viewOf(status), 0) & GroupFlags.VIABLE) === 0) throw by.whyNotViable();
    callKernel(file, GroupCall.SET_CONTAINER, descriptorBytes([this.#file.fd]), `${device}: ${group.path}`);
    if (this.#iommu === null) this.#setIommu(group.noIommu);
    this.#groups.set(group.number, { file, uses: 1 });
    undo.move();
    return file;
  }

  /** A group that another process has put in. */
  joinLent(number: number, file: KernelFile): void {
    this.#groups.set(number, { file, uses: 1 });
  }

  /** One device of the group is closed. The last one takes the group out. */
  leave(number: number): void {
    const group = this.#groups.get(number);
    if (group === undefined || --group.uses > 0) return;
    this.#groups.delete(number);
    group.file[Symbol.dispose]();
  }

  #setIommu(noIommu: boolean): void {
    const has = (extension: number) => this.#file.ioctl(ContainerCall.CHECK_EXTENSION.request, extension) > 0;
    const wanted = noIommu ? [Extension.NOIOMMU_IOMMU] : [Extension.TYPE1v2_IOMMU, Extension.TYPE1_IOMMU];
    const iommu = wanted.find(has);
    if (iommu === undefined) {
      throw new VfioError('ENODEV', `${this.path}: the kernel has no IOMMU driver for the group`, {
        fix: noIommu ? 'Allow it: echo 1 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode.' : 'Load it: modprobe vfio_iommu_type1.',
      });
    }
    callKernel(this.#file, ContainerCall.SET_IOMMU, iommu, this.path);
    this.#settle(iommu);
  }

  /** The IOMMU is set: its constant facts. */
  #settle(iommu: number): void {
    this.#iommu = iommu;
    if (iommu === Extension.NOIOMMU_IOMMU) return;
    this.#unmapsAll = this.#file.ioctl(ContainerCall.CHECK_EXTENSION.request, Extension.UNMAP_ALL) > 0;
    const { available, logs } = this.#info();
    this.#maxMaps = available ?? DMA_ENTRY_LIMIT;
    this.#dirty = logs ? new Type1Dirty(this.#file, this.path) : null;
  }

  get maxMaps(): number | null {
    return this.#maxMaps;
  }

  get dirty(): DirtyBackend | null {
    return this.#dirty;
  }

  abilities(): DmaAbilities {
    // The IOMMU driver for groups without one answers no question.
    if (this.#iommu === Extension.NOIOMMU_IOMMU) return { pageSizes: 4096n, ranges: everywhere };
    return this.#info();
  }

  available(used: number): number {
    if (this.#iommu === Extension.NOIOMMU_IOMMU) return 0;
    return this.#info().available ?? Math.max(0, DMA_ENTRY_LIMIT - used);
  }

  #info(): DmaAbilities & { readonly available: number | null; readonly logs: boolean } {
    const what = `${this.path}: ${ContainerCall.IOMMU_GET_INFO.name}`;
    let bytes: Uint8Array = new Uint8Array(0);
    growingAnswer(what, { room: INFO_BYTES }, (room) => {
      bytes = new Uint8Array(room);
      IommuType1Info.argsz.set(viewOf(bytes), 0, room);
      callKernel(this.#file, ContainerCall.IOMMU_GET_INFO, bytes, this.path);
      return IommuType1Info.argsz.get(viewOf(bytes), 0);
    });
    const view = viewOf(bytes);
    const { flags, iova_pgsizes, cap_offset } = IommuType1Info.decode(view);
    let ranges = everywhere;
    let available: number | null = null;
    let logs = false;
    for (const { id, at } of infoCapabilities(what, view, (flags & IommuInfoFlags.CAPS) === 0 ? 0 : cap_offset)) {
      if (id === IommuInfoCap.IOVA_RANGE) ranges = rangesAt(what, view, at);
      else if (id === IommuInfoCap.DMA_AVAIL) {
        checkCapability(what, view, at, IommuInfoCapDmaAvail.structSize);
        available = IommuInfoCapDmaAvail.avail.get(view, at);
      } else if (id === IommuInfoCap.MIGRATION) logs = true;
    }
    // Mappings are counted in pages of 4096 bytes.
    const pageSizes = (flags & IommuInfoFlags.PGSIZES) === 0 ? 0n : iova_pgsizes & ~0xfffn;
    return { pageSizes: pageSizes === 0n ? 4096n : pageSizes, ranges, available, logs };
  }

  map(iova: bigint, address: bigint, size: bigint, access: Access): number {
    const view = this.#mapView;
    IommuType1DmaMap.argsz.set(view, 0, IommuType1DmaMap.structSize);
    IommuType1DmaMap.flags.set(view, 0, access);
    IommuType1DmaMap.vaddr.set(view, 0, address);
    IommuType1DmaMap.iova.set(view, 0, iova);
    IommuType1DmaMap.size.set(view, 0, size);
    return this.#file.ioctl(ContainerCall.MAP_DMA.request, this.#map);
  }

  mapFailure(result: number, what: string, fix?: string): VfioError {
    return callFailure(result, ContainerCall.MAP_DMA, what, fix);
  }

  unmap(iova: bigint, size: bigint): bigint {
    return unmapType1(this.#file, this.path, { flags: 0, iova, size });
  }

  unmapAll(): bigint | null {
    if (!this.#unmapsAll) return null;
    return unmapType1(this.#file, this.path, { flags: DmaUnmapFlags.ALL, iova: 0n, size: 0n });
  }

  /** Closes the groups, then the container: all mappings go. Idempotent. */
  [Symbol.dispose](): void {
    for (const { file } of this.#groups.values()) file[Symbol.dispose]();
    this.#groups.clear();
    this.#file[Symbol.dispose]();
  }
}

function unmapType1(file: KernelFile, path: string, request: { flags: number; iova: bigint; size: bigint }): bigint {
  const bytes = new Uint8Array(IommuType1DmaUnmap.structSize);
  IommuType1DmaUnmap.encode(viewOf(bytes), 0, { argsz: bytes.length, ...request });
  callKernel(file, ContainerCall.UNMAP_DMA, bytes, path);
  return IommuType1DmaUnmap.size.get(viewOf(bytes), 0);
}

function rangesAt(what: string, view: DataView, at: number): IovaRange[] {
  const { structSize } = IommuInfoCapIovaRange;
  checkCapability(what, view, at, structSize);
  const count = IommuInfoCapIovaRange.nr_iovas.get(view, at);
  checkCapability(what, view, at, structSize + count * IovaRangeEntry.structSize);
  const ranges: IovaRange[] = [];
  for (let i = 0; i < count; i++) {
    const { start, end } = IovaRangeEntry.decode(view, at + structSize + i * IovaRangeEntry.structSize);
    ranges.push({ first: start, last: end });
  }
  return ranges;
}

/** VFIO_IOMMU_DIRTY_PAGES. The kernel writes bitmaps whole: callers give it scratch. */
class Type1Dirty implements DirtyBackend {
  readonly #file: KernelFile;
  readonly #path: string;

  constructor(file: KernelFile, path: string) {
    this.#file = file;
    this.#path = path;
  }

  start(): void {
    this.#flags(DirtyFlags.START);
  }

  stop(): void {
    this.#flags(DirtyFlags.STOP);
  }

  #flags(flags: number): void {
    const bytes = new Uint8Array(IommuType1DirtyBitmap.structSize);
    IommuType1DirtyBitmap.encode(viewOf(bytes), 0, { argsz: bytes.length, flags });
    callKernel(this.#file, ContainerCall.DIRTY_PAGES, bytes, this.#path);
  }

  report(iova: bigint, size: bigint, pageSize: bigint, into: Uint8Array): void {
    const bytes = new Uint8Array(IommuType1DirtyBitmap.structSize + IommuType1DirtyBitmapGet.structSize);
    const view = viewOf(bytes);
    IommuType1DirtyBitmap.encode(view, 0, { argsz: bytes.length, flags: DirtyFlags.GET_BITMAP });
    IommuType1DirtyBitmapGet.encode(view, IommuType1DirtyBitmap.structSize, {
      iova,
      size,
      bitmap_pgsize: pageSize,
      bitmap_size: BigInt(into.length),
      bitmap_data: addressOf(into),
    });
    callKernel(this.#file, ContainerCall.DIRTY_PAGES, bytes, this.#path);
  }

  unmap(iova: bigint, size: bigint, pageSize: bigint, into: Uint8Array): bigint {
    const bytes = new Uint8Array(IommuType1DmaUnmap.structSize + Bitmap.structSize);
    const view = viewOf(bytes);
    IommuType1DmaUnmap.encode(view, 0, { argsz: bytes.length, flags: DmaUnmapFlags.GET_DIRTY_BITMAP, iova, size });
    Bitmap.encode(view, IommuType1DmaUnmap.structSize, { pgsize: pageSize, size: BigInt(into.length), data: addressOf(into) });
    callKernel(this.#file, ContainerCall.UNMAP_DMA, bytes, this.#path);
    return IommuType1DmaUnmap.size.get(view, 0);
  }
}
