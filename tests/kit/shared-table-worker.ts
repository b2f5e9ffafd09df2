/** A thread that takes numbers and accounts of a shared table, beside others that do the same. */
import { parentPort, workerData } from 'node:worker_threads';
import { SharedTable } from '../../src/api/threads/shared-table.ts';

const PAGE = 4096;
const { memory, holders, charged, thread, rounds, threads } = workerData as {
  readonly memory: SharedArrayBuffer;
  /** By number: 1 while a thread has it. */
  readonly holders: Int32Array;
  /** By user: pages that threads have charged and not given back, and how often that changed. */
  readonly charged: Int32Array;
  readonly thread: number;
  /** Of taking and giving back. */
  readonly rounds: number;
  readonly threads: number;
};
const table = new SharedTable(memory);
const { groups } = table.numbers(thread, { groups: {}, vfioDevices: {} });
const faults: string[] = [];

parentPort!.postMessage('begins');
for (let i = 0; i < rounds; i++) {
  const numbers = [groups.take('a'), groups.take('b')];
  for (const number of numbers) if (Atomics.add(holders, number, 1) !== 0) faults.push(`two threads have number ${number}`);
  // Three users for all threads: each thread has a page of one.
  using account = table.account(thread, `pid ${i % 3}`, 0);
  const after = account.add(PAGE);
  if (after < PAGE || after > threads * PAGE) faults.push(`${after} bytes of ${threads} threads`);
  const [pages, changes] = [2 * (i % 3), 2 * (i % 3) + 1];
  Atomics.add(charged, pages, 1);
  Atomics.add(charged, changes, 1);
  const version = Atomics.load(charged, changes);
  const least = Atomics.load(charged, pages) * PAGE;
  const { bytes } = account;
  if (bytes < least && Atomics.load(charged, changes) === version) faults.push(`${bytes} bytes, of which threads have charged ${least}`);
  Atomics.sub(charged, pages, 1);
  Atomics.add(charged, changes, 1);
  account.add(-PAGE);
  for (const number of numbers) {
    Atomics.sub(holders, number, 1);
    groups.release(number);
  }
}
parentPort!.postMessage(faults);
