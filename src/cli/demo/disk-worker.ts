/** The driver's half of the demo's disk: a process of its own, without privileges. */

import { createHash } from 'node:crypto';
import { loadNamespace } from '../nvme/bench.ts';
import { copyIn, copyOut, type Source } from '../nvme/copy.ts';
import { NamespaceBlocks } from '../nvme/namespace-blocks.ts';
import { openNvme } from '../nvme/open-nvme.ts';
import { doTasks } from './worker-process.ts';

export interface Figures {
  readonly iops: number;
  readonly bytesPerSecond: number;
  /** Nanoseconds. */
  readonly p50: number;
  readonly p99: number;
}

/** Requests that the worker takes. */
export interface DiskTasks {
  identify(): Promise<{ model: string; serial: string; version: string; bytes: number; blockSize: number }>;
  /** All of it: write, flush, read back, compare. */
  writeAndVerify(): Promise<{ written: number; same: boolean; bytesPerSecond: number }>;
  measure(): Promise<{ deep: Figures; single: Figures; large: Figures }>;
}

/** Commands in flight at most. */
const DEPTH = 32;

export async function main(address: string): Promise<void> {
  await using driver = await openNvme(address, { depth: DEPTH });
  const ns = driver.namespace(1);
  await doTasks<DiskTasks>({
    async identify() {
      const { model, serial } = driver.controller;
      return { model, serial, version: driver.version, bytes: ns.bytes, blockSize: ns.blockSize };
    },
    async writeAndVerify() {
      using blocks = new NamespaceBlocks(driver.dev, ns);
      const source = new Noise(ns.bytes);
      const begun = performance.now();
      await copyIn(blocks, 0, source);
      const hash = createHash('sha1');
      await copyOut(blocks, 0, ns.blocks, { write: async (bytes) => void hash.update(bytes) });
      const seconds = (performance.now() - begun) / 1000;
      return { written: ns.bytes, same: hash.digest('hex') === source.hash.digest('hex'), bytesPerSecond: (2 * ns.bytes) / seconds };
    },
    async measure() {
      const load = async (blockSize: number, depth: number): Promise<Figures> => {
        const options = { rw: 'randread', blockSize, depth, seconds: 0.5, namespace: 1 } as const;
        const { iops, bytesPerSecond, latency } = await loadNamespace(driver, options);
        return { iops, bytesPerSecond, p50: latency.percentile(50), p99: latency.percentile(99) };
      };
      return { deep: await load(4096, DEPTH), single: await load(4096, 1), large: await load(131_072, 8) };
    },
  });
}

/** Bytes that no disk can guess, and their hash. */
class Noise implements Source {
  readonly hash = createHash('sha1');
  #left: number;
  #state = 1;

  constructor(size: number) {
    this.#left = size;
  }

  async read(into: Uint8Array): Promise<number> {
    const size = Math.min(into.length, this.#left);
    const words = new Uint32Array(into.buffer, into.byteOffset, size >> 2);
    for (let i = 0; i < words.length; i++) {
      this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0;
      words[i] = this.#state;
    }
    this.hash.update(into.subarray(0, size));
    this.#left -= size;
    return size;
  }
}
