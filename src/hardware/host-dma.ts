/**
 * A device's way to memory: the gates a DMA passes (power, bus mastering, a domain), then the
 * domain's translation. A DMA that does not pass does not land; it is counted by reason, and the
 * model sees the fault. A model's mistake makes nothing throw here.
 *
 * Longer than 400 lines because every way to memory (copies, views, messages) passes the same gates
 * and counters.
 */

import { Dma, DmaFault, type DmaPlace, type DmaPort, type Iova } from '../abi/device-host.ts';
import type { DmaFaultReason } from '../abi/event.ts';
import { Access } from '../abi/memory.ts';
import { U64_MAX } from '../base/check.ts';
import { textOf } from '../base/foreign.ts';
import { Latch } from '../base/latch.ts';
import { WatchedPromise } from '../base/watched-promise.ts';
import { type EventSource, Way } from '../events/source.ts';
import type { DmaLog } from './dma-log.ts';
import { IOMMU_UNIT, type IommuDomain, Located, Reach } from './iommu-domain.ts';
import { type RemoteDma, RemoteTransfers } from './remote-transfer.ts';
import { ViewCache } from './view-cache.ts';

/** The gates between a device and memory. Every access reads these getters: keep them cheap. */
export interface DmaGate {
  /** COMMAND.BusMaster as the hardware has it (S2-38). */
  readonly busMaster: boolean;
  /** In D0. */
  readonly powered: boolean;
  /** The domain that the device's group is attached to. */
  readonly domain: IommuDomain | null;
}

export type DmaFaults = Record<DmaFaultReason, number>;

const reasons = [
  'bus-master-off',
  'not-powered',
  'stopped',
  'no-domain',
  'not-mapped',
  'permission',
  'remote-failed',
] as const satisfies readonly DmaFaultReason[];

/** Shorter transfers are copied without a view, which would be an object each. */
const VIEWED = 512;
/** As `IommuDomain` copies: up to so many bytes one by one. */
const BYTEWISE = 16;
const NO_BYTES = new Uint8Array(0);

export class HostDma implements DmaPort {
  readonly #gate: DmaGate;
  readonly #events: EventSource;
  readonly #name: string;
  #lastFault: { readonly reason: DmaFaultReason; readonly iova: bigint; readonly access: 'read' | 'write' } | null = null;
  /** Page and byte that `#split` found; in an array, so that storing them allocates nothing. */
  readonly #at = new Float64Array(2);
  #epoch = 0;
  #seenDomain: IommuDomain | null = null;
  #seenEpoch = 0;
  /** The views of the present epoch. */
  readonly #views = new ViewCache();
  /** The bytes that were located last, and the rights of their mapping. */
  readonly #located = new Located();
  /**
   * The addresses of that mapping, because most look-ups hit it again: its first, the one behind
   * it, and that of byte 0 of the window. Valid in the present epoch; else the first is infinite.
   */
  readonly #near = new Float64Array([Number.POSITIVE_INFINITY, 0, 0]);
  /** The log of this device's writes (DMA_LOGGING); null while logging is off. */
  #writesLog: DmaLog | null = null;
  /**
   * The log that every write looks at: as `#writesLog`, and null also while a mediator notes the
   * writes.
   */
  #writes: DmaLog | null = null;
  /** A mediator that watches the device's registers notes the writes, by `noteWrite` (S0-19). */
  #notedElsewhere = false;
  /** A view for writing is in use. */
  #writeViews = false;
  #stopped = false;
  /** The machine sleeps. */
  #asleep = false;
  /** Stopped or asleep. */
  #still = false;
  readonly #wakes = new Latch();
  /**
   * Counts resets and closes: a request that waits for the end of a sleep over one of them does not
   * happen.
   */
  #life = 0;
  /** Transfers to remote memory that are under way. */
  #underWay = 0;
  readonly #idle = new Latch();
  readonly #remote: RemoteTransfers;

  /** @param name the device, for the log and for remote memory: a BDF */
  constructor(gate: DmaGate, events: EventSource, name = 'device') {
    this.#gate = gate;
    this.#events = events;
    this.#name = name;
    this.#remote = new RemoteTransfers(this.#forRemote());
  }

  #forRemote(): RemoteDma {
    return {
      name: this.#name,
      begin: (iova, direction, cause) => {
        const blocked = this.#blocked() ?? (this.#split(iova) ? null : 'not-mapped');
        if (blocked !== null) throw this.#faulted(blocked, iova, direction, cause);
        return { domain: this.#gate.domain!, pfn: this.#at[0], byte: this.#at[1] };
      },
      closed: () => this.#closed(),
      domain: () => this.#gate.domain,
      fault: (reason, iova, direction, cause) => this.#faulted(reason, iova, direction, cause),
      asleep: () => this.#asleep,
      watched: () => this.#events.on,
      awake: (iova, direction, cause) => (this.#asleep ? this.#awake(iova, direction, cause) : null),
      wrote: (first, last) => this.#writes?.mark(first, last),
      landed: (iova, from, cause) => {
        if (this.#events.on) this.#landed(iova, true, from, cause);
      },
    };
  }

  /** DMAs that did not land, by reason. */
  get faults(): Readonly<DmaFaults> {
    return Object.fromEntries(reasons.map((reason) => [reason, this.#events.counted(reason)])) as DmaFaults;
  }

  get faultCount(): number {
    return reasons.reduce((sum, reason) => sum + this.#events.counted(reason), 0);
  }

  /** The newest fault: what an IOMMU's fault register holds. */
  get lastFault(): { readonly reason: DmaFaultReason; readonly iova: bigint; readonly access: 'read' | 'write' } | null {
    return this.#lastFault;
  }

  /**
   * The log of this device's writes. Setting it expires the views for writing taken before, so that
   * the log sees the next write.
   */
  get writes(): DmaLog | null {
    return this.#writesLog;
  }

  set writes(log: DmaLog | null) {
    this.#writesLog = log;
    this.#writes = this.#notedElsewhere ? null : log;
    this.expireWriteViews();
  }

  set notedElsewhere(on: boolean) {
    this.#notedElsewhere = on;
    this.writes = this.#writesLog;
  }

  /**
   * Note a write in the device's place, for a mediator. A range outside the 64-bit space is
   * dropped.
   */
  noteWrite(iova: bigint, size: number): void {
    if (this.#writesLog === null || !Number.isSafeInteger(size) || size <= 0) return;
    if (typeof iova !== 'bigint' || iova < 0n || iova + BigInt(size) > U64_MAX + 1n) return;
    this.#writesLog.mark(Number(iova >> 12n), Number((iova + BigInt(size) - 1n) >> 12n));
  }

  /**
   * The log was read: writes through a view before now are reported, and the log must see those
   * that follow.
   */
  expireWriteViews(): void {
    if (!this.#writeViews) return;
    this.#writeViews = false;
    this.#newEpoch();
  }

  /** The device stands still for migration: no new DMA gets through; DMA in flight may arrive. */
  get stopped(): boolean {
    return this.#stopped;
  }

  set stopped(stopped: boolean) {
    this.#stopped = stopped;
    this.#still = stopped || this.#asleep;
  }

  /**
   * The machine sleeps: nothing gets through, and nothing is lost. A model's request is done when
   * the machine is awake again.
   */
  get asleep(): boolean {
    return this.#asleep;
  }

  set asleep(asleep: boolean) {
    this.#asleep = asleep;
    this.#still = asleep || this.#stopped;
    if (!asleep) this.#wakes.settle();
  }

  /**
   * The function was reset or closed: requests that wait for the end of the sleep do not happen, as
   * its bus mastering is off.
   */
  cut(): void {
    this.#life++;
  }

  /** Throws the error that the model sees when the function was reset or closed during the wait. */
  async #awake(iova: Iova, access: 'read' | 'write', cause: number): Promise<void> {
    const life = this.#life;
    while (this.#asleep) await this.#wakes.promise;
    if (life === this.#life) return;
    throw this.#faulted('bus-master-off', iova, access, cause);
  }

  /** Transfers to and from remote memory that have begun and not ended. */
  get underWay(): number {
    return this.#underWay;
  }

  /** Settles when no transfer is under way; null when none is now. */
  drained(): Promise<void> | null {
    return this.#underWay === 0 ? null : this.#idle.promise;
  }

  #ended(): void {
    if (--this.#underWay === 0) this.#idle.settle();
  }

  get epoch(): number {
    this.#look();
    return this.#epoch;
  }

  tryRead(iova: Iova, into: Uint8Array): Dma {
    const size = into.length;
    const view = this.#kept(iova, size, Access.READ);
    if (view !== null) into.set(view);
    else if (this.#isClose(iova, size, Access.READ)) {
      if (size <= BYTEWISE) {
        const { window, offset } = this.#located;
        for (let i = 0; i < size; i++) into[i] = window[offset + i]!;
      } else into.set(this.#viewAt(iova, size, Access.READ));
    } else {
      if (this.#asleep) return Dma.REMOTE;
      const blocked = this.#blocked() ?? (this.#split(iova) ? null : 'not-mapped');
      if (blocked !== null) return this.#fault(blocked, iova, 'read');
      const reach = this.#gate.domain!.copyOut(this.#at[0], this.#at[1], into);
      if (reach !== Reach.OK) return this.#refused(reach, iova, 'read');
    }
    if (this.#events.on) this.#seen(false, iova, size, Way.direct, into);
    return Dma.DONE;
  }

  tryWrite(iova: Iova, from: Uint8Array): Dma {
    const size = from.length;
    if (this.#isClose(iova, size, Access.WRITE)) {
      const { window, offset } = this.#located;
      if (size <= BYTEWISE) for (let i = 0; i < size; i++) window[offset + i] = from[i]!;
      else window.set(from, offset);
    } else {
      if (this.#asleep) return Dma.REMOTE;
      const blocked = this.#blocked() ?? (this.#split(iova) ? null : 'not-mapped');
      if (blocked !== null) return this.#fault(blocked, iova, 'write');
      const at = this.#at;
      const reach = this.#gate.domain!.copyIn(at[0], at[1], from);
      if (reach !== Reach.OK) return this.#refused(reach, iova, 'write');
      if (this.#writes !== null) this.#note(this.#writes, size);
    }
    if (this.#events.on) this.#seen(true, iova, size, Way.direct, from);
    return Dma.DONE;
  }

  /**
   * Bytes at `#at` were written. A write is nearly always within one page, whose number is a small
   * integer: then nothing is allocated.
   */
  #note(writes: DmaLog, size: number): void {
    const at = this.#at;
    if (at[1] + size <= IOMMU_UNIT && at[0] < 2 ** 31) {
      if (size > 0) writes.markPage(at[0] | 0);
    } else if (size > 0) writes.mark(at[0], at[0] + Math.floor((at[1] + size - 1) / IOMMU_UNIT));
  }

  read(iova: Iova, into: Uint8Array): Promise<void> {
    return this.#watched(this.#read(iova, into));
  }

  write(iova: Iova, from: Uint8Array): Promise<void> {
    return this.#watched(this.#write(iova, from));
  }

  /**
   * A fault that no model looks at is counted and logged before; only a bug of the engine is not.
   */
  #watched(dma: Promise<void>): Promise<void> {
    const events = this.#events;
    const cause = events.on ? events.cause : 0;
    const forgotten = (error: unknown) => {
      if (!(error instanceof DmaFault)) events.note('error', 'DMA bug', `${this.#name}: DMA failed: ${textOf(error)}`);
    };
    return WatchedPromise.of(dma, forgotten, cause === 0 ? null : (call) => events.during(cause, call));
  }

  /**
   * Null is not counted as a fault: a model that gets no view uses `read` or `write`, which report
   * the fault.
   */
  view(iova: Iova, size: number, access: Access): Uint8Array | null {
    let view = this.#kept(iova, size, access);
    if (view === null) {
      if (!this.#isClose(iova, size, access)) return null;
      this.#lent(access);
      view = this.#viewAt(iova, size, access);
    }
    if (this.#events.on) this.#seen((access & Access.WRITE) !== 0, iova, size, Way.view, null);
    return view;
  }

  locate(iova: Iova, size: number, access: Access, place: DmaPlace): boolean {
    if (!this.#isClose(iova, size, access)) return false;
    this.#lent(access);
    place.bytes = this.#located.window;
    place.offset = this.#located.offset;
    if (this.#events.on) this.#seen((access & Access.WRITE) !== 0, iova, size, Way.view, null);
    return true;
  }

  /**
   * Whether the model may access [iova, iova + size) so now, and the bytes are directly mapped in
   * one piece: `#located` says where. Most look-ups hit the mapping of the one before. Writes are
   * in the logs, if there are any.
   */
  #isClose(iova: Iova, size: number, access: Access): boolean {
    // A bigint that a double does not hold exactly lies behind every mapping that is kept.
    const address = typeof iova === 'bigint' ? Number(iova) : iova;
    if (!this.#reaches(address, size, access)) return this.#find(iova, size, access);
    this.#located.offset = address - this.#near[2];
    return true;
  }

  /**
   * Whether the mapping located last holds [iova, iova + size), and may be used so, now: the gates
   * are open, nothing was unmapped, and no log has to see the write.
   */
  #reaches(iova: number, size: number, access: Access): boolean {
    const near = this.#near;
    if (!(iova >= near[0] && size > 0 && iova + size <= near[1])) return false;
    if (iova !== Math.floor(iova) || size !== Math.floor(size)) return false;
    if (!this.#isCurrent() || (this.#located.access & access) !== access || !(access > 0)) return false;
    return (access & Access.WRITE) === 0 || (this.#writes === null && this.#seenDomain!.dirty === null);
  }

  /** The gates are open, and nothing was unmapped since the last look-up. */
  #isCurrent(): boolean {
    const gate = this.#gate;
    if (this.#still || !gate.powered || !gate.busMaster) return false;
    const { domain } = gate;
    return domain !== null && domain === this.#seenDomain && domain.epoch === this.#seenEpoch;
  }

  #find(iova: Iova, size: number, access: Access): boolean {
    if (!Number.isSafeInteger(size) || size <= 0 || (access !== 1 && access !== 2 && access !== 3)) return false;
    if (this.#still || this.#blocked() !== null || !this.#split(iova)) return false;
    // Each later change of gates and domain counts from here, also when the epoch was last read in
    // another state.
    const domain = this.#gate.domain!;
    this.#saw(domain, domain.epoch);
    const at = this.#at;
    if (!domain.locate(at[0], at[1], size, access, this.#located)) return false;
    this.#keep(at[0] * IOMMU_UNIT + at[1]);
    if ((access & Access.WRITE) === 0) return true;
    if (domain.dirty !== null) domain.dirty.mark(at[0], at[0] + Math.floor((at[1] + size - 1) / IOMMU_UNIT));
    if (this.#writes !== null) this.#note(this.#writes, size);
    return true;
  }

  /**
   * Keep the mapping that was found at `iova`. One at addresses that a double does not hold exactly
   * is not kept.
   */
  #keep(iova: number): void {
    const { before, offset, after } = this.#located;
    const near = this.#near;
    const end = iova + after;
    near[0] = end <= Number.MAX_SAFE_INTEGER ? iova - before : Number.POSITIVE_INFINITY;
    near[1] = end;
    near[2] = iova - offset;
  }

  /** A model may keep a view for writing: a log that is read later has to expire it. */
  #lent(access: Access): void {
    if ((access & Access.WRITE) === 0) return;
    this.#writeViews = true;
    this.#gate.domain!.lent();
  }

  #seen(write: boolean, iova: Iova, size: number, way: number, bytes: Uint8Array | null): void {
    this.#split(iova);
    this.#events.dma(write, this.#at[0], this.#at[1], size, way, bytes);
  }

  /**
   * A view that was taken in this epoch; null: there is none. One for writing has marked its pages
   * when it was taken, and is taken anew once the log was read.
   */
  #kept(iova: Iova, size: number, access: Access): Uint8Array | null {
    if (!(size >= VIEWED) || !this.#isCurrent()) return null;
    return this.#views.find(typeof iova === 'bigint' ? Number(iova) : iova, size, access);
  }

  /** The view of `size` bytes at `iova`, which `#located` says. */
  #viewAt(iova: Iova, size: number, access: Access): Uint8Array {
    const { window, offset } = this.#located;
    const view = window.subarray(offset, offset + size);
    const address = typeof iova === 'bigint' ? Number(iova) : iova;
    // A double has to hold the address exactly.
    if (size >= VIEWED && address <= Number.MAX_SAFE_INTEGER) this.#views.keep(address, size, access, view);
    return view;
  }

  async #read(iova: Iova, into: Uint8Array): Promise<void> {
    const cause = this.#events.on ? this.#events.cause : 0;
    if (this.#asleep) await this.#awake(iova, 'read', cause);
    const done = this.tryRead(iova, into);
    if (done === Dma.FAULT) throw this.#thrown();
    if (done !== Dma.REMOTE) return;
    this.#underWay++;
    try {
      await this.#remote.read(iova, into, cause);
      if (this.#events.on) this.#landed(iova, false, into, cause);
    } finally {
      this.#ended();
    }
  }

  async #write(iova: Iova, source: Uint8Array): Promise<void> {
    // The caller may reuse its buffer as soon as it has called.
    const from = !this.#asleep ? source : source.slice();
    const cause = this.#events.on ? this.#events.cause : 0;
    if (this.#asleep) await this.#awake(iova, 'write', cause);
    const done = this.tryWrite(iova, from);
    if (done === Dma.FAULT) throw this.#thrown();
    if (done !== Dma.REMOTE) return;
    this.#underWay++;
    try {
      await this.#remote.write(iova, from, cause);
    } finally {
      this.#ended();
    }
  }

  /** A transfer of messages is over; `cause` is that of its beginning. */
  #landed(iova: Iova, write: boolean, bytes: Uint8Array, cause: number): void {
    this.#split(iova);
    const [page, byte] = this.#at;
    const before = this.#events.cause;
    this.#events.cause = cause;
    this.#events.dma(write, page!, byte!, bytes.length, Way.remote, bytes);
    this.#events.cause = before;
  }

  /** Count an epoch when the gates or the domain, on which views depend, have changed. */
  #look(): void {
    const domain = !this.#asleep && this.#blocked() === null ? this.#gate.domain : null;
    this.#saw(domain, domain === null ? 0 : domain.epoch);
  }

  #saw(domain: IommuDomain | null, epoch: number): void {
    if (domain === this.#seenDomain && epoch === this.#seenEpoch) return;
    this.#seenDomain = domain;
    this.#seenEpoch = epoch;
    this.#newEpoch();
  }

  #newEpoch(): void {
    this.#epoch++;
    this.#views.expire();
    // It would keep memory that is unmapped.
    this.#near[0] = Number.POSITIVE_INFINITY;
    this.#located.window = NO_BYTES;
  }

  #blocked(): DmaFaultReason | null {
    return this.#stopped ? 'stopped' : this.#closed();
  }

  /** As `#blocked`, for DMA that began before the device was stopped. */
  #closed(): DmaFaultReason | null {
    const gate = this.#gate;
    if (!gate.powered) return 'not-powered';
    if (!gate.busMaster) return 'bus-master-off';
    if (gate.domain === null) return 'no-domain';
    return null;
  }

  /**
   * Into page number and byte. False for a value that is no 64-bit address: NaN, a fraction, a
   * negative, a number that a double cannot hold exactly.
   */
  #split(iova: Iova): boolean {
    const at = this.#at;
    // A bigint that a double does not hold exactly becomes a number that is not safe.
    const address = typeof iova === 'bigint' ? Number(iova) : iova;
    if (Number.isSafeInteger(address) && address >= 0) {
      at[0] = Math.floor(address / IOMMU_UNIT);
      at[1] = address - at[0] * IOMMU_UNIT;
      return true;
    }
    if (typeof iova !== 'bigint' || iova < 0n || iova > U64_MAX) return false;
    at[0] = Number(iova >> 12n);
    at[1] = Number(iova & 0xfffn);
    return true;
  }

  #refused(reach: Reach, iova: Iova, access: 'read' | 'write'): Dma {
    if (reach === Reach.REMOTE) return Dma.REMOTE;
    const reason = reach === Reach.FAILED ? 'remote-failed' : reach === Reach.PERMISSION ? 'permission' : 'not-mapped';
    return this.#fault(reason, iova, access);
  }

  #fault(reason: DmaFaultReason, iova: Iova, access: 'read' | 'write'): Dma {
    const address = typeof iova === 'bigint' ? iova : Number.isSafeInteger(iova) ? BigInt(iova) : -1n;
    this.#lastFault = { reason, iova: address, access };
    this.#events.emit('dma-refused', { op: access, iova: address, reason, count: this.#events.count(reason) });
    return Dma.FAULT;
  }

  /** A fault of a transfer that began with `cause`. */
  #faulted(reason: DmaFaultReason, iova: Iova, access: 'read' | 'write', cause: number): DmaFault {
    this.#events.during(cause, () => this.#fault(reason, iova, access));
    return this.#thrown();
  }

  #thrown(): DmaFault {
    const { reason, iova } = this.#lastFault!;
    return new DmaFault(reason, iova);
  }
}
