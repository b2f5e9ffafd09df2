/**
 * A DeviceHost without an engine, for trying a model by itself: memory from `base`, a clock that a
 * test moves, and everything that the model does to its interrupts, in order.
 *
 *     const host = new TestHost();
 *     const uart = host.plug(model());       // the instance: its inputs and outputs
 *     const registers = host.bar(0, Uart);   // its registers, as a driver has them
 *     registers.lcr.dlab = 1;
 *     await host.idle();                     // until no handler is at work
 *     await host.advance(10);                // 10 ms later
 */
import {
  type DeviceHost,
  Dma,
  DmaFault,
  type DmaPlace,
  type DmaPort,
  type ErrorKind,
  type Iova,
  type IrqPort,
  type Model,
  type Width,
} from '../../abi/device-host.ts';
import { Access, type DirectMemory } from '../../abi/memory.ts';
import { ManualClock } from '../../base/clock.ts';
import { driverView, type RegisterMapOptions } from '../../base/driver-view.ts';
import { VfioError } from '../../base/errno.ts';
import { kindOf, type Logger, type LogLevel } from '../../base/log.ts';
import type { RegisterAccess } from '../../base/register-access.ts';
import type { DriverView, Registers } from '../../base/registers.ts';
import { type EventSource, Irq, Step, Way } from '../../events/source.ts';
import { EventStream } from '../../events/stream.ts';
import { ConfigSpace } from '../../pci/config-space.ts';
import type { DeviceModel } from '../../pci/declaration.ts';
import { checkModel } from './device-model.ts';
import type { Instance } from './instance.ts';
import { barAccess, TestClock } from './test-events.ts';

/** An event of the device's interrupts, as `TestHost` notes it; the number is the vector. */
export type IrqEvent = 'raise' | 'lower' | `trigger ${number}`;

/** The memory, the interrupts and the BARs of a `TestHost`. */
export interface TestHostOptions {
  /** The IOVA of the first byte of memory. Default: 0x100000. */
  readonly base?: bigint;
  /** Bytes of memory, all zero at first. Default: 65536. */
  readonly memorySize?: number;
  /** The kind of interrupt that the driver has enabled. Default: 'msi'. */
  readonly mode?: 'intx' | 'msi' | 'msix';
  /** Messages that the driver has enabled. Default: 1. */
  readonly vectors?: number;
  /** Bytes behind each BAR that `barMemory` hands out. Default: 65536. */
  readonly barSize?: number;
  /** The bytes that DMA reaches, in place of `memorySize` new ones. */
  readonly memory?: Uint8Array;
  /** The way of DMA to memory. Default: synchronous copies from and to `memory`. */
  readonly dma?: DmaPort;
}

/** Plays the machine around one model in a test; the test is the driver, and moves the clock. */

export class TestHost implements DeviceHost {
  /** The clock of the device. It moves with `advance` alone. */
  readonly clock: ManualClock = new TestClock(() => this.events);
  /** Lines that the device has logged, in order; digits are replaced by #. */
  readonly logged: { level: LogLevel; message: string }[] = [];
  /** Limited in rate, as the engine's log is; its time stands still. */
  readonly log: Logger = { log: (level, message) => this.events.note(level, kindOf(message), message) };
  /**
   * The stream to which the device and its host emit. A test reads it: `using events =
   * host.stream.read()`, later `events.take()`.
   */
  readonly stream: EventStream = new EventStream({
    clock: this.clock,
    logClock: new ManualClock(),
    log: { log: (level, message) => void this.logged.push({ level, message }) },
  });
  readonly events: EventSource = this.stream.source('device');
  /** The memory that DMA reaches; `base` is the IOVA of its first byte. */
  readonly memory: Uint8Array;
  /** The IOVA of the first byte of `memory`. */
  readonly base: bigint;
  /** Every change of the INTx line and every message, in order. */
  readonly irqEvents: IrqEvent[] = [];
  /** The device's way to `memory`. */
  readonly dma: DmaPort;
  /** The device's interrupts. A test may change `mode` and `vectors`, as a driver does. */
  readonly irq: IrqPort & { mode: 'intx' | 'msi' | 'msix'; vectors: number };
  /** The work of each `answerAfter`, in order. */
  readonly held: Promise<unknown>[] = [];
  /** Errors that the device has reported, in order. */
  readonly errors: { readonly kind: ErrorKind; readonly status: number | undefined }[] = [];
  /** How often the device has signalled PME. */
  wakes = 0;
  /** The INTx line. */
  asserted = false;
  /** How many milliseconds of the clock `dma.read` and `dma.write` take. Default: 0. */
  dmaDelayMs = 0;
  readonly #bars = new Map<number, DirectMemory>();
  readonly #barSize: number;
  #plugged: { readonly model: Model; readonly config: ConfigSpace } | null = null;
  /** DMA that waits for the clock. */
  #delayed = 0;

  /** A host without a device; `plug` makes the device. */
  constructor(options: TestHostOptions = {}) {
    this.base = options.base ?? 0x10_0000n;
    this.memory = options.memory ?? new Uint8Array(options.memorySize ?? 0x1_0000);
    this.#barSize = options.barSize ?? 0x1_0000;
    this.irq = {
      mode: options.mode ?? 'msi',
      vectors: options.vectors ?? 1,
      raise: () => {
        this.asserted = true;
        this.irqEvents.push('raise');
        if (this.events.on) this.events.interrupt(Step.raised, Irq.intx, 0);
      },
      lower: () => {
        if (!this.asserted) return;
        this.asserted = false;
        this.irqEvents.push('lower');
        if (this.events.on) this.events.interrupt(Step.lowered, Irq.intx, 0);
      },
      trigger: (vector) => {
        if (this.irq.mode === 'intx' || vector >= this.irq.vectors) return false;
        this.irqEvents.push(`trigger ${vector}`);
        if (this.events.on) this.events.interrupt(Step.raised, Irq[this.irq.mode], vector);
        return true;
      },
    };
    this.dma = options.dma ?? {
      epoch: 0,
      tryRead: (iova, into) => this.#copy(iova, into, false),
      tryWrite: (iova, from) => this.#copy(iova, from, true),
      read: (iova, into) => this.#later(iova, () => this.dma.tryRead(iova, into)),
      write: (iova, from) => this.#later(iova, () => this.dma.tryWrite(iova, from)),
      view: (iova, size, access) => this.#view(iova, size, access),
      locate: (iova, size, access, place) => this.#locate(iova, size, access, place),
    };
  }

  /**
   * Makes a device of the model on this host, with a config space. A host has one device.
   *
   * @returns what `create` of the model gives: of a device that `device()` declared, the instance
   * @throws VfioError EBUSY when the host has a device already; EINVAL for a value that is no model
   */
  plug<M extends DeviceModel>(model: M): ReturnType<M['create']> {
    if (this.#plugged !== null) throw new VfioError('EBUSY', 'this TestHost has a device already', { fix: 'Make another TestHost.' });
    checkModel('plug()', model);
    const config = new ConfigSpace(model.declaration);
    // A model may read config space while it is made.
    this.#plugged = { config, model: { read: () => 0, write: () => {}, reset: () => {} } };
    const created = model.create(this);
    this.#plugged = { config, model: created };
    if (created.configRead !== undefined) {
      config.answer({
        read: (offset, width) => created.configRead!(offset, width),
        write: (offset, width, value) => created.configWrite?.(offset, width, value),
      });
    }
    config.onWrite((offset, width) => created.configWritten?.(offset, width));
    return created as ReturnType<M['create']>;
  }

  /**
   * BAR `index` of the plugged device, as a driver has it: loads and stores by offset, or registers
   * by name.
   *
   * @throws VfioError ENODEV before `plug`
   */
  bar(index: number): RegisterAccess;
  bar<R extends Registers>(index: number, map: R, options?: RegisterMapOptions): DriverView<R>;
  bar(index: number, map?: Registers, { at = 0 }: RegisterMapOptions = {}): unknown {
    const access = barAccess(this.#device.model, index, this.events);
    return map === undefined ? access : driverView(map, access, at);
  }

  /** The hardware's config space of the plugged device: software reads and writes it. */
  get config(): ConfigSpace {
    return this.#device.config;
  }

  /** Resets the plugged device, as a function-level reset does: config space too. */
  reset(): void {
    const { config, model } = this.#device;
    config.reset();
    model.reset();
    config.refresh(0, config.size);
  }

  /**
   * Resolves when no handler of the plugged device is at work.
   *
   * @throws VfioError (rejects) EBUSY when handlers wait for the clock alone, which stands still
   */
  async idle(): Promise<void> {
    for (;;) {
      // A promise chain of a handler goes on between turns of the event loop.
      await turn();
      const { handlers, clock } = (this.#device.model as Partial<Instance>).waiting ?? { handlers: 0, clock: 0 };
      if (handlers === 0) return;
      if (clock + this.#delayed >= handlers) {
        throw new VfioError(
          'EBUSY',
          `the clock stands still, and ${handlers === 1 ? 'a handler waits' : `${handlers} handlers wait`} for it`,
          {
            fix: 'Move it first: await host.advance(ms).',
          },
        );
      }
    }
  }

  /** Moves the clock by `ms`. Handlers that a timer wakes go on before the next timer comes. */
  async advance(ms: number): Promise<void> {
    await this.clock.pass(ms);
  }

  get #device(): { readonly model: Model; readonly config: ConfigSpace } {
    if (this.#plugged !== null) return this.#plugged;
    throw new VfioError('ENODEV', 'this TestHost has no device', { fix: 'Plug one: host.plug(model).' });
  }

  /** `DeviceHost.readConfig`: from the config space of the plugged device. */
  readConfig(offset: number, width: Width): number {
    return this.#device.config.read(offset, width);
  }

  /** `DeviceHost.reportError`: notes the error in `errors`. Always true. */
  reportError(kind: ErrorKind, status?: number): boolean {
    this.errors.push({ kind, status });
    return true;
  }

  /** `DeviceHost.wake`: counts it in `wakes`. Always true. */
  wake(): boolean {
    this.wakes++;
    return true;
  }

  /** `DeviceHost.answerAfter`: keeps `work` in `held`. */
  answerAfter(work: Promise<unknown>): void {
    this.held.push(work);
  }

  /** `DeviceHost.barMemory`: `barSize` bytes of its own for each BAR. */
  barMemory(index: number): DirectMemory {
    const present = this.#bars.get(index);
    if (present !== undefined) return present;
    let references = 1;
    const memory: DirectMemory = {
      kind: 'direct',
      size: this.#barSize,
      windows: [new Uint8Array(this.#barSize)],
      get references() {
        return references;
      },
      get: () => {
        references++;
        return memory;
      },
      put: () => void references--,
      [Symbol.dispose]: () => void references--,
    };
    this.#bars.set(index, memory);
    return memory;
  }

  #at(iova: Iova, size: number): Uint8Array | null {
    const from = BigInt(iova) - this.base;
    if (from < 0n || from + BigInt(size) > BigInt(this.memory.length)) return null;
    return this.memory.subarray(Number(from), Number(from) + size);
  }

  #locate(iova: Iova, size: number, access: Access, place: DmaPlace): boolean {
    const view = this.#view(iova, size, access);
    if (view === null) return false;
    place.bytes = this.memory;
    place.offset = view.byteOffset - this.memory.byteOffset;
    return true;
  }

  #view(iova: Iova, size: number, access: Access): Uint8Array | null {
    const view = this.#at(iova, size);
    if (view !== null && this.events.on) this.#see((access & Access.WRITE) !== 0, iova, view, Way.view);
    return view;
  }

  #copy(iova: Iova, buffer: Uint8Array, write: boolean): Dma {
    const bytes = this.#at(iova, buffer.length);
    if (bytes === null) return Dma.FAULT;
    if (write) bytes.set(buffer);
    else buffer.set(bytes);
    if (this.events.on) this.#see(write, iova, buffer, Way.direct);
    return Dma.DONE;
  }

  #see(write: boolean, iova: Iova, bytes: Uint8Array, way: number): void {
    this.events.dma(write, Number(BigInt(iova) >> 12n), Number(BigInt(iova) & 0xfffn), bytes.length, way, bytes);
  }

  async #later(iova: Iova, copy: () => Dma): Promise<void> {
    if (this.dmaDelayMs > 0) {
      this.#delayed++;
      await new Promise<void>((resolve) => this.clock.after(this.dmaDelayMs, resolve));
      this.#delayed--;
    }
    if (copy() !== Dma.DONE) throw new DmaFault('not-mapped', BigInt(iova));
  }
}

/** A turn of the event loop: work that waits for promises alone is done then. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
