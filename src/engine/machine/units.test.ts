/** Which functions of a machine belong together, and the machines that its parts make. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readMachineFile } from '../../api/machine-file.ts';
import { importMachineOf } from '../../api/machine-of-spec.ts';
import { HeapMemory } from '../../sys/fake.ts';
import { Machine } from './machine.ts';
import type { FunctionSpec, MachineSpec } from './machine-spec.ts';
import { sliceOf, unitsOf } from './units.ts';

const folder = join(import.meta.dirname, '../../../examples/machines');

function make(devices: readonly FunctionSpec[], more: Partial<MachineSpec> = {}): Machine {
  return new Machine({ devices, ...more }, { allocate: HeapMemory.allocate });
}

const port = (at: string, ...devices: FunctionSpec[]): FunctionSpec => ({ at, kind: 'root-port', devices });
const stub = (at: string, more: Partial<FunctionSpec> = {}): FunctionSpec => ({ at, id: '1234:0001', driver: 'vfio-pci', ...more });

describe.each(readdirSync(folder).filter((name) => name.endsWith('.yaml')))('%s', (name) => {
  it('each function is in one unit, and the parts have its groups, addresses and bus numbers', async () => {
    const file = join(folder, name);
    const spec = readMachineFile(file);
    using whole = await importMachineOf(file, spec);
    const units = unitsOf(whole);
    const functions = [...whole.functions.values()].filter((fn) => !fn.isBridge);
    expect(units.flat().sort()).toEqual(functions.map(({ bdf }) => bdf).sort());
    for (const unit of units) {
      const slice = sliceOf(spec, whole, new Set(unit));
      using part = await importMachineOf(file, slice.spec);
      const own = [...part.functions.values()].filter((fn) => !fn.isBridge && !slice.standIns.includes(fn.bdf));
      expect(own.map(({ bdf }) => bdf).sort()).toEqual([...unit].sort());
      const shown = (machine: Machine, bdf: string) => {
        const fn = machine.function(bdf);
        const group = fn.group?.functions.filter((other) => !other.isBridge).map((other) => other.bdf);
        return {
          name: fn.name,
          driver: fn.driver,
          parent: fn.parent?.bdf,
          requester: fn.requester?.bdf,
          isolation: fn.group?.isolation,
          group,
        };
      };
      for (const bdf of unit) expect(shown(part, bdf)).toEqual(shown(whole, bdf));
      const buses = (machine: Machine) =>
        [...machine.functions.values()].flatMap((fn) => (fn.isBridge ? [[fn.bdf, fn.secondary?.number]] : []));
      expect(buses(part)).toEqual(buses(whole));
    }
  });
});

describe('functions share a unit', () => {
  it.each<[string, readonly FunctionSpec[], Partial<MachineSpec>, readonly (readonly string[])[]]>([
    [
      'not with those behind another port',
      [port('01.0', stub('00.0')), port('02.0', stub('00.0'))],
      {},
      [['0000:01:00.0'], ['0000:02:00.0']],
    ],
    [
      'of one device, though the IOMMU keeps them apart',
      [stub('04.0', { acs: true }), stub('04.1', { acs: true }), stub('05.0')],
      {},
      [['0000:00:04.0', '0000:00:04.1'], ['0000:00:05.0']],
    ],
    [
      'with the virtual functions of a device',
      [port('01.0', { ...stub('00.0', { acs: true }), sriov: { totalVfs: 2 }, numVfs: 2 }), port('02.0', stub('00.0'))],
      { enableSriov: true },
      [['0000:01:00.0', '0000:01:00.1', '0000:01:00.2'], ['0000:02:00.0']],
    ],
    [
      'of one isolation group',
      [
        port('01.0', {
          at: '00.0',
          kind: 'upstream-port',
          devices: ['00.0', '01.0'].map((at): FunctionSpec => ({ at, kind: 'downstream-port', acs: false, devices: [stub('00.0')] })),
        }),
      ],
      { grouping: 'strict' },
      [['0000:03:00.0', '0000:04:00.0']],
    ],
    [
      'with a limit of vectors',
      [port('01.0', stub('00.0')), port('02.0', stub('00.0'))],
      { params: { maxVectors: 8 } },
      [['0000:01:00.0', '0000:02:00.0']],
    ],
  ])('%s', (_, devices, more, units) => {
    using machine = make(devices, more);
    expect(unitsOf(machine)).toEqual(units);
  });
});
