/**
 * Real machines, and the groups that Linux makes on them: tests/real-machines/NAME.yaml and
 * NAME.groups, `number: addresses`.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readMachineFile } from '../src/api/machine-file.ts';
import { Machine } from '../src/engine/machine/machine.ts';
import type { MachineSpec } from '../src/engine/machine/machine-spec.ts';
import { HeapMemory } from '../src/sys/fake.ts';

const folder = join(import.meta.dirname, 'real-machines');
const names = readdirSync(folder)
  .filter((file) => file.endsWith('.yaml'))
  .map((file) => file.slice(0, -5));

const groupsOf = (spec: MachineSpec) => {
  using machine = new Machine(spec, { allocate: HeapMemory.allocate });
  return [...machine.groups.values()].map((g) => `${g.id}: ${g.functions.map((fn) => fn.bdf.replace(/^0000:/, '')).join(' ')}`);
};

describe('groups of real machines', () => {
  it.each(names)('S1-01 %s', (name) => {
    const expected = readFileSync(join(folder, `${name}.groups`), 'utf8').trim();
    expect(groupsOf(readMachineFile(join(folder, `${name}.yaml`)))).toEqual(expected === '' ? [] : expected.split('\n'));
  });

  it('S1-01 x570 under grouping strict: everything behind the switch is one group', () => {
    const groups = groupsOf({ ...readMachineFile(join(folder, 'x570.yaml')), grouping: 'strict' });
    expect(groups.filter((text) => text.includes('03:08.0'))[0]).toBe(
      '16: 03:02.0 03:03.0 03:04.0 03:08.0 03:09.0 03:0a.0 04:00.0 04:00.1 05:00.0 06:00.0 07:00.0 07:00.1 07:00.3 08:00.0 09:00.0',
    );
  });
});
