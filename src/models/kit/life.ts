/**
 * The calls that a model's handlers may make between one reset and the next. A reset ends a life:
 * its timers are gone, its waits are rejected, and whatever a handler of before still holds reaches
 * neither DMA nor interrupts.
 */

import type { DeviceHost, DmaPlace, Iova } from '../../abi/device-host.ts';
import { Dma } from '../../abi/device-host.ts';
import type { Access } from '../../abi/memory.ts';
import { acrossCopies } from '../../base/across-copies.ts';
import type { Failed } from '../../base/foreign.ts';
import { WatchedPromise } from '../../base/watched-promise.ts';
import type { AsyncCauses } from './async-causes.ts';

/**
 * Largest buffer that `dma.read(iova, size)` makes by itself: sizes come from registers, so from
 * their writer.
 */
export const DMA_READ_MAX = 2 ** 24;

/** Longest delay, 24 days: timers take no more, and a delay may come from a register. */
const DELAY_MAX_MS = 2 ** 31 - 1;

/**
 * Rejects whatever a handler awaits when the device is reset or removed meanwhile. Handlers need
 * not catch it.
 */
export class DeviceReset extends Error {
  /** The kit makes it. */
  constructor() {
    super('the device was reset while a handler was at work');
    this.name = 'DeviceReset';
  }
}
acrossCopies(DeviceReset, 'DeviceReset');

/** Something that waits for its time. Disposed: it does not happen. */
export interface Wait extends Disposable {
  /** Until then, while it waits. */
  readonly leftMs: number;
}

interface Waiting extends Wait {
  readonly callback: () => void;
  readonly reject: ((error: DeviceReset) => void) | null;
  /** Null while time stands still. */
  timer: Disposable | null;
  dueNs: number;
  leftNs: number;
}

export class Life {
  readonly #waits = new Set<Waiting>();
  readonly #host: DeviceHost;
  #ended = false;
  #paused: boolean;

  /** @param paused  time stands still until `goOn` */
  constructor(host: DeviceHost, paused = false) {
    this.#host = host;
    this.#paused = paused;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** How many wait. */
  get waiting(): number {
    return this.#waits.size;
  }

  /** How many of them are a `sleep`. */
  get sleeping(): number {
    let count = 0;
    for (const { reject } of this.#waits) if (reject !== null) count++;
    return count;
  }

  end(): void {
    this.#ended = true;
    const waits = [...this.#waits];
    this.#waits.clear();
    for (const { timer, reject } of waits) {
      timer?.[Symbol.dispose]();
      reject?.(new DeviceReset());
    }
  }

  /** Time stands still: what waits keeps what is left of its time. */
  pause(): void {
    this.#paused = true;
    const now = this.#host.clock.nowNs();
    for (const wait of this.#waits) {
      if (wait.timer === null) continue;
      wait.timer[Symbol.dispose]();
      wait.timer = null;
      wait.leftNs = Math.max(0, wait.dueNs - now);
    }
  }

  /** In the order in which it would have come. */
  goOn(): void {
    if (!this.#paused) return;
    this.#paused = false;
    for (const wait of [...this.#waits].sort((a, b) => a.leftNs - b.leftNs)) this.#arm(wait);
  }

  /** Runs `callback` after `delayMs` of the host's clock, unless this life ends before. */
  after(delayMs: number, callback: () => void): Wait {
    return this.#wait(delayMs, callback, null);
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#wait(delayMs, resolve, reject);
    });
  }

  #wait(delayMs: number, callback: () => void, reject: ((error: DeviceReset) => void) | null): Wait {
    if (this.#ended) {
      reject?.(new DeviceReset());
      return { leftMs: 0, [Symbol.dispose]: () => {} };
    }
    const { clock } = this.#host;
    const wait: Waiting = {
      callback,
      reject,
      timer: null,
      dueNs: 0,
      leftNs: Math.min(Math.max(delayMs, 0) || 0, DELAY_MAX_MS) * 1e6,
      get leftMs() {
        return (wait.timer === null ? wait.leftNs : Math.max(0, wait.dueNs - clock.nowNs())) / 1e6;
      },
      [Symbol.dispose]: () => {
        this.#waits.delete(wait);
        wait.timer?.[Symbol.dispose]();
      },
    };
    this.#waits.add(wait);
    if (!this.#paused) this.#arm(wait);
    return wait;
  }

  #arm(wait: Waiting): void {
    const { clock } = this.#host;
    wait.dueNs = clock.nowNs() + wait.leftNs;
    wait.timer = clock.after(wait.leftNs / 1e6, () => {
      this.#waits.delete(wait);
      wait.callback();
    });
  }
}

/** The device's DMA: what IOVAs reach, through bus mastering and the IOMMU. */
export class ModelDma {
  readonly #life: Life;
  readonly #host: DeviceHost;
  readonly #causes: AsyncCauses;
  readonly #forgotten: Failed;

  /**
   * @param forgotten reports the rejection of a promise that no handler looks at: the driver
   * decides whether DMA lands
   */
  constructor(life: Life, host: DeviceHost, causes: AsyncCauses, forgotten: Failed) {
    this.#life = life;
    this.#host = host;
    this.#causes = causes;
    this.#forgotten = forgotten;
  }

  /**
   * Read memory at `iova`: `size` bytes into a new buffer (at most `DMA_READ_MAX`), or as many as
   * `into` holds.
   *
   * @throws DmaFault when it does not land
   * @throws DeviceReset when the device was reset meanwhile
   */
  read(iova: Iova, size: number | bigint): Promise<Uint8Array>;
  read(iova: Iova, into: Uint8Array): Promise<Uint8Array>;
  read(iova: Iova, what: number | bigint | Uint8Array): Promise<Uint8Array> {
    return WatchedPromise.of(this.#read(iova, what), (error) => this.#forgotten('dma.read', error));
  }

  /** Write `from` to memory at `iova`. Throws as `read` does. */
  write(iova: Iova, from: Uint8Array): Promise<void> {
    return WatchedPromise.of(this.#write(iova, from), (error) => this.#forgotten('dma.write', error));
  }

  async #read(iova: Iova, what: number | bigint | Uint8Array): Promise<Uint8Array> {
    const into = what instanceof Uint8Array ? what : new Uint8Array(checkSize(what));
    this.#check();
    const { dma } = this.#host;
    await (this.#causes.lost ? this.#causes.within(() => dma.read(iova, into)) : dma.read(iova, into));
    this.#check();
    return into;
  }

  async #write(iova: Iova, from: Uint8Array): Promise<void> {
    this.#check();
    const { dma } = this.#host;
    await (this.#causes.lost ? this.#causes.within(() => dma.write(iova, from)) : dma.write(iova, from));
    this.#check();
  }

  /** The same at once, for memory that is directly mapped: nothing to await, nothing thrown. */
  tryRead(iova: Iova, into: Uint8Array): Dma {
    if (this.#life.ended) return Dma.FAULT;
    return this.#causes.lost ? this.#readWithin(iova, into) : this.#host.dma.tryRead(iova, into);
  }

  tryWrite(iova: Iova, from: Uint8Array): Dma {
    if (this.#life.ended) return Dma.FAULT;
    return this.#causes.lost ? this.#writeWithin(iova, from) : this.#host.dma.tryWrite(iova, from);
  }

  /**
   * The bytes themselves where they are directly mapped in one piece, else null. Good while `epoch`
   * stays what it was when the view was taken.
   */
  view(iova: Iova, size: number, access: Access): Uint8Array | null {
    if (this.#life.ended) return null;
    return this.#causes.lost ? this.#viewWithin(iova, size, access) : this.#host.dma.view(iova, size, access);
  }

  /**
   * As `view`, without an object: says in `place` where the bytes are. False where `view` gives
   * null. For many small pieces, with addresses as numbers.
   */
  locate(iova: Iova, size: number, access: Access, place: DmaPlace): boolean {
    if (this.#life.ended) return false;
    if (this.#causes.lost) return this.#locateWithin(iova, size, access, place);
    return this.#host.dma.locate(iova, size, access, place);
  }

  // Apart, because a function that makes a closure allocates at every call.

  #readWithin(iova: Iova, into: Uint8Array): Dma {
    return this.#causes.within(() => this.#host.dma.tryRead(iova, into));
  }

  #writeWithin(iova: Iova, from: Uint8Array): Dma {
    return this.#causes.within(() => this.#host.dma.tryWrite(iova, from));
  }

  #viewWithin(iova: Iova, size: number, access: Access): Uint8Array | null {
    return this.#causes.within(() => this.#host.dma.view(iova, size, access));
  }

  #locateWithin(iova: Iova, size: number, access: Access, place: DmaPlace): boolean {
    return this.#causes.within(() => this.#host.dma.locate(iova, size, access, place));
  }

  get epoch(): number {
    return this.#life.ended ? -1 : this.#host.dma.epoch;
  }

  #check(): void {
    if (this.#life.ended) throw new DeviceReset();
  }
}

/** The device's interrupts. */
export class ModelIrq {
  readonly #life: Life;
  readonly #host: DeviceHost;
  readonly #causes: AsyncCauses;

  constructor(life: Life, host: DeviceHost, causes: AsyncCauses) {
    this.#life = life;
    this.#host = host;
    this.#causes = causes;
  }

  /**
   * Send message `vector` (MSI or MSI-X). False when it could not be sent now: not enabled, masked,
   * or no bus mastering.
   */
  trigger(vector = 0): boolean {
    if (this.#life.ended) return false;
    const { irq } = this.#host;
    return this.#causes.lost ? this.#causes.within(() => irq.trigger(vector)) : irq.trigger(vector);
  }

  /** Drive the INTx pin; it stays asserted until lowered. */
  raise(): void {
    if (this.#life.ended) return;
    if (this.#causes.lost) this.#causes.within(() => this.#host.irq.raise());
    else this.#host.irq.raise();
  }

  lower(): void {
    if (this.#life.ended) return;
    if (this.#causes.lost) this.#causes.within(() => this.#host.irq.lower());
    else this.#host.irq.lower();
  }

  /** The interrupt that the driver has enabled. */
  get mode(): 'intx' | 'msi' | 'msix' {
    return this.#host.irq.mode;
  }

  /** Messages it has allocated; 1 for INTx. */
  get vectors(): number {
    return this.#host.irq.vectors;
  }
}

function checkSize(size: number | bigint): number {
  if (size < 0 || size > DMA_READ_MAX || (typeof size === 'number' && !Number.isInteger(size))) {
    throw new RangeError(`DMA read of ${size} bytes; dma.read(iova, size) takes 0 to ${DMA_READ_MAX}, dma.read(iova, into) any buffer`);
  }
  return Number(size);
}
