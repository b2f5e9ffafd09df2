/**
 * The container: /dev/vfio/vfio after open. Groups come in, the user sets an IOMMU type, and maps
 * the memory that the groups' devices may reach by DMA.
 *
 * The group file claims a group's DMA before the group comes here.
 *
 * @see linux/drivers/vfio/container.c (Linux 7.2)
 */

import { Extension, type Type1Kind } from '../../abi/vfio.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { INSPECT } from '../../base/inspect.ts';
import type { EventSource } from '../../events/source.ts';
import type { IommuDomain } from '../../hardware/iommu-domain.ts';
import type { EngineContext } from '../context.ts';
import { requireIsolation } from './container-domains.ts';
import { dirtyDetails, iommuWords, mapDetails, memoryDetails, unmapDetails } from './container-events.ts';
import type { AttachableGroup } from './iommu-properties.ts';
import { Type1 } from './type1.ts';
import type { DirtyRange, IommuInfo, MapDma, MapMemory, MappingInfo, UnmapDma } from './type1-requests.ts';

export type { DirtyRange, IommuInfo, MapDma, MapMemory, MappingInfo, UnmapDma } from './type1-requests.ts';

/** A container (/dev/vfio/vfio): the groups of a user, and the DMA mappings that they share. */
export class Container implements Disposable {
  readonly #context: EngineContext;
  readonly #groups: AttachableGroup[] = [];
  #type1: Type1 | null = null;
  /** SET_IOMMU has chosen VFIO_NOIOMMU_IOMMU. */
  #noIommuSet = false;
  /** One for the open file, one for each group in it: they may be closed in any order (B.3). */
  #references = 1;
  #open = true;
  readonly #closed: () => void;
  /** Where it emits. */
  readonly events: EventSource;

  /** @param closed called once, as the file is closed: for a list of open containers */
  constructor(context: EngineContext, closed: () => void = () => {}) {
    this.#context = context;
    this.#closed = closed;
    this.events = context.stream.container();
  }

  /** Groups that are attached. */
  get groups(): readonly AttachableGroup[] {
    return this.#groups;
  }

  /** The type that SET_IOMMU chose; null before, and again after the last group has left. */
  get iommuType(): Type1Kind | typeof Extension.NOIOMMU_IOMMU | null {
    return this.#noIommuSet ? Extension.NOIOMMU_IOMMU : (this.#type1?.kind ?? null);
  }

  /** The domains that its groups are in, for tests and for display. */
  get domains(): readonly IommuDomain[] {
    return this.#type1?.domains ?? [];
  }

  /** Mappings now. */
  get size(): number {
    return this.#type1?.size ?? 0;
  }

  /** Dirty pages are being noted (VFIO_IOMMU_DIRTY_PAGES). */
  get dirtyTracking(): boolean {
    return this.#type1?.dirtyTracking ?? false;
  }

  /** References held: one for the open file, one for each group; 0 = gone. */
  get references(): number {
    return this.#references;
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    return `Container with ${this.#groups.length} groups${this.#open ? '' : ', closed'}`;
  }

  /** Hold the container open, as a group in it does. */
  get(): this {
    if (this.#references === 0) throw new VfioError('EBADF', 'the container is closed');
    this.#references++;
    return this;
  }

  /** Drops one reference. A container without references has no user and no group. */
  put(): void {
    if (this.#references === 0) throw new Error('container: one put too many');
    if (--this.#references === 0) this.events[Symbol.dispose]();
  }

  /**
   * Close the file. Groups that are in it keep it, and its mappings, until they leave. Idempotent.
   */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#closed();
    this.put();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * VFIO_CHECK_EXTENSION: positive when there is such an extension. Some answers depend on the type
   * that is set.
   */
  checkExtension(extension: number): number {
    // Each kind of group has drivers of its own; before there is one, all of them are asked.
    if (extension === Extension.NOIOMMU_IOMMU) {
      const possible = this.#groups.length === 0 || this.#hasNoIommu;
      return possible && this.#context.params.unsafeNoIommu ? 1 : 0;
    }
    if (this.#hasNoIommu) return 0;
    switch (extension) {
      case Extension.TYPE1_IOMMU:
      case Extension.TYPE1v2_IOMMU:
      case Extension.UNMAP_ALL:
        return 1;
      case Extension.TYPE1_NESTING_IOMMU:
        return this.#context.linux.nestingIsGone ? 0 : 1;
      case Extension.UPDATE_VADDR:
        return this.#type1 === null ? 0 : 1;
      case Extension.DMA_CC_IOMMU:
        return this.#type1?.enforcesCoherency === true ? 1 : 0;
      default:
        return 0;
    }
  }

  /**
   * VFIO_SET_IOMMU: choose the type and attach every group in the container to it.
   *
   * @throws VfioError EINVAL without a group, or when it is set already; ENODEV for a type that
   * does not exist; EINVAL for nesting, in kernels that have it; else what attaching a group
   * throws, with all groups taken out again
   */
  setIommu(type: number): void {
    if (!this.events.on) this.#setIommu(type);
    else this.events.attempt('feature', { name: 'SET_IOMMU', op: 'set', value: iommuWords(type) }, () => this.#setIommu(type));
  }

  #setIommu(type: number): void {
    if (this.#groups.length === 0) {
      throw new VfioError('EINVAL', 'SET_IOMMU: the container has no group', { fix: 'Put a group into it first (GROUP_SET_CONTAINER).' });
    }
    if (this.iommuType !== null) throw new VfioError('EINVAL', `SET_IOMMU: the container's IOMMU is set already (type ${this.iommuType})`);
    if (this.checkExtension(type) === 0) throw new VfioError('ENODEV', `SET_IOMMU: there is no IOMMU type ${String(type)}`);
    const fix = 'Use VFIO_TYPE1v2_IOMMU (3).';
    if (type === Extension.TYPE1_NESTING_IOMMU) throw new VfioError('EINVAL', 'SET_IOMMU: this IOMMU does not nest', { fix });
    if (type === Extension.NOIOMMU_IOMMU) {
      this.#noIommuSet = true;
      return;
    }
    // UNMAP_ALL is an extension in the same number space, so Linux asks type1, which does not know
    // it as a type.
    if (type !== Extension.TYPE1_IOMMU && type !== Extension.TYPE1v2_IOMMU) {
      throw new VfioError('EINVAL', `SET_IOMMU: extension ${type} is no IOMMU type`, { fix });
    }
    this.#context.faults.step('container.set-iommu');
    const type1 = new Type1(this.#context, type);
    using undo = new Cleanup();
    for (const group of this.#groups) {
      type1.attach(group);
      undo.defer(() => type1.detach(group));
    }
    this.#type1 = type1;
    undo.move();
  }

  /**
   * Put a group in; at once into a domain when the IOMMU type is set. The group holds the container
   * until it leaves.
   *
   * @throws VfioError EINVAL when it is in already, or its IOMMU does not isolate; EPERM beside a
   * group of the other kind, with an IOMMU or without; else what
   * Type1.attach throws. Nothing has changed then.
   */
  attachGroup(group: AttachableGroup): void {
    if (!this.events.on) this.#attachGroup(group);
    else this.events.attempt('group', { group: group.id, step: 'attached', container: this.events.name }, () => this.#attachGroup(group));
  }

  #attachGroup(group: AttachableGroup): void {
    if (this.#references === 0) throw new VfioError('EBADF', 'the container is closed');
    if (this.#groups.includes(group)) throw new VfioError('EINVAL', `group ${group.id} is in the container already`);
    requireIsolation(group);
    if (this.#groups.length > 0 && this.#hasNoIommu !== isNoIommu(group)) {
      throw new VfioError('EPERM', `group ${group.id} and the container's groups: only one of them has an IOMMU`, {
        fix: 'Use a container for each kind.',
      });
    }
    this.#context.faults.step('container.attach');
    this.#type1?.attach(group);
    this.#groups.push(group);
    this.get();
  }

  /**
   * Take a group out. With the last group all mappings go, and the container is as after open
   * (B.3).
   *
   * @throws VfioError EINVAL when it is not in
   */
  detachGroup(group: AttachableGroup): void {
    const at = this.#groups.indexOf(group);
    if (at < 0) throw new VfioError('EINVAL', `group ${group.id} is not in this container`);
    const { events } = this;
    const seq = events.on ? events.emit('group', { group: group.id, step: 'detached', container: events.name }) : 0;
    const bytes = this.#type1?.detach(group) ?? 0n;
    if (seq !== 0 && bytes > 0n) events.during(seq, () => events.emit('dma-unmap', { iova: 0n, size: bytes }));
    this.#groups.splice(at, 1);
    if (this.#groups.length === 0) {
      this.#type1 = null;
      this.#noIommuSet = false;
    }
    this.put();
  }

  /** VFIO_IOMMU_MAP_DMA. @throws VfioError EINVAL before SET_IOMMU; else as Type1.map */
  mapDma(request: MapDma): void {
    if (!this.events.on) this.#iommu('MAP_DMA').map(request);
    else this.events.attempt('dma-map', mapDetails(request), () => this.#iommu('MAP_DMA').map(request));
  }

  /**
   * Map memory that the request brings.
   *
   * @throws VfioError EINVAL before SET_IOMMU; else as Type1.mapMemory
   */
  mapMemory(request: MapMemory): void {
    if (this.events.on) this.#mapMemorySeen(request);
    else this.#iommu('map').mapMemory(request);
  }

  /**
   * VFIO_IOMMU_UNMAP_DMA: bytes unmapped.
   *
   * @throws VfioError EINVAL before SET_IOMMU; else as Type1.unmap
   */
  unmapDma(request: UnmapDma): bigint {
    return this.events.on ? this.#unmapDmaSeen(request) : this.#iommu('UNMAP_DMA').unmap(request);
  }

  /*
   * These hold the request in a closure. A method that held it without a reader, too, would make
   * an object for each request.
   */

  #mapMemorySeen(request: MapMemory): void {
    this.events.attempt('dma-map', memoryDetails(request), () => this.#iommu('map').mapMemory(request));
  }

  #unmapDmaSeen(request: UnmapDma): bigint {
    const unmap = () => this.#iommu('UNMAP_DMA').unmap(request);
    return this.events.attempt('dma-unmap', unmapDetails(request), unmap, (size) => ({ size }));
  }

  /** VFIO_IOMMU_GET_INFO. @throws VfioError EINVAL before SET_IOMMU */
  iommuInfo(): IommuInfo {
    return this.#iommu('IOMMU_GET_INFO').info();
  }

  /** VFIO_IOMMU_DIRTY_PAGES. @throws VfioError EINVAL before SET_IOMMU; else as Type1.dirtyPages */
  dirtyPages(flags: number, range?: DirtyRange): void {
    if (!this.events.on) this.#iommu('DIRTY_PAGES').dirtyPages(flags, range);
    else this.events.attempt('feature', dirtyDetails(flags), () => this.#iommu('DIRTY_PAGES').dirtyPages(flags, range));
  }

  /** Every mapping in order of its address. Do not map or unmap during the walk. */
  mappings(): Iterable<MappingInfo> {
    return this.#type1?.mappings() ?? [];
  }

  /** Its groups have no IOMMU. */
  get #hasNoIommu(): boolean {
    const first = this.#groups[0];
    return first !== undefined && isNoIommu(first);
  }

  #iommu(what: string): Type1 {
    if (this.#type1 === null) {
      if (!this.#open) throw new VfioError('EBADF', `${what}: the container is closed`);
      throw new VfioError('EINVAL', `${what}: the container has no IOMMU`, { fix: 'Put a group into it, then SET_IOMMU.' });
    }
    return this.#type1;
  }
}

function isNoIommu(group: AttachableGroup): boolean {
  return group.iommu.physical !== undefined;
}
