/**
 * A PCI device (or a mediated device) of this computer, through Linux's VFIO: a `Device` that is
 * hardware. It is opened by its group's file and a container, or by a file of its own and an
 * iommufd (opened.ts). A program uses it as any `Device`.
 *
 * The kernel decides, and its errnos are passed on with the call and the remedy. Linux knows no
 * notice of a sleep of the computer, and no eventfd for one.
 *
 * @see linux/Documentation/driver-api/vfio.rst
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
  type SetIrqs,
} from '../abi/device.ts';
import type { EventFlow, EventKind, EventOf, EventOptions, EventPort } from '../abi/event.ts';
import { Command, Config } from '../abi/pci.ts';
import { VF_TOKEN_BYTES } from '../abi/vf-token.ts';
import { DeviceFlags, Feature, FeatureFlags, IrqIndex, RegionIndex } from '../abi/vfio.ts';
import { DeviceInfo as DeviceInfoBytes } from '../abi/vfio-structs.ts';
import { checkIndex } from '../base/check.ts';
import { Cleanup } from '../base/cleanup.ts';
import { viewOf } from '../base/data-view.ts';
import { VfioError } from '../base/errno.ts';
import { INSPECT } from '../base/inspect.ts';
import { type Logger, silentLogger } from '../base/log.ts';
import { seenOpen } from '../events/open-event.ts';
import type { EventSource } from '../events/source.ts';
import { type EventStream, streamOf } from '../events/stream.ts';
import { type HostFiles, hostFiles } from '../sys/host-files.ts';
import type { KernelFile } from '../sys/kernel-file.ts';
import { callKernel, DeviceCall } from './calls.ts';
import { exportDmaBuf } from './dma-buf.ts';
import { KernelDmaLogging } from './dma-logging.ts';
import { KernelEvents } from './events.ts';
import { KernelFeatures } from './features.ts';
import { hotReset, hotResetInfo } from './hot-reset.ts';
import { KernelInterrupts } from './interrupts.ts';
import { KernelLowPower } from './low-power.ts';
import { KernelMigration } from './migration.ts';
import { openKernelDevice } from './open-kernel-device.ts';
import { OpenState } from './open-state.ts';
import type { KernelAddress, KernelOptions, OpenedFile, OpenedVia } from './opened.ts';
import { KernelRegion } from './region.ts';

/** A device has fewer regions, and fewer kinds of interrupts. */
const MOST_PARTS = 1024;

/** How `KernelDevice.open` opens a device. */
export interface KernelDeviceOptions {
  /**
   * By its group and a container, or by its own file and an iommufd. Default: its own file where
   * the kernel has it, and this user may open it.
   */
  readonly via?: 'group' | 'cdev' | undefined;
  /**
   * Open it also without an IOMMU. It can write anywhere in memory then, and so can a fault of its
   * driver. Default: false.
   */
  readonly unsafeNoIommu?: boolean | undefined;
  /** VF token, a UUID. */
  readonly token?: string | undefined;
  /** @internal Default: the files of this computer. */
  readonly roots?: KernelOptions['roots'];
  /** A device that is open: both share one container or address space. */
  readonly with?: KernelDevice | undefined;
  /** Default: no messages. A stream that is given in `events` has a log of its own. */
  readonly log?: Logger | undefined;
  /**
   * The stream to which the device emits; it stays the caller's. Default: one of its own, which
   * `events` reads.
   */
  readonly events?: EventStream | undefined;
}

/** The things around a device that it is made of. */
interface Surroundings {
  readonly stream: EventStream;
  readonly source: EventSource;
  /** The device's stream, or its part of one that was given: ends with the device. */
  readonly ownEvents: Disposable;
  /** sysfs. */
  readonly files: HostFiles;
}

/** An open device of this computer, through Linux's VFIO. */
export class KernelDevice implements Device {
  readonly #opened: OpenedFile;
  readonly #state: OpenState;
  readonly #info: DeviceInfo;
  readonly #files: HostFiles;
  readonly #stream: EventStream;
  readonly #source: EventSource;
  readonly #ownEvents: Disposable;
  readonly #regions: (KernelRegion | undefined)[] = [];
  readonly #interrupts: KernelInterrupts;
  readonly #events: KernelEvents;
  readonly #features: KernelFeatures;
  readonly #migration: KernelMigration;
  readonly #dmaLogging: KernelDmaLogging;
  readonly #lowPower: KernelLowPower;

  private constructor(opened: OpenedFile, info: DeviceInfo, { stream, source, ownEvents, files }: Surroundings) {
    this.#opened = opened;
    this.#info = info;
    this.#files = files;
    this.#stream = stream;
    this.#source = source;
    this.#ownEvents = ownEvents;
    const state = new OpenState(opened.name, opened.file, source);
    this.#state = state;
    this.#features = new KernelFeatures(state);
    this.#migration = new KernelMigration(this.#features);
    this.#dmaLogging = new KernelDmaLogging(this.#features);
    this.#lowPower = new KernelLowPower(this.#features);
    this.#interrupts = new KernelInterrupts(state, info.numIrqs, (index) => this.#notified(index));
    this.#events = new KernelEvents(state, (indexes) => this.#interrupts.setEvents(indexes));
    state.onGone = (reason) => {
      this.#events.emit({ kind: 'gone', reason });
      this.#events.close();
    };
    state.onReleased = () => this.#release();
  }

  /**
   * Open a device that is bound to vfio-pci, or to another driver of VFIO.
   *
   * @throws VfioError ENODEV when the computer has no such device, or it has no driver; EBUSY when
   *   it has a driver of Linux's own; EACCES, EBUSY, EPERM and others with the reason and the
   *   remedy
   */
  static open(address: KernelAddress, options: KernelDeviceOptions = {}): KernelDevice {
    const { with: other, log, events, ...rest } = options;
    const space = other === undefined ? {} : { space: other.#opened.space.shared };
    const name = address.kind === 'pci' ? address.bdf : address.uuid;
    return KernelDevice.take(name, (source) => openKernelDevice(address, { ...rest, ...space, source }), {
      log,
      events,
      roots: rest.roots,
    });
  }

  /**
   * The device of files that `open` gives.
   *
   * @internal
   * @param name the name of the device in events
   * @param open opens it; its event names all that it does
   * @throws VfioError of `open`; of GET_INFO
   */
  static take(
    name: string,
    open: (source: EventSource) => OpenedFile,
    { log = silentLogger, events: given, roots }: Pick<KernelDeviceOptions, 'log' | 'events' | 'roots'> = {},
  ): KernelDevice {
    const stream = streamOf(given, { log });
    const source = stream.source(name);
    const ownEvents = given === undefined ? stream : source;
    try {
      const act = () => {
        using undo = new Cleanup();
        const opened = undo.use(open(source));
        const info = infoOf(opened);
        undo.move();
        return new KernelDevice(opened, info, { stream, source, ownEvents, files: roots?.files ?? hostFiles() });
      };
      return seenOpen(source, process.pid, act, ({ via, why }) => ({ via, why }));
    } catch (error) {
      ownEvents[Symbol.dispose]();
      throw error;
    }
  }

  /** The line that `console.log` prints of it. */
  [INSPECT](): string {
    const { closed, goneBecause } = this.#state;
    return `KernelDevice ${this.#info.name} by ${this.via}${closed ? ', closed' : goneBecause === null ? '' : `, gone: ${goneBecause}`}`;
  }

  /** The way that the device was opened. */
  get via(): OpenedVia {
    return this.#opened.via;
  }

  /** Why the device was opened that way: one sentence. */
  get why(): string {
    return this.#opened.why;
  }

  get info(): DeviceInfo {
    this.#state.checkOpen();
    return this.#info;
  }

  region(index: number): Region {
    this.#state.checkOpen();
    checkIndex(index, this.#info.numRegions - 1, `${this.#info.name}: region index`);
    let region = this.#regions[index];
    if (region === undefined) {
      region = KernelRegion.open(this.#state, index);
      this.#regions[index] = region;
    }
    return region;
  }

  irq(index: number): IrqInfo {
    this.#state.checkOpen();
    return this.#interrupts.info(index);
  }

  setIrqs(request: SetIrqs): number {
    this.#state.checkOpen();
    return this.#interrupts.set(request);
  }

  reset(): void {
    this.#seenReset('VFIO_DEVICE_RESET', () => {
      this.#state.checkOpen();
      this.#state.call(DeviceCall.RESET, 0);
      this.#migration.wasReset();
    });
  }

  hotResetInfo(): readonly HotResetDependent[] {
    this.#state.checkOpen();
    return hotResetInfo(this.#state, this.#files);
  }

  resetBus(others: readonly Device[] = []): void {
    this.#seenReset('VFIO_DEVICE_PCI_HOT_RESET', () => {
      this.#state.checkOpen();
      hotReset(this.#state, this.#groups(others));
      for (const device of [this, ...others]) if (device instanceof KernelDevice) device.#migration.wasReset();
    });
  }

  /**
   * The files of the groups that the reset hits, as far as these devices have them; none for a
   * device of an iommufd. The kernel refuses files of other groups.
   */
  #groups(others: readonly Device[]): KernelFile[] {
    const groups = new Map<number, KernelFile>();
    for (const device of [this, ...others]) {
      if (!(device instanceof KernelDevice)) {
        throw new VfioError('EINVAL', `${this.#info.name}: a bus reset takes devices of this computer's VFIO`);
      }
      device.#state.checkOpen();
      const { proof } = device.#opened;
      if (proof.kind === 'group') groups.set(proof.group, proof.file);
    }
    if (this.#opened.proof.kind !== 'group') return [];
    const hit = new Set(this.hotResetInfo().map(({ groupId }) => groupId));
    return [...groups].filter(([group]) => hit.has(group)).map(([, file]) => file);
  }

  #seenReset(by: string, reset: () => void): void {
    if (this.#source.on) this.#source.attempt('reset', { by }, reset);
    else reset();
  }

  feature(request: FeatureRequest): number {
    this.#state.checkOpen();
    return this.#features.raw(request);
  }

  /** Moving the device, where its driver can. */
  get migration(): MigrationControl {
    this.#state.checkOpen();
    return this.#migration;
  }

  /** The log of the device's own writes. */
  get dmaLogging(): DmaLogging {
    this.#state.checkOpen();
    return this.#dmaLogging;
  }

  /** Low power, of a PCI device. */
  get lowPower(): LowPower {
    this.#state.checkOpen();
    return this.#lowPower;
  }

  exportDmaBuf(request: DmaBufRequest): DmaBuf {
    this.#state.checkOpen();
    return exportDmaBuf(this.#state, request, () => this.#answers());
  }

  setVfToken(token: Uint8Array): void {
    this.#state.checkOpen();
    if (!(token instanceof Uint8Array) || token.length < VF_TOKEN_BYTES) {
      throw new VfioError('EINVAL', `${this.#info.name}: a VF token has ${VF_TOKEN_BYTES} bytes`);
    }
    this.#features.ask(Feature.PCI_VF_TOKEN, FeatureFlags.SET, token.slice(0, VF_TOKEN_BYTES));
  }

  get dma(): DmaSpace {
    this.#state.checkOpen();
    return this.#opened.space;
  }

  on(listener: (event: DeviceEvent) => void, kinds: readonly DeviceEventKind[] = deviceEventKinds): Disposable {
    this.#state.checkOpen();
    return this.#events.on(listener, kinds);
  }

  events<K extends EventKind = EventKind>(options: EventOptions<K> = {}): EventFlow<EventOf<K | 'dropped'>> {
    return this.#stream.read({ devices: [this.#source.name], ...options });
  }

  get eventPort(): EventPort {
    return this.#source;
  }

  #notified(index: number): void {
    this.#events.emit({ kind: index === IrqIndex.ERR ? 'error' : 'request' });
    // A device that was pulled out is asked for like one that is to be removed.
    if (index === IrqIndex.REQ && !this.#state.closed && this.#isAllOnes()) this.#state.gone('it does not answer: it was pulled out');
  }

  #isAllOnes(): boolean {
    try {
      return (this.#info.flags & DeviceFlags.PCI) !== 0 && this.region(RegionIndex.CONFIG).read16(Config.VENDOR_ID) === 0xffff;
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      return false;
    }
  }

  /** Whether the device answers to its memory BARs now. */
  #answers(): boolean {
    try {
      return (this.region(RegionIndex.CONFIG).read16(Config.COMMAND) & Command.MEMORY) !== 0;
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
      return false;
    }
  }

  close(): void {
    if (this.#state.closed) return;
    this.#events.close();
    this.#state.close();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * The end: the kernel quiets and resets the device with its file, and unmaps its DMA after that
   * (S2-30). Then this process releases its eventfds.
   */
  #release(): void {
    using steps = new Cleanup();
    steps.use(this.#ownEvents);
    steps.defer(() => {
      if (this.#source.on) this.#source.emit('open', { step: 'closed', pid: process.pid });
    });
    steps.use(this.#lowPower);
    steps.use(this.#interrupts);
    steps.use(this.#opened);
    steps.use(this.#migration);
  }
}

/** VFIO_DEVICE_GET_INFO. */
function infoOf({ name, file }: OpenedFile): DeviceInfo {
  const bytes = new Uint8Array(DeviceInfoBytes.structSize);
  const view = viewOf(bytes);
  DeviceInfoBytes.argsz.set(view, 0, bytes.length);
  callKernel(file, DeviceCall.GET_INFO, bytes, name);
  const { flags, num_regions: numRegions, num_irqs: numIrqs } = DeviceInfoBytes.decode(view);
  if (Math.max(numRegions, numIrqs) > MOST_PARTS) {
    throw new VfioError('EPROTO', `${name}: the kernel gives the device ${numRegions} regions and ${numIrqs} kinds of interrupts`);
  }
  return { name, flags, numRegions, numIrqs };
}
