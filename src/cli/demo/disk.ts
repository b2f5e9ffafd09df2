/**
 * The demo's disk: an NVMe controller in TypeScript, driven by the driver in TypeScript from
 * another process.
 */
import type { Machine } from '../../engine/machine/machine.ts';
import type { PciFunction } from '../../engine/machine/pci-function.ts';
import { formatBytes, formatNanoseconds, formatRate, grouped } from '../quantities.ts';
import type { Terminal } from '../terminal.ts';
import type { DiskTasks, Figures } from './disk-worker.ts';
import { putBehindSocket, startDriver } from './served-function.ts';

export async function disk({ out, paint }: Terminal, machine: Machine, fn: PciFunction, number: string): Promise<void> {
  using socket = putBehindSocket(machine, fn);
  await using driver = await startDriver<DiskTasks>('disk', socket);
  out('');
  out(`${paint.bold(`${number}. A disk on ${fn.bdf}, and its driver: process ${driver.pid}, uid ${driver.uid}, over a socket`)}`);
  const { model, serial, version, bytes, blockSize } = await driver.do('identify');
  out(`   identify         ${model}, serial ${serial}, NVMe ${version}: ${formatBytes(bytes)} in blocks of ${blockSize}`);
  const { written, same, bytesPerSecond } = await driver.do('writeAndVerify');
  if (!same) throw new Error('the disk read back something else than was written');
  out(`   write, verify    ${formatBytes(written)} written, flushed, read back and compared: ${formatRate(bytesPerSecond)}`);
  const row = (what: string, { iops, bytesPerSecond: rate, p50, p99 }: Figures) =>
    out(
      `   ${what.padEnd(16)} ${grouped(Math.round(iops)).padStart(7)} IOPS, ${formatRate(rate).padStart(10)}, p50 ${formatNanoseconds(p50)}, p99 ${formatNanoseconds(p99)}`,
    );
  const { deep, single, large } = await driver.do('measure');
  row('4K reads, 32', deep);
  row('4K reads, 1', single);
  row('128K reads, 8', large);
}
