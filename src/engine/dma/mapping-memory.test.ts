/**
 * The memory that mappings need. The collector runs before each look, so the figures are the same
 * every time.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import { SparseMemory, testContainer, testContext, testGroup } from '../../../tests/kit/dma-rig.ts';
import { Process } from './process.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function used(): number {
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function setUp() {
  const container = testContainer(testContext(), [testGroup(1)]);
  const owner = Process.root();
  const memory = new SparseMemory(2 ** 36);
  const vaddr = owner.addressSpace.map(memory);
  const map = (k: number, size: number) => {
    const iova = 2n ** 33n + BigInt(k) * 2n * BigInt(size);
    container.mapDma({ process: owner, vaddr: vaddr + BigInt(k) * BigInt(size), iova, size: BigInt(size), flags: 3 });
  };
  // A first round, so that code and caches are there before the measurement.
  for (let k = 0; k < 5000; k++) map(k, 4096);
  container.unmapDma({ iova: 0n, size: 0n, flags: 2 });
  return { container, owner, vaddr, map };
}

describe('memory of mappings', () => {
  test('S2-49 65535 mappings take less than 200 bytes each, everything counted, and give it back', () => {
    const { container, map } = setUp();
    const before = used();
    for (let k = 0; k < 65535; k++) map(k, 4096);
    expect((used() - before) / 65535).toBeLessThan(200);
    container.unmapDma({ iova: 0n, size: 0n, flags: 2 });
    expect(used() - before).toBeLessThan(500_000);
  });

  test('S2-49 mapping 64 GiB at once takes less than 1 MiB', () => {
    const { container, owner, vaddr } = setUp();
    const before = used();
    container.mapDma({ process: owner, vaddr, iova: 2n ** 40n, size: 2n ** 36n, flags: 3 });
    expect(used() - before).toBeLessThan(2 ** 20);
    expect(owner.lockedBytes).toBe(2 ** 36);
    container.unmapDma({ iova: 0n, size: 0n, flags: 2 });
  });
});
