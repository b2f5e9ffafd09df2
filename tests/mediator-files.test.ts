/** Mediators in files: from the command, and named by a machine file. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { main } from '../src/cli/main.ts';
import { importMediators, loadMachine } from '../src/doors/machine.ts';
import { VfioUserDevice } from '../src/vfio-user/client.ts';
import { openAll } from './kit/machines.ts';
import { recordingTerminal } from './kit/recording-terminal.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const kit = join(import.meta.dirname, 'kit');
const mediator = join(kit, 'narrowing-mediator.ts');
const PATIENCE_MS = 120_000;
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function machineFile(...mediators: string[]): string {
  const path = join(folder, 'machine.yaml');
  writeFileSync(path, `mediators: [${mediators.join(', ')}]\ndevices:\n  - { at: 04.0, model: edu, driver: vfio-pci }\n`);
  return path;
}

async function vfio(...argv: string[]) {
  const terminal = recordingTerminal();
  return { status: await main(argv, terminal), err: terminal.stderr.join('\n') };
}

it('S0-05 a machine file names mediators relative to itself, and its devices are opened with them', async () => {
  const directory = join(folder, 'sockets');
  await using served = await VfioProcess.serve(machineFile(relative(folder, mediator)), directory);
  using device = VfioUserDevice.connect(join(directory, '0000:00:04.0.sock'), { timeoutMs: PATIENCE_MS });
  expect([device.info.numRegions, device.region(9).info.type]).toEqual([11, { type: 7, subtype: 1 }]);
  const shown = await VfioProcess.run('show', directory, '--json');
  expect(shown.stdout).toContain('"mediator": "narrowing"');
  expect(await served.end('SIGTERM')).toBe(0);
});

it('house: a machine whose mediators were not loaded can be shown, and none of its devices can be opened without them', async () => {
  const file = machineFile(mediator);
  using machine = loadMachine(file);
  expect(() => openAll(machine, '0000:00:04.0')).toThrow(
    expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining(mediator) }),
  );
  expect((await vfio('show', file)).status).toBe(0);
  using mediated = loadMachine(file, { mediators: await importMediators([mediator]) });
  expect(openAll(mediated, '0000:00:04.0').device.info.numRegions).toBe(11);
});

it.each<[string, () => string[], RegExp]>([
  ['is not there', () => [join(folder, 'none.ts')], /ENOENT.*none\.ts/],
  [
    'is no mediator',
    () => [join(kit, 'mapped-model.ts')],
    /EINVAL.*does not declare a mediator[\s\S]*export default \{ name, open, release \}/,
  ],
  ['is given twice', () => [mediator, mediator], /EEXIST.*'narrowing'/],
])('house: serve with a mediator that %s says so', async (_, files, text) => {
  const { status, err } = await vfio(
    'serve',
    'edu',
    '--socket-path',
    join(folder, 'a.sock'),
    ...files().flatMap((file) => ['--mediator', file]),
  );
  expect(status).not.toBe(0);
  expect(err).toMatch(text);
});
