/**
 * A device as its driver uses it: registers by name, config space, interrupts, DMA buffers, and a
 * clean end. It stands on `Device` alone, so a driver runs unchanged on a model, a socket and
 * hardware.
 */
import type { Device, DeviceEvent, DeviceEventKind, DmaSpace, RegisterAccess } from '../../abi/device.ts';
import type { EventFlow, EventKind, EventOf, EventOptions } from '../../abi/event.ts';
import { Bar, Command, Config } from '../../abi/pci.ts';
import { RegionFlags, RegionIndex } from '../../abi/vfio.ts';
import { hex } from '../../base/check.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { PausableClock, SystemClock } from '../../base/clock.ts';
import { driverView, type RegisterMapOptions, spanOf } from '../../base/driver-view.ts';
import { VfioError } from '../../base/errno.ts';
import { INSPECT } from '../../base/inspect.ts';
import { keepAlive } from '../../base/keep-alive.ts';
import type { DriverView, Registers } from '../../base/registers.ts';
import type { AttachOptions } from './attach-options.ts';
import { ConfigView } from './config-view.ts';
import { type DmaBuffer, DriverDma } from './dma.ts';
import { checkTimeout, Interrupts, type IrqContext, type IrqKind, type WaitOptions } from './interrupts.ts';
import { RequestListeners } from './request-listeners.ts';
import { SparseAccess } from './sparse-access.ts';
import { WaitEvents } from './wait-events.ts';

export type { AttachOptions } from './attach-options.ts';

/** The wait of `until`, in events. */
const CONDITION = 'a condition';

/** How long and how often `until` looks. */
export interface UntilOptions {
  /** Milliseconds until the wait fails with ETIMEDOUT. Default: 1000. */
  readonly timeoutMs?: number;
  /** Milliseconds between two looks. Default: 1. */
  readonly everyMs?: number;
}

/**
 * Enables interrupts of one kind. One kind can be enabled at a time. Disposing the result disables
 * them.
 */
export interface IrqSource {
  /** Number of vectors that the device has. */
  readonly count: number;
  /**
   * @throws VfioError EBUSY while it is enabled already; ENOSPC for more than there are; EINVAL
   *   while another kind is enabled
   */
  enable(count?: number): Interrupts;
}

/**
 * An open device in the hands of its driver. `open` makes one; disposing it closes the device.
 *
 * @typeParam Instance the object that the model's `create` makes, where `open` was given a model
 */
export class DriverDevice<Instance = unknown> implements Disposable {
  /**
   * The device's other side, where it is a model in this process that `open(model)` was given: a
   * UART's line. Undefined elsewhere.
   */
  readonly instance: Instance;
  /** The `Device` below, for everything that this class lacks. */
  readonly device: Device;
  /** The device's address, e.g. `0000:00:04.0`. Known also after the device is gone. */
  readonly name: string;
  /** `vendor:device`, as lspci -n prints it. */
  readonly ids: string;
  /** Config space. */
  readonly config: ConfigView;
  /**
   * Memory that the device can reach. Devices that were opened `with` each other have the same.
   */
  readonly dma: DriverDma;
  /**
   * Memory that came with a moved device (docs/moving.md), in order of addresses, as buffers like
   * those of `dma.alloc`. Nearly always there is none.
   */
  readonly adopted: readonly DmaBuffer[];
  /** The clock stands still while the machine sleeps, and so do the timeouts that it measures. */
  readonly clock: PausableClock;
  /**
   * Reports waits as events. `until` and `next` of interrupts report theirs; a driver that waits in
   * ways of its own may report them.
   */
  readonly waits: WaitEvents;
  /** The INTx pin. */
  readonly intx: IrqSource;
  /** MSI messages. */
  readonly msi: IrqSource;
  /** MSI-X messages. */
  readonly msix: IrqSource;
  readonly #mappings = new Map<number, RegisterAccess & Disposable>();
  readonly #interrupts = new Set<Interrupts>();
  readonly #listening: Disposable;
  /** The device's view of its container. */
  readonly #space: DmaSpace;
  readonly #onRequest: ((device: string) => void) | undefined;
  readonly #requests = new RequestListeners();
  readonly #owns: Disposable | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = () => {
    for (const each of this.#interrupts) each.fail(this.#interrupted());
  };
  #closed = false;

  private constructor(device: Device, options: AttachOptions<Instance>) {
    this.device = device;
    this.instance = options.instance as Instance;
    this.name = device.info.name;
    this.clock = new PausableClock(options.clock ?? new SystemClock());
    this.waits = new WaitEvents(device.eventPort, this.clock);
    this.config = new ConfigView(device.region(RegionIndex.CONFIG));
    this.ids = this.config.ids;
    this.#space = device.dma;
    this.dma = options.dma ?? new DriverDma(this.#space);
    this.adopted = (options.adopted ?? []).map((mapping) => this.dma.adopt(mapping));
    this.#owns = options.owns;
    this.#signal = options.signal;
    this.#signal?.addEventListener('abort', this.#onAbort);
    this.intx = this.#source('intx');
    this.msi = this.#source('msi');
    this.msix = this.#source('msix');
    this.#onRequest = options.onRequest;
    const kinds: readonly DeviceEventKind[] = ['suspend', 'asleep', 'resume', 'gone'];
    this.#listening = device.on((event) => this.#heard(event), options.onRequest === undefined ? kinds : [...kinds, 'request']);
    if (this.asleep) this.clock.pause();
  }

  /**
   * Take over an open device, which is closed together with the driver. The device's BARs answer
   * from now on. Bus mastering stays off, because the driver decides about it.
   *
   * @throws VfioError ENXIO when `match` names another device, which is closed then
   */
  static attach<Instance = undefined>(device: Device, options: AttachOptions<Instance> = {}): DriverDevice<Instance> {
    using undo = new Cleanup();
    if (options.owns !== undefined) undo.use(options.owns);
    undo.use(device);
    const dev = new DriverDevice<Instance>(device, options);
    const { ids } = dev;
    const wanted = typeof options.match === 'string' ? [options.match] : options.match;
    if (wanted !== undefined && !wanted.some((w) => w.toLowerCase() === ids)) {
      throw new VfioError('ENXIO', `${dev.name} is ${ids}, and this driver is for ${wanted.join(' or ')}`, {
        fix: 'Give the address of a device that the driver is for.',
      });
    }
    const decoding = Command.MEMORY | (dev.#hasPorts() ? Command.IO : 0);
    if ((dev.config.command & decoding) !== decoding) dev.config.command |= decoding;
    options.dma?.join(dev.#space);
    undo.move();
    return dev;
  }

  /**
   * A question to the device would be an access, so the text has facts that the driver has already.
   */
  [INSPECT](): string {
    const irqs = [...this.#interrupts].map((each) => `${each.count} ${each.title}`).join(', ') || 'no';
    return `DriverDevice ${this.name} (${this.ids}): ${this.#closed ? 'closed' : `${irqs} interrupts, ${this.dma.buffers} DMA buffers`}`;
  }

  /** Whether the device may do DMA and send messages. Off after open. */
  get busMaster(): boolean {
    return this.config.busMaster;
  }
  /** On: the driver lets the device reach memory and send messages. */
  set busMaster(on: boolean) {
    this.config.busMaster = on;
  }

  /**
   * BAR `index`, mapped where it can be: loads and stores by offset.
   *
   * @throws VfioError EINVAL for a BAR that the device does not have
   */
  bar(index: number): RegisterAccess;
  /**
   * BAR `index` as registers by name, mapped where it can be.
   *
   * @param map the registers, as `registers` made them
   * @throws VfioError EINVAL for a BAR that the device does not have, and for a map that does not
   *   lie in the BAR
   */
  bar<R extends Registers>(index: number, map: R, options?: RegisterMapOptions): DriverView<R>;
  bar(index: number, map?: Registers, { at = 0 }: RegisterMapOptions = {}): unknown {
    const access = this.#access(index);
    if (map === undefined) return access;
    const view = driverView(map, access, at);
    const { size } = this.device.region(index).info;
    if (!Number.isInteger(at) || at < 0 || at + spanOf(map) > size) {
      throw new VfioError('EINVAL', `${this.name}: registers from ${String(at)} to ${hex(at + spanOf(map))} do not lie in BAR ${index}`, {
        fix: `The BAR has ${hex(size)} bytes.`,
      });
    }
    return view;
  }

  /**
   * Reset the device alone, at function level or otherwise. Interrupts stay enabled in VFIO; the
   * device loses its register values.
   * @throws VfioError EINVAL when it has none
   */
  reset(): void {
    this.device.reset();
  }

  /**
   * Calls `listener` at each event of the device, until the result is disposed.
   *
   * @param kinds the events that the listener hears of. Default: every event. A listener for
   *   'suspend' promises to call the event's `acknowledge`; see `Device.on`.
   * @throws VfioError ENODEV once the device is gone or closed
   */
  on(listener: (event: DeviceEvent) => void, kinds?: readonly DeviceEventKind[]): Disposable {
    return this.#requests.add(kinds, this.device.on(listener, kinds));
  }

  /**
   * The traffic between this driver and the device from now on, in order; see `Device.events`.
   *
   * @throws VfioError EINVAL for options or kinds that do not exist
   */
  events<K extends EventKind = EventKind>(options?: EventOptions<K>): EventFlow<EventOf<K | 'dropped'>> {
    return this.device.events(options);
  }

  /** The machine sleeps. Registers do not answer (EIO), and other calls wait. */
  get asleep(): boolean {
    return this.device.awake !== undefined && this.device.awake() !== null;
  }

  /** Resolves when the machine is awake. It nearly always is. */
  async awake(): Promise<void> {
    if (!this.asleep) return;
    using _alive = keepAlive();
    for (let waits = this.device.awake!(); waits !== null; waits = this.device.awake!()) await waits;
  }

  #heard(event: DeviceEvent): void {
    switch (event.kind) {
      case 'suspend':
        // Work under way is not lost. It goes on after the sleep.
        event.acknowledge();
        break;
      case 'request':
        if (!this.#requests.any) this.#onRequest?.(this.name);
        break;
      case 'asleep':
        this.clock.pause();
        break;
      case 'resume':
        this.clock.goOn();
        break;
      case 'gone':
        this.clock.goOn();
        for (const i of this.#interrupts) i.fail(new VfioError('ENODEV', `${this.name} is gone: ${event.reason}`));
        break;
      default:
    }
  }

  /**
   * Poll until `condition` holds. It is for conditions without an interrupt.
   *
   * @throws VfioError ETIMEDOUT; EINTR once the signal of `open` is aborted
   */
  async until(condition: () => boolean, options: UntilOptions = {}): Promise<void> {
    const { timeoutMs = 1000, everyMs = 1 } = options;
    checkTimeout(timeoutMs);
    checkTimeout(everyMs);
    const since = this.waits.begin();
    try {
      await this.#until(condition, timeoutMs, everyMs);
    } catch (error) {
      this.waits.failed(CONDITION, error, since);
      throw error;
    }
    this.waits.ended(CONDITION, 'done', since);
  }

  async #until(condition: () => boolean, timeoutMs: number, everyMs: number): Promise<void> {
    const end = this.clock.nowNs() + timeoutMs * 1e6;
    using _alive = keepAlive();
    for (;;) {
      if (this.#signal?.aborted === true) throw this.#interrupted();
      if (this.asleep) await this.awake();
      if (condition()) return;
      if (this.clock.nowNs() >= end) throw new VfioError('ETIMEDOUT', `${this.name}: nothing happened within ${timeoutMs} ms`);
      await new Promise<void>((resolve) => this.clock.after(everyMs, resolve));
    }
  }

  /**
   * Quiet the device, then release everything: bus mastering off, interrupts off, DMA buffers and
   * mappings released, device closed (which resets it, where it has a reset). Idempotent.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    using steps = new Cleanup();
    if (this.#owns !== undefined) steps.use(this.#owns);
    this.#signal?.removeEventListener('abort', this.#onAbort);
    steps.defer(() => this.device.close());
    for (const mapping of this.#mappings.values()) steps.use(mapping);
    steps.use(this.#listening);
    steps.defer(() => this.dma.leave(this.#space));
    for (const interrupts of this.#interrupts) steps.use(interrupts);
    steps.defer(() => this.#quiet());
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #interrupted(): VfioError {
    return new VfioError('EINTR', `${this.name}: the driver has to end`);
  }

  /** End DMA before buffers are unmapped. */
  #quiet(): void {
    try {
      if (this.busMaster) this.busMaster = false;
    } catch (error) {
      // A device that is gone does no DMA either.
      if (!(error instanceof VfioError)) throw error;
    }
  }

  #access(index: number): RegisterAccess {
    const region = this.device.region(index);
    if (index > RegionIndex.BAR5 || region.info.size === 0) {
      throw new VfioError('EINVAL', `${this.name} has no BAR ${index}`, { fix: `It has ${this.#barsPresent()}.` });
    }
    const mapped = this.#mappings.get(index);
    if (mapped !== undefined) return mapped;
    const { flags, sparseAreas } = region.info;
    const mapping =
      (flags & RegionFlags.MMAP) === 0 ? null : sparseAreas === undefined ? region.map() : SparseAccess.open(region, sparseAreas);
    if (mapping === null) return region;
    this.#mappings.set(index, mapping);
    return mapping;
  }

  /** Whether one of its BARs is an I/O BAR. */
  #hasPorts(): boolean {
    return [0, 1, 2, 3, 4, 5].some(
      (i) => this.device.region(i).info.size > 0 && (this.config.read32(Config.BASE_ADDRESS_0 + 4 * i) & Bar.SPACE_IO) !== 0,
    );
  }

  #barsPresent(): string {
    const present = [0, 1, 2, 3, 4, 5].filter((i) => this.device.region(i).info.size > 0);
    return present.length === 0 ? 'no BAR at all' : `BAR ${present.join(', ')}`;
  }

  #source(kind: IrqKind): IrqSource {
    const { device } = this;
    const context: IrqContext = {
      device,
      clock: this.clock,
      waits: this.waits,
      hint: (k) =>
        k === 'intx' || this.busMaster ? undefined : 'Bus mastering is off, so the device cannot send messages: set busMaster = true.',
      checkFree: (k, name) => {
        const enabled = [...this.#interrupts].find((interrupts) => interrupts.kind === k);
        if (enabled === undefined) return;
        throw new VfioError('EBUSY', `${name}: ${enabled.title} is enabled already, with ${enabled.count} of its vectors`, {
          fix: 'Use what the first enable() gave, or dispose it before you enable another number.',
        });
      },
      released: (interrupts) => void this.#interrupts.delete(interrupts),
    };
    const index = { intx: 0, msi: 1, msix: 2 }[kind];
    return {
      get count() {
        return device.irq(index).count;
      },
      enable: (count = 1) => {
        const interrupts = Interrupts.enable(kind, count, context);
        this.#interrupts.add(interrupts);
        if (this.#signal?.aborted === true) interrupts.fail(this.#interrupted());
        return interrupts;
      },
    };
  }
}

export type { WaitOptions };
