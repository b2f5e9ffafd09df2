/**
 * The requests of a container on an iommufd.
 *
 * @see linux/drivers/iommu/iommufd/vfio_compat.c, iommufd_vfio_ioctl()
 */
import { API_VERSION, ContainerIoctl, IommuInfoCap, IommuInfoFlags } from '../abi/vfio.ts';
import {
  IommuInfoCapDmaAvail,
  IommuInfoCapIovaRange,
  IommuType1DmaMap,
  IommuType1DmaUnmap,
  IommuType1Info,
  IovaRangeEntry,
  MinSize,
} from '../abi/vfio-structs.ts';
import { checkExtension, info, mapDma, setIommu, unmapDma } from '../engine/iommufd/compat.ts';
import type { Unmapped } from '../engine/iommufd/ioas.ts';
import type { Iommufd } from '../engine/iommufd/iommufd.ts';
import { checkArgsz, type Handler } from './caller.ts';
import { CapabilityChain } from './capability-chain.ts';
import { immediate } from './user-buffer.ts';

/** There is no limit of mappings. */
const UNLIMITED = 0xffff_ffff;

/** As type1's, but `argsz` becomes the whole size in every case. */
const getInfo: Handler<Iommufd> = (iommufd, _caller, user) => {
  const argsz = IommuType1Info.argsz.get(user.viewIn(0, MinSize.IOMMU_TYPE1_INFO), 0);
  checkArgsz(argsz, MinSize.IOMMU_TYPE1_INFO, 'IOMMU_GET_INFO');
  const { pageSizes, ranges } = info(iommufd);
  const chain = new CapabilityChain();
  chain.add(IommuInfoCap.DMA_AVAIL, 1, IommuInfoCapDmaAvail.structSize, (cap) => IommuInfoCapDmaAvail.encode(cap, 0, { avail: UNLIMITED }));
  const head = IommuInfoCapIovaRange.structSize;
  chain.add(IommuInfoCap.IOVA_RANGE, 1, head + ranges.length * IovaRangeEntry.structSize, (cap) => {
    IommuInfoCapIovaRange.nr_iovas.set(cap, 0, ranges.length);
    ranges.forEach(({ first, last }, i) => {
      IovaRangeEntry.encode(cap, head + i * IovaRangeEntry.structSize, { start: first, end: last });
    });
  });
  const whole = IommuType1Info.structSize + chain.size;
  const fits = argsz >= whole;
  const view = new DataView(new ArrayBuffer(IommuType1Info.structSize));
  IommuType1Info.encode(view, 0, {
    argsz: whole,
    flags: IommuInfoFlags.PGSIZES | IommuInfoFlags.CAPS,
    iova_pgsizes: pageSizes,
    cap_offset: fits ? IommuType1Info.structSize : 0,
  });
  if (fits) user.copyOut(IommuType1Info.structSize, chain.at(IommuType1Info.structSize));
  user.copyOut(0, new Uint8Array(view.buffer, 0, Math.min(argsz, IommuType1Info.structSize)));
  return 0;
};

const map: Handler<Iommufd> = (iommufd, { process }, user) => {
  const { argsz, flags, vaddr, iova, size } = IommuType1DmaMap.decode(user.viewIn(0, MinSize.IOMMU_TYPE1_DMA_MAP));
  checkArgsz(argsz, MinSize.IOMMU_TYPE1_DMA_MAP, 'MAP_DMA');
  mapDma(iommufd, { process, flags, vaddr, iova, size });
  return 0;
};

/** `size` becomes the number of unmapped bytes, also when the request ends at a mapping. */
const unmap: Handler<Iommufd> = (iommufd, _caller, user) => {
  const view = user.viewIn(0, MinSize.IOMMU_TYPE1_DMA_UNMAP);
  const { argsz, flags, iova, size } = IommuType1DmaUnmap.decode(view);
  checkArgsz(argsz, MinSize.IOMMU_TYPE1_DMA_UNMAP, 'UNMAP_DMA');
  const done: Unmapped = { bytes: size };
  try {
    unmapDma(iommufd, { flags, iova, size }, done);
  } finally {
    if (done.bytes !== size) {
      IommuType1DmaUnmap.size.set(view, 0, done.bytes);
      user.copyOut(0, new Uint8Array(view.buffer));
    }
  }
  return 0;
};

export const iommufdCompatIoctls: ReadonlyMap<number, Handler<Iommufd>> = new Map<number, Handler<Iommufd>>([
  [ContainerIoctl.GET_API_VERSION, () => API_VERSION],
  [ContainerIoctl.CHECK_EXTENSION, (iommufd, _caller, _user, argument) => checkExtension(iommufd, immediate(argument))],
  [
    ContainerIoctl.SET_IOMMU,
    (iommufd, _caller, _user, argument) => {
      setIommu(iommufd, immediate(argument));
      return 0;
    },
  ],
  [ContainerIoctl.IOMMU_GET_INFO, getInfo],
  [ContainerIoctl.IOMMU_MAP_DMA, map],
  [ContainerIoctl.IOMMU_UNMAP_DMA, unmap],
]);
