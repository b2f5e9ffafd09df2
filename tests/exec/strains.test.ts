/**
 * Programs that end at any moment, fork while others call, pass descriptors on and ask nonsense:
 * nothing of them stays, and the next program works.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { execOn, startOn } from '../../src/api/exec.ts';
import { machineAround, startMachine } from '../../src/api/simulation.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { openDescriptors } from '../kit/open-descriptors.ts';
import { compiled, compiler, folder } from './programs.ts';

/** So many rounds: VFIO_STRAINS times as many, for a long run by hand. */
const factor = Number(process.env.VFIO_STRAINS ?? 1);

it.skipIf(compiler === null).each([
  ['kills', 100],
  ['forks', 100],
  ['passes', 30],
  ['fuzz', 20_000],
])('%s leave nothing', async (kind, count) => {
  const around = machineAround(edu());
  const errors: string[] = [];
  const { machine, owns } = startMachine(around, { log: { log: (level, text) => void (level === 'error' && errors.push(text)) } });
  using _owns = owns;
  const group = machine.function(around.bdf).group!;
  // The first program makes what stays for later ones.
  await execOn(machine, ['true']);
  const before = openDescriptors();
  const out = join(folder, kind);
  const program = compiled('strains');
  const running = startOn(machine, ['sh', '-c', `exec ${program} ${kind} /dev/vfio/${group.id} ${count * factor} >${out}`]);
  expect(await running.status).toBe(0);
  expect(readFileSync(out, 'utf8')).toBe('done\n');
  expect({ files: running.supervisor.openFiles, group: group.file, errors }).toEqual({ files: 0, group: null, errors: [] });
  running[Symbol.dispose]();
  expect(openDescriptors()).toBe(before);
});
