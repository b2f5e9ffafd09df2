/** `vfio serve` with a user's code: faults that a guest provokes in it end no server. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { VfioUserDevice } from '../src/vfio-user/client.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const kit = join(import.meta.dirname, 'kit');
const PATIENCE_MS = 120_000;

it.each<[string, number, RegExp]>([
  ['DMA that it does not await', 0, /warn: 0000:\S+: careless: dma\.write, which no handler awaits,: DMA fault/],
  ['a floating rejection', 4, /error: 0000:\S+: the model careless failed in a promise that nothing awaits: Error: a floating rejection/],
  ['a timer that throws', 8, /error: 0000:\S+: the model careless failed in an error that nothing catches: Error: in a timer of Node/],
  ['a rejection without text', 12, /error: 0000:\S+: the model careless failed in a promise that nothing awaits: a value of type object/],
  ['an async function of its own', 16, /error: 0000:\S+: the model careless failed in a promise that nothing awaits: Error: in its own/],
  ['a microtask that throws', 20, /error: .*an error that nothing catches.*in a microtask/],
])('house: a served model with %s is logged with its name, and serves on', async (_, register, line) => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  try {
    const path = join(folder, 'a.sock');
    await using served = await VfioProcess.serve(join(kit, 'careless-model.ts'), path);
    using device = VfioUserDevice.connect(path, { timeoutMs: PATIENCE_MS });
    device.region(7).write16(4, 6);
    device.region(0).write32(register, 1);
    await served.says(line);
    expect(device.region(0).read32(register)).toBe(1);
    expect(await served.end('SIGTERM')).toBe(0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
