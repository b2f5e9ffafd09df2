/**
 * `vfio show` and `vfio explain` of this computer, where this computer is a machine of `vfio exec`.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { loadMachine } from '../../src/api/machine.ts';
import { machineDocument } from '../../src/api/machine-document.ts';
import { runOn } from './programs.ts';

const possible = spawnSync('unshare', ['--user', '--mount', 'true']).status === 0;
if (!possible) console.warn('SKIPPED: this computer gives its users no user namespaces, so no program sees /sys of a machine');

const root = join(import.meta.dirname, '../..');
const vfio = `'${process.execPath}' '${join(root, 'bin/vfio.js')}'`;

it.skipIf(!possible).each(['examples/machines/desktop.yaml', 'tests/real-machines/x570.yaml'])(
  'vfio show prints the functions and groups of %s, which it reads in /sys',
  async (file) => {
    using machine = loadMachine(join(root, file));
    const { functions, groups } = machineDocument(machine);
    const { lines } = await runOn(machine, 'sh', '-c', `${vfio} show --json`);
    const shown = JSON.parse(lines.join('\n')) as ReturnType<typeof machineDocument> & { host: { differences: unknown[] } };
    expect(shown.groups.map(({ id, functions: members, viable }) => ({ id, members, viable }))).toEqual(
      groups.map(({ id, functions: members, viable }) => ({ id, members, viable })),
    );
    const facts = (all: typeof functions) => all.map(({ bdf, kind, driver, parent }) => [bdf, kind, driver, parent]).sort();
    expect(facts(shown.functions)).toEqual(facts(functions));
    expect(shown.host.differences).toEqual([]);
  },
);

it.skipIf(!possible)('the fixes that vfio explain prints make the device usable', async () => {
  using machine = loadMachine(join(root, 'examples/machines/desktop.yaml'));
  const { lines } = await runOn(
    machine,
    'sh',
    '-c',
    `vfio() { ${vfio} "$@"; }
     vfio explain 01:00.0 | sed -n 's/^  fix: vfio bind/vfio bind/p' | head -1 > $TMPDIR/fix; . $TMPDIR/fix --state $TMPDIR/state > /dev/null
     vfio explain 01:00.0 --json | grep -c '"viable": true'`,
  );
  expect(lines).toEqual(['1']);
});
