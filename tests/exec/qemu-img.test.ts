/** QEMU's user-level NVMe driver, unmodified, on the NVMe model. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { modelsWithImages } from '../../src/api/models-of-computer.ts';
import { machineAround, startMachine } from '../../src/api/simulation.ts';
import { folder, runOn } from './programs.ts';

const installed = spawnSync('qemu-img', ['--version']).status === 0;
if (!installed)
  console.warn('SKIPPED: there is no qemu-img (apt-get install qemu-utils), so that no program of QEMU drives the NVMe model');

it.skipIf(!installed)('qemu-img writes 32 MiB and reads them back', async () => {
  const around = machineAround(modelsWithImages.nvme({ size: '32M' }));
  const { machine, owns } = startMachine(around, {});
  using _owns = owns;
  const [given, got] = [join(folder, 'given'), join(folder, 'got')];
  const script = `
    head -c 33554432 /dev/urandom >${given} &&
    qemu-img convert -n -f raw -O raw ${given} nvme://${around.bdf}/1 &&
    qemu-img convert -f raw -O raw nvme://${around.bdf}/1 ${got} && qemu-img info nvme://${around.bdf}/1`;
  const { status, lines } = await runOn(machine, 'sh', '-c', script);
  expect(lines).toContain('virtual size: 32 MiB (33554432 bytes)');
  expect(status).toBe(0);
  expect(readFileSync(got).equals(readFileSync(given))).toBe(true);
});
