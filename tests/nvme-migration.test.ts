/**
 * An NVMe disk moved through the engine, with a driver that sleeps until it is interrupted: a cut
 * leaves the disk unharmed.
 */
import { expect, it } from 'vitest';
import { simulate } from '../src/api/simulation.ts';
import { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { NvmeDriver } from '../src/drivers/nvme/nvme-driver.ts';
import type { DeviceFile } from '../src/engine/device/device-file.ts';
import { nvme } from '../src/models/nvme/nvme.ts';
import { MemoryStorage } from '../src/models/storage/memory-storage.ts';
import { moveBetween } from './kit/move-rig.ts';

const SIZE = 4 * 2 ** 20;
const BLOCK = 4096;

function disk(options: { serial: string; size?: number; latencyMs?: number }) {
  const { serial, size = SIZE, latencyMs } = options;
  const limits = latencyMs === undefined ? {} : { limits: { latencyMs } };
  const model = nvme({ serial, namespaces: [{ storage: new MemoryStorage(size), blockSize: BLOCK, ...limits }] });
  const { device, owns } = simulate(model, { log: { log: () => {} } });
  return { device: device as DeviceFile, owns };
}

const start = ({ device, owns }: ReturnType<typeof disk>) =>
  NvmeDriver.start(DriverDevice.attach(device, { owns }), { timeoutMs: 120_000 });

it('B.11 S0-19 a move that is cut at any byte: the disk goes on at the source, with 32 commands in flight and every interrupt', async () => {
  const source = disk({ serial: 'SOURCE', latencyMs: 0.2 });
  await using driver = await start(source);
  const ns = driver.namespace(1);
  let ended = false;
  let rounds = 0;
  const worker = async (lane: number) => {
    for (let i = 0; !ended; i++) {
      const lba = lane * 8 + (i % 8);
      const bytes = new Uint8Array(BLOCK).fill(i + lane);
      await ns.write(lba, bytes);
      expect(Buffer.compare(await ns.read(lba, 1), bytes)).toBe(0);
      rounds++;
    }
  };
  const workers = Promise.all(Array.from({ length: 32 }, (_, lane) => worker(lane)));
  let cut = 0;
  for (let breakAfter = 300; breakAfter < 600_000; breakAfter *= 3) {
    const destination = disk({ serial: 'OTHER', latencyMs: 0.2 });
    const before = rounds;
    const { sourceError, gone } = await moveBetween(source.device, destination.device, { breakAfter, downtimeMs: 60_000 });
    expect([breakAfter, gone, sourceError === null]).toEqual([breakAfter, false, false]);
    cut++;
    destination.device.close();
    destination.owns[Symbol.dispose]();
    // The disk still works.
    while (rounds < before + 64) await Promise.race([workers, new Promise((resolve) => setImmediate(resolve))]);
  }
  ended = true;
  await workers;
  expect(cut).toBeGreaterThan(5);
});

it('B.11 the disk that arrives has the blocks, the name and the counts of the one that left; one of another size takes nothing', async () => {
  const source = disk({ serial: 'SOURCE' });
  const wrong = disk({ serial: 'WRONG', size: 2 * SIZE });
  const destination = disk({ serial: 'OTHER' });
  const driver = await start(source);
  const bytes = Uint8Array.from({ length: 64 * BLOCK }, (_, i) => i * 31 + (i >>> 9));
  await driver.namespace(1).write(100, bytes);
  const { hostWriteCommands } = await driver.smart();
  const refused = await moveBetween(source.device, wrong.device, { downtimeMs: 60_000 });
  expect(refused.destinationError).toMatchObject({ code: 'EINVAL', message: expect.stringContaining(String(2 * SIZE)) });
  expect(Buffer.compare(await driver.namespace(1).read(100, 64), bytes)).toBe(0);
  const moved = await moveBetween(source.device, destination.device, { downtimeMs: 60_000 });
  expect(moved).toMatchObject({ sourceError: null, destinationError: null, gone: true });
  expect(moved.figures!.deviceBytes).toBeGreaterThan(bytes.length);
  await using there = await start(destination);
  expect(there.controller.serial).toBe('SOURCE');
  expect(Buffer.compare(await there.namespace(1).read(100, 64), bytes)).toBe(0);
  expect((await there.smart()).hostWriteCommands).toBe(hostWriteCommands);
  for (const { device, owns } of [source, wrong]) {
    device.close();
    owns[Symbol.dispose]();
  }
});
