/** Machines with the groups of a recorded computer. */
import { describe, expect, it } from 'vitest';
import { HeapMemory } from '../../sys/fake.ts';
import { Machine } from './machine.ts';
import type { MachineSpec } from './machine-spec.ts';

const fabric = [
  { at: '00.0', kind: 'conventional', id: '1234:0001' },
  { at: '01.0', kind: 'root-port', id: '1234:0002', bus: 1, slot: true, devices: [{ at: '00.0', id: '1234:0003' }] },
] as const satisfies MachineSpec['devices'];
const make = (spec: Partial<MachineSpec>) => new Machine({ devices: fabric, ...spec }, { allocate: HeapMemory.allocate });
const groupsOf = (machine: Machine) => [...machine.groups.values()].map((g) => [g.id, g.functions.map((fn) => fn.bdf)]);

describe('groups of a recording', () => {
  it('stand in place of those that follow from the fabric', () => {
    using machine = make({ groups: [{ id: 9, functions: ['0000:00:01.0', '01:00.0'] }] });
    expect(groupsOf(machine)).toEqual([[9, ['0000:00:01.0', '0000:01:00.0']]]);
    expect(machine.function('00:00.0').group).toBeNull();
    expect(machine.function('01:00.0').groupedBecause).toContain('the computer has it in group 9');
  });

  it('a function that is plugged in later is in the group that the fabric gives', () => {
    using machine = make({ groups: [{ id: 9, functions: ['0000:00:01.0', '01:00.0'] }] });
    machine.add({ at: '0000:00:05.0', kind: 'conventional', id: '1234:0005' });
    expect(groupsOf(machine)).toEqual([
      [9, ['0000:00:01.0', '0000:01:00.0']],
      [0, ['0000:00:05.0']],
    ]);
  });

  it.each([
    [
      'a number twice',
      [
        { id: 1, functions: ['00:00.0'] },
        { id: 1, functions: ['00:01.0'] },
      ],
      'EEXIST',
    ],
    [
      'a function twice',
      [
        { id: 1, functions: ['00:00.0'] },
        { id: 2, functions: ['00:00.0'] },
      ],
      'EEXIST',
    ],
    ['a number below 0', [{ id: -1, functions: ['00:00.0'] }], 'EINVAL'],
    ['no address', [{ id: 1, functions: ['x'] }], 'EINVAL'],
  ])('%s is refused', (_, groups, code) => {
    expect(() => make({ groups })).toThrow(expect.objectContaining({ code }));
  });
});

describe('a recorded fabric', () => {
  const odd: MachineSpec['devices'] = [
    { at: '02.3', kind: 'endpoint', id: '1234:0001' },
    { at: '03.0', kind: 'downstream-port', id: '1234:0002' },
    { at: '04.0', kind: 'root-port', id: '1234:0002', bus: 7, devices: [{ at: '05.0', id: '1234:0003' }] },
    { at: '0000:07:00.0', id: '1234:0004' },
  ];

  it('is taken as it was found', () => {
    using machine = make({ recorded: true, devices: odd.slice(0, 3) });
    expect([...machine.functions.keys()]).toEqual(['0000:00:02.3', '0000:00:03.0', '0000:00:04.0', '0000:07:05.0']);
  });

  it('a machine that is no recording refuses it', () => {
    expect(() => make({ devices: odd.slice(0, 1) })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => make({ devices: odd.slice(1, 2) })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });
});
