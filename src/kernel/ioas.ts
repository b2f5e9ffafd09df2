/**
 * An address space of an iommufd of this process, and the devices that are attached to it.
 *
 * @see linux/drivers/iommu/iommufd/ioas.c, hw_pagetable.c; linux/drivers/vfio/device_cdev.c
 */
import type { IovaRange } from '../abi/device.ts';
import { IoasMapFlags, IommuHwptAllocFlags } from '../abi/iommufd.ts';
import {
  IommuHwInfo,
  IommuHwptAlloc,
  IommuHwptGetDirtyBitmap,
  IommuHwptSetDirtyTracking,
  IommuIoasAlloc,
  IommuIoasIovaRanges,
  IommuIoasMap,
  IommuIoasMapFile,
  IommuIoasNoiommuGetPa,
  IommuIoasUnmap,
  IommuIovaRange,
} from '../abi/iommufd-structs.ts';
import { Access } from '../abi/memory.ts';
import { BindIommufdFlags } from '../abi/vfio.ts';
import { DeviceAttachIommufdPt, DeviceBindIommufd, MinSize } from '../abi/vfio-structs.ts';
import { U64_MAX } from '../base/check.ts';
import { Cleanup } from '../base/cleanup.ts';
import { viewOf } from '../base/data-view.ts';
import { Errno, type VfioError } from '../base/errno.ts';
import { addressOf, descriptorBytes, type KernelFile } from '../sys/kernel-file.ts';
import { callFailure, callKernel, DeviceCall, IommufdCall } from './calls.ts';
import type { DirtyBackend, DmaAbilities, DmaBackend } from './dma-backend.ts';
import { growingAnswer } from './growing-answer.ts';
import { openNode } from './node-error.ts';

/** No limit of mappings: `available` counts down from here, as that of the engine. */
const UNLIMITED = 0xffff_ffff;
/** Ranges that the first question has room for. */
const RANGES = 16;
/** IOMMU_HW_CAP_DIRTY_TRACKING */
const CAP_DIRTY_TRACKING = 1n;

/** A request whose structure begins with its size. */
function sized(bytes: number): { readonly bytes: Uint8Array; readonly view: DataView } {
  const all = new Uint8Array(bytes);
  const view = viewOf(all);
  view.setUint32(0, bytes, true);
  return { bytes: all, view };
}

export class KernelIoas implements DmaBackend {
  readonly mapName = IommufdCall.IOAS_MAP.name;
  readonly unmapName = IommufdCall.IOAS_UNMAP.name;
  readonly maxMaps = null;
  readonly path: string;
  readonly file: KernelFile;
  /** The number of the address space. */
  readonly id: number;
  /** Domains of this process that keep a log. */
  readonly hwpts: number[];
  #dirty: IoasDirty | null = null;
  readonly #map = sized(IommuIoasMap.structSize);

  /**
   * @param id of an address space of `file`, which this object takes over
   * @param hwpts domains that keep a log, of a device that another process has attached
   */
  constructor(file: KernelFile, id: number, hwpts: readonly number[] = []) {
    this.file = file;
    this.path = file.path;
    this.id = id;
    this.hwpts = [...hwpts];
    if (hwpts.length > 0) this.#dirty = new IoasDirty(this, this.hwpts);
  }

  /**
   * @param path /dev/iommu
   * @param device the device that it is opened for, for errors
   * @throws VfioError ENOENT in a kernel without iommufd; EACCES
   */
  static open(path: string, device: string): KernelIoas {
    using undo = new Cleanup();
    const file = undo.use(openNode(path, { device, what: 'the iommufd', missing: 'Load the module: modprobe iommufd.' }));
    const { bytes, view } = sized(IommuIoasAlloc.structSize);
    callKernel(file, IommufdCall.IOAS_ALLOC, bytes, path);
    undo.move();
    return new KernelIoas(file, IommuIoasAlloc.out_ioas_id.get(view, 0));
  }

  /**
   * Bind a device that is open by its own file.
   *
   * @param token 16 bytes; null: none
   * @returns the number of the device in this iommufd
   * @throws VfioError EBUSY, EACCES, EPERM; EINVAL for a token in a kernel that takes none here
   */
  bind(device: KernelFile, token: Uint8Array | null, on: string): number {
    const { bytes, view } = sized(token === null ? MinSize.DEVICE_BIND_IOMMUFD : DeviceBindIommufd.structSize);
    DeviceBindIommufd.iommufd.set(view, 0, viewOf(descriptorBytes([this.file.fd])).getInt32(0, true));
    if (token !== null) {
      DeviceBindIommufd.flags.set(view, 0, BindIommufdFlags.TOKEN);
      DeviceBindIommufd.token_uuid_ptr.set(view, 0, addressOf(token));
    }
    callKernel(device, DeviceCall.BIND_IOMMUFD, bytes, on);
    return DeviceBindIommufd.out_devid.get(view, 0);
  }

  /**
   * Attach a device that is bound here to the address space: by a domain that keeps a log of
   * written pages, where its IOMMU can.
   *
   * @throws VfioError ENOMEM, EADDRINUSE, EINVAL, EPERM, as the table of calls explains them
   */
  attach(device: KernelFile, deviceId: number, on: string): void {
    if (!this.#canLog(deviceId)) {
      this.#attachTo(device, this.id, on);
      return;
    }
    // Devices below one IOMMU share a domain.
    if (this.hwpts.some((hwpt) => attachRequest(device, hwpt) === 0)) return;
    const { bytes, view } = sized(IommuHwptAlloc.structSize);
    IommuHwptAlloc.encode(view, 0, { flags: IommuHwptAllocFlags.DIRTY_TRACKING, dev_id: deviceId, pt_id: this.id });
    callKernel(this.file, IommufdCall.HWPT_ALLOC, bytes, on);
    const hwpt = IommuHwptAlloc.out_hwpt_id.get(view, 0);
    this.#attachTo(device, hwpt, on);
    this.hwpts.push(hwpt);
    this.#dirty ??= new IoasDirty(this, this.hwpts);
    this.#dirty.joined(hwpt);
  }

  #attachTo(device: KernelFile, pt: number, on: string): void {
    const result = attachRequest(device, pt);
    if (result < 0) throw callFailure(result, DeviceCall.ATTACH_IOMMUFD_PT, on);
  }

  #canLog(deviceId: number): boolean {
    const { bytes, view } = sized(IommuHwInfo.structSize);
    IommuHwInfo.dev_id.set(view, 0, deviceId);
    if (this.file.ioctl(IommufdCall.GET_HW_INFO.request, bytes) < 0) return false;
    return (IommuHwInfo.out_capabilities.get(view, 0) & CAP_DIRTY_TRACKING) !== 0n;
  }

  get dirty(): DirtyBackend | null {
    return this.#dirty;
  }

  abilities(): DmaAbilities {
    const { name } = IommufdCall.IOAS_IOVA_RANGES;
    const { bytes, view } = sized(IommuIoasIovaRanges.structSize);
    let list: Uint8Array = new Uint8Array(0);
    growingAnswer(`${this.path}: ${name}`, { room: RANGES, unit: IommuIovaRange.structSize }, (room) => {
      list = new Uint8Array(room * IommuIovaRange.structSize);
      IommuIoasIovaRanges.encode(view, 0, { size: bytes.length, ioas_id: this.id, num_iovas: room, allowed_iovas: addressOf(list) });
      const result = this.file.ioctl(IommufdCall.IOAS_IOVA_RANGES.request, bytes);
      const count = IommuIoasIovaRanges.num_iovas.get(view, 0);
      if (result < 0 && (result !== -Errno.EMSGSIZE || count <= room)) throw callFailure(result, IommufdCall.IOAS_IOVA_RANGES, this.path);
      return count;
    });
    const granule = IommuIoasIovaRanges.out_iova_alignment.get(view, 0);
    const ranges = rangesIn(viewOf(list), IommuIoasIovaRanges.num_iovas.get(view, 0));
    return { pageSizes: granule < 4096n ? 4096n : granule, ranges };
  }

  available(used: number): number {
    return UNLIMITED - used;
  }

  map(iova: bigint, address: bigint, size: bigint, access: Access): number {
    const { bytes, view } = this.#map;
    IommuIoasMap.encode(view, 0, { flags: mapFlags(access), ioas_id: this.id, user_va: address, length: size, iova });
    return this.file.ioctl(IommufdCall.IOAS_MAP.request, bytes);
  }

  /** @see linux/drivers/iommu/iommufd/ioas.c, iommufd_ioas_map_file() */
  mapBuffer(
    buffer: KernelFile,
    { iova, start, size, access }: { iova: bigint; start: bigint; size: bigint; access: Access },
    on: string,
  ): void {
    const { bytes, view } = sized(IommuIoasMapFile.structSize);
    const fd = viewOf(descriptorBytes([buffer.fd])).getInt32(0, true);
    IommuIoasMapFile.encode(view, 0, { size: bytes.length, flags: mapFlags(access), ioas_id: this.id, fd, start, length: size, iova });
    callKernel(this.file, IommufdCall.IOAS_MAP_FILE, bytes, on);
  }

  mapFailure(result: number, what: string, fix?: string): VfioError {
    return callFailure(result, IommufdCall.IOAS_MAP, what, fix);
  }

  unmap(iova: bigint, size: bigint): bigint {
    const { bytes, view } = sized(IommuIoasUnmap.structSize);
    IommuIoasUnmap.encode(view, 0, { ioas_id: this.id, iova, length: size });
    callKernel(this.file, IommufdCall.IOAS_UNMAP, bytes, this.path);
    return IommuIoasUnmap.length.get(view, 0);
  }

  unmapAll(): bigint {
    return this.unmap(0n, U64_MAX);
  }

  /**
   * Where mapped memory lies, without an IOMMU.
   *
   * @returns the physical address of `iova`, and how many bytes lie together from there
   * @throws VfioError EOPNOTSUPP in kernels before 7.3
   */
  physical(iova: bigint, size: bigint): { readonly address: bigint; readonly bytes: bigint } {
    const { bytes, view } = sized(IommuIoasNoiommuGetPa.structSize);
    IommuIoasNoiommuGetPa.encode(view, 0, { ioas_id: this.id, iova, length: size });
    callKernel(this.file, IommufdCall.IOAS_NOIOMMU_GET_PA, bytes, this.path);
    return { address: IommuIoasNoiommuGetPa.out_phys.get(view, 0), bytes: IommuIoasNoiommuGetPa.length.get(view, 0) };
  }

  /** Closes the iommufd: all mappings go. Idempotent. */
  [Symbol.dispose](): void {
    this.file[Symbol.dispose]();
  }
}

function attachRequest(device: KernelFile, pt: number): number {
  const { bytes, view } = sized(MinSize.DEVICE_ATTACH_IOMMUFD_PT);
  DeviceAttachIommufdPt.pt_id.set(view, 0, pt);
  return device.ioctl(DeviceCall.ATTACH_IOMMUFD_PT.request, bytes);
}

function mapFlags(access: Access): number {
  const read = (access & Access.READ) === 0 ? 0 : IoasMapFlags.READABLE;
  const write = (access & Access.WRITE) === 0 ? 0 : IoasMapFlags.WRITEABLE;
  return IoasMapFlags.FIXED_IOVA | read | write;
}

function rangesIn(view: DataView, count: number): IovaRange[] {
  return Array.from({ length: count }, (_, i) => {
    const { start, last } = IommuIovaRange.decode(view, i * IommuIovaRange.structSize);
    return { first: start, last };
  });
}

/**
 * The logs of the domains of an address space. A report and an unmap are two requests: a page that
 * a device writes between them is in no report. Stop the device first.
 */
class IoasDirty implements DirtyBackend {
  readonly #ioas: KernelIoas;
  readonly #hwpts: readonly number[];
  #on = false;

  constructor(ioas: KernelIoas, hwpts: readonly number[]) {
    this.#ioas = ioas;
    this.#hwpts = hwpts;
  }

  /** A domain was made: it keeps a log if the others do. */
  joined(hwpt: number): void {
    if (this.#on) this.#switch(hwpt, true);
  }

  start(): void {
    if (this.#on) return;
    for (const hwpt of this.#hwpts) this.#switch(hwpt, true);
    this.#on = true;
  }

  stop(): void {
    for (const hwpt of this.#hwpts) this.#switch(hwpt, false);
    this.#on = false;
  }

  #switch(hwpt: number, on: boolean): void {
    const { bytes, view } = sized(IommuHwptSetDirtyTracking.structSize);
    IommuHwptSetDirtyTracking.encode(view, 0, { hwpt_id: hwpt, flags: on ? 1 : 0 });
    callKernel(this.#ioas.file, IommufdCall.HWPT_SET_DIRTY_TRACKING, bytes, this.#ioas.path);
  }

  report(iova: bigint, size: bigint, pageSize: bigint, into: Uint8Array): void {
    const { bytes, view } = sized(IommuHwptGetDirtyBitmap.structSize);
    for (const hwpt of this.#hwpts) {
      IommuHwptGetDirtyBitmap.encode(view, 0, { hwpt_id: hwpt, iova, length: size, page_size: pageSize, data: addressOf(into) });
      callKernel(this.#ioas.file, IommufdCall.HWPT_GET_DIRTY_BITMAP, bytes, this.#ioas.path);
    }
  }

  unmap(iova: bigint, size: bigint, pageSize: bigint, into: Uint8Array): bigint {
    this.report(iova, size, pageSize, into);
    return this.#ioas.unmap(iova, size);
  }
}
