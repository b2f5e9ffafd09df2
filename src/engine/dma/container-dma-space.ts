/** The DMA space of a device file: its container, seen by the process that holds the file. */
import type { DirtyTracking, DmaSpace, IovaRange } from '../../abi/device.ts';
import type { Access, DirectMemory, Memory } from '../../abi/memory.ts';
import { DirtyFlags, DmaUnmapFlags } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import type { EngineContext } from '../context.ts';
import type { Container } from './container.ts';
import type { Process } from './process.ts';

export class ContainerDmaSpace implements DmaSpace {
  readonly #container: Container;
  readonly #process: Process;
  readonly #context: EngineContext;

  /** @param process charged for its mappings */
  constructor(container: Container, process: Process, context: EngineContext) {
    this.#container = container;
    this.#process = process;
    this.#context = context;
  }

  get pageSizes(): bigint {
    return this.#container.iommuInfo().pageSizes;
  }

  get ranges(): readonly IovaRange[] {
    return this.#container.iommuInfo().ranges;
  }

  get available(): number {
    return this.#container.iommuInfo().available;
  }

  /** @throws VfioError EINVAL for a bad size; ENOMEM when there is not enough memory */
  allocate(size: number): DirectMemory {
    return allocateDma(this.#context, size);
  }

  map(request: { iova: bigint; memory: Memory; offset?: number; size?: number; access?: Access }): void {
    // A caller without types may give none: the container's errors name what is missing.
    const { iova, memory, offset, size, access } = request ?? ({} as typeof request);
    const process = this.#process;
    // Servers name everything, for each request of a client: a spread takes longer than the checks.
    if (offset === undefined || size === undefined || access === undefined) this.#container.mapMemory({ ...request, process });
    else this.#container.mapMemory({ process, iova, memory, offset, size, access });
  }

  unmap(iova: bigint, size: bigint): bigint {
    return this.#container.unmapDma({ iova, size });
  }

  readonly dirty: DirtyTracking = {
    start: () => this.#container.dirtyPages(DirtyFlags.START),
    stop: () => this.#container.dirtyPages(DirtyFlags.STOP),
    report: (iova, size, pageSize, data) => {
      this.#container.dirtyPages(DirtyFlags.GET_BITMAP, { iova, size, bitmap: { pageSize, data } });
    },
    unmap: (iova, size, pageSize, data) => {
      return this.#container.unmapDma({ iova, size, flags: DmaUnmapFlags.GET_DIRTY_BITMAP, dirtyBitmap: { pageSize, data } });
    },
  };

  unmapAll(): bigint {
    return this.#container.unmapDma({ iova: 0n, size: 0n, flags: DmaUnmapFlags.ALL });
  }
}

/** Memory for DMA, in whole pages. @throws VfioError EINVAL for a bad size; ENOMEM */
export function allocateDma({ pageSize, allocate }: Pick<EngineContext, 'pageSize' | 'allocate'>, size: number): DirectMemory {
  if (!Number.isSafeInteger(size) || size <= 0) throw new VfioError('EINVAL', `cannot allocate ${String(size)} bytes`);
  const bytes = Math.ceil(size / pageSize) * pageSize;
  if (bytes > 2 ** 47) throw new VfioError('ENOMEM', `${size} bytes are more than an address space holds`);
  return allocate(bytes);
}
