/** Messages about the device as a whole and its regions' descriptors: GET_INFO, GET_REGION_INFO, GET_REGION_IO_FDS, FEATURE. */
import type { Device, Doorbell, Region, RegionInfo } from '../../abi/device.ts';
import { Feature, RegionFlags } from '../../abi/vfio.ts';
import { DeviceFeature } from '../../abi/vfio-structs.ts';
import { IoFdFlags, IoFdType } from '../../abi/vfio-user.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { EventFd } from '../../sys/eventfd.ts';
import { MemfdMemory } from '../../sys/memfd.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import {
  decodeDeviceInfo,
  decodeFeatureRequest,
  decodeIoFdsRequest,
  decodeRegionInfoRequest,
  encodeDeviceInfo,
  encodeFeature,
  encodeFeatureReply,
  encodeIoFds,
  encodeRegionInfo,
} from '../messages.ts';

/** A reply: its payload and the descriptors that go with it. */
export interface Answer {
  readonly payload: Uint8Array;
  readonly fds?: readonly OwnedFd[];
}

export interface DeviceMessagesOptions {
  readonly device: Device;
  /** Null for an index the device does not have. */
  readonly region: (index: number) => Region | null;
  /** The stream carries descriptors, and the client takes so many in a message. */
  readonly maxFds: number;
  readonly maxReplyBytes: number;
  /** A bug of the device, with nobody there to answer: it is told, and ends nothing. */
  readonly onBug: (what: string, error: unknown) => void;
}

interface Shared {
  readonly memory: MemfdMemory;
  /** Where in its file the region starts. */
  readonly offset: number;
}

export class DeviceMessages implements Disposable {
  readonly #device: Device;
  readonly #options: DeviceMessagesOptions;
  readonly #numRegions: number;
  readonly #shared = new Map<number, Shared | null>();
  readonly #bells = new Map<number, readonly EventFd[]>();
  /** Doorbells, by their data, that were rung while the machine slept. */
  readonly #late = new Set<Uint8Array>();
  /** The client knows that the machine sleeps: it has acknowledged. */
  knowsOfSleep = false;
  readonly #undo = new Cleanup();

  constructor(options: DeviceMessagesOptions) {
    this.#device = options.device;
    this.#options = options;
    this.#numRegions = options.device.info.numRegions;
  }

  info(payload: Uint8Array): Answer {
    decodeDeviceInfo(payload);
    return { payload: encodeDeviceInfo(this.#device.info) };
  }

  /** @throws VfioError EINVAL malformed, or an index past the last; EMFILE when this process has no descriptor left */
  regionInfo(payload: Uint8Array): Answer {
    const { argsz, index } = decodeRegionInfoRequest(payload);
    const info = this.#infoOf(index);
    const shared = this.#sharedOf(index, info);
    const told: RegionInfo = shared === null ? withoutMapping(info) : withAreas(info);
    const reply = encodeRegionInfo(told, argsz, BigInt(shared?.offset ?? 0));
    // A client that left no room for the capabilities asks again, and gets the descriptor then.
    const whole = shared !== null && argsz >= new DataView(reply.buffer).getUint32(0, true);
    return whole ? { payload: reply, fds: [shared.memory.duplicateFd()] } : { payload: reply };
  }

  /** A region the device lacks is one of size 0, which clients skip; only what is past the last index is an error. */
  #infoOf(index: number): RegionInfo {
    if (index >= this.#numRegions) throw new VfioError('EINVAL', `there is no region ${index}`);
    return this.#options.region(index)?.info ?? { index, flags: 0, size: 0 };
  }

  /** The file behind a region that can be mapped in another process; null for registers, which trap. */
  #sharedOf(index: number, info: RegionInfo): Shared | null {
    const known = this.#shared.get(index);
    if (known !== undefined) return known;
    const shared = (info.flags & RegionFlags.MMAP) === 0 || this.#options.maxFds === 0 ? null : this.#share(index, info);
    this.#shared.set(index, shared);
    return shared;
  }

  #share(index: number, info: RegionInfo): Shared | null {
    // A descriptor gives all of its memory: a client that may see only parts of the region gets
    // them by messages.
    if (!coversAll(info)) return null;
    const region = this.#options.region(index)!;
    let shared: Shared | null = null;
    for (const area of info.sparseAreas ?? [{ offset: 0, size: info.size }]) {
      using mapping = region.map(area.offset, area.size);
      const behind = mapping.memory;
      if (behind === null || !(behind.memory instanceof MemfdMemory)) return null;
      const offset = behind.offset - area.offset;
      if (offset < 0 || (shared !== null && (shared.memory !== behind.memory || shared.offset !== offset))) return null;
      shared ??= { memory: behind.memory, offset };
    }
    return shared;
  }

  /** @throws VfioError EINVAL malformed, or a region that can be neither read nor written; EMFILE */
  ioFds(payload: Uint8Array): Answer {
    const { argsz, index } = decodeIoFdsRequest(payload);
    const { flags, doorbells = [] } = this.#infoOf(index);
    if ((flags & (RegionFlags.READ | RegionFlags.WRITE)) === 0)
      throw new VfioError('EINVAL', `region ${index} can be neither read nor written`);
    const bells = doorbells.slice(0, this.#options.maxFds);
    const entries = bells.map(({ offset, size, value }, fdIndex) => ({
      offset: BigInt(offset),
      size: BigInt(size),
      fdIndex,
      type: IoFdType.IOEVENTFD,
      flags: value === null ? 0 : IoFdFlags.DATAMATCH,
      datamatch: value ?? 0n,
    }));
    const reply = encodeIoFds(index, entries, argsz);
    const whole = argsz >= new DataView(reply.buffer).getUint32(0, true);
    if (!whole || bells.length === 0) return { payload: reply };
    using undo = new Cleanup();
    const fds = this.#listenTo(index, bells).map((event) => undo.use(event.duplicateFd()));
    undo.move();
    return { payload: reply, fds };
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

  /**
   * FEATURE: the device's own answer.
   *
   * @param fds an eventfd that the feature's data speaks of
   * @throws VfioError EINVAL malformed, argsz without room for the feature's data or beyond the message, or more than one descriptor; what the device throws
   */
  feature(payload: Uint8Array, fds: readonly OwnedFd[]): Answer {
    const request = decodeFeatureRequest(payload);
    const { feature, get, set, probe, argsz } = request;
    const room = argsz - DeviceFeature.structSize;
    if (room > this.#options.maxReplyBytes) throw new VfioError('EINVAL', `DEVICE_FEATURE: argsz ${argsz} is more than a message holds`);
    if (fds.length > (feature === Feature.SYSTEM_SLEEP ? 2 : 1)) {
      throw new VfioError('EINVAL', `DEVICE_FEATURE with ${fds.length} descriptors`);
    }
    using events = new Cleanup();
    const sinks = fds.map((fd) => events.use(EventFd.fromFd(fd)));
    const data = new Uint8Array(room);
    data.set(request.data);
    // Before the call, during which the machine may go to sleep.
    const knew = this.knowsOfSleep;
    if (feature === Feature.SYSTEM_SLEEP_ACK && set && !probe) this.knowsOfSleep = true;
    let used: number;
    try {
      used = this.#device.feature({ feature, get, set, probe, data, ...(sinks.length === 0 ? {} : { sinks }) });
    } catch (error) {
      this.knowsOfSleep = knew;
      throw error;
    }
    if (get && !probe) return { payload: encodeFeature({ feature, get, set, probe, data: data.subarray(0, used) }) };
    return { payload: encodeFeatureReply(request) };
  }

  [Symbol.dispose](): void {
    this.#late.clear();
    this.#undo[Symbol.dispose]();
  }
}

/**
 * What can be mapped is always told as areas, be it one that is everything: a client of libvfio-user takes a descriptor only with them, and gives
 * up when one comes with the answer to its first, short question.
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
    ...(sparseAreas === undefined || coversAll(info) ? {} : { sparseAreas }),
  };
}

/** Whether the areas that can be mapped leave nothing out. */
function coversAll({ sparseAreas, size }: RegionInfo): boolean {
  if (sparseAreas === undefined) return true;
  let end = 0;
  for (const area of [...sparseAreas].sort((a, b) => a.offset - b.offset))
    if (area.offset <= end) end = Math.max(end, area.offset + area.size);
  return end >= size;
}
