import { describe, expect, it } from 'vitest';
import { TestIo } from '../../../tests/kit/nvme/test-io.ts';
import { NvmOpcode } from '../../abi/nvme.ts';
import { MemoryStorage } from '../storage/memory-storage.ts';
import type { NamespaceLimits } from './limiter.ts';

const MIB = 2 ** 20;
const READ = { opcode: NvmOpcode.READ };

function limited(limits: NamespaceLimits, blockSize: 512 | 4096 = 4096): TestIo {
  return new TestIo([{ storage: new MemoryStorage(MIB), blockSize, limits }, { storage: new MemoryStorage(MIB) }]);
}

/** Milliseconds after which each of `count` commands had ended. */
function endings(io: TestIo, count: number, stepMs: number): number[] {
  const at: number[] = [];
  for (let ms = 0; at.length < count && ms < 10_000; ms += stepMs) {
    while (at.length < io.completed.length) at.push(ms);
    io.clock.advance(stepMs);
  }
  return at;
}

describe('limits of a namespace', () => {
  it('iops: so many commands per second, after what 10 ms would have let through', () => {
    using io = limited({ iops: 100 });
    io.start(...new Array(5).fill(READ));
    expect(endings(io, 5, 1)).toEqual([0, 0, 10, 20, 30]);
    expect(io.idle).toBe(true);
  });

  it('bytesPerSecond: by what commands move; those that move nothing are free', () => {
    using io = limited({ bytesPerSecond: 4096 * 100 });
    io.start(READ, { ...READ, blocks: 4, sgl: [0, 4 * 4096, 0] }, READ, { opcode: NvmOpcode.WRITE_ZEROES, blocks: 64 }, READ);
    expect(endings(io, 5, 1)).toEqual([0, 0, 40, 50, 50]);
  });

  it('latencyMs: each command takes so long, all at the same time', () => {
    using io = limited({ latencyMs: 2 });
    io.start(READ, READ);
    io.clock.advance(1);
    io.start(READ);
    expect(io.completed).toEqual([]);
    io.clock.advance(1);
    expect(io.completed.length).toBe(2);
    io.clock.advance(1);
    expect(io.completed.length).toBe(3);
    expect(io.clock.pendingTimers).toBe(0);
  });

  it('other namespaces do not wait', () => {
    using io = limited({ iops: 1 });
    io.start(...new Array(10).fill(READ));
    const before = io.completed.length;
    expect(io.status({ ...READ, nsid: 2 })).toBe(0);
    expect(io.completed.length).toBe(before + 1);
    expect(io.commands.pending).toBe(9);
  });

  it('a timer that fires late costs no throughput', () => {
    using io = limited({ iops: 1000 });
    io.start(...new Array(111).fill(READ));
    for (let i = 0; i < 20; i++) io.clock.advance(5);
    expect(io.completed.length).toBe(111);
  });

  it('commands are checked when their turn comes, in order', () => {
    using io = limited({ iops: 1000, latencyMs: 1 });
    const ids = io.start(READ, { ...READ, lba: 1n << 40n }, { opcode: 0x99 }, READ);
    io.clock.advance(20);
    expect(io.completed.map(([id]) => id)).toEqual(ids);
  });

  it('reset forgets who waits and what was used up', () => {
    using io = limited({ iops: 1 });
    io.start(...new Array(5).fill(READ));
    io.completed.length = 0;
    io.commands.reset();
    expect(io.clock.pendingTimers).toBe(0);
    expect(io.commands.pending).toBe(0);
    io.clock.advance(10_000);
    expect(io.completed).toEqual([]);
    expect(io.status(READ)).toBe(0);
  });

  it('two runs give the same', () => {
    const run = () => {
      using io = limited({ iops: 300, bytesPerSecond: 700_000, latencyMs: 0.3 });
      io.start(...new Array(200).fill(READ));
      return endings(io, 200, 0.5);
    };
    expect(run()).toEqual(run());
  });
});
