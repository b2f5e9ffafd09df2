/**
 * The requests of a container: three of its own, and those of the type1 IOMMU driver after
 * SET_IOMMU.
 *
 * @see linux/drivers/vfio/container.c, vfio_fops_unl_ioctl();
 *   linux/drivers/vfio/vfio_iommu_type1.c, vfio_iommu_type1_ioctl()
 */
import {
  API_VERSION,
  ContainerIoctl,
  DirtyFlags,
  DmaMapFlags,
  DmaUnmapFlags,
  Extension,
  IommuInfoCap,
  IommuInfoFlags,
} from '../abi/vfio.ts';
import {
  Bitmap,
  IommuInfoCapDmaAvail,
  IommuInfoCapIovaRange,
  IommuInfoCapMigration,
  IommuType1DirtyBitmap,
  IommuType1DirtyBitmapGet,
  IommuType1DmaMap,
  IommuType1DmaUnmap,
  IommuType1Info,
  IovaRangeEntry,
  MinSize,
} from '../abi/vfio-structs.ts';
import { VfioError } from '../base/errno.ts';
import type { Container } from '../engine/dma/container.ts';
import type { DirtyBitmap } from '../hardware/dirty-pages.ts';
import { type Caller, checkArgsz, checkFlags, type Handler } from './caller.ts';
import { answerInfo, CapabilityChain } from './capability-chain.ts';
import type { UserMemoryWindow } from './process-memory.ts';
import { type IoctlArgument, immediate, type UserBuffer } from './user-buffer.ts';

type ContainerHandler = Handler<Container>;

const ownIoctls: ReadonlyMap<number, ContainerHandler> = new Map<number, ContainerHandler>([
  [ContainerIoctl.GET_API_VERSION, () => API_VERSION],
  [ContainerIoctl.CHECK_EXTENSION, (container, _caller, _user, argument) => container.checkExtension(immediate(argument))],
  [
    ContainerIoctl.SET_IOMMU,
    (container, _caller, _user, argument) => {
      container.setIommu(immediate(argument));
      return 0;
    },
  ],
]);

/**
 * The kernel's order: MIGRATION, DMA_AVAIL, IOVA_RANGE. The last is absent when there is no range.
 */
const getInfo: ContainerHandler = (container, _caller, user) => {
  const argsz = IommuType1Info.argsz.get(user.viewIn(0, MinSize.IOMMU_TYPE1_INFO), 0);
  checkArgsz(argsz, MinSize.IOMMU_TYPE1_INFO, 'IOMMU_GET_INFO');
  const { pageSizes, pageSizeBitmap, maxDirtyBitmapSize, available, ranges } = container.iommuInfo();
  const view = new DataView(new ArrayBuffer(IommuType1Info.structSize));
  IommuType1Info.encode(view, 0, { argsz, flags: IommuInfoFlags.PGSIZES, iova_pgsizes: pageSizes });
  const chain = new CapabilityChain();
  chain.add(IommuInfoCap.MIGRATION, 1, IommuInfoCapMigration.structSize, (cap) =>
    IommuInfoCapMigration.encode(cap, 0, { pgsize_bitmap: pageSizeBitmap, max_dirty_bitmap_size: BigInt(maxDirtyBitmapSize) }),
  );
  chain.add(IommuInfoCap.DMA_AVAIL, 1, IommuInfoCapDmaAvail.structSize, (cap) => IommuInfoCapDmaAvail.encode(cap, 0, { avail: available }));
  if (ranges.length > 0) {
    const head = IommuInfoCapIovaRange.structSize;
    chain.add(IommuInfoCap.IOVA_RANGE, 1, head + ranges.length * IovaRangeEntry.structSize, (cap) => {
      IommuInfoCapIovaRange.nr_iovas.set(cap, 0, ranges.length);
      ranges.forEach(({ first, last }, i) => {
        IovaRangeEntry.encode(cap, head + i * IovaRangeEntry.structSize, { start: first, end: last });
      });
    });
  }
  answerInfo(user, IommuType1Info, view, chain, IommuInfoFlags.CAPS);
  return 0;
};

const mapDma: ContainerHandler = (container, caller, user) => {
  const { argsz, flags, vaddr, iova, size } = IommuType1DmaMap.decode(user.viewIn(0, MinSize.IOMMU_TYPE1_DMA_MAP));
  checkArgsz(argsz, MinSize.IOMMU_TYPE1_DMA_MAP, 'MAP_DMA');
  checkFlags(flags, DmaMapFlags.READ | DmaMapFlags.WRITE | DmaMapFlags.VADDR, 'MAP_DMA');
  container.mapDma({ process: caller.process, vaddr, iova, size, flags });
  return 0;
};

/** `size` becomes the number of unmapped bytes. A call that fails writes nothing back. */
const unmapDma: ContainerHandler = (container, caller, user) => {
  const view = user.viewIn(0, MinSize.IOMMU_TYPE1_DMA_UNMAP);
  const { argsz, flags, iova, size } = IommuType1DmaUnmap.decode(view);
  checkArgsz(argsz, MinSize.IOMMU_TYPE1_DMA_UNMAP, 'UNMAP_DMA');
  checkFlags(flags, DmaUnmapFlags.GET_DIRTY_BITMAP | DmaUnmapFlags.ALL | DmaUnmapFlags.VADDR, 'UNMAP_DMA');
  let unmapped: bigint;
  if ((flags & DmaUnmapFlags.GET_DIRTY_BITMAP) !== 0) {
    if ((flags & (DmaUnmapFlags.ALL | DmaUnmapFlags.VADDR)) !== 0) {
      throw new VfioError('EINVAL', 'UNMAP_DMA: GET_DIRTY_BITMAP goes with neither ALL nor VADDR');
    }
    checkArgsz(argsz, MinSize.IOMMU_TYPE1_DMA_UNMAP + Bitmap.structSize, 'UNMAP_DMA with a bitmap');
    const bitmap = Bitmap.decode(user.viewIn(MinSize.IOMMU_TYPE1_DMA_UNMAP, Bitmap.structSize));
    const dirty = new UserBitmap(caller, bitmap.pgsize, bitmap.size, bitmap.data);
    unmapped = container.unmapDma({ iova, size, flags, dirtyBitmap: dirty });
    dirty.commit();
  } else unmapped = container.unmapDma({ iova, size, flags });
  IommuType1DmaUnmap.size.set(view, 0, unmapped);
  user.copyOut(0, new Uint8Array(view.buffer));
  return 0;
};

/** B.6: a v1 container answers EACCES before it checks anything else. */
const dirtyPages: ContainerHandler = (container, caller, user) => {
  if (container.iommuType !== Extension.TYPE1v2_IOMMU) container.dirtyPages(DirtyFlags.STOP);
  const { argsz, flags } = IommuType1DirtyBitmap.decode(user.viewIn(0, MinSize.IOMMU_TYPE1_DIRTY_BITMAP));
  checkArgsz(argsz, MinSize.IOMMU_TYPE1_DIRTY_BITMAP, 'DIRTY_PAGES');
  checkFlags(flags, DirtyFlags.START | DirtyFlags.STOP | DirtyFlags.GET_BITMAP, 'DIRTY_PAGES');
  if (flags !== DirtyFlags.GET_BITMAP) {
    container.dirtyPages(flags);
    return 0;
  }
  const head = MinSize.IOMMU_TYPE1_DIRTY_BITMAP;
  checkArgsz(argsz, head + IommuType1DirtyBitmapGet.structSize, 'DIRTY_PAGES with GET_BITMAP');
  const range = IommuType1DirtyBitmapGet.decode(user.viewIn(head, IommuType1DirtyBitmapGet.structSize));
  const bitmap = new UserBitmap(caller, range.bitmap_pgsize, range.bitmap_size, range.bitmap_data);
  container.dirtyPages(flags, { iova: range.iova, size: range.size, bitmap });
  bitmap.commit();
  return 0;
};

const type1Ioctls: ReadonlyMap<number, ContainerHandler> = new Map([
  [ContainerIoctl.IOMMU_GET_INFO, getInfo],
  [ContainerIoctl.IOMMU_MAP_DMA, mapDma],
  [ContainerIoctl.IOMMU_UNMAP_DMA, unmapDma],
  [ContainerIoctl.IOMMU_DIRTY_PAGES, dirtyPages],
]);

/**
 * B.1: an unknown request is EINVAL before an IOMMU is set, and ENOTTY of the IOMMU driver
 * afterwards.
 */
export function containerIoctl(container: Container, request: number, caller: Caller, user: UserBuffer, argument: IoctlArgument): number {
  const own = ownIoctls.get(request);
  if (own !== undefined) return own(container, caller, user, argument);
  if (container.iommuType === null) throw new VfioError('EINVAL', `request 0x${request.toString(16)} before an IOMMU was set (SET_IOMMU)`);
  const handler = container.iommuType === Extension.NOIOMMU_IOMMU ? undefined : type1Ioctls.get(request);
  if (handler === undefined)
    throw new VfioError('ENOTTY', `request 0x${request.toString(16)} means nothing to a container of type ${container.iommuType}`);
  return handler(container, caller, user, argument);
}

/**
 * The end of a program's addresses on x86-64, less the guard page. access_ok() of a pointer past it
 * is EINVAL here.
 */
const USER_END = 2n ** 47n - 4096n;

/** struct vfio_bitmap: its bytes are fetched when the engine reads them, after all other checks. */
class UserBitmap implements DirtyBitmap {
  readonly pageSize: bigint;
  readonly size: bigint;
  readonly #caller: Caller;
  readonly #address: bigint;
  #window: UserMemoryWindow | null = null;

  /** @throws VfioError EINVAL when the bitmap would reach past user addresses */
  constructor(caller: Caller, pageSize: bigint, size: bigint, address: bigint) {
    if (address + size > USER_END)
      throw new VfioError('EINVAL', `a bitmap of ${size} bytes at 0x${address.toString(16)} is no user memory`);
    this.#caller = caller;
    this.pageSize = pageSize;
    this.size = size;
    this.#address = address;
  }

  /** @throws VfioError EFAULT */
  get data(): Uint8Array {
    this.#window ??= this.#caller.memory.window(this.#address, Number(this.size));
    return this.#window.bytes;
  }

  commit(): void {
    this.#window?.commit();
  }
}
