/**
 * A Device for trying the driver kit by itself: a BAR and a config space of plain bytes, a DMA
 * space that only keeps its books.
 */
import type {
  Device,
  DeviceEvent,
  DmaSpace,
  InterruptSink,
  Region,
  RegionInfo,
  RegionMapping,
  RegisterAccess,
  SetIrqs,
} from '../../src/abi/device.ts';
import type { EventKind, EventOptions } from '../../src/abi/event.ts';
import type { DirectMemory } from '../../src/abi/memory.ts';
import { RegionFlags } from '../../src/abi/vfio.ts';
import { ManualClock } from '../../src/base/clock.ts';
import { VfioError } from '../../src/base/errno.ts';
import { EventStream } from '../../src/events/stream.ts';

function accessTo(view: DataView): RegisterAccess {
  return {
    read8: (o) => view.getUint8(o),
    read16: (o) => view.getUint16(o, true),
    read32: (o) => view.getUint32(o, true),
    read64: (o) => view.getBigUint64(o, true),
    write8: (o, v) => view.setUint8(o, v),
    write16: (o, v) => view.setUint16(o, v, true),
    write32: (o, v) => view.setUint32(o, v, true),
    write64: (o, v) => view.setBigUint64(o, v, true),
  };
}

export class FakeDevice implements Device {
  readonly info = { name: '0000:00:04.0', flags: 2, numRegions: 9, numIrqs: 5 };
  readonly bar0 = new DataView(new ArrayBuffer(4096));
  readonly config = new DataView(new ArrayBuffer(256));
  readonly dma: DmaSpace;
  /** Events, in order: names of calls that matter to the order of closing. */
  readonly trace: string[] = [];
  readonly mappings = new Map<bigint, DirectMemory>();
  readonly sinks = new Map<number, (InterruptSink | null)[]>();
  readonly irqCounts = [1, 4, 0, 0, 1];
  /** Vectors the host can give, when fewer than asked. */
  vectorsAvailable: number | null = null;
  ranges = [
    { first: 0n, last: 0xfedf_ffffn },
    { first: 0xfef0_0000n, last: 2n ** 48n - 1n },
  ];
  mappable = true;
  memoryAlive = 0;
  readonly #listeners = new Set<(event: DeviceEvent) => void>();
  readonly stream = new EventStream({ clock: new ManualClock() });
  readonly eventPort = this.stream.source(this.info.name);

  events<K extends EventKind = EventKind>(options?: EventOptions<K>) {
    return this.stream.read(options);
  }

  constructor() {
    this.config.setUint32(0, 0x11e8_1234, true);
    this.dma = {
      pageSizes: 0x4000_1000n,
      available: 65535,
      ranges: this.ranges,
      allocate: (size) => this.#allocate(Math.ceil(size / 4096) * 4096),
      map: ({ iova, memory }) => {
        for (const [at, m] of this.mappings) {
          if (iova < at + BigInt(m.size) && at < iova + BigInt(memory.size)) throw new VfioError('EEXIST', 'overlaps');
        }
        this.mappings.set(iova, memory as DirectMemory);
      },
      unmap: (iova, size) => {
        this.trace.push(`unmap 0x${iova.toString(16)}`);
        return this.mappings.delete(iova) ? size : 0n;
      },
      unmapAll: () => 0n,
    };
  }

  region(index: number): Region {
    const view = index === 0 ? this.bar0 : index === 7 ? this.config : new DataView(new ArrayBuffer(0));
    const flags =
      index === 0 && this.mappable ? RegionFlags.MMAP | RegionFlags.READ | RegionFlags.WRITE : RegionFlags.READ | RegionFlags.WRITE;
    const info: RegionInfo = { index, flags: view.byteLength === 0 ? 0 : flags, size: view.byteLength };
    const access = accessTo(view);
    const noted = index !== 7 ? access : { ...access, write16: (o: number, v: number) => this.#configWritten(o, v) };
    return {
      ...noted,
      info,
      read: () => 0,
      write: () => 0,
      map: (): RegionMapping => {
        this.trace.push('map');
        return { ...access, size: view.byteLength, memory: null, [Symbol.dispose]: () => void this.trace.push('unmap BAR') };
      },
    };
  }

  irq(index: number) {
    return { index, flags: 0, count: this.irqCounts[index]! };
  }

  setIrqs(request: SetIrqs): number {
    if (request.action !== 'trigger' || request.data === 'bool') {
      this.trace.push(request.action);
      return 0;
    }
    if (request.data === 'none') {
      this.trace.push('disable');
      for (const sink of this.sinks.get(request.index) ?? []) sink?.put();
      this.sinks.delete(request.index);
      return 0;
    }
    if (this.vectorsAvailable !== null && this.vectorsAvailable < request.count) return this.vectorsAvailable;
    this.sinks.set(
      request.index,
      request.sinks.map((s) => s?.get() ?? null),
    );
    return 0;
  }

  signal(index: number, vector = 0): void {
    this.sinks.get(index)![vector]!.signal();
  }

  emit(event: DeviceEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  reset(): void {
    this.trace.push('reset');
  }
  hotResetInfo() {
    return [];
  }
  feature(): number {
    return 0;
  }
  on(listener: (event: DeviceEvent) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }
  close(): void {
    this.trace.push('close');
  }
  [Symbol.dispose](): void {
    this.close();
  }

  #configWritten(offset: number, value: number): void {
    if (offset === 4) this.trace.push(`command 0x${value.toString(16)}`);
    this.config.setUint16(offset, value, true);
  }

  #allocate(size: number): DirectMemory {
    this.memoryAlive++;
    const memory: DirectMemory = {
      kind: 'direct',
      size,
      windows: [new Uint8Array(size)],
      references: 1,
      get: () => memory,
      put: () => {},
      [Symbol.dispose]: () => void this.memoryAlive--,
    };
    return memory;
  }
}
