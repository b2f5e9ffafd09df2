/** Dumps, by a reader of the grammar and by GTKWave's vcd2fst, where that is installed. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { about, anyEvent, printed } from '../../../tests/kit/arbitrary-events.ts';
import { dumpOf } from '../../../tests/kit/vcd-dump.ts';
import type { EventDetails, EventKind, VfioEvent } from '../../abi/event.ts';
import { formatNamed } from './formats.ts';

const DEVICE = '0000:00:04.0';
const BEGAN = 5_000_000_000;

function event<K extends EventKind>(ns: number, kind: K, details: EventDetails<K>, device = DEVICE): VfioEvent {
  return { kind, seq: 1, timeNs: BEGAN + ns, hostNs: 0, device, cause: 0, ...details } as unknown as VfioEvent;
}

/** Changes of a signal of the first device, after its first value. */
function changes(signal: string, events: readonly VfioEvent[], device = '_0000_00_04_0') {
  const found = dumpOf(printed('vcd', events).toString()).changes.get(`${device}.${signal}`);
  expect(found, signal).toBeDefined();
  return found!;
}

const write = { op: 'write', region: 0, offset: 0x1008, size: 4, value: 5, verdict: 'device' } as const;
const running = { from: 'STOP', to: 'RUNNING' };
const msix = (step: EventDetails<'interrupt'>['step'], vector: number) => ({ irq: 'msix', step, vector }) as const;

it('an access is high for a nanosecond, and its values stay', () => {
  const events = [
    event(0, 'power', { state: 'D0' }),
    event(100, 'access', write),
    event(200, 'access', { ...write, op: 'read', value: 7n }),
  ];
  expect(changes('access', events)).toEqual([
    [0, '0'],
    [100, '1'],
    [101, '0'],
    [200, '1'],
    [201, '0'],
  ]);
  expect(changes('access_value', events)).toEqual([
    [0, '0'],
    [100, '101'],
    [200, '111'],
  ]);
  expect(changes('access_write', events)).toEqual([
    [0, '0'],
    [100, '1'],
    [200, '0'],
  ]);
});

it('a pin has its level', () => {
  const line = (ns: number, step: 'raised' | 'delivered' | 'lowered') => event(ns, 'interrupt', { irq: 'intx', vector: 0, step });
  expect(changes('intx', [line(5, 'raised'), line(10, 'delivered'), line(30, 'lowered')])).toEqual([
    [0, '1'],
    [25, '0'],
  ]);
});

it('a vector is high while it waits, masked, and else for a nanosecond', () => {
  const events = [
    event(0, 'migration', running),
    event(10, 'interrupt', msix('raised', 1)),
    event(10, 'interrupt', msix('delivered', 1)),
    event(20, 'interrupt', msix('pending', 2)),
    event(30, 'interrupt', msix('delivered', 1)),
    event(50, 'interrupt', msix('delivered', 2)),
    event(60, 'interrupt', msix('delivered', 2047)),
  ];
  expect(changes('msix', events)).toEqual([
    [0, '0'],
    [10, '10'],
    [11, '0'],
    [20, '100'],
    [30, '110'],
    [31, '100'],
    [51, '0'],
  ]);
  expect(changes('vector', events).at(-1)).toEqual([60, (2047).toString(2)]);
});

it('a message that is raised and then delivered is high once; after it had to wait, until it is delivered', () => {
  const steps = [
    event(10, 'interrupt', msix('raised', 1)),
    event(16, 'interrupt', msix('delivered', 1)),
    event(20, 'interrupt', msix('raised', 1)),
    event(22, 'interrupt', msix('pending', 1)),
    event(40, 'interrupt', msix('delivered', 1)),
    event(50, 'interrupt', msix('raised', 1)),
    event(52, 'interrupt', msix('dropped', 1)),
    event(60, 'interrupt', msix('delivered', 1)),
  ];
  expect(changes('msix', [event(0, 'migration', running), ...steps])).toEqual([
    [0, '0'],
    ...[10, 20, 22, 50, 60].flatMap((ns) => [
      [ns, '10'],
      [ns === 22 ? 41 : ns + 1, '0'],
    ]),
  ]);
});

it('DMA, commands, states and requests have their signals', () => {
  const message = {
    direction: 'to server',
    id: 1,
    command: 'DMA_MAP',
    type: 'command',
    size: 16,
    fds: 0,
    twin: false,
    bytes: new Uint8Array(),
  } as const;
  const events = [
    event(0, 'dma', { op: 'write', iova: 0xffff_ffff_ffff_f000n, size: 64, way: 'direct' }),
    event(1, 'command', { name: 'Write Zeroes', fields: {}, status: 'Invalid Field', latencyNs: 1500.4 }),
    event(2, 'power', { state: 'low power' }),
    event(3, 'enable', { busMaster: true, memory: false, io: false }),
    event(4, 'message', message),
    event(5, 'message', { ...message, id: 2 }),
    event(6, 'message', { ...message, direction: 'to client', type: 'reply' }),
  ];
  expect(changes('dma_iova', events)[0]).toEqual([0, `${'1'.repeat(52)}${'0'.repeat(12)}`]);
  expect(changes('command_name', events).at(-1)).toEqual([1, 'Write_Zeroes']);
  expect([changes('command_failed', events).at(-1), changes('command_latency_ns', events).at(-1)]).toEqual([
    [1, '1'],
    [1, (1500).toString(2)],
  ]);
  expect(changes('power', events).at(-1)).toEqual([2, 'low_power']);
  expect(changes('bus_master', events).at(-1)).toEqual([3, '1']);
  expect(changes('requests', events)).toEqual([
    [0, '0'],
    [4, '1'],
    [5, '10'],
    [6, '1'],
  ]);
});

it('devices that come later get spare signals, which say their name; still later ones are counted', () => {
  const events = Array.from({ length: 28 }, (_, i) => event(i, 'migration', running, `0000:00:${String(i).padStart(2, '0')}.0`));
  expect(changes('name', events, '_0000_00_00_0')).toEqual([[0, '0000:00:00.0']]);
  expect(changes('name', events, 'device_1')).toEqual([
    [0, 'unused'],
    [1, '0000:00:01.0'],
  ]);
  expect(dumpOf(printed('vcd', events).toString()).changes.get('other_devices_events')!.at(-1)).toEqual([27, '11']);
});

it('a device may have the name of a spare scope', () => {
  const { changes } = dumpOf(printed('vcd', [event(0, 'migration', running, 'device 1')]).toString());
  expect([changes.get('_device_1.name'), changes.get('device_1.name')]).toEqual([[[0, 'device_1']], [[0, 'unused']]]);
});

it('a device that is only powered and enabled has no signals; one that is used has its states from before', () => {
  const events = [
    event(0, 'power', { state: 'on' }, 'machine'),
    event(1, 'enable', { busMaster: true, memory: true, io: true }, '0000:00:01.0'),
    event(2, 'power', { state: 'D3hot' }),
    event(3, 'access', write),
    event(4, 'interrupt', msix('raised', 1), '0000:00:01.0'),
  ];
  expect(changes('power', events)).toEqual([[0, 'D3hot']]);
  expect([changes('name', events, 'device_1').at(-1), changes('bus_master', events, 'device_1').at(-1)]).toEqual([
    [4, '0000:00:01.0'],
    [4, '1'],
  ]);
});

it('a change at the time of an event without one stands at its time', () => {
  const posted = { direction: 'to server', id: 1, command: 'REGION_WRITE', type: 'posted', size: 16, fds: 0, twin: false } as const;
  const events = [
    event(0, 'migration', running),
    event(50, 'message', { ...posted, bytes: new Uint8Array() }),
    event(50, 'migration', { from: 'RUNNING', to: 'STOP' }),
  ];
  expect(changes('migration', events).at(-1)).toEqual([50, 'STOP']);
});

it('missing events are counted', () => {
  const { changes } = dumpOf(printed('vcd', [event(0, 'migration', running), event(5, 'dropped', { count: 3 }, 'machine')]).toString());
  expect(changes.get('missing_events')).toEqual([
    [0, '0'],
    [5, '11'],
  ]);
});

it('a dump without events has its header', () => {
  expect([...dumpOf(printed('vcd', []).toString()).changes.keys()]).toContain('device_1.access');
});

it('any events make a dump by the grammar, whose time never goes back', () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 20 }), (events) => {
      dumpOf(printed('vcd', events).toString());
    }),
  );
});

it('a dump that is cut after any piece is a dump', () => {
  const printer = formatNamed('vcd').make({ about });
  let dump = '';
  for (let i = 0; i < 20; i++) {
    dump += String(printer.event(event(i * 10, 'access', { ...write, value: i })));
    expect(dumpOf(dump).changes.get('_0000_00_04_0.access_value')!.at(-1)).toEqual([i * 10, i.toString(2)]);
  }
});

const hasGtkwave = spawnSync('vcd2fst', ['--help']).error === undefined;
if (!hasGtkwave) console.warn('SKIPPED: gtkwave is not installed, so dumps were not read with vcd2fst (apt-get install gtkwave)');

describe.skipIf(!hasGtkwave)('GTKWave', () => {
  it('reads a dump: the same signals and changes come out of its own format', () => {
    const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
    const files = { vcd: join(folder, 'x.vcd'), fst: join(folder, 'x.fst') };
    const events = [
      event(0, 'power', { state: 'D0' }),
      event(100, 'access', write),
      event(200, 'interrupt', msix('delivered', 3)),
      event(300, 'migration', running, '0000:00:05.0'),
    ];
    writeFileSync(files.vcd, printed('vcd', events));
    const [there, back] = [spawnSync('vcd2fst', [files.vcd, files.fst]), spawnSync('fst2vcd', [files.fst], { encoding: 'utf8' })];
    rmSync(folder, { recursive: true });
    expect([there.status, back.status], String(there.stderr) + back.stderr).toEqual([0, 0]);
    expect(back.stdout).toContain('module _0000_00_04_0');
    const lines = back.stdout.split('\n');
    const idOf = (signal: string, from = 0) =>
      lines
        .slice(from)
        .find((line) => line.includes(` ${signal} `))!
        .split(' ')
        .at(3)!;
    const spare = lines.findIndex((line) => line.includes('module device_1 '));
    expect(lines).toContain(`b${(5).toString(2).padStart(64, '0')} ${idOf('access_value')}`);
    expect(lines).toContain(`1${idOf('access')}`);
    expect(lines).toContain(`b${(8).toString(2).padStart(64, '0')} ${idOf('msix')}`);
    expect(lines).toContain(`s0000:00:05.0 ${idOf('name', spare)}`);
    expect(lines).toContain('#300');
  });
});
