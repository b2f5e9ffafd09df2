/** Files that a client gets for a region: the memory behind it, and eventfds for its doorbells. */
import type { Device, Doorbell, MappableArea, Region, RegionInfo } from '../../abi/device.ts';
import { RegionFlags } from '../../abi/vfio.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { EventFd } from '../../sys/eventfd.ts';
import { MemfdMemory } from '../../sys/memfd.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import type { RegionFile } from '../messages/answer-context.ts';

export interface RegionFilesOptions {
  readonly device: Device;
  /** Null for an index that the device does not have. */
  readonly region: (index: number) => Region | null;
  /** Descriptors that the client takes in one message; 0 when the stream carries none. */
  readonly maxFds: number;
  /** An error of the device that is no answer to any request: it is logged, and ends nothing. */
  readonly onBug: (what: string, error: unknown) => void;
}

interface Shared {
  readonly memory: MemfdMemory;
  /** Where in its file the region starts. */
  readonly offset: number;
}

export class RegionFiles implements Disposable {
  readonly #device: Device;
  readonly #options: RegionFilesOptions;
  readonly #numRegions: number;
  readonly #shared = new Map<number, Shared | null>();
  readonly #bells = new Map<number, readonly EventFd[]>();
  /** Doorbells, by their data, that were rung while the machine slept. */
  readonly #late = new Set<Uint8Array>();
  readonly #undo = new Cleanup();

  constructor(options: RegionFilesOptions) {
    this.#device = options.device;
    this.#options = options;
    this.#numRegions = options.device.info.numRegions;
  }

  /**
   * @throws VfioError EINVAL an index past the last; EMFILE when this process has no descriptor
   *   left
   */
  region(index: number): { readonly info: RegionInfo; readonly file: RegionFile | null } {
    const info = this.#infoOf(index);
    const shared = this.#sharedOf(index, info);
    if (shared === null) return { info: withoutMapping(info), file: null };
    return { info: withAreas(info), file: { offset: shared.offset, duplicateFd: () => shared.memory.duplicateFd() } };
  }

  /**
   * A region the device lacks is one of size 0, which clients skip; only what is past the last
   * index is an error.
   */
  #infoOf(index: number): RegionInfo {
    if (index >= this.#numRegions) throw new VfioError('EINVAL', `there is no region ${index}`);
    return this.#options.region(index)?.info ?? { index, flags: 0, size: 0 };
  }

  /**
   * The file behind a region that can be mapped in another process; null for registers, which trap.
   */
  #sharedOf(index: number, info: RegionInfo): Shared | null {
    const known = this.#shared.get(index);
    if (known !== undefined) return known;
    const shared = (info.flags & RegionFlags.MMAP) === 0 || this.#options.maxFds === 0 ? null : this.#share(index, info);
    this.#shared.set(index, shared);
    return shared;
  }

  #share(index: number, info: RegionInfo): Shared | null {
    const region = this.#options.region(index)!;
    const whole = [{ offset: 0, size: info.size }];
    const areas = info.sparseAreas ?? whole;
    let shared: Shared | null = null;
    // Stands while the client has the file, and so can map it.
    using mappings = new Cleanup();
    for (const area of areas) {
      const behind = mappings.use(region.map(area.offset, area.size)).memory;
      if (behind === null || !(behind.memory instanceof MemfdMemory)) return null;
      // A descriptor gives all of its memory: a client that may see only parts of what the memory
      // holds gets them by messages.
      if (!cover(areas, behind.holds ?? whole)) return null;
      const offset = behind.offset - area.offset;
      if (offset < 0 || (shared !== null && (shared.memory !== behind.memory || shared.offset !== offset))) return null;
      shared ??= { memory: behind.memory, offset };
    }
    this.#undo.use(mappings.move());
    return shared;
  }

  /**
   * @throws VfioError EINVAL an index past the last, or a region that can be neither read nor
   *   written; EMFILE from `open`
   */
  doorbells(index: number): { readonly bells: readonly Doorbell[]; open(): readonly OwnedFd[] } {
    const { flags, doorbells = [] } = this.#infoOf(index);
    if ((flags & (RegionFlags.READ | RegionFlags.WRITE)) === 0)
      throw new VfioError('EINVAL', `region ${index} can be neither read nor written`);
    const bells = doorbells.slice(0, this.#options.maxFds);
    return {
      bells,
      open: () => {
        using undo = new Cleanup();
        const fds = this.#listenTo(index, bells).map((event) => undo.use(event.duplicateFd()));
        undo.move();
        return fds;
      },
    };
  }

  /** One eventfd for each, made when first asked for, until the client is gone. */
  #listenTo(index: number, bells: readonly Doorbell[]): readonly EventFd[] {
    const known = this.#bells.get(index);
    if (known !== undefined) return known;
    using undo = new Cleanup();
    const region = this.#options.region(index)!;
    const events = bells.map((bell) => {
      const event = undo.use(EventFd.create());
      const data = new Uint8Array(bell.size);
      for (let i = 0; i < bell.size; i++) data[i] = Number(((bell.value ?? 0n) >> BigInt(8 * i)) & 0xffn);
      undo.use(event.listen(() => this.#ring(region, bell.offset, data)));
      return event;
    });
    this.#undo.use(undo.move());
    this.#bells.set(index, events);
    return events;
  }

  /**
   * The write that a signal stands for. A device that does not answer now loses the write, as on a
   * bus; a device whose machine sleeps gets it after the sleep.
   */
  #ring(region: Region, offset: number, data: Uint8Array): void {
    const waits = this.#device.awake?.() ?? null;
    if (waits !== null) {
      if (this.#late.has(data)) return;
      this.#late.add(data);
      void waits.then(() => this.#late.delete(data) && this.#ring(region, offset, data));
      return;
    }
    try {
      region.write(offset, data);
    } catch (error) {
      if (!(error instanceof VfioError)) this.#options.onBug('a doorbell', error);
    }
  }

  [Symbol.dispose](): void {
    this.#late.clear();
    this.#undo[Symbol.dispose]();
  }
}

/**
 * The reply always names the areas that can be mapped, also a single area that is everything. A
 * client of libvfio-user takes a descriptor only with areas, and gives up when a descriptor comes
 * with the answer to its first, short request.
 */
function withAreas(info: RegionInfo): RegionInfo {
  return info.sparseAreas === undefined ? { ...info, sparseAreas: [{ offset: 0, size: info.size }] } : info;
}

/**
 * Nothing is shared. Areas that leave a part out are still reported: a client that maps by messages
 * keeps to them.
 */
function withoutMapping(info: RegionInfo): RegionInfo {
  const { index, flags, size, type, sparseAreas } = info;
  return {
    index,
    flags: flags & ~RegionFlags.MMAP,
    size,
    ...(type === undefined ? {} : { type }),
    ...(sparseAreas === undefined || cover(sparseAreas, [{ offset: 0, size }]) ? {} : { sparseAreas }),
  };
}

/** Whether `areas` leave nothing of `parts` out. */
function cover(areas: readonly MappableArea[], parts: readonly MappableArea[]): boolean {
  const sorted = [...areas].sort((a, b) => a.offset - b.offset);
  return parts.every(({ offset, size }) => {
    let end = offset;
    for (const area of sorted) if (area.offset <= end) end = Math.max(end, area.offset + area.size);
    return end >= offset + size;
  });
}
