/** Machines of 1, 100 and 1000 functions: power-on, groups, binding, and `vfio show`. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { machineDocument } from '../src/api/machine-document.ts';
import { parseMachine } from '../src/api/machine-file.ts';
import { machineLines } from '../src/cli/machine-tree.ts';
import type { Terminal } from '../src/cli/terminal.ts';
import { Machine } from '../src/engine/machine/machine.ts';
import type { FunctionSpec, MachineSpec } from '../src/engine/machine/machine-spec.ts';
import { HeapMemory } from '../src/sys/fake.ts';
import { heapGrowth } from './harness.ts';
import { vfio } from './processes.ts';
import type { Report } from './report.ts';
import { inTurns, nanoseconds } from './turns.ts';

const SIZES = [1, 100, 1000];
const ROUNDS = 5;
const PLUGS = 100;

const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
const plain = (text: string) => text;
const terminal = { paint: { dim: plain, green: plain, red: plain, cyan: plain, yellow: plain } } as unknown as Terminal;

const stub = { id: '8086:10c9', class: 'network', reset: 'flr', driver: 'vfio-pci', bars: [{ index: 0, size: 16384 }] };

/** Endpoints behind switches of eight ports, eight functions on each, as a file has them. */
function switches(count: number): object[] {
  let left = count;
  const devices = (at: (i: number) => string, most: number, make: () => object): object[] => {
    const list: object[] = [];
    for (let i = 0; i < most && left > 0; i++) list.push({ at: at(i), ...make() });
    return list;
  };
  const functions = () =>
    devices(
      (i) => `00.${i}`,
      8,
      () => {
        left--;
        return stub;
      },
    );
  const ports = () =>
    devices(
      (i) => `${hex(i, 2)}.0`,
      8,
      () => ({ kind: 'downstream-port', devices: functions() }),
    );
  const upstream = () => ({ kind: 'root-port', devices: [{ at: '00.0', kind: 'upstream-port', devices: ports() }] });
  return devices((i) => `${hex(1 + (i >> 3), 2)}.${i & 7}`, 128, upstream);
}

/** Physical functions with seven virtual ones each, 31 on a root bus. */
function cards(count: number): FunctionSpec[] {
  const bars = [{ index: 0, size: 16384, type: 'mem32' as const }];
  return Array.from({ length: Math.ceil(count / 8) }, (_, i) => ({
    at: `${hex(Math.floor(i / 31), 4)}:00:${hex(1 + (i % 31), 2)}.0`,
    id: '8086:10c9',
    driver: 'pci-pf-stub',
    vfDriver: 'vfio-pci',
    bars,
    sriov: { totalVfs: 7, bars },
    numVfs: Math.min(7, count - 1),
  }));
}

const options = { allocate: HeapMemory.allocate };

/** Every size has so many functions in all, so that the garbage of all sizes is the same. */
const TOTAL = SIZES.at(-1)!;

function costs(size: number) {
  const file = JSON.stringify({ devices: switches(size) });
  const each = <T>(make: () => T): T[] => Array.from({ length: TOTAL / size }, make);
  let specs: MachineSpec[] = [];
  const parsed = nanoseconds(() => {
    specs = each(() => parseMachine(file));
  });
  const spec = specs[0]!;
  let machines: Machine[] = [];
  const started = nanoseconds(() => {
    machines = each(() => new Machine(spec, options));
  });
  const shown = nanoseconds(() => machines.map((machine) => machineLines(machineDocument(machine), terminal)));
  const ends = [...machines[0]!.functions.values()].filter((fn) => fn.driver === 'vfio-pci').map((fn) => fn.bdf);
  const bound = nanoseconds(() => {
    for (const machine of machines) {
      for (const bdf of ends) void machine.unbind(bdf);
      for (const bdf of ends) machine.bind(bdf, 'vfio-pci');
    }
  });
  const end = () => {
    for (const machine of machines.splice(0)) machine[Symbol.dispose]();
  };
  end();
  const virtual = { devices: cards(size) };
  const enabled = nanoseconds(() => {
    machines = each(() => new Machine(virtual, options));
  });
  end();
  const { bytes } = heapGrowth(() => {
    machines = each(() => new Machine(spec, options));
  });
  end();
  const plug = { devices: [...(spec.devices as FunctionSpec[]), { at: '1f.0', kind: 'root-port' as const }] };
  using plugged = new Machine(plug, options);
  const added = nanoseconds(() => {
    for (let i = 0; i < PLUGS; i++) {
      const { bdf } = plugged.add({ at: '00.0', id: '8086:10c9', driver: 'vfio-pci' }, '0000:00:1f.0');
      void plugged.remove(bdf);
    }
  });
  return {
    parsed: parsed / TOTAL,
    started: started / TOTAL,
    enabled: enabled / TOTAL,
    shown: shown / TOTAL,
    bound: bound / TOTAL,
    added: added / PLUGS,
    bytes: bytes / TOTAL,
  };
}

/** `vfio show` as people run it: a process, most of whose time is its start. */
function show(report: Report): void {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-bench-'));
  try {
    const files = [1, 240, 1000].map((size) => {
      const path = join(folder, `${size}.yaml`);
      writeFileSync(path, JSON.stringify({ devices: switches(size) }));
      return { size, path, rounds: [] as number[] };
    });
    for (let round = 0; round < ROUNDS; round++) {
      for (const { path, rounds } of files) {
        const begun = performance.now();
        execFileSync(vfio[0]!, [...vfio.slice(1), 'show', path]);
        rounds.push((performance.now() - begun) * 1e6);
      }
    }
    report.section('vfio show, the whole command');
    for (const { size, rounds } of files.slice(1)) {
      report.row({
        name: `vfio show of ${size} functions`,
        ours: rounds,
        floor: files[0]!.rounds,
        floorName: 'of 1 function',
        shown: 'ms',
      });
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export async function machines(report: Report): Promise<void> {
  const found = inTurns(SIZES, ROUNDS, costs);
  report.sizes('Functions of a machine', SIZES.map(String));
  const time = { work: 'function', shown: 'µs' } as const;
  report.growth({ ...time, name: 'read a machine file', rounds: found.parsed });
  report.growth({ ...time, name: 'power-on, behind switches, with groups', rounds: found.started });
  report.growth({ ...time, name: 'power-on, VFs of many PFs', rounds: found.enabled });
  report.growth({ ...time, name: 'document and text of show', rounds: found.shown });
  report.growth({ ...time, name: 'unbind and bind', rounds: found.bound });
  report.growth({ ...time, name: 'plug in and out', work: 'function, below a port', rounds: found.added });
  report.growth({ work: 'function', name: 'heap and buffers', rounds: found.bytes, unit: 'bytes' });
  show(report);
}
