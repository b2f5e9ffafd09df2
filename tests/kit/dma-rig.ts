/**
 * The start of tests of containers and DMA: a context with a manual clock and a readable log,
 * groups, processes.
 */
import type { DirectMemory, RemoteMemory } from '../../src/abi/memory.ts';
import { ManualClock } from '../../src/base/clock.ts';
import { defaultParams, type EngineContext, type EngineParams } from '../../src/engine/context.ts';
import { Container } from '../../src/engine/dma/container.ts';
import type { AttachableGroup, IommuProperties } from '../../src/engine/dma/iommu-properties.ts';
import { FaultPlan } from '../../src/engine/fault-plan.ts';
import { linuxRules } from '../../src/engine/linux-version.ts';
import { EventStream } from '../../src/events/stream.ts';
import { HeapMemory } from '../../src/sys/fake.ts';

export const PAGE = 4096n;

export interface TestContext extends EngineContext {
  readonly clock: ManualClock;
  /** `level: message`, in order. */
  readonly lines: string[];
  /** All memory that was allocated through the context. */
  readonly memories: DirectMemory[];
}

export function testContext(params: Partial<EngineParams> = {}, pageSize = 4096): TestContext {
  const clock = new ManualClock();
  const lines: string[] = [];
  const memories: DirectMemory[] = [];
  const stream = new EventStream({ clock, log: { log: (level, message) => void lines.push(`${level}: ${message}`) } });
  return {
    clock,
    lines,
    memories,
    stream,
    events: stream.source('0000:00:04.0'),
    params: { ...defaultParams, ...params },
    linux: linuxRules(),
    pageSize,
    faults: new FaultPlan(),
    allocate: (size) => {
      const memory = HeapMemory.allocate(size);
      memories.push(memory);
      return memory;
    },
  };
}

const q35 = {};

/**
 * The IOMMU of the machine on which the kernel's answers were recorded (kernel-answers): Intel's in
 * QEMU, 48 bits, an MSI window, no snoop control.
 */
export const q35Iommu: IommuProperties = {
  unit: q35,
  kind: 'full',
  isolatedMsi: true,
  coherent: true,
  pageSizes: 0x4020_1000n,
  apertureFirst: 0n,
  apertureLast: 2n ** 48n - 1n,
  reserved: [{ first: 0xfee0_0000n, last: 0xfeef_ffffn, kind: 'msi' }],
};

export function testGroup(id: number, iommu: Partial<IommuProperties> = {}): AttachableGroup {
  return { id, iommu: { ...q35Iommu, ...iommu }, domain: null };
}

/** A container with the groups in it and a type set. Default: TYPE1v2. */
export function testContainer(context: EngineContext, groups: readonly AttachableGroup[], type = 3): Container {
  const container = new Container(context);
  for (const group of groups) container.attachGroup(group);
  container.setIommu(type);
  return container;
}

/**
 * Direct memory of any size of which only the first pages exist, like a sparse memfd. A test must
 * not read beyond them.
 */
export class SparseMemory implements DirectMemory {
  readonly kind = 'direct';
  readonly size: number;
  readonly windows = [new Uint8Array(4096)];
  references = 1;

  constructor(size: number) {
    this.size = size;
  }

  get(): this {
    this.references++;
    return this;
  }

  put(): void {
    this.references--;
  }

  [Symbol.dispose](): void {
    this.put();
  }
}

/** Memory that answers when the test calls `answer`. */
export class SlowMemory implements RemoteMemory {
  readonly kind = 'remote';
  readonly bytes: Uint8Array;
  references = 1;
  readonly #waiting: { run: () => void; fail: (error: unknown) => void }[] = [];

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }

  get size(): number {
    return this.bytes.length;
  }

  get pending(): number {
    return this.#waiting.length;
  }

  read(offset: number, into: Uint8Array, _requester?: string, lands = () => true): Promise<void> {
    return this.#later(() => {
      if (lands()) into.set(this.bytes.subarray(offset, offset + into.length));
    });
  }

  write(offset: number, from: Uint8Array): Promise<void> {
    return this.#later(() => this.bytes.set(from, offset));
  }

  /** Let the oldest request through. */
  async answer(): Promise<void> {
    this.#waiting.shift()!.run();
    await new Promise(setImmediate);
  }

  async fail(error: unknown): Promise<void> {
    this.#waiting.shift()!.fail(error);
    await new Promise(setImmediate);
  }

  get(): this {
    this.references++;
    return this;
  }

  put(): void {
    this.references--;
  }

  [Symbol.dispose](): void {
    this.put();
  }

  #later(action: () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({
        run: () => {
          action();
          resolve();
        },
        fail: reject,
      });
    });
  }
}
