/**
 * The demo's move: a disk goes from one server to another while a driver in another process keeps
 * it busy.
 */
import { join } from 'node:path';
import type { Figures } from '../../api/migrate/figures.ts';
import { moveDevice } from '../../api/migrate/move.ts';
import { DeviceServer } from '../../api/serve.ts';
import { Cleanup } from '../../base/cleanup.ts';
import { VfioError } from '../../base/errno.ts';
import { silentLogger } from '../../base/log.ts';
import type { EventStream } from '../../events/stream.ts';
import { models } from '../../models/registry.ts';
import { formatBytes, grouped } from '../quantities.ts';
import type { Terminal } from '../terminal.ts';
import type { MovingTasks } from './moving-worker.ts';
import { startDriver } from './served-function.ts';
import { temporaryFolder } from './temporary-folder.ts';

const DISK = { size: '64M', blockSize: '4096' } as const;
/**
 * How long the disk may stand still: what a user would hardly see, and on a machine that is busy,
 * more; at last, however long it takes.
 */
const DOWNTIMES_MS = [50, 300, 5000, Number.POSITIVE_INFINITY];

export async function movingDisk({ out, paint }: Terminal, number: string, events: EventStream | null): Promise<void> {
  using undo = new Cleanup();
  const folder = undo.use(temporaryFolder('vfio-demo'));
  const [source, destination] = ['a.sock', 'b.sock'].map((name) => {
    const server = undo.use(
      new DeviceServer(models.nvme(DISK), { keepAlive: false, log: silentLogger, ...(events === null ? {} : { events }) }),
    );
    const path = join(folder.path, name);
    server.listen(path);
    return path;
  }) as [string, string];
  await using driver = await startDriver<MovingTasks>('moving', { path: source }, { more: [`unix:${destination}`], others: [destination] });
  out('');
  out(`${paint.bold(`${number}. A busy disk moves to another server, under the driver of process ${driver.pid}`)}`);
  await driver.do('begin');
  const figures = await move(source, destination);
  const { before, after, wrong, gapMs } = await driver.do('report');
  if (wrong > 0) throw new Error(`${wrong} commands ended wrong while the disk was moved`);
  out(`   before           ${grouped(before)} commands, 32 in flight all the time, reads and writes, each read checked`);
  if (figures !== null) {
    const { rounds, memoryBytes, deviceBytes, downtimeMs } = figures;
    out(
      `   moved            ${formatBytes(deviceBytes)} of disk and state, ${formatBytes(memoryBytes)} of memory, in ${rounds} ${rounds === 1 ? 'round' : 'rounds'} while it worked`,
    );
    out(
      `   downtime         ${downtimeMs.toFixed(1)} ms; its driver, which connects anew, waited ${gapMs.toFixed(0)} ms for its next completion`,
    );
  }
  out(`   after            ${grouped(after)} commands there so far: none lost, none done twice, not a byte wrong`);
}

/**
 * A disk that changes too fast for a short stop stays where it was, and is moved with a longer one.
 */
async function move(source: string, destination: string): Promise<Figures | null> {
  for (const downtimeMs of DOWNTIMES_MS) {
    try {
      return await moveDevice(source, { kind: 'server', path: destination }, { downtimeMs });
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'ETIMEDOUT' || downtimeMs === DOWNTIMES_MS.at(-1)) throw error;
    }
  }
  throw new Error('there is no time to move it in');
}
