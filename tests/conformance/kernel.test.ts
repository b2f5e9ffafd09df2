/**
 * The conformance cases on Linux's VFIO: our client in a program of `vfio exec`, on the virtual
 * kernel, by group and by the device's own file. Guests run the same program on real kernels.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Machine } from '../../src/engine/machine/machine.ts';
import type { MachineSpec } from '../../src/engine/machine/machine-spec.ts';
import { edu } from '../../src/models/edu/edu.ts';
import { MemfdMemory } from '../../src/sys/memfd.ts';
import { runWith } from '../exec/programs.ts';
import { PF, Tenant, TOKEN, VF1 } from '../kit/sriov-rig.ts';
import { BundleFolder } from './standalone/bundle.ts';
import { type CaseResult, caseResults } from './standalone/results.ts';

const possible = spawnSync('unshare', ['--user', '--mount', 'true']).status === 0;
if (!possible) console.warn('SKIPPED: this computer gives its users no user namespaces, so no program sees /sys of a machine');

const driver = 'vfio-pci';
const alone: MachineSpec = { devices: [{ at: '04.0', model: edu(), driver }] };
const card: MachineSpec = {
  enableSriov: true,
  devices: [{ at: '01.0', kind: 'root-port', devices: [{ at: '00.0', model: edu({ vfs: 2 }), driver, numVfs: 2 }] }],
};
const subjects = [
  { name: 'Linux’s VFIO, by group', spec: alone, environment: { EDU_BDF: '0000:00:04.0', EDU_VIA: 'group' } },
  { name: 'Linux’s VFIO, by cdev and iommufd', spec: alone, environment: { EDU_BDF: '0000:00:04.0', EDU_VIA: 'cdev' } },
  {
    name: 'Linux’s VFIO, a virtual function by group',
    spec: card,
    environment: { EDU_BDF: VF1, EDU_VIA: 'group', EDU_TOKEN: TOKEN, EDU_VIRTUAL: '1' },
  },
  {
    name: 'Linux’s VFIO, a virtual function by cdev',
    spec: card,
    environment: { EDU_BDF: VF1, EDU_VIA: 'cdev', EDU_TOKEN: TOKEN, EDU_VIRTUAL: '1' },
  },
];

using folder = new BundleFolder();
const program = possible ? await folder.add(join(import.meta.dirname, 'kernel-cases.ts')) : '';

/** All cases in one process, on a machine of its own. */
async function run({ spec, environment }: (typeof subjects)[number]): Promise<CaseResult[]> {
  using machine = new Machine(spec, { allocate: MemfdMemory.allocate });
  if (spec === card) new Tenant(machine, PF).open(TOKEN).close();
  const { lines } = await runWith({ environment: { ...process.env, ...environment } }, machine, process.execPath, program);
  return caseResults(lines.join('\n'));
}

for (const subject of possible ? subjects : []) {
  const results = await run(subject);
  describe(subject.name, () => {
    it('runs every case', () => expect(results.length).toBeGreaterThan(40));
    for (const { title, outcome, why = '' } of results) {
      it(title, ({ skip }) => {
        if (outcome === 'skipped') skip(why);
        expect(outcome, why).toBe('passed');
      });
    }
  });
}
