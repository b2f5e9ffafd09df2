import fc from 'fast-check';
import { expect, it } from 'vitest';
import { testMachine } from '../../../tests/kit/machines.ts';
import type { FunctionSpec } from './machine-spec.ts';
import { partition } from './topology.ts';

const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');

/** A physical function with seven virtual ones: a device of eight functions. */
const card: Omit<FunctionSpec, 'at'> = {
  id: '8086:10c9',
  bars: [{ index: 0, size: 2 ** 14, type: 'mem32' }],
  sriov: { totalVfs: 7, bars: [{ index: 0, size: 2 ** 14, type: 'mem32' }] },
  driver: 'pci-pf-stub',
  numVfs: 7,
  vfDriver: 'vfio-pci',
};

it('a machine has 1000 functions on five root buses, each in its own group, numbered without gaps', () => {
  const devices = Array.from({ length: 125 }, (_, i) => ({ ...card, at: `${hex(Math.floor(i / 25), 4)}:00:${hex(i % 25, 2)}.0` }));
  const { machine } = testMachine({ devices });
  const functions = [...machine.functions.values()];
  const upTo = (count: number) => Array.from({ length: count }, (_, i) => i);
  expect([functions.length, [...machine.groups.keys()].sort((a, b) => a - b)]).toEqual([1000, upTo(1000)]);
  expect(functions.flatMap((fn) => fn.vfioIndex ?? []).sort((a, b) => a - b)).toEqual(upTo(875));
  const addresses = functions.map((fn) => fn.config.barAddress(0)).sort((a, b) => (a < b ? -1 : 1));
  for (const [i, address] of addresses.slice(1).entries()) expect(address - addresses[i]!).toBeGreaterThanOrEqual(2n ** 14n);
});

it('the lowest numbers are given again after functions have left', async () => {
  const { machine } = testMachine({
    devices: [
      { ...card, at: '01.0' },
      { ...card, at: '02.0' },
    ],
  });
  await machine.setNumVfs('00:01.0', 0);
  expect([machine.function('00:02.0').group!.id, machine.function('00:02.1').vfioIndex]).toEqual([1, 7]);
  await machine.setNumVfs('00:01.0', 3);
  const vf = (n: number) => machine.function(`00:01.${n}`);
  expect([1, 2, 3].map((n) => [vf(n).group!.id, vf(n).vfioIndex])).toEqual([
    [2, 0],
    [3, 1],
    [4, 2],
  ]);
});

it('property: functions that come later are in the groups that the whole fabric gives', () => {
  const port = fc.record({ acs: fc.boolean(), vfs: fc.nat(7), neighbour: fc.boolean() });
  const onRoot = fc.record({ vfs: fc.nat(7), alias: fc.boolean(), neighbour: fc.boolean() });
  const plug = fc.record({ onto: fc.constantFrom('root', 'switch', 'new port'), acs: fc.boolean() });
  const other = { id: '8086:100e' };
  fc.assert(
    fc.property(
      fc.array(port, { maxLength: 4 }),
      onRoot,
      fc.array(plug, { maxLength: 3 }),
      fc.constantFrom('linux', 'strict'),
      (ports, root, plugs, grouping) => {
        const below = ports.map(({ acs, vfs, neighbour }, i): FunctionSpec => {
          const pf: FunctionSpec = { ...card, at: '00.0', numVfs: neighbour ? 0 : vfs };
          const devices = neighbour ? [pf, { ...other, at: '00.1' }] : [pf];
          return { at: `${hex(i, 2)}.0`, kind: 'downstream-port', acs, devices };
        });
        const upstream: FunctionSpec[] = [{ at: '00.0', kind: 'upstream-port', devices: below }];
        const { machine } = testMachine({
          grouping,
          devices: [
            { at: '01.0', kind: 'root-port', devices: root.neighbour ? [...upstream, { ...other, at: '00.1' }] : upstream },
            { ...card, at: '02.0', numVfs: root.vfs },
            { ...other, at: '03.0', dmaAliases: root.alias ? ['02.2'] : [] },
          ],
        });
        const check = () => {
          const order = [...machine.functions.values()].sort((a, b) => a.address.bus - b.address.bus || a.devfn - b.devfn);
          expect([...machine.groups.values()].reduce((sum, group) => sum + group.functions.length, 0)).toBe(order.length);
          for (const { members } of partition(order, grouping)) expect(new Set(members[0]!.group!.functions)).toEqual(new Set(members));
        };
        check();
        for (const [i, { onto, acs }] of plugs.entries()) {
          const device = `${hex(16 + i, 2)}.0`;
          const endpoint = { ...other, at: '00.0' };
          try {
            if (onto === 'root') machine.add({ ...other, at: device });
            else if (onto === 'new port') machine.add({ at: device, kind: 'root-port', acs, devices: [endpoint] });
            else machine.add({ at: device, kind: 'downstream-port', acs, devices: [endpoint] }, '01:00.0');
          } catch (error) {
            expect(String(error)).toMatch(/would tie groups|no bus number is left/);
            expect(machine.functions.has(`0000:00:${device}`)).toBe(false);
          }
          check();
        }
      },
    ),
    { numRuns: 150 },
  );
});
