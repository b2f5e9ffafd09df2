import { describe, expect, test } from 'vitest';
import { SparseMemory } from '../../../tests/kit/dma-rig.ts';
import { errnoFrom } from '../../../tests/kit/errno.ts';
import { Access } from '../../abi/memory.ts';
import type { VfioError } from '../../base/errno.ts';
import { HeapMemory } from '../../sys/fake.ts';
import { readProcess } from '../../sys/process-identity.ts';
import { chargeLocked, estimateMemlock, unchargeLocked } from './locked-memory.ts';
import { Process } from './process.ts';

const MiB = 1024 * 1024;

describe('AddressSpace', () => {
  test('S2-53 read-only memory cannot be given to a device that writes', () => {
    const process = Process.user({ allocate: HeapMemory.allocate });
    const vaddr = process.addressSpace.anonymous(4096, Access.READ);
    expect(process.addressSpace.resolve(vaddr, 4096n, Access.READ)).toHaveLength(1);
    expect(errnoFrom(() => process.addressSpace.resolve(vaddr, 4096n, Access.WRITE))).toBe('EFAULT');
    expect(errnoFrom(() => process.addressSpace.resolve(vaddr, 4096n, Access.READ_WRITE))).toBe('EFAULT');
  });

  test('S2-53 PROT_NONE memory can be given to no device', () => {
    const process = Process.user({ allocate: HeapMemory.allocate });
    const vaddr = process.addressSpace.anonymous(4096, 0);
    expect(errnoFrom(() => process.addressSpace.resolve(vaddr, 4096n, Access.READ))).toBe('EFAULT');
  });

  test('S2-53 a hole, the page past the end and addresses no process has are EFAULT', () => {
    const process = Process.user({ allocate: HeapMemory.allocate });
    const vaddr = process.addressSpace.anonymous(2 * 4096);
    process.addressSpace.anonymous(4096);
    expect(errnoFrom(() => process.addressSpace.resolve(vaddr, 3n * 4096n, Access.READ))).toBe('EFAULT');
    expect(errnoFrom(() => process.addressSpace.resolve(0x10000n, 4096n, Access.READ))).toBe('EFAULT');
    expect(errnoFrom(() => process.addressSpace.resolve(0n, 2n ** 63n, Access.READ))).toBe('EFAULT');
    expect(errnoFrom(() => process.addressSpace.resolve(2n ** 64n - 4096n, 4096n, Access.READ))).toBe('EFAULT');
  });

  test('S2-53 neighbours of one memory are one segment, others are not', () => {
    using memory = HeapMemory.allocate(4 * 4096);
    using other = HeapMemory.allocate(4096);
    const space = Process.user().addressSpace;
    space.map(memory, { at: 0x10000n, offset: 0, size: 8192 });
    space.map(memory, { at: 0x12000n, offset: 8192, size: 8192 });
    space.map(other, { at: 0x14000n });
    expect(space.resolve(0x11000n, 0x4000n, Access.READ)).toEqual([
      { memory, offset: 4096, size: 3 * 4096, counted: true },
      { memory: other, offset: 0, size: 4096, counted: true },
    ]);
  });

  test('S2-51 mapping checks offset, size, address and overlap, and takes no reference when it refuses', () => {
    using memory = HeapMemory.allocate(8192);
    const space = Process.user().addressSpace;
    space.map(memory, { at: 0x10000n });
    for (const options of [
      { offset: 1 },
      { offset: -4096 },
      { offset: Number.NaN },
      { size: 0 },
      { size: 12288 },
      { size: 2 ** 53 },
      { at: 0x123n },
    ]) {
      expect(errnoFrom(() => space.map(memory, options))).toBe('EINVAL');
    }
    expect(errnoFrom(() => space.map(memory, { at: -1n }))).toBe('EINVAL');
    expect(errnoFrom(() => space.map(memory, { at: 0x11000n }))).toBe('EEXIST');
    expect(errnoFrom(() => space.map(memory, { at: 2n ** 47n - 4096n }))).toBe('ENOMEM');
    expect(errnoFrom(() => space.map(memory, { prot: 8 as Access }))).toBe('EINVAL');
    expect(memory.references).toBe(2);
    space.unmap(0x10000n);
    expect(memory.references).toBe(1);
    expect(errnoFrom(() => space.unmap(0x10000n))).toBe('EINVAL');
    expect(errnoFrom(() => space.unmap(0x10001n))).toBe('EINVAL');
  });

  test('S2-34 with pages of 64 KiB areas are whole pages of 64 KiB', () => {
    const process = Process.user({ pageSize: 65536, allocate: HeapMemory.allocate });
    const vaddr = process.addressSpace.anonymous(100);
    expect(process.addressSpace.resolve(vaddr, 65536n, Access.READ_WRITE)[0]).toMatchObject({ offset: 0, size: 65536 });
    using small = HeapMemory.allocate(4096);
    expect(errnoFrom(() => process.addressSpace.map(small))).toBe('EINVAL');
  });

  test('S2-49 anonymous memory of absurd size is refused before it is asked for', () => {
    let asked = 0;
    const allocate = (size: number) => {
      asked++;
      return new SparseMemory(size);
    };
    const space = Process.user({ allocate }).addressSpace;
    for (const size of [Number.NaN, -1, 0, 1.5, 2 ** 53]) expect(errnoFrom(() => space.anonymous(size))).toBe('EINVAL');
    expect(errnoFrom(() => space.anonymous(2 ** 48))).toBe('ENOMEM');
    expect(errnoFrom(() => Process.user().addressSpace.anonymous(4096))).toBe('ENOMEM');
    expect(asked).toBe(0);
  });
});

describe('Process', () => {
  test('S2-46 a real process can be taken as it is', () => {
    const me = new Process(readProcess());
    expect([me.pid, me.mayLockFreely]).toEqual([process.pid, readProcess().capabilities.has('CAP_IPC_LOCK')]);
    expect(me.lockedBytes).toBe(readProcess().lockedBytes);
  });

  test('S2-52 exit drops the address space and closes files, newest first, whatever they throw', () => {
    using memory = HeapMemory.allocate(4096);
    const process = Process.user();
    process.addressSpace.map(memory);
    const closed: string[] = [];
    process.onExit(() => closed.push('a'));
    process.onExit(() => {
      closed.push('b');
      throw new Error('b fails');
    });
    process.onExit(() => closed.push('c'))[Symbol.dispose]();
    process.onExit(() => closed.push('d'));
    expect(() => process.exit()).toThrow('b fails');
    expect(closed).toEqual(['d', 'b', 'a']);
    expect(memory.references).toBe(1);
    process.exit();
    expect(closed).toHaveLength(3);
    expect(errnoFrom(() => process.onExit(() => {}))).toBe('ESRCH');
    expect(errnoFrom(() => process.addressSpace.map(memory))).toBe('ESRCH');
  });
});

describe('locked memory', () => {
  test('S2-46 exactly the limit is allowed, one page more is not, and a refusal counts nothing', () => {
    const process = Process.user({ memlockLimit: 8 * 4096 });
    chargeLocked(process, 8 * 4096);
    expect(errnoFrom(() => chargeLocked(process, 4096))).toBe('ENOMEM');
    expect(process.lockedPages).toBe(8);
    process.capabilities.add('CAP_IPC_LOCK');
    chargeLocked(process, 4096);
    expect(process.lockedPages).toBe(9);
    unchargeLocked(process, 9 * 4096);
    expect(process.lockedBytes).toBe(0);
    expect(() => unchargeLocked(process, 4096)).toThrow('given back');
  });

  test('S2-46 a limit that is no multiple of the page counts whole pages; NaN limits everything', () => {
    expect(errnoFrom(() => chargeLocked(Process.user({ memlockLimit: 8191 }), 8192))).toBe('ENOMEM');
    expect(errnoFrom(() => chargeLocked(Process.user({ memlockLimit: 8191 }), 4096))).toBe('none');
    expect(errnoFrom(() => chargeLocked(Process.user({ memlockLimit: Number.NaN }), 4096))).toBe('ENOMEM');
    expect(errnoFrom(() => chargeLocked(Process.user({ memlockLimit: Number.POSITIVE_INFINITY }), 2 ** 46))).toBe('none');
  });

  test('S2-52 a process is not charged after its exit, and its charges can be given back', () => {
    const process = Process.user();
    chargeLocked(process, 4096);
    process.exit();
    expect(errnoFrom(() => chargeLocked(process, 4096))).toBe('ESRCH');
    unchargeLocked(process, 4096);
    expect(process.lockedBytes).toBe(0);
  });

  test('E-03 the refusal says what is needed, the limit, what is locked, and how to get it', () => {
    const process = Process.user({ pid: 4242, memlockLimit: 64 * 1024, lockedBytes: 48 * 1024 });
    try {
      chargeLocked(process, 32 * 1024);
      expect.unreachable();
    } catch (error) {
      const { message, fix } = error as VfioError;
      expect(message).toContain('32 KiB more');
      expect(message).toContain('80 KiB needed');
      expect(message).toContain('process 4242');
      expect(message).toContain('64 KiB');
      expect(message).toContain('48 KiB locked already');
      expect(message).toContain('no CAP_IPC_LOCK');
      expect(fix).toContain('81920 bytes');
      expect(fix).toContain('ulimit -l 80');
    }
  });

  test('E-03 the estimate is what a process then needs exactly', () => {
    const sizes = [3 * MiB, 4096, 5000];
    const needed = estimateMemlock({ mappings: sizes });
    expect(needed).toBe(BigInt(3 * MiB + 4096 + 8192));
    const enough = Process.user({ memlockLimit: Number(needed) });
    for (const size of sizes) chargeLocked(enough, Math.ceil(size / 4096) * 4096);
    expect(errnoFrom(() => chargeLocked(enough, 4096))).toBe('ENOMEM');
    expect(estimateMemlock({ mappings: [1n << 40n], containers: 2, alreadyLocked: 4096 })).toBe((1n << 41n) + 4096n);
    expect(estimateMemlock({ mappings: [1], pageSize: 65536 })).toBe(65536n);
    for (const mappings of [[Number.NaN], [-1], [-1n], [1.5]]) expect(errnoFrom(() => estimateMemlock({ mappings }))).toBe('EINVAL');
    expect(errnoFrom(() => estimateMemlock({ mappings: [], containers: -1 }))).toBe('EINVAL');
  });
});
