/** After changes in any order, the folder has the files of the machine as it is. */
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { PF, sriovRig } from '../../../tests/kit/sriov-rig.ts';
import { VfioError } from '../../base/errno.ts';
import { machineLayout } from './machine-layout.ts';
import { SysfsTree } from './sysfs-tree.ts';

/** Every path below `root`, with the words that tell two of them apart. */
function onDisk(root: string): Map<string, string> {
  const found = new Map<string, string>();
  const walk = (path: string): void => {
    for (const name of readdirSync(join(root, path))) {
      const at = `${path}/${name}`;
      if (at === '/.host' || at === '/.owner') continue;
      const stat = lstatSync(join(root, at));
      if (stat.isDirectory()) {
        found.set(at, 'folder');
        walk(at);
      } else if (stat.isSymbolicLink()) found.set(at, `-> ${readlinkSync(join(root, at))}`);
      else if (stat.isCharacterDevice()) found.set(at, `node ${(stat.mode & 0o777).toString(8)}`);
      else found.set(at, `${(stat.mode & 0o777).toString(8)} ${stat.size > 4096 ? stat.size : readFileSync(join(root, at), 'latin1')}`);
    }
  };
  walk('');
  return found;
}

function wanted(machine: ReturnType<typeof sriovRig>['machine'], cpus: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const [path, entry] of machineLayout(machine, { cpus }).entries) {
    if (entry.kind === 'folder') found.set(path, 'folder');
    else if (entry.kind === 'link') found.set(path, `-> ${entry.to}`);
    else if (entry.kind === 'node') found.set(path, `node ${entry.mode.toString(8)}`);
    else {
      const { mode, size, show } = entry.attribute;
      const shown = size !== undefined ? (size > 4096 ? size : '\0'.repeat(size)) : (show?.() ?? '');
      found.set(path, `${mode.toString(8)} ${typeof shown === 'object' ? Buffer.from(shown).toString('latin1') : shown}`);
    }
  }
  return found;
}

const step = fc.oneof(
  fc.record({ kind: fc.constant('numvfs' as const), count: fc.integer({ min: 0, max: 4 }) }),
  fc.record({ kind: fc.constantFrom('unbind' as const, 'probe' as const, 'remove' as const), which: fc.nat(7) }),
  fc.record({ kind: fc.constant('bind' as const), which: fc.nat(7), driver: fc.constantFrom('vfio-pci', 'pci-stub', 'pci-pf-stub') }),
  fc.record({ kind: fc.constant('add' as const), device: fc.integer({ min: 4, max: 9 }) }),
);

it('the folder is the layout of the machine after every change', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      const { machine } = sriovRig();
      using _machine = machine;
      using tree = SysfsTree.open(machine);
      const root = dirname(dirname(dirname(tree.mounts().find(({ target }) => target === '/sys/bus/pci')!.source)));
      const cpus = readFileSync(join(root, 'sys/devices/pci0000:00/0000:00:01.0/local_cpulist'), 'latin1').trim();
      for (const each of steps) {
        const all = [...machine.functions.keys()];
        const bdf = 'which' in each ? all[each.which % all.length]! : PF;
        try {
          if ('count' in each) await machine.setNumVfs(PF, each.count);
          else if ('device' in each) machine.add({ at: `0${each.device}.0`, id: '8086:1234', driver: 'vfio-pci' });
          else if ('driver' in each) machine.bind(bdf, each.driver);
          else if (each.kind === 'unbind') await machine.unbind(bdf);
          else if (each.kind === 'probe') machine.probe(bdf);
          else await machine.remove(bdf);
        } catch (error) {
          if (!(error instanceof VfioError)) throw error;
        }
        tree.settle();
        const there = onDisk(root);
        const missing = wanted(machine, cpus);
        // Directories of the computer's devices are places to mount on.
        for (const [path, what] of there)
          if (what === 'folder' && !missing.has(path) && /\/pci0000:00\/[^/]+$/.test(path)) there.delete(path);
        expect(there).toEqual(missing);
      }
    }),
    { numRuns: 15 },
  );
});
