/**
 * The program that asked Linux 7.3 about tokens of virtual functions, on QEMU's igb and two of its
 * VFs: its lines here are the recorded ones (tests/kernel-answers/linux-7.3/tokens-igb.txt).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Machine } from '../../src/engine/machine/machine.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import { compiled, compiler, runOn } from './programs.ts';

const PF = '0000:01:00.0';

it.skipIf(compiler === null || process.getuid!() !== 0)('S3-11 tokens-igb.txt: same answers to names and features', async () => {
  using machine = new Machine(
    {
      name: 'guest',
      enableSriov: true,
      devices: [{ at: '05.0', kind: 'root-port', bus: 1, devices: [{ at: '00.0', model: edu({ vfs: 2 }), driver: 'vfio-pci' }] }],
    },
    { allocate: MemfdMemory.allocate },
  );
  await machine.setNumVfs(PF, 2);
  const [vf] = machine.function(PF).vfs;
  const words = [PF, vf!.bdf].flatMap((bdf) => [String(machine.function(bdf).group!.id), bdf]);
  const { lines, status } = await runOn(machine, compiled('asked-by-tokens'), ...words);
  const theirs = readFileSync(join(import.meta.dirname, '../kernel-answers/linux-7.3/tokens-igb.txt'), 'utf8');
  expect(lines).toEqual(theirs.trimEnd().split('\n'));
  expect(status).toBe(0);
});
