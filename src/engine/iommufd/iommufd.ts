/**
 * /dev/iommu after open: address spaces, domains over them, and the devices that are bound. Numbers
 * name all of them.
 *
 * The open file and each bound device hold it; the last one takes everything along.
 *
 * Longer than 400 lines because each request of /dev/iommu is a method with its own documentation.
 *
 * @see linux/drivers/iommu/iommufd/main.c, ioas.c, device.c, hw_pagetable.c
 */

import { IoasMapFlags, IommuHwptAllocFlags } from '../../abi/iommufd.ts';
import { Access } from '../../abi/memory.ts';
import { hex, U64_MAX } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { INSPECT } from '../../base/inspect.ts';
import type { EventSource } from '../../events/source.ts';
import type { DeviceIds } from '../device/hot-reset.ts';
import type { AttachableGroup } from '../dma/iommu-properties.ts';
import { checkRawIo, type Process } from '../dma/process.ts';
import type { LinuxRules } from '../linux-version.ts';
import type { Span } from './area-list.ts';
import { FaultQueue } from './fault-queue.ts';
import { Hwpt } from './hwpt.ts';
import { Ioas, type Unmapped } from './ioas.ts';
import { type BoundGroup, type ClaimableGroup, type DeviceIommufd, IommufdDevice } from './iommufd-device.ts';
import { mapDetails, picked, unmapped } from './iommufd-events.ts';
import { ObjectTable } from './objects.ts';
import { PinnedPages, type RlimitMode, type UserAccounts } from './pinned-pages.ts';
import type { HwInfo, HwptAllocRequest, HwptDirtyRequest, IoasCopyRequest, IoasMapRequest, MapIntoRequest } from './requests.ts';

/** enum iommufd_hw_capabilities. */
const CAP_DIRTY_TRACKING = 1n;
/** No device here has a translation cache of its own. */
const CAP_ATS_NOT_SUPPORTED = 8n;

export interface IommufdOptions {
  /** Where it emits; closed with the last reference. */
  readonly events: EventSource;
  /** Where kernels differ, the answers of the machine's. */
  readonly linux: LinuxRules;
  /** The accounts of users, which all iommufds of a machine share. */
  readonly users: UserAccounts;
  /** Called at each bind. @throws VfioError EPERM for a group without isolated interrupts */
  readonly checkInterrupts: (group: AttachableGroup) => void;
  /** Called once, as the file is closed. */
  readonly closed?: () => void;
}

/** An open /dev/iommu. */
export class Iommufd implements DeviceIommufd, DeviceIds, Disposable {
  readonly objects = new ObjectTable();
  readonly #o: IommufdOptions;
  /** Bound devices by group: those of one group share a domain. */
  readonly groups = new Map<ClaimableGroup, BoundGroup>();
  #mode: RlimitMode = 'user';
  #references = 1;
  #open = true;
  /** The IOAS of requests that are a container's (VFIO_IOAS). */
  #compat: Ioas | null = null;
  #noIommu = false;

  constructor(options: IommufdOptions) {
    this.#o = options;
  }

  /** Where it emits. */
  get events(): EventSource {
    return this.#o.events;
  }

  /** Where kernels differ, the answers of the machine's. */
  get linux(): LinuxRules {
    return this.#o.linux;
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    return `Iommufd with ${this.objects.size} objects${this.#open ? '' : ', closed'}`;
  }

  /** A bound device holds it. */
  get(): this {
    this.#references++;
    return this;
  }

  /** Drops one reference. The last one takes all objects along. */
  put(): void {
    if (--this.#references > 0) return;
    for (const hwpt of [...this.objects.ofKind('hwpt')]) this.#dropHwpt(hwpt);
    for (const ioas of [...this.objects.ofKind('ioas')]) this.#dropIoas(ioas);
    this.events[Symbol.dispose]();
  }

  /** Close the file. Bound devices go on. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#o.closed?.();
    this.put();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * VFIO_DEVICE_BIND_IOMMUFD, the iommufd's part.
   *
   * @throws VfioError as `IommufdDevice.bind`
   */
  bind(bdf: string, group: ClaimableGroup): IommufdDevice {
    return IommufdDevice.bind(this, bdf, group);
  }

  checkInterrupts(group: ClaimableGroup): void {
    this.#o.checkInterrupts(group);
  }

  /** As `DeviceIds.idOf`, for hot resets. */
  idOf(bdf: string, group: object | null): number {
    for (const device of this.objects.ofKind('device')) if (device.bdf === bdf) return this.objects.idOf(device);
    return group !== null && this.groups.has(group as ClaimableGroup) ? 0 : -1;
  }

  // ---- Objects

  /** IOAS_ALLOC. @returns its number */
  allocIoas(): number {
    return this.objects.add(new Ioas());
  }

  /** DESTROY. @throws VfioError ENOENT; EBUSY while it is used, and for a bound device */
  destroy(id: number): void {
    const object = this.objects.checkRemovable(id);
    if (object.kind === 'hwpt') this.#dropHwpt(object);
    else if (object.kind === 'ioas') this.#dropIoas(object);
    else this.objects.remove(object);
  }

  #dropHwpt(hwpt: Hwpt): void {
    hwpt.ioas.removeDomain(hwpt);
    this.objects.release(hwpt.ioas);
    if (hwpt.faults !== null) this.objects.release(hwpt.faults);
    this.objects.remove(hwpt);
  }

  #dropIoas(ioas: Ioas): void {
    if (this.#compat === ioas) this.#compat = null;
    ioas.clear();
    this.objects.remove(ioas);
  }

  /** The IOAS `id`. @throws VfioError ENOENT */
  ioas(id: number): Ioas {
    return this.objects.get(id, 'ioas');
  }

  // ---- Mappings

  /**
   * IOAS_MAP, IOAS_MAP_FILE.
   *
   * @returns the address
   * @throws VfioError in this order: EOPNOTSUPP unknown flags; EOVERFLOW; EINVAL without access;
   * ENOENT; EINVAL no bytes; EOVERFLOW past the end of the process's addresses; as `Ioas.map`
   */
  map(request: IoasMapRequest): bigint {
    const { events } = this;
    if (!events.on) return this.#map(request);
    const { iova, length, flags, source } = request;
    return events.attempt('dma-map', mapDetails(iova, length, flags, source), () => this.#map(request), picked);
  }

  #map({ ioas: id, process, flags, source, length, iova }: IoasMapRequest): bigint {
    checkMapFlags(flags);
    if (iova === U64_MAX || length === U64_MAX) throw new VfioError('EOVERFLOW', `${hex(iova)}+${hex(length)} is no range of addresses`);
    const access = accessOf(flags);
    return this.mapInto(this.ioas(id), { process, source, length, access, iova: (flags & IoasMapFlags.FIXED_IOVA) === 0 ? null : iova });
  }

  /**
   * Map into an address space.
   *
   * @param iova null: the kernel picks it
   * @returns the address
   * @throws VfioError EINVAL no bytes; EOVERFLOW past the end of the process's addresses; as
   * `Ioas.map`
   */
  mapInto(ioas: Ioas, { process, source, length, access, iova }: MapIntoRequest): bigint {
    if (length === 0n) throw new VfioError('EINVAL', 'a mapping of no bytes');
    const start = source.kind === 'address' ? source.vaddr : BigInt(source.offset);
    if (start + length > U64_MAX) throw new VfioError('EOVERFLOW', `${hex(start)}+${hex(length)} goes past the end of the address space`);
    const writable = (access & Access.WRITE) !== 0;
    const pages = new PinnedPages({ process, source, size: length, writable, mode: this.#mode, users: this.#o.users });
    return ioas.map(pages, iova, access);
  }

  /**
   * IOAS_COPY: map what is mapped elsewhere, or here.
   *
   * @returns the address
   * @throws VfioError EOPNOTSUPP, EOVERFLOW, EINVAL as `map`; ENOENT for what is not mapped; EPERM
   */
  copy(request: IoasCopyRequest): bigint {
    const { events } = this;
    if (!events.on) return this.#copy(request);
    const details = mapDetails(request.destinationIova, request.length, request.flags, null);
    return events.attempt('dma-map', details, () => this.#copy(request), picked);
  }

  #copy({ flags, destination, source, length, destinationIova, sourceIova }: IoasCopyRequest): bigint {
    checkMapFlags(flags);
    if (length === U64_MAX || destinationIova === U64_MAX || sourceIova === U64_MAX) {
      throw new VfioError('EOVERFLOW', `${hex(length)} bytes at ${hex(destinationIova)} are no range of addresses`);
    }
    const access = accessOf(flags);
    const parts = this.ioas(source).parts(sourceIova, length);
    return this.ioas(destination).mapCopy(parts, (flags & IoasMapFlags.FIXED_IOVA) === 0 ? null : destinationIova, access);
  }

  /**
   * IOAS_UNMAP; iova 0 and all bytes: everything.
   *
   * @returns bytes unmapped
   * @throws VfioError ENOENT; EOVERFLOW; as `Ioas.unmap`; ENOENT when nothing was there
   */
  unmap(id: number, iova: bigint, length: bigint): bigint {
    const { events } = this;
    if (!events.on) return this.#unmap(id, iova, length);
    return events.attempt('dma-unmap', { iova, size: length }, () => this.#unmap(id, iova, length), unmapped);
  }

  #unmap(id: number, iova: bigint, length: bigint): bigint {
    const ioas = this.ioas(id);
    const done: Unmapped = { bytes: 0n };
    if (iova === 0n && length === U64_MAX) {
      ioas.unmapAll(done);
      return done.bytes;
    }
    if (iova === U64_MAX || length === U64_MAX) throw new VfioError('EOVERFLOW', `${hex(iova)}+${hex(length)} is no range of addresses`);
    ioas.unmap(iova, length, done);
    if (done.bytes === 0n) throw new VfioError('ENOENT', `nothing is mapped in ${hex(iova)}+${hex(length)}`);
    return done.bytes;
  }

  /** IOAS_IOVA_RANGES. @throws VfioError ENOENT */
  ranges(id: number): { readonly ranges: readonly Span[]; readonly alignment: bigint } {
    const ioas = this.ioas(id);
    return { ranges: ioas.ranges(), alignment: ioas.alignment };
  }

  /**
   * IOAS_CHANGE_PROCESS: `process` pays for all mappings from now on.
   *
   * @throws VfioError EINVAL when one of them is of memory at an address; ENOMEM over its limit.
   * Nothing has changed then.
   */
  changeProcess(process: Process): void {
    const pages = new Set<PinnedPages>();
    for (const ioas of this.objects.ofKind('ioas')) for (const one of ioas.pages()) pages.add(one);
    for (const { source } of pages) {
      if (source.kind === 'address') {
        throw new VfioError('EINVAL', 'memory at an address of a process is mapped, and stays with that process', {
          fix: 'Map files (IOAS_MAP_FILE), or unmap it first.',
        });
      }
    }
    const before = new Map([...pages].map((one) => [one, one.process]));
    try {
      for (const one of pages) one.changeProcess(process);
    } catch (error) {
      for (const [one, payer] of before) one.changeProcess(payer);
      throw error;
    }
  }

  // ---- Options

  /** IOMMU_OPTION_RLIMIT_MODE. */
  get rlimitMode(): RlimitMode {
    return this.#mode;
  }

  /**
   * Set IOMMU_OPTION_RLIMIT_MODE.
   *
   * @throws VfioError EPERM without CAP_SYS_RESOURCE; EBUSY when there are objects
   */
  setRlimitMode(mode: RlimitMode, process: Process): void {
    if (!process.capabilities.has('CAP_SYS_RESOURCE')) {
      throw new VfioError('EPERM', `process ${process.pid} may not choose who pays for locked memory: it has no CAP_SYS_RESOURCE`);
    }
    if (mode !== this.#mode && this.objects.size > 0) {
      throw new VfioError('EBUSY', 'this iommufd has objects already', { fix: 'Set the option right after open.' });
    }
    this.#mode = mode;
  }

  // ---- Domains

  /**
   * HWPT_ALLOC of a domain that pages.
   *
   * @returns its number
   * @throws VfioError EOPNOTSUPP for a thing that this IOMMU has not; ENOENT; EINVAL; as
   * `Ioas.addDomain`
   */
  allocHwpt({ flags, device: id, pt, dataType, faultQueue }: HwptAllocRequest): number {
    const device = this.objects.get(id, 'device') as IommufdDevice;
    const object = this.objects.find(pt);
    if (object?.kind !== 'hwpt' && object?.kind !== 'ioas') throw new VfioError('EINVAL', `object ${pt} is neither an IOAS nor a domain`);
    if (device.iommu.physical !== undefined && (object.kind === 'hwpt' || (flags & IommuHwptAllocFlags.PASID) !== 0))
      throw new VfioError('EOPNOTSUPP', `${device.bdf} has no IOMMU, which could have such a domain`);
    if (object.kind === 'hwpt') {
      // A domain over another one needs the data of the hardware, and a parent made for it.
      if (dataType === 0) throw new VfioError('EOPNOTSUPP', `object ${pt} is a domain, and this IOMMU has none without data above it`);
      throw new VfioError('EINVAL', `object ${pt} is a domain that cannot be a parent`);
    }
    if (dataType !== 0) throw new VfioError('EOPNOTSUPP', `data of type ${dataType} is for nested domains, which this IOMMU has not`);
    if ((flags & IommuHwptAllocFlags.NEST_PARENT) !== 0) throw new VfioError('EOPNOTSUPP', 'this IOMMU has no nested domains');
    const dirtyTracking = (flags & IommuHwptAllocFlags.DIRTY_TRACKING) !== 0;
    if (dirtyTracking && device.iommu.dirtyTracking !== true) throw new VfioError('EOPNOTSUPP', 'this IOMMU does not track dirty pages');
    const faults = (flags & IommuHwptAllocFlags.FAULT_ID_VALID) === 0 ? null : this.objects.get(faultQueue, 'fault-queue');
    return this.objects.idOf(
      this.makeHwpt(
        new Hwpt({
          ioas: object,
          iommu: device.iommu,
          auto: false,
          dirtyTracking,
          faults,
          takesPasids: (flags & IommuHwptAllocFlags.PASID) !== 0,
        }),
      ),
    );
  }

  /** FAULT_QUEUE_ALLOC: the queue, which its open file keeps. */
  allocFaultQueue(): FaultQueue {
    const queue = new FaultQueue(() => {
      if (this.objects.has(queue)) this.objects.release(queue);
      this.put();
    });
    this.objects.add(queue);
    this.objects.use(queue);
    this.get();
    return queue;
  }

  /** HWPT_INVALIDATE. @throws VfioError ENOENT; EINVAL for an object without caches of its own */
  invalidate(id: number): void {
    const object = this.objects.find(id);
    if (object === undefined) throw new VfioError('ENOENT', `there is no object ${id}`);
    throw new VfioError('EINVAL', `object ${id} is a ${object.kind}, and only nested domains have caches to invalidate`);
  }

  /**
   * IOAS_NOIOMMU_GET_PA.
   *
   * @throws VfioError EPERM without CAP_SYS_RAWIO; ENOENT; EOPNOTSUPP for an IOAS without a device
   * that has no IOMMU
   */
  physicalOf(id: number, iova: bigint, length: bigint, process: Process): { readonly address: bigint; readonly length: bigint } {
    checkRawIo(process, 'physical addresses');
    const ioas = this.ioas(id);
    for (const hwpt of this.objects.ofKind('hwpt')) if (hwpt.ioas === ioas && hwpt.isPhysical) return hwpt.physicalOf(iova, length);
    throw new VfioError('EOPNOTSUPP', `IOAS ${id} has no device without an IOMMU`);
  }

  /** GET_HW_INFO. @throws VfioError ENOENT; EOPNOTSUPP without an IOMMU */
  hwInfo(id: number): HwInfo {
    const { iommu } = this.objects.get(id, 'device') as IommufdDevice;
    const info = iommu.hardware ?? null;
    if (info === null) throw new VfioError('EOPNOTSUPP', 'the IOMMU does not say what it is');
    const dirty = iommu.dirtyTracking === true ? CAP_DIRTY_TRACKING : 0n;
    const ats = this.linux.atsCapability ? CAP_ATS_NOT_SUPPORTED : 0n;
    return { type: info.type, data: info.data, capabilities: ats | dirty, pasidBits: iommu.pasidBits ?? 0 };
  }

  /** Give a new domain its mappings and a number. @throws VfioError as `Ioas.addDomain` */
  makeHwpt(hwpt: Hwpt): Hwpt {
    hwpt.ioas.addDomain(hwpt);
    this.objects.add(hwpt);
    this.objects.use(hwpt.ioas);
    if (hwpt.faults !== null) this.objects.use(hwpt.faults);
    return hwpt;
  }

  /** A device was attached to it, and is no more: a domain that ATTACH made goes with the last. */
  released(hwpt: Hwpt): void {
    this.objects.release(hwpt);
    if (hwpt.auto && !this.objects.isUsed(hwpt)) this.#dropHwpt(hwpt);
  }

  /** HWPT_SET_DIRTY_TRACKING. @throws VfioError ENOENT, EOPNOTSUPP */
  setDirtyTracking(id: number, on: boolean): void {
    this.objects.get(id, 'hwpt').setDirtyTracking(on);
  }

  /** HWPT_GET_DIRTY_BITMAP. @throws VfioError ENOENT, EINVAL, EOVERFLOW, EOPNOTSUPP */
  dirtyBitmap({ hwpt: id, iova, length, pageSize, sink, keep }: HwptDirtyRequest): void {
    const hwpt = this.objects.get(id, 'hwpt');
    if (length === 0n || pageSize === 0n) throw new VfioError('EINVAL', 'a bitmap of no pages');
    if (iova + length - 1n > U64_MAX)
      throw new VfioError('EOVERFLOW', `${hex(iova)}+${hex(length)} goes past the end of the address space`);
    if (((iova | length) & (hwpt.pageSize - 1n)) !== 0n) {
      throw new VfioError('EINVAL', `${hex(iova)}+${hex(length)} does not begin and end at multiples of ${hwpt.pageSize}`);
    }
    // As __ffs: only the lowest bit counts.
    hwpt.readDirty(iova, length, Number(pageSize & -pageSize), sink, !keep);
  }

  // ---- The container's way

  /** VFIO_IOAS. @throws VfioError ENOENT */
  setCompat(id: number | null): void {
    this.#compat = id === null ? null : this.ioas(id);
  }

  /** That IOAS. @throws VfioError ENODEV when there is none */
  compatIoas(): Ioas {
    if (this.#compat !== null) return this.#compat;
    throw new VfioError('ENODEV', 'no IOAS stands for a container', {
      fix: 'Set one first (IOMMU_VFIO_IOAS with SET), or put a group into the iommufd (GROUP_SET_CONTAINER).',
    });
  }

  /** The number of that IOAS. @throws VfioError ENODEV when there is none */
  compatId(): number {
    return this.objects.idOf(this.compatIoas());
  }

  /**
   * A group without an IOMMU is in this iommufd: there is nothing to map for it.
   *
   * @throws VfioError EINVAL when an IOAS stands for a container
   */
  setNoIommu(): void {
    if (this.#compat !== null) throw new VfioError('EINVAL', 'an IOAS stands for a container, and a group without an IOMMU needs none');
    this.#noIommu = true;
  }

  /** A container's requests are those of VFIO_NOIOMMU_IOMMU. */
  get noIommu(): boolean {
    return this.#noIommu;
  }

  /** A group in this iommufd needs that IOAS: made when there is none. */
  needCompat(): void {
    this.#compat ??= this.ioas(this.allocIoas());
  }
}

/** @throws VfioError EOPNOTSUPP */
function checkMapFlags(flags: number): void {
  const known = IoasMapFlags.FIXED_IOVA | IoasMapFlags.WRITEABLE | IoasMapFlags.READABLE;
  if ((flags & ~known) !== 0) throw new VfioError('EOPNOTSUPP', `flags ${hex(flags)} have bits that do not exist`);
}

/** @throws VfioError EINVAL for none */
function accessOf(flags: number): Access {
  const read = (flags & IoasMapFlags.READABLE) === 0 ? 0 : Access.READ;
  const write = (flags & IoasMapFlags.WRITEABLE) === 0 ? 0 : Access.WRITE;
  if ((read | write) === 0)
    throw new VfioError('EINVAL', 'the mapping is neither readable nor writable', { fix: 'Give one of the two flags.' });
  return (read | write) as Access;
}
