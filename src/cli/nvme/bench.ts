/** `vfio nvme bench`: load on a namespace, and the figures. */
import { VfioError } from '../../base/errno.ts';
import type { DmaBuffer } from '../../drivers/kit/dma.ts';
import type { IoQueue } from '../../drivers/nvme/io-queue.ts';
import type { NvmeNamespace } from '../../drivers/nvme/namespace.ts';
import type { NvmeDriver } from '../../drivers/nvme/nvme-driver.ts';
import { accessIn, type DeviceAccess } from '../device-access.ts';
import { formatBinary, formatNanoseconds, formatRate, grouped } from '../quantities.ts';
import type { Report } from './inspect.ts';
import type { LatencyHistogram } from './latency-histogram.ts';
import { type LoadQueue, type LoadResult, runLoad } from './load.ts';
import { openNvme } from './open-nvme.ts';
import type { Doorbells, Interrupts, Pattern } from './patterns.ts';
import { rowLines } from './rows.ts';

/** As `loadNamespace`, on a driver that is started already. */
export interface NamespaceLoadOptions {
  readonly rw: Pattern;
  /** Bytes of a command. */
  readonly blockSize: number;
  /** Commands in flight on each queue. */
  readonly depth: number;
  readonly seconds: number;
  readonly namespace: number;
  readonly signal?: AbortSignal;
}

export interface BenchOptions extends NamespaceLoadOptions {
  readonly queues: number;
  readonly interrupts: Interrupts;
  readonly doorbells: Doorbells;
}

/** All that commands in flight may hold: a limit on mistakes, not on disks. */
const MEMORY_MAX = 2 ** 30;

/** A queue of the driver's as the load generator takes it. */
export class NamespaceLoad implements LoadQueue {
  readonly #queue: IoQueue;
  readonly #ns: NvmeNamespace;
  readonly #iova: number;
  readonly #size: number;

  /** @param buffer  `size` bytes for each tag, from `offset` on */
  constructor(queue: IoQueue, ns: NvmeNamespace, buffer: DmaBuffer, offset: number, size: number) {
    this.#queue = queue;
    this.#ns = ns;
    this.#iova = Number(buffer.iova) + offset;
    this.#size = size;
  }

  set onComplete(listener: (tag: number, status: number) => void) {
    this.#queue.onComplete = listener;
  }

  read(lba: number, blocks: number, tag: number): boolean {
    return this.#queue.submitRead(this.#ns, lba, blocks, this.#iova + tag * this.#size, tag);
  }

  write(lba: number, blocks: number, tag: number): boolean {
    return this.#queue.submitWrite(this.#ns, lba, blocks, this.#iova + tag * this.#size, tag);
  }

  ring(): void {
    this.#queue.ring();
  }

  poll(): number {
    return this.#queue.poll();
  }
}

/**
 * Run the load on a namespace that is open.
 *
 * @throws VfioError EINVAL for a command size that is no whole blocks or more than the controller
 * takes; what `runLoad` throws
 */
export async function loadNamespace(driver: NvmeDriver, options: NamespaceLoadOptions): Promise<LoadResult> {
  const ns = driver.namespace(options.namespace);
  ns.checkUsable();
  const { blockSize: size, depth } = options;
  if (depth > driver.queue(0).depth) {
    throw new VfioError('EINVAL', `depth ${depth}: the queues of ${driver.dev.name} hold ${driver.queue(0).depth} commands`);
  }
  const blocksPerCommand = size / ns.blockSize;
  if (!Number.isInteger(blocksPerCommand) || blocksPerCommand < 1 || blocksPerCommand > ns.maxBlocks) {
    const most = formatBinary(ns.maxBlocks * ns.blockSize);
    throw new VfioError('EINVAL', `a command of ${size} bytes; it must be whole blocks of ${ns.blockSize} bytes, and ${most} at most`);
  }
  const queues = driver.queueCount;
  const total = queues * depth * size;
  if (total > MEMORY_MAX) {
    throw new VfioError(
      'EINVAL',
      `${queues} queues of ${depth} commands of ${formatBinary(size)} need ${formatBinary(total)}; 1 GiB is the most`,
    );
  }
  using buffer = driver.dev.dma.alloc(total);
  // No zeroes: a disk may know a short way for them.
  const words = new Uint32Array(buffer.bytes.buffer, buffer.bytes.byteOffset, total >> 2);
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i, 0x9e37_79b1);
  const loads = Array.from({ length: queues }, (_, i) => new NamespaceLoad(driver.queue(i), ns, buffer, i * depth * size, size));
  return await runLoad(loads, {
    pattern: options.rw,
    blocks: ns.blocks,
    blocksPerCommand,
    blockSize: ns.blockSize,
    depth,
    seconds: options.seconds,
    interrupts: driver.interrupts !== 'poll',
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
}

export async function bench(address: string, options: BenchOptions & DeviceAccess): Promise<Report> {
  const { interrupts, queues, depth, doorbells } = options;
  await using driver = await openNvme(address, { interrupts, queues, depth, doorbells, ...accessIn(options) });
  const result = await loadNamespace(driver, options);
  // The load ended before it had a result.
  if (result.reads + result.writes === 0) options.signal?.throwIfAborted();
  return benchReport(driver.dev.name, { ...options, queues: driver.queueCount }, result);
}

export function benchReport(address: string, options: BenchOptions, result: LoadResult): Report {
  const { rw, blockSize, depth, queues, interrupts, namespace } = options;
  const { seconds, reads, writes, iops, bytesPerSecond, latency } = result;
  const time = (percent: number) => `p${percent} ${formatNanoseconds(latency.percentile(percent))}`;
  const counts = `${grouped(reads)} reads, ${grouped(writes)} writes in ${seconds.toFixed(1)} s`;
  return {
    lines: [
      `${rw}, ${formatBinary(blockSize)}, depth ${depth}, ${queues} queue${queues === 1 ? '' : 's'}, ${interrupts}: namespace ${namespace} of ${address}`,
      ...rowLines([
        ['IOPS', grouped(Math.round(iops)), counts],
        ['bandwidth', formatRate(bytesPerSecond), ''],
        ['latency', `${[50, 95, 99, 99.9].map(time).join('   ')}   max ${formatNanoseconds(latency.max)}`, ''],
      ]),
    ],
    document: {
      address,
      namespace,
      rw,
      blockSize,
      depth,
      queues,
      interrupts,
      seconds,
      reads,
      writes,
      iops,
      bytesPerSecond,
      latencyNs: latencyDocument(latency),
    },
  };
}

export function latencyDocument(latency: LatencyHistogram): object {
  return {
    min: latency.min,
    mean: latency.mean,
    p50: latency.percentile(50),
    p95: latency.percentile(95),
    p99: latency.percentile(99),
    'p99.9': latency.percentile(99.9),
    max: latency.max,
  };
}
