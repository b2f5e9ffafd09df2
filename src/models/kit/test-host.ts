/**
 * A DeviceHost without an engine, for trying a model by itself: memory from `base`, a clock that moves when told, and everything the model
 * did to its interrupts, in order.
 *
 *     const host = new TestHost();
 *     const model = edu().create(host);
 *     model.write(0, 0x08, 4, 5);
 *     host.clock.advance(1);
 */
import { type DeviceHost, Dma, DmaFault, type DmaPort, type ErrorKind, type Iova, type IrqPort } from '../../abi/device-host.ts';
import type { DirectMemory } from '../../abi/memory.ts';
import { ManualClock } from '../../base/clock.ts';
import { kindOf, type Logger, type LogLevel, RateLimitedLogger } from '../../base/log.ts';

export type IrqEvent = 'raise' | 'lower' | `trigger ${number}`;

export class TestHost implements DeviceHost {
  readonly clock = new ManualClock();
  readonly logged: { level: LogLevel; message: string }[] = [];
  /** Limited in rate, as the engine does it; its time stands still. */
  readonly log: Logger = { log: (level, message) => this.#limited.log(level, kindOf(message), message) };
  readonly #limited = new RateLimitedLogger({ log: (level, message) => void this.logged.push({ level, message }) }, new ManualClock());
  /** What DMA reaches; `base` is the IOVA of its first byte. */
  readonly memory: Uint8Array;
  readonly base: bigint;
  readonly irqEvents: IrqEvent[] = [];
  readonly dma: DmaPort;
  readonly irq: IrqPort & { mode: 'intx' | 'msi' | 'msix'; vectors: number };
  /** What answers were to wait for, in order. */
  readonly held: Promise<unknown>[] = [];
  /** Errors that were reported, in order, and how often PME was signalled. */
  readonly errors: { readonly kind: ErrorKind; readonly status: number | undefined }[] = [];
  wakes = 0;
  /** The INTx line. */
  asserted = false;
  /** Set: asynchronous DMA waits until this many milliseconds of the clock have passed. */
  dmaDelayMs = 0;
  readonly #bars = new Map<number, DirectMemory>();
  readonly #barSize: number;

  constructor(
    options: {
      base?: bigint;
      memorySize?: number;
      mode?: 'intx' | 'msi' | 'msix';
      vectors?: number;
      barSize?: number;
      /** In place of memory that is all there: what it holds, and how it is reached. */
      memory?: Uint8Array;
      dma?: DmaPort;
    } = {},
  ) {
    this.base = options.base ?? 0x10_0000n;
    this.memory = options.memory ?? new Uint8Array(options.memorySize ?? 0x1_0000);
    this.#barSize = options.barSize ?? 0x1_0000;
    this.irq = {
      mode: options.mode ?? 'msi',
      vectors: options.vectors ?? 1,
      raise: () => {
        this.asserted = true;
        this.irqEvents.push('raise');
      },
      lower: () => {
        if (this.asserted) this.irqEvents.push('lower');
        this.asserted = false;
      },
      trigger: (vector) => {
        if (this.irq.mode === 'intx' || vector >= this.irq.vectors) return false;
        this.irqEvents.push(`trigger ${vector}`);
        return true;
      },
    };
    this.dma = options.dma ?? {
      epoch: 0,
      tryRead: (iova, into) => this.#copy(iova, into.length, (bytes) => into.set(bytes)),
      tryWrite: (iova, from) => this.#copy(iova, from.length, (bytes) => bytes.set(from)),
      read: (iova, into) => this.#later(iova, () => this.dma.tryRead(iova, into)),
      write: (iova, from) => this.#later(iova, () => this.dma.tryWrite(iova, from)),
      view: (iova, size) => this.#at(iova, size),
    };
  }

  reportError(kind: ErrorKind, status?: number): boolean {
    this.errors.push({ kind, status });
    return true;
  }

  wake(): boolean {
    this.wakes++;
    return true;
  }

  answerAfter(work: Promise<unknown>): void {
    this.held.push(work);
  }

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

  #copy(iova: Iova, size: number, copy: (bytes: Uint8Array) => void): Dma {
    const bytes = this.#at(iova, size);
    if (bytes === null) return Dma.FAULT;
    copy(bytes);
    return Dma.DONE;
  }

  async #later(iova: Iova, copy: () => Dma): Promise<void> {
    if (this.dmaDelayMs > 0) await new Promise<void>((resolve) => this.clock.after(this.dmaDelayMs, resolve));
    if (copy() !== Dma.DONE) throw new DmaFault('not-mapped', BigInt(iova));
  }
}
