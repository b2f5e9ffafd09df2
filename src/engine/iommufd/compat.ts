/**
 * The requests of a container, which an iommufd takes for the IOAS that stands for one.
 *
 * @see linux/drivers/iommu/iommufd/vfio_compat.c
 */
import type { Access } from '../../abi/memory.ts';
import { DmaMapFlags, DmaUnmapFlags, Extension } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import type { Process } from '../dma/process.ts';
import type { Span } from './area-list.ts';
import type { Hwpt } from './hwpt.ts';
import type { Unmapped } from './ioas.ts';
import type { Iommufd } from './iommufd.ts';

/** A page of the process, and all multiples: page sizes before there is a domain. */
const EVERY_PAGE_SIZE = 0xffff_ffff_ffff_f000n;

export interface CompatMapRequest {
  readonly process: Process;
  /** `DmaMapFlags` */
  readonly flags: number;
  readonly vaddr: bigint;
  readonly iova: bigint;
  readonly size: bigint;
}

export interface CompatUnmapRequest {
  /** `DmaUnmapFlags` */
  readonly flags: number;
  readonly iova: bigint;
  readonly size: bigint;
}

export interface CompatInfo {
  readonly pageSizes: bigint;
  readonly ranges: readonly Span[];
}

const accessWords: Partial<Record<number, 'read' | 'write' | 'read, write'>> = { 1: 'read', 2: 'write', 3: 'read, write' };

function domainsOf(iommufd: Iommufd): Hwpt[] {
  const ioas = iommufd.compatIoas();
  return [...iommufd.objects.ofKind('hwpt')].filter((hwpt) => hwpt.ioas === ioas);
}

/** VFIO_CHECK_EXTENSION. @throws VfioError ENODEV for DMA_CC without an IOAS */
export function checkExtension(iommufd: Iommufd, extension: number): number {
  switch (extension) {
    case Extension.TYPE1_IOMMU:
    case Extension.TYPE1v2_IOMMU:
    case Extension.UNMAP_ALL:
    case Extension.NOIOMMU_IOMMU:
      return 1;
    case Extension.DMA_CC_IOMMU:
      return domainsOf(iommufd).every(({ domain }) => domain.enforcesCoherency) ? 1 : 0;
    default:
      return 0;
  }
}

/**
 * VFIO_SET_IOMMU. Any number of times; TYPE1 lets unmaps cut mappings from now on, also after a
 * return to TYPE1v2.
 *
 * @throws VfioError EINVAL for another type, and for TYPE1 while something is mapped; ENODEV
 * without an IOAS
 */
export function setIommu(iommufd: Iommufd, type: number): void {
  if (iommufd.noIommu) {
    if (type === Extension.NOIOMMU_IOMMU) return;
    throw new VfioError('EINVAL', `SET_IOMMU: a group without an IOMMU takes VFIO_NOIOMMU_IOMMU (8), not ${type}`);
  }
  if (type !== Extension.TYPE1_IOMMU && type !== Extension.TYPE1v2_IOMMU)
    throw new VfioError('EINVAL', `SET_IOMMU: ${type} is no type of an iommufd`);
  const ioas = iommufd.compatIoas();
  if (type === Extension.TYPE1_IOMMU) ioas.hugePages = false;
}

/** VFIO_IOMMU_GET_INFO. @throws VfioError ENODEV without an IOAS */
export function info(iommufd: Iommufd): CompatInfo {
  let pageSizes = EVERY_PAGE_SIZE;
  for (const { domain } of domainsOf(iommufd)) pageSizes &= domain.pageSizes;
  return { pageSizes, ranges: iommufd.compatIoas().ranges() };
}

/**
 * VFIO_IOMMU_MAP_DMA.
 *
 * @throws VfioError EINVAL unknown flags; ENODEV without an IOAS; EINVAL without access; as
 * `Iommufd.mapInto`
 */
export function mapDma(iommufd: Iommufd, request: CompatMapRequest): void {
  const { events } = iommufd;
  if (!events.on) {
    map(iommufd, request);
    return;
  }
  const access = accessWords[request.flags];
  const details = { iova: request.iova, size: request.size, memory: 'direct', ...(access === undefined ? {} : { access }) } as const;
  events.attempt('dma-map', details, () => map(iommufd, request));
}

function map(iommufd: Iommufd, { process, flags, vaddr, iova, size }: CompatMapRequest): void {
  if ((flags & ~(DmaMapFlags.READ | DmaMapFlags.WRITE)) !== 0) throw new VfioError('EINVAL', `MAP_DMA: flags 0x${flags.toString(16)}`);
  const ioas = iommufd.compatIoas();
  if (flags === 0) throw new VfioError('EINVAL', 'MAP_DMA: the mapping is neither readable nor writable');
  iommufd.mapInto(ioas, { process, source: { kind: 'address', vaddr }, length: size, access: flags as Access, iova });
}

/**
 * VFIO_IOMMU_UNMAP_DMA.
 *
 * @param done gets the bytes unmapped; not changed when the request is refused before
 * @throws VfioError EINVAL unknown flags, or ALL with a range; ENODEV without an IOAS; as
 * `Ioas.cut` and `Ioas.unmap`
 */
export function unmapDma(iommufd: Iommufd, request: CompatUnmapRequest, done: Unmapped): void {
  const { events } = iommufd;
  if (!events.on) {
    unmap(iommufd, request, done);
    return;
  }
  const { iova, size } = request;
  events.attempt(
    'dma-unmap',
    { iova, size },
    () => unmap(iommufd, request, done),
    () => ({ size: done.bytes }),
  );
}

function unmap(iommufd: Iommufd, { flags, iova, size }: CompatUnmapRequest, done: Unmapped): void {
  if ((flags & ~DmaUnmapFlags.ALL) !== 0) throw new VfioError('EINVAL', `UNMAP_DMA: flags 0x${flags.toString(16)}`);
  const ioas = iommufd.compatIoas();
  if ((flags & DmaUnmapFlags.ALL) !== 0) {
    if (iova !== 0n || size !== 0n) throw new VfioError('EINVAL', 'UNMAP_DMA: ALL takes no range');
    ioas.unmapAll(done);
    return;
  }
  if (!ioas.hugePages && size > 0n) ioas.cut(iova, iova + size - 1n);
  ioas.unmap(iova, size, done);
}
