/**
 * The timeline of a real run, decoded by an independent decoder and compared with the recording of
 * the same run.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { VfioEvent } from '../src/abi/event.ts';
import { JsonLinesReader } from '../src/events/printers/json-lines-reader.ts';
import { type Timeline, timelineOf } from './kit/perfetto-trace.ts';
import { dumpOf } from './kit/vcd-dump.ts';
import { VfioProcess } from './kit/vfio-process.ts';

describe('vfio nvme bench --events', () => {
  let folder = '';
  let timeline: Timeline;
  const events = new Map<number, VfioEvent>();
  const latencyOf = (seq: unknown) => (events.get(seq as number) as { readonly latencyNs?: number } | undefined)?.latencyNs;
  const file = (name: string) => readFileSync(join(folder, name));

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
    const files = ['a.pftrace', 'a.jsonl', 'a.vcd'].flatMap((name) => ['--events', join(folder, name)]);
    await using bench = new VfioProcess(['nvme', 'bench', 'sim:nvme,size=16M', '--seconds', '0.05', ...files]);
    expect(await bench.ended, bench.stderr).toBe(0);
    timeline = timelineOf(file('a.pftrace'));
    const reader = new JsonLinesReader();
    for (const event of [...reader.read(file('a.jsonl')), ...reader.end()]) events.set(event.seq, event);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('every command and wait of the recording is a slice, as long as it took, and at its time', () => {
    const slices = timeline.slices.filter(({ category, name }) => (category === 'command' || category === 'wait') && name !== 'over');
    expect(slices.length).toBeGreaterThan(20);
    expect(slices.length).toBe([...events.values()].filter(({ kind }) => kind === 'command' || kind === 'wait').length);
    for (const { args, ns, durationNs } of slices) {
      const { timeNs } = events.get(args.seq as number)!;
      expect(Math.abs(ns + durationNs! - timeNs), `end of ${args.seq}`).toBeLessThanOrEqual(1);
      expect(Math.abs(durationNs! - latencyOf(args.seq)!), `length of ${args.seq}`).toBeLessThanOrEqual(1);
    }
  });

  it('there is a track for each queue and vector, the DMA and the registers', () => {
    const device = 'machine/0000:01:00.0';
    const tracks = ['registers', 'DMA', 'admin', 'I/O 1', 'MSI-X 0', 'MSI-X 1', 'driver waits'].map((name) => `${device}/${name}`);
    expect(timeline.tracks).toEqual(expect.arrayContaining(tracks));
  });

  it('arrows lead from a doorbell to a command, its DMA, its interrupt, and the wait that this ends', () => {
    const follow = (from: string, to: string) =>
      timeline.flows.filter(([a, b]) => a.category === from && b.category === to && b.args.cause === a.args.seq).length;
    for (const [from, to] of [
      ['access', 'command'],
      ['command', 'interrupt'],
      ['interrupt', 'interrupt'],
    ] as const) {
      expect(follow(from, to), `${from} to ${to}`).toBeGreaterThan(3);
    }
    expect(timeline.flows.some(([a, b]) => a.category === 'interrupt' && b.category === 'wait')).toBe(true);
    expect(timeline.flows.some(([a, b]) => a.category === 'command' && b.category === 'dma')).toBe(true);
  });

  it('the dump of the same run has the commands of the controller', () => {
    const { changes } = dumpOf(file('a.vcd').toString());
    const ends = changes.get('_0000_01_00_0.command')!.filter(([, value]) => value === '1');
    expect(ends.length).toBeGreaterThan(3);
    expect(changes.get('_0000_01_00_0.command_name')!.map(([, name]) => name)).toContain('Read');
  });
});
