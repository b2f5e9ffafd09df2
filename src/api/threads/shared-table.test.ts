import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import type { Numbers } from '../../base/numbers.ts';
import { packageFile } from '../../sys/package-files.ts';
import { type PowerOnNumbers, SharedTable, THREADS_MAX } from './shared-table.ts';

const none: PowerOnNumbers = { groups: {}, vfioDevices: {} };

/** The views of `count` threads on one table. */
function views(count: number): SharedTable[] {
  const first = new SharedTable();
  return Array.from({ length: count }, (_, i) => (i === 0 ? first : new SharedTable(first.memory)));
}

describe('numbers', () => {
  it('are given out once over all threads, the lowest that is free first', () => {
    const [a, b] = views(2).map((table, thread) => table.numbers(thread, none).groups) as [Numbers, Numbers];
    expect([a.take('x'), b.take('y'), a.take('z')]).toEqual([0, 1, 2]);
    b.release(1);
    expect([a.take('y'), b.take('z')]).toEqual([1, 3]);
  });

  it.each(['groups', 'vfioDevices', 'containers'] as const)('%s are numbered apart from other kinds', (kind) => {
    const numbers = new SharedTable().numbers(0, none);
    numbers.groups.take('a');
    numbers.vfioDevices.take('a');
    numbers.containers.take('a');
    expect(numbers[kind].take('b')).toBe(1);
  });

  it('of functions at power-on are theirs alone, before and after they are there', () => {
    const [a, b] = views(2) as [SharedTable, SharedTable];
    const atPowerOn: PowerOnNumbers = { groups: { '0000:01:00.0': 0, '0000:02:00.0': 1 }, vfioDevices: { '0000:01:00.0': 0 } };
    a.reserve(atPowerOn);
    const groups = b.numbers(1, atPowerOn).groups;
    expect([groups.take('0000:02:00.0'), groups.take('0000:09:00.0')]).toEqual([1, 2]);
    groups.release(1);
    expect([groups.take('0000:0a:00.0'), groups.take('0000:02:00.0')]).toEqual([3, 1]);
    // Addresses are data: no name of an object's own is one.
    expect(groups.take('constructor')).toBe(4);
  });

  it('of a bridge belong to each thread that has a copy of it', () => {
    const [a, b] = views(2) as [SharedTable, SharedTable];
    const bridge: PowerOnNumbers = { groups: { '0000:00:01.0': 0 }, vfioDevices: {} };
    expect([a.numbers(0, bridge).groups.take('0000:00:01.0'), b.numbers(1, bridge).groups.take('0000:00:01.0')]).toEqual([0, 0]);
    a.forget(1);
    expect(b.numbers(1, none).groups.take('new')).toBe(1);
    a.forget(0);
    expect(b.numbers(1, none).groups.take('newer')).toBe(0);
  });

  it('are ENOSPC when all are given out', () => {
    const { groups } = new SharedTable().numbers(0, none);
    for (let i = 0; i < 65_536; i++) groups.take('x');
    expect(() => groups.take('0000:01:00.0')).toThrow(
      expect.objectContaining({ code: 'ENOSPC', message: expect.stringContaining('0000:01:00.0') }),
    );
  });
});

describe('the account of a user', () => {
  it('is one over all threads, and begins with the bytes that the process has locked already', () => {
    const [a, b] = views(2) as [SharedTable, SharedTable];
    const [one, two] = [a.account(0, 'pid 7', 100), b.account(1, 'pid 7', 100)];
    expect([one.add(10), two.add(5), one.bytes, a.account(0, 'pid 8', 0).bytes]).toEqual([110, 115, 115, 0]);
  });

  it('has large sums', () => {
    const account = new SharedTable().account(0, 'pid 7', 0);
    expect(account.add(2 ** 52)).toBe(2 ** 52);
    expect(account.add(-(2 ** 52))).toBe(0);
  });

  it('gives back all that a thread held when the thread ends', () => {
    const [a, b] = views(2) as [SharedTable, SharedTable];
    const [one, two] = [a.account(0, 'pid 7', 0), b.account(1, 'pid 7', 0)];
    one.add(10);
    two.add(5);
    a.forget(1);
    expect(one.bytes).toBe(10);
  });

  it('starts from new when no thread holds it', () => {
    const [a, b] = views(2) as [SharedTable, SharedTable];
    const one = a.account(0, 'pid 7', 0);
    one.add(10);
    one[Symbol.dispose]();
    expect(b.account(1, 'pid 7', 3).bytes).toBe(3);
  });

  it('has a place each for 1024 users; the next one is EUSERS until a user is gone', () => {
    const table = new SharedTable();
    const accounts = Array.from({ length: 1024 }, (_, i) => table.account(i % THREADS_MAX, `pid ${i}`, i));
    expect(() => table.account(0, 'one more', 0)).toThrow(expect.objectContaining({ code: 'EUSERS' }));
    expect(table.account(1, 'pid 700', 0).bytes).toBe(700);
    accounts[500]![Symbol.dispose]();
    expect(table.account(0, 'one more', 9).bytes).toBe(9);
    expect(accounts[501]!.bytes).toBe(501);
  });

  it('takes nothing from the next user of its place when an old thread is forgotten late', () => {
    const [a, b] = views(2) as [SharedTable, SharedTable];
    const old = b.account(1, 'pid 7', 0);
    old.add(50);
    old[Symbol.dispose]();
    const next = a.account(0, 'pid 8', 0);
    a.forget(1);
    expect(next.bytes).toBe(0);
  });
});

/** Of numbers, by threads of one test. */
const holders = new Int32Array(new SharedArrayBuffer(65_536 * 4));
const charged = new Int32Array(new SharedArrayBuffer(3 * 8));

/** A thread of tests/kit/shared-table-worker.ts. */
function startWorker(table: SharedTable, thread: number, rounds: number, threads: number): Worker {
  return new Worker(packageFile('tests/kit/shared-table-worker.ts'), {
    workerData: { memory: table.memory, holders, charged, thread, rounds, threads },
    execArgv: ['--import', packageFile('bin/typescript.js')],
  });
}

describe('threads at the same time', () => {
  it('never have one number twice, and count every byte of a user once', async () => {
    const table = new SharedTable();
    const faults = await Promise.all(
      [0, 1, 2, 3].map(async (thread) => {
        const worker = startWorker(table, thread, 15_000, 4);
        await once(worker, 'message');
        return (await once(worker, 'message'))[0] as readonly string[];
      }),
    );
    expect(faults.flat()).toEqual([]);
    expect(table.numbers(0, none).groups.take('all are free')).toBe(0);
    for (const user of ['pid 0', 'pid 1', 'pid 2']) expect(table.account(0, user, 0).bytes).toBe(0);
  });

  it('go on when one of them is ended in the middle', async () => {
    const table = new SharedTable();
    const { groups } = table.numbers(0, none);
    for (let round = 0; round < 8; round++) {
      const worker = startWorker(table, 1, Number.POSITIVE_INFINITY, 2);
      await once(worker, 'message');
      using mine = table.account(0, 'pid 1', 0);
      mine.add(3);
      await worker.terminate();
      table.forget(1);
      expect([mine.bytes, groups.take('a'), groups.take('b')]).toEqual([3, 0, 1]);
      groups.release(0);
      groups.release(1);
      mine.add(-3);
    }
  });
});
