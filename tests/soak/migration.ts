/**
 * A working disk is moved back and forth between two servers: 32 commands under way, and a driver
 * that rewrites memory. Half of the moves are cut first, at a random byte. Disk and memory hold the
 * right bytes all the time, and at the end.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { typescript } from '../kit/typescript.ts';
import { VfioProcess } from '../kit/vfio-process.ts';
import type { Order, Report } from './migration-mover.ts';
import { DISK_BYTES, MovedDisk } from './moved-disk.ts';
import { Random } from './random.ts';
import type { SoakOptions } from './run.ts';

const MOVES = 200;
/** Size of all messages of a destination. */
const BACK_BYTES = 150;

/** @param moves how many; with `minutes`, as many as fit into that time */
export async function migration({ minutes, seed }: SoakOptions, moves = MOVES): Promise<string> {
  const random = new Random(seed);
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-soak-'));
  const started = performance.now();
  const end = minutes === undefined ? Number.POSITIVE_INFINITY : started + minutes * 60_000;
  const paths = [join(folder, 'a.sock'), join(folder, 'b.sock')] as const;
  const mover = spawn(process.execPath, [...typescript, join(import.meta.dirname, 'migration-mover.ts')], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const servers: VfioProcess[] = [];
  const counts = { moves: 0, cuts: 0, movedAllTheSame: 0 };
  let worstMs = 0;
  let bytes = 0;
  try {
    for (const path of paths) servers.push(await VfioProcess.serve('nvme', path, '--size', String(DISK_BYTES)));
    const disk = new MovedDisk(random);
    await disk.start(paths[0]);
    let at = 0;
    while (minutes === undefined ? counts.moves < moves : performance.now() < end) {
      const [source, destination] = [paths[at]!, paths[1 - at]!];
      const cut =
        bytes === 0 || random.once(2)
          ? null
          : random.once(4)
            ? { after: random.below(BACK_BYTES), way: 'back' as const }
            : { after: random.once(4) ? Math.max(0, bytes - random.below(40_000)) : random.below(bytes), way: 'there' as const };
      const { report, gone } = await whileItWorks(disk, mover, { source, destination, cut });
      if (gone !== report.moved)
        throw new Error(`the client was ${gone ? '' : 'not '}the server reports a move: ${JSON.stringify({ cut, report })}`);
      if (cut === null && !report.moved) throw new Error(`the move failed: ${report.error}`);
      if (cut !== null) counts.cuts++;
      if (cut !== null && report.moved) counts.movedAllTheSame++;
      if (!report.moved) continue;
      counts.moves++;
      at = 1 - at;
      bytes = report.bytes;
      worstMs = Math.max(worstMs, report.downtimeMs);
      await disk.follow(destination);
    }
    await disk.finish();
    const seconds = Math.round((performance.now() - started) / 1000);
    const { commands, pages } = disk.counts;
    return (
      `a disk moved ${counts.moves} times, cut ${counts.cuts} times (${counts.movedAllTheSame} of them after it had arrived), in ${commands} commands and ` +
      `${pages} pages rewritten, in ${seconds} s; it stood still for at most ${worstMs.toFixed(0)} ms; every byte was where it belongs`
    );
  } catch (error) {
    for (const each of servers) console.error(each.stderr.split('\n').slice(-12).join('\n'));
    throw error;
  } finally {
    mover.disconnect();
    for (const each of servers) await each[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** One move, or the attempt, with the driver at work. */
async function whileItWorks(
  disk: MovedDisk,
  mover: ChildProcess,
  order: Order,
): Promise<{ readonly report: Report; readonly gone: boolean }> {
  let report: Report | null = null;
  let gone = false;
  const told = once(mover, 'message').then(([message]) => {
    report = message as Report;
  });
  mover.send(order);
  while (report === null && !gone) {
    gone = !disk.step();
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  await told;
  // The client hears of the move last, or continues now.
  for (let i = 0; i < 20 && !gone; i++) {
    gone = !disk.step();
    await new Promise<void>((resolve) => setTimeout(resolve, 1));
  }
  return { report: report!, gone };
}
