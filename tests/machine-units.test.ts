/**
 * A machine in parts, one for each unit, is the same machine: the same functions with the same
 * addresses, groups and reasons.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type MachineDocument, machineDocument } from '../src/api/machine-document.ts';
import { readMachineFile } from '../src/api/machine-file.ts';
import { importMachineOf } from '../src/api/machine-of-spec.ts';
import { withoutStandIns } from '../src/api/threads/parts.ts';
import { type PowerOnNumbers, SharedTable, THREADS_MAX } from '../src/api/threads/shared-table.ts';
import { merged } from '../src/api/threads/threads-desk.ts';
import type { Machine } from '../src/engine/machine/machine.ts';
import type { MachineOptions } from '../src/engine/machine/machine-options.ts';
import type { FunctionSpec, MachineSpec } from '../src/engine/machine/machine-spec.ts';
import { sliceOf, ties, unitsOf } from '../src/engine/machine/units.ts';
import { ProbeLog, testMachine } from './kit/machines.ts';

type Make = (spec: MachineSpec, options: Partial<MachineOptions>) => Promise<Machine>;

function numbersOf(machine: Machine): PowerOnNumbers {
  const functions = [...machine.functions.values()];
  return {
    groups: Object.fromEntries(functions.flatMap(({ bdf, group }) => (group === null ? [] : [[bdf, group.id]]))),
    vfioDevices: Object.fromEntries(functions.flatMap(({ bdf, vfioIndex }) => (vfioIndex === null ? [] : [[bdf, vfioIndex]]))),
  };
}

/** Functions and groups in a fixed order. */
const sorted = ({ functions, groups }: MachineDocument) => ({
  functions: [...functions].sort((a, b) => (a.bdf < b.bdf ? -1 : 1)),
  groups: [...groups].sort((a, b) => a.id - b.id).map(({ id, functions: of }) => ({ id, functions: [...of].sort() })),
});

/** The units of the machine, after a comparison of the whole with all parts together. */
async function compared(spec: MachineSpec, make: Make): Promise<readonly (readonly string[])[]> {
  using whole = await make(spec, {});
  const units = unitsOf(whole);
  const endpoints = [...whole.functions.values()].filter((fn) => !fn.isBridge).map(({ bdf }) => bdf);
  expect(units.flat().sort()).toEqual(endpoints.sort());
  const atPowerOn = numbersOf(whole);
  const table = new SharedTable();
  table.reserve(atPowerOn);
  const parts: Machine[] = [];
  const documents: MachineDocument[] = [];
  for (const [number, unit] of units.entries()) {
    const { spec: of, standIns } = sliceOf(spec, whole, new Set(unit));
    const isOwn = (bdf: string) => !standIns.includes(bdf);
    const part = await make(of, { numbers: table.numbers(number % THREADS_MAX, atPowerOn) });
    parts.push(part);
    documents.push(withoutStandIns(machineDocument(part), isOwn));
    expect(
      [...part.functions.values()]
        .filter((fn) => !fn.isBridge && isOwn(fn.bdf))
        .map(({ bdf }) => bdf)
        .sort(),
    ).toEqual([...unit].sort());
    const buses = (machine: Machine) =>
      new Map(
        [...machine.functions.values()].map((fn) => [fn.bdf, [fn.bus.name, fn.secondary?.name, fn.isBridge ? null : fn.requester?.bdf]]),
      );
    for (const [bdf, of] of buses(part)) expect([bdf, of]).toEqual([bdf, buses(whole).get(bdf)]);
  }
  if (parts.length > 0) expect(sorted(merged('', documents))).toEqual(sorted(machineDocument(whole)));
  for (const part of parts) part[Symbol.dispose]();
  return units;
}

const folders = ['examples/machines', 'tests/real-machines'].map((folder) => join(import.meta.dirname, '..', folder));
const files = folders.flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => join(folder, name)),
);

it.each(files)('%s is the same in parts', async (file) => {
  await compared(readMachineFile(file), (spec, options) => importMachineOf(file, spec, options));
});

/** A device that others call by a wire. */
const wired = (at: string): FunctionSpec => ({ at, model: 'wired' });
const probe = (at: string): FunctionSpec => ({ at, model: 'probe' });
const card = (at: string, more: Partial<FunctionSpec> = {}): FunctionSpec => ({ at, id: '8086:100e', classCode: 0x020000, ...more });
const hostDrivers = [{ name: 'e1000', ids: ['8086:100e'], sriov: true }];
const make: Make = async (spec, options) => testMachine(spec, options).machine;

describe('generated machines', () => {
  const leaf = fc.constantFrom<readonly FunctionSpec[]>(
    [probe('00.0')],
    [probe('00.0'), card('00.1')],
    [card('00.0', { sriov: { totalVfs: 4 }, numVfs: 2 })],
    [],
  );
  const conventional = fc.constantFrom<readonly FunctionSpec[]>(
    [card('01.0')],
    [card('01.0'), card('02.0')],
    [card('01.0'), { at: '02.0', kind: 'pci-bridge', devices: [card('01.0')] }],
  );
  const below = fc.oneof(
    leaf,
    conventional.map((devices): readonly FunctionSpec[] => [{ at: '00.0', kind: 'pcie-to-pci-bridge', devices }]),
    fc.array(fc.record({ devices: leaf, acs: fc.boolean() }), { minLength: 1, maxLength: 3 }).map((ports): readonly FunctionSpec[] => [
      {
        at: '00.0',
        kind: 'upstream-port',
        devices: ports.map(
          ({ devices, acs }, i): FunctionSpec => ({ at: `0${i}.0`, kind: 'downstream-port', devices, ...(acs ? {} : { acs: false }) }),
        ),
      },
    ]),
  );
  const top = fc.oneof(
    fc.constant<(at: string) => FunctionSpec>((at) => probe(at)),
    fc.constant<(at: string) => FunctionSpec>((at) => card(at)),
    below.map(
      (devices) =>
        (at: string): FunctionSpec => ({ at, kind: 'root-port', devices }),
    ),
  );
  const place = fc.tuple(fc.constantFrom('', '0000:60:', '0001:00:'), fc.integer({ min: 1, max: 9 }), fc.integer({ min: 0, max: 1 }));
  const machine = fc.uniqueArray(fc.tuple(place, top), { minLength: 1, maxLength: 8, selector: ([at]) => at.join(':') });

  it('are the same in parts', async () => {
    await fc.assert(
      fc.asyncProperty(machine, fc.constantFrom('linux' as const, 'strict' as const), async (tops, grouping) => {
        const used = new Set(tops.filter(([[, , fn]]) => fn === 0).map(([[root, slot]]) => `${root}${slot}`));
        const devices = tops
          .filter(([[root, slot]]) => used.has(`${root}${slot}`))
          .map(([[root, slot, fn], of]) => of(`${root}0${slot}.${fn}`));
        fc.pre(devices.length > 0);
        await compared({ grouping, devices, hostDrivers }, make);
      }),
      { numRuns: 60 },
    );
  });
});

describe('a tie', () => {
  const port = (slot: string, devices: readonly FunctionSpec[]): FunctionSpec => ({ at: slot, kind: 'root-port', devices });
  const own = { iommu: { kind: 'none' } } as const;
  /** For each row of `ties`: a machine in which only that row joins two functions. */
  const machines: readonly (readonly [row: number, spec: MachineSpec])[] = [
    [0, { ...own, devices: [probe('01.0'), card('01.1')] }],
    [1, { ...own, hostDrivers, devices: [card('02.0', { sriov: { totalVfs: 4 }, numVfs: 2 })] }],
    [
      2,
      {
        grouping: 'strict',
        devices: [
          port('01.0', [
            {
              at: '00.0',
              kind: 'upstream-port',
              devices: [
                { at: '00.0', kind: 'downstream-port', acs: false, devices: [probe('00.0')] },
                { at: '01.0', kind: 'downstream-port', acs: false, devices: [card('00.0')] },
              ],
            },
          ]),
        ],
      },
    ],
    [3, { ...own, devices: [port('01.0', [{ at: '00.0', kind: 'pcie-to-pci-bridge', devices: [card('01.0'), card('02.0')] }])] }],
    [4, { devices: [card('01.0', { interruptDisable: false }), card('05.0')] }],
    [5, { ...own, devices: [card('02.0'), card('0001:00:00.0', { requester: '00:02.0' })] }],
    [6, { ...own, devices: [wired('01.0'), wired('02.0')] }],
    [7, { params: { maxVectors: 8 }, devices: [probe('01.0'), card('02.0')] }],
  ];

  it.each(machines)('of row %i joins, and no other row does', (row, spec) => {
    const log = new ProbeLog();
    const models = { probe: log.model, wired: { ...log.model, sharesWith: 'wire lan' } };
    const { machine } = testMachine(spec, { models });
    using _machine = machine;
    const joins = ties.map(({ key }) => {
      const keys = [...machine.functions.values()]
        .filter((fn) => !fn.isBridge)
        .map((fn) => key(fn, machine))
        .filter((of) => of !== null);
      return new Set(keys).size < keys.length;
    });
    expect(joins.flatMap((does, i) => (does ? [i] : []))).toEqual([row]);
    expect(unitsOf(machine)).toHaveLength(1);
  });

  it('is none between devices behind ports of their own', () => {
    const { machine } = testMachine({ devices: [port('01.0', [probe('00.0')]), port('02.0', [card('00.0')])] });
    using _machine = machine;
    expect(unitsOf(machine)).toEqual([['0000:01:00.0'], ['0000:02:00.0']]);
  });
});
