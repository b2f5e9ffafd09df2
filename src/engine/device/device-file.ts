/**
 * DeviceFile: one open of a device, the engine's `Device`. Several can be open at once (S2-14): the
 * first open enables the device, and the last close disables it. A mapping keeps its file open
 * after `close`, as a mapping of the C interface holds the file (S2-37).
 *
 * Every request wakes the device first; afterwards the device may sleep again (B.7 runtime pm).
 *
 * Longer than 400 lines because each request of `Device` is a method with its own documentation.
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_device_fops_unl_ioctl(); vfio_pci_core.c,
 * vfio_pci_core_ioctl()
 */
import {
  type Device,
  type DeviceEvent,
  type DeviceEventKind,
  type DeviceInfo,
  type DmaBuf,
  type DmaBufRequest,
  type DmaLogging,
  type DmaSpace,
  deviceEventKinds,
  type FeatureRequest,
  type HotResetDependent,
  type IrqInfo,
  type LowPower,
  type MigrationControl,
  type Region,
  type RegionInfo,
  type SetIrqs,
} from '../../abi/device.ts';
import type { EventFlow, EventKind, EventOf, EventOptions, EventPort } from '../../abi/event.ts';
import { VF_TOKEN_BYTES } from '../../abi/vf-token.ts';
import { DeviceFlags, Feature, NUM_IRQS, NUM_REGIONS, RegionIndex } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { textOf } from '../../base/foreign.ts';
import { INSPECT } from '../../base/inspect.ts';
import { DeviceEvents } from '../../device/device-events.ts';
import { fewer, setIrqsEvent } from '../../device/set-irqs-event.ts';
import { seenOpen } from '../../events/open-event.ts';
import type { Container } from '../dma/container.ts';
import { ContainerDmaSpace } from '../dma/container-dma-space.ts';
import type { Process } from '../dma/process.ts';
import type { MediatorRegion } from '../mediation/added-regions.ts';
import { MediatedRegion } from '../mediation/mediated-region.ts';
import type { VfioFile } from '../vm/vfio-file-set.ts';
import { MemoryRegion, RegisterRegion } from './device-region.ts';
import { exportDmaBuf } from './dma-buf.ts';
import type { DmaOwner } from './dma-owner.ts';
import { checkFeature, type FeatureOp, featureEvent, probeFeature } from './features.ts';
import { FileDmaLogging, FileLowPower, FileMigration, FileSleepNotice, type UseFeature } from './file-features.ts';
import type { DeviceFileHolder, OpenFile } from './hosted-function.ts';
import { checkHotReset, hotReset, hotResetInfo, type OwnedGroup } from './hot-reset.ts';
import type { IoeventfdRequest } from './ioeventfd.ts';
import type { VfioPciDevice } from './pci-device.ts';
import { BarRegion } from './region-bar.ts';
import { mappableAs, regionInfo } from './region-info.ts';
import { AbsentRegion, ConfigRegion, type FileRegion, RomRegion } from './region-io.ts';
import type { RegionFile } from './region-ports.ts';
import { seenReset } from './reset.ts';
import { SleepNotice } from './sleep-notice.ts';

export type { IoeventfdRequest };

/** An open device: what a descriptor of VFIO_GROUP_GET_DEVICE_FD stands for. */
export class DeviceFile implements Device, OpenFile, RegionFile, VfioFile {
  readonly device: VfioPciDevice;
  readonly holder: DeviceFileHolder;
  /** Null for a device that is used through an iommufd. */
  readonly container: Container | null;
  readonly #owner: DmaOwner;
  /**
   * The process that opened the file: `dma` maps its memory, and its exit closes the file, except
   * after `keepAfterExit`.
   */
  readonly process: Process;
  /** `close` was called; mappings may still hold the device. */
  closed = false;
  readonly #regions: (FileRegion | undefined)[] = [];
  readonly #mappings = new Set<Disposable>();
  readonly listeners: DeviceEvents;
  readonly #onExit: Disposable;
  #dma: DmaSpace | null = null;
  #released = false;
  #notice: SleepNotice | null = null;
  readonly migration: MigrationControl;
  readonly dmaLogging: DmaLogging;
  readonly lowPower: LowPower;
  readonly sleepNotice: FileSleepNotice;

  private constructor(device: VfioPciDevice, holder: DeviceFileHolder, owner: DmaOwner, process: Process) {
    this.device = device;
    this.holder = holder;
    this.container = owner.container;
    this.#owner = owner;
    this.process = process;
    const { bdf, host } = device;
    this.listeners = new DeviceEvents(({ kind }, error) =>
      host.events.note('error', 'event listener', `${bdf}: a listener failed on '${kind}': ${textOf(error)}`),
    );
    const use: UseFeature = (feature, op, run) => this.#use(feature, op, run);
    this.migration = new FileMigration(device, use);
    this.dmaLogging = new FileDmaLogging(device, use);
    this.lowPower = new FileLowPower(device, use);
    this.sleepNotice = new FileSleepNotice(device, use, () => (this.#notice ??= new SleepNotice(this)));
    this.#onExit = process.onExit(() => this.#exit());
  }

  /**
   * Open `device` for `process`, which uses the device's DMA through `owner`.
   *
   * @throws VfioError what `VfioPciDevice.open` throws; ESRCH for a process that has exited.
   * Nothing has changed then.
   */
  static open(device: VfioPciDevice, holder: DeviceFileHolder, owner: DmaOwner, process: Process): DeviceFile {
    const open = () => device.open(holder.vm ?? null, () => new DeviceFile(device, holder, owner, process));
    return seenOpen(device.host.events, process.pid, open);
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    return `DeviceFile of ${this.device.bdf}, ${this.closed ? 'closed' : `open by process ${this.process.pid}`}`;
  }

  /** @throws VfioError ENODEV when the file was closed or the device is gone */
  checkLive(): void {
    if (this.closed) throw new VfioError('ENODEV', `this file of ${this.device.bdf} is closed`);
    if (this.device.gone !== null) throw this.device.goneError();
  }

  /** The result of VFIO_DEVICE_GET_INFO. */
  get info(): DeviceInfo {
    this.#begin();
    const flags = DeviceFlags.PCI | (this.device.openState.resetWorks ? DeviceFlags.RESET : 0);
    this.device.settle();
    return { name: this.device.bdf, flags, numRegions: this.device.numRegions, numIrqs: NUM_IRQS };
  }

  region(index: number): Region {
    this.checkLive();
    const made = this.#regions[index];
    if (made !== undefined) return made;
    const { fn, openState, mediation } = this.device;
    const added = mediation?.added(index) ?? null;
    const info = added?.info ?? mappableAs(regionInfo(fn, index, openState.mappable), this.process.mappable);
    let region: FileRegion;
    if (index >= NUM_REGIONS) region = this.#deviceRegion(info, added);
    else if (index === RegionIndex.CONFIG) region = new ConfigRegion(this, info);
    else if (info.size === 0) region = new AbsentRegion(this, info);
    else region = index === RegionIndex.ROM ? new RomRegion(this, info) : new BarRegion(this, info);
    const hooks = mediation?.region(index) ?? null;
    if (mediation !== null && hooks !== null) region = new MediatedRegion(this, this.device.regionInfo(index), mediation, hooks, region);
    this.#regions[index] = region;
    return region;
  }

  #deviceRegion(info: RegionInfo, added: MediatorRegion | null): FileRegion {
    const declared = this.device.fn.declaration.regions?.[info.index - NUM_REGIONS];
    if (added === null) {
      return declared!.backing === 'memory'
        ? new MemoryRegion(this, info, this.device.host.barMemory(info.index))
        : new RegisterRegion(this, info);
    }
    return added.memory === null ? new AbsentRegion(this, info) : new MemoryRegion(this, info, added.memory);
  }

  irq(index: number): IrqInfo {
    this.#begin();
    try {
      const info = this.device.openState.interrupts.info(index);
      return this.device.mediation?.irqInfo(index, info) ?? info;
    } finally {
      this.device.settle();
    }
  }

  setIrqs(request: SetIrqs): number {
    const { events } = this.device.host;
    const details = events.on ? setIrqsEvent(request) : null;
    return details === null ? this.#userIrqs(request) : events.attempt('set-irqs', details, () => this.#userIrqs(request), fewer);
  }

  #userIrqs(request: SetIrqs): number {
    this.#begin();
    try {
      const info = (index: number) => this.device.openState.interrupts.info(index);
      return this.device.mediation?.setIrqs(request, (r) => this.#setIrqs(r), info) ?? this.#setIrqs(request);
    } finally {
      this.device.settle();
    }
  }

  /**
   * Mediators call this, too, and may have closed the file, or have kept the function until it is
   * closed.
   */
  #setIrqs(request: SetIrqs): number {
    this.checkLive();
    return this.device.openState.interrupts.setIrqs(request);
  }

  reset(): void {
    seenReset(this.device.fn, 'VFIO_DEVICE_RESET', () => this.#awake(() => this.device.reset()));
  }

  hotResetInfo(): readonly HotResetDependent[] {
    return this.#awake(() => hotResetInfo(this.device, this.#owner.ids));
  }

  /**
   * PCI_HOT_RESET's first checks, before its descriptors are looked at: `count` is their number.
   *
   * @throws VfioError EINVAL, ENODEV
   */
  checkHotReset(count: number): void {
    this.checkLive();
    checkHotReset(this.device, count, this.#owner.ids !== null);
  }

  /**
   * PCI_HOT_RESET.
   *
   * @param groups  the group files that own the devices of the bus; none for a device that was
   *   bound to an iommufd
   * @throws VfioError EINVAL, ENODEV, EBUSY, EAGAIN: see hot-reset.ts
   */
  hotReset(groups: readonly OwnedGroup[]): void {
    const reset = () =>
      this.#awake(() => {
        this.device.checkAwake();
        hotReset(this.device, groups, this.#owner.ids, this.device.ctx);
      });
    seenReset(this.device.fn, 'VFIO_DEVICE_PCI_HOT_RESET', reset, 'bus');
  }

  /** Open devices stand for the files of their groups; groups that are not hit do not count. */
  resetBus(others: readonly Device[] = []): void {
    const groups = new Map<number, OwnedGroup>();
    for (const device of [this, ...others]) {
      if (!(device instanceof DeviceFile)) throw new VfioError('EINVAL', `${this.device.bdf}: a bus reset takes devices of this machine`);
      device.checkLive();
      const { group } = device.device.fn;
      if (device.container !== null && group !== null) groups.set(group.id, { group });
    }
    const hit = new Set(this.hotResetInfo().map(({ groupId }) => groupId));
    this.hotReset(this.#owner.ids === null ? [...groups.values()].filter(({ group }) => hit.has(group!.id)) : []);
  }

  /** @throws VfioError EINVAL, EEXIST, ENODEV, ENOSPC as B.8 IOEVENTFD */
  ioeventfd(request: IoeventfdRequest): void {
    const set = () => this.#awake(() => this.device.openState.ioeventfds.set(request));
    const { events } = this.device.host;
    if (events.on) events.attempt('feature', { name: 'IOEVENTFD', op: 'set' }, set);
    else set();
  }

  feature(request: FeatureRequest): number {
    const most = request?.data?.length ?? 0;
    const own = (done: unknown): done is number => Number.isSafeInteger(done) && (done as number) >= 0 && (done as number) <= most;
    return this.#feature(request, () => probeFeature(this.device, request), own);
  }

  exportDmaBuf(request: DmaBufRequest): DmaBuf {
    return this.#use(Feature.DMA_BUF, 'get', () => exportDmaBuf(this.device, request));
  }

  setVfToken(token: Uint8Array): void {
    this.#use(Feature.PCI_VF_TOKEN, 'set', () => {
      if (!(token instanceof Uint8Array) || token.length < VF_TOKEN_BYTES)
        throw new VfioError('EINVAL', `${this.device.bdf}: a VF token has ${VF_TOKEN_BYTES} bytes`);
      this.device.token!.set(token);
      const { events } = this.device.host;
      if (events.on) events.emit('token', { step: 'set' });
    });
  }

  /** For `FileMigration` and its like, which are made once for each file. */
  #use<T>(feature: number, op: FeatureOp, run: () => T): T {
    const request = { feature, get: op === 'get', set: op === 'set' };
    const direct = () => {
      checkFeature(this.device, feature, op);
      return run();
    };
    return this.#feature(request, direct, (_done): _done is T => false);
  }

  /** @param own whether an answer that is the mediator's own may be one */
  #feature<T>(request: FeatureRequest, direct: () => T, own: (done: unknown) => done is T): T {
    const { events } = this.device.host;
    const details = events.on ? featureEvent(request) : null;
    return details === null ? this.#ask(request, direct, own) : events.attempt('feature', details, () => this.#ask(request, direct, own));
  }

  #ask<T>(request: FeatureRequest, direct: () => T, own: (done: unknown) => done is T): T {
    return this.#awake(() => {
      const live = () => {
        this.checkLive();
        return direct();
      };
      return (this.device.mediation?.feature(request, live, own) ?? { answer: live() }).answer;
    });
  }

  /** Whether the user hears of the machine's sleep by eventfds. */
  get hearsOfSleep(): boolean {
    return this.#notice?.armed === true;
  }

  /**
   * The DMA space of the container, or of the iommufd's address space that the device is attached
   * to.
   *
   * @throws VfioError ENODEV once the file is closed
   */
  get dma(): DmaSpace {
    this.checkLive();
    this.#dma ??= this.#owner.space?.(this.process) ?? new ContainerDmaSpace(this.container!, this.process, this.device.ctx);
    return this.#dma;
  }

  heldAnswer(): Promise<void> | null {
    return this.device.host.takeHeld();
  }

  /**
   * A device that was opened through its group has its machine from the group: a hypervisor's call
   * for this file comes too late (S4-14).
   */
  setVm(): void {}

  get enforcesCoherency(): boolean {
    return this.device.fn.group?.iommu.enforcesCoherency === true;
  }

  awake(): Promise<void> | null {
    return this.device.awake();
  }

  /** Calls `listener` at each event of the device; see `Device.on`. */
  on(listener: (event: DeviceEvent) => void, kinds: readonly DeviceEventKind[] = deviceEventKinds): Disposable {
    this.checkLive();
    return this.listeners.on(listener, kinds);
  }

  /** The device's events, and those of its container, from now on; see `Device.events`. */
  events<K extends EventKind = EventKind>(options: EventOptions<K> = {}): EventFlow<EventOf<K | 'dropped'>> {
    const of = this.container === null ? [] : [this.container.events.name];
    return this.device.ctx.stream.read({ devices: [this.device.bdf, ...of], ...options });
  }

  get eventPort(): EventPort {
    return this.device.host.events;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    const { events } = this.device.host;
    const seq = events.on ? events.emit('open', { step: 'closed', pid: this.process.pid }) : 0;
    events.during(seq, () => {
      this.listeners.close();
      this.#notice?.[Symbol.dispose]();
      this.#releaseWhenUnused();
    });
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Descriptors hold the file from now on, and may be in other processes: the exit of the process
   * that opened it does not close it.
   */
  keepAfterExit(): void {
    this.#onExit[Symbol.dispose]();
  }

  /** A mapping was made: it holds the file. */
  mapped(mapping: Disposable): void {
    this.#mappings.add(mapping);
  }

  /** A mapping is gone. The last one of a closed file releases the device. */
  unmapped(mapping: Disposable): void {
    this.#mappings.delete(mapping);
    this.#releaseWhenUnused();
  }

  /** Mappings of regions that are not disposed. */
  get mappings(): number {
    return this.#mappings.size;
  }

  #awake<T>(request: () => T): T {
    this.#begin();
    try {
      return request();
    } finally {
      this.device.settle();
    }
  }

  #begin(): void {
    this.checkLive();
    this.device.power.wake();
  }

  /** The process has ended: mappings go with its memory, and the file with its descriptors. */
  #exit(): void {
    for (const mapping of [...this.#mappings]) mapping[Symbol.dispose]();
    this.close();
  }

  #releaseWhenUnused(): void {
    if (!this.closed || this.#mappings.size > 0 || this.#released) return;
    this.#released = true;
    this.#onExit[Symbol.dispose]();
    this.device.released(this);
  }
}
