/**
 * The DMA space of a device file that is bound to an iommufd: the address space that the device is
 * attached to, for a driver in this process.
 */
import type { DmaSpace, IovaRange } from '../../abi/device.ts';
import { Access, type DirectMemory, type Memory } from '../../abi/memory.ts';
import { checkU64 } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { EngineContext } from '../context.ts';
import { allocateDma } from '../dma/container-dma-space.ts';
import type { Process } from '../dma/process.ts';
import { checkBytes } from '../dma/type1-checks.ts';
import type { Hwpt } from './hwpt.ts';
import type { Ioas } from './ioas.ts';
import type { Iommufd } from './iommufd.ts';
import type { IommufdDevice } from './iommufd-device.ts';

/** An address space has no limit of mappings. */
const UNLIMITED = 0xffff_ffff;

export class IoasDmaSpace implements DmaSpace {
  readonly #iommufd: Iommufd;
  readonly #device: IommufdDevice;
  readonly #process: Process;
  readonly #context: EngineContext;

  /** @param process pays for its mappings */
  constructor(iommufd: Iommufd, device: IommufdDevice, process: Process, context: EngineContext) {
    this.#iommufd = iommufd;
    this.#device = device;
    this.#process = process;
    this.#context = context;
  }

  /** @throws VfioError EINVAL before the device is attached */
  get #domain(): Hwpt {
    const { hwpt } = this.#device;
    if (hwpt !== null) return hwpt;
    throw new VfioError('EINVAL', `${this.#device.bdf} is attached to no address space`, { fix: 'Attach it first.' });
  }

  get #ioas(): Ioas {
    return this.#domain.ioas;
  }

  get pageSizes(): bigint {
    return this.#domain.domain.pageSizes;
  }

  get ranges(): readonly IovaRange[] {
    return this.#ioas.ranges();
  }

  get available(): number {
    return UNLIMITED - this.#ioas.size;
  }

  /** @throws VfioError EINVAL for a bad size; ENOMEM when there is not enough memory */
  allocate(size: number): DirectMemory {
    return allocateDma(this.#context, size);
  }

  map(request: { iova: bigint; memory: Memory; offset?: number; size?: number; access?: Access }): void {
    // A caller without types may give anything.
    const { memory, access = Access.READ_WRITE } = request ?? ({} as typeof request);
    if (typeof memory?.get !== 'function') throw new VfioError('EFAULT', 'what is to be mapped is no Memory');
    const iova = checkU64(request.iova, 'iova');
    const offset = checkBytes(request.offset ?? 0, 'offset');
    const size = checkBytes(request.size ?? memory.size - offset, 'size');
    if (access !== Access.READ && access !== Access.WRITE && access !== Access.READ_WRITE)
      throw new VfioError('EINVAL', `access ${String(access)} is neither READ, WRITE nor both`);
    const ioas = this.#ioas;
    if (memory.references === 0) throw new VfioError('EFAULT', 'the memory to map has been disposed');
    if (size > memory.size - offset)
      throw new VfioError('EFAULT', `bytes ${offset} to ${offset + size} do not lie inside a memory of ${memory.size} bytes`);
    const source = { kind: 'file', memory, offset } as const;
    this.#iommufd.mapInto(ioas, { process: this.#process, source, length: BigInt(size), access, iova });
  }

  unmap(iova: bigint, size: bigint): bigint {
    const [first, bytes] = [checkU64(iova, 'iova'), checkU64(size, 'size')];
    const ioas = this.#ioas;
    if (bytes > 0n && ioas.wouldCut(first, first + bytes - 1n)) {
      throw new VfioError('EINVAL', 'the range would cut a mapping in two', { fix: 'Name whole mappings.' });
    }
    const done = { bytes: 0n };
    ioas.unmap(first, bytes, done);
    return done.bytes;
  }

  unmapAll(): bigint {
    const done = { bytes: 0n };
    this.#ioas.unmapAll(done);
    return done.bytes;
  }
}
