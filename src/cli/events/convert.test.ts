import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { recordingTerminal } from '../../../tests/kit/recording-terminal.ts';
import { writeEvents } from '../../api/event-file.ts';
import { ManualClock } from '../../base/clock.ts';
import { EventStream } from '../../events/stream.ts';
import { main } from '../main.ts';

let folder: string;
let recording: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  recording = record('run.jsonl');
});
afterEach(() => rmSync(folder, { recursive: true }));

const at = (name: string) => join(folder, name);

/**
 * At 0, 1, 2 … ms a write of `a`, each with its interrupt and a note of `b`; 6 events, of which 5
 * and 6 are not led to by a write.
 */
function record(name: string): string {
  const path = at(name);
  const clock = new ManualClock();
  const stream = new EventStream({ clock });
  const [a, b] = [stream.source('a'), stream.source('b')];
  const file = writeEvents(stream, path);
  for (let i = 0; i < 2; i++) {
    stream.cause = a.access(true, 0, 8, 4, i, 0, false);
    a.emit('dma-refused', { op: 'read', iova: 0x1000n, reason: 'not-mapped', count: 1 });
    stream.cause = 0;
    clock.advance(1);
  }
  b.note('info', 'x', 'one');
  b.note('info', 'x', 'two');
  file[Symbol.dispose]();
  return path;
}

async function vfio(...argv: string[]) {
  const terminal = recordingTerminal();
  const status = await main(['events', ...argv], terminal);
  return { status, out: terminal.stdout, err: terminal.stderr.join('\n') };
}

/** The lines of the text that the options give. */
async function textOf(...options: string[]): Promise<string[]> {
  const { status, err } = await vfio(recording, '--output', at('out.txt'), ...options);
  expect([status, err]).toEqual([0, '']);
  return readFileSync(at('out.txt'), 'utf8')
    .split('\n')
    .filter((line) => line !== '');
}

const words = (lines: readonly string[]) => lines.map((line) => line.replace(/^ *(\S+) +(\S+) +/, '$1 $2 '));

describe('vfio events', () => {
  it('converts by the name of the output, with mode 0600', async () => {
    expect(words(await textOf())).toEqual([
      '0.000000 a write32 BAR 0+0x8 ← 0x0',
      '0.000000 a DMA read at 0x1000 did not land: not-mapped (1 so far)',
      '0.001000 a write32 BAR 0+0x8 ← 0x1',
      '0.001000 a DMA read at 0x1000 did not land: not-mapped (1 so far)',
      '0.002000 b one',
      '0.002000 b two',
    ]);
    expect(statSync(at('out.txt')).mode & 0o777).toBe(0o600);
  });

  it('JSON lines come out as they went in, also compressed', async () => {
    expect((await vfio(recording, '--output', at('copy.jsonl.gz'))).status).toBe(0);
    expect(gunzipSync(readFileSync(at('copy.jsonl.gz'))).equals(readFileSync(recording))).toBe(true);
    expect((await vfio(at('copy.jsonl.gz'), '--output', at('again'), '--as', 'jsonl')).status).toBe(0);
    expect(readFileSync(at('again')).equals(readFileSync(recording))).toBe(true);
  });

  it.each<[string[], string[]]>([
    [
      ['--kinds', 'note,access'],
      ['a', 'a', 'b', 'b'],
    ],
    [
      ['--devices', 'b'],
      ['b', 'b'],
    ],
    [
      ['--devices', 'a,b', '--kinds', 'note'],
      ['b', 'b'],
    ],
    [
      ['--cause', '3'],
      ['a', 'a'],
    ],
    [['--cause', '5'], ['b']],
  ])('%s chooses', async (options, devices) => {
    expect(words(await textOf(...options)).map((line) => line.split(' ')[1])).toEqual(devices);
  });

  it.each([
    ['--devices', 'c'],
    ['--kinds', 'reset'],
    ['--cause', '99'],
  ])('%s %s chooses no event: the command says so, and names the devices', async (...options) => {
    const { status, err } = await vfio(recording, '--output', at('out.txt'), ...options);
    expect([status, err]).toEqual([0, `${recording} has no such events: its devices are a, b`]);
    expect(readFileSync(at('out.txt'), 'utf8')).toBe('');
  });

  it('says when the format has no place for any of the events', async () => {
    const { status, err } = await vfio(recording, '--output', at('out.pcapng'));
    expect([status, err]).toEqual([0, `${at('out.pcapng')} has no events: pcapng holds messages of vfio-user, for Wireshark and tshark`]);
  });

  it('--from and --to are times since the first event, as the lines have them', async () => {
    expect(words(await textOf('--from', '1ms', '--to', '1500us')).map((line) => line.slice(0, 18))).toEqual([
      '0.001000 a write32',
      '0.001000 a DMA rea',
    ]);
    expect(await vfio(recording, '--from', '2', '--to', '1')).toMatchObject({ status: 1, err: expect.stringContaining('later') });
  });

  it('--stats counts by device and kind, and DMA by its reasons', async () => {
    const { out } = await vfio(recording, '--stats');
    expect(out).toEqual([
      '6 events in 2.00 ms, none missing',
      '',
      'a',
      '  access                2',
      '  dma-refused           2  not-mapped 2',
      '',
      'b',
      '  note                  2',
    ]);
  });

  it('--as digest is equal for equal runs, whatever the host’s clock says', async () => {
    const one = await vfio(recording, '--as', 'digest');
    const two = await vfio(record('other.jsonl'), '--as', 'digest');
    expect(readFileSync(recording).equals(readFileSync(at('other.jsonl')))).toBe(false);
    expect(one.out).toEqual(two.out);
    expect(one.out.map((line) => line.replace(/^[0-9a-f]{64}/, 'HASH'))).toEqual(['HASH  all, 6 events', 'HASH  a, 4 events']);
    const fewer = await vfio(recording, '--as', 'digest', '--kinds', 'access');
    expect(fewer.out[0]).not.toBe(one.out[0]);
  });

  it('a recording that breaks off is converted, and the command says so', async () => {
    writeFileSync(at('cut.jsonl'), readFileSync(recording).subarray(0, -10));
    const { status, err } = await vfio(at('cut.jsonl'), '--output', at('out.txt'));
    expect([status, err]).toEqual([0, `${at('cut.jsonl')} breaks off in its last event, which is left out`]);
    expect(readFileSync(at('out.txt'), 'utf8').split('\n')).toHaveLength(6);
  });

  it.each(['text', 'jsonl', 'vcd'])('a recording that breaks off in its first line is an error, and makes no %s', async (format) => {
    writeFileSync(at('cut.jsonl'), '{"vfio-ev');
    const { status, err } = await vfio(at('cut.jsonl'), '--as', format, '--output', at('out'));
    expect([status, err]).toEqual([1, expect.stringContaining('cut.jsonl: it breaks off in its first line')]);
    expect(existsSync(at('out'))).toBe(false);
  });

  it('an output is not touched when the input has no events, or is the output itself', async () => {
    writeFileSync(at('foreign.jsonl'), 'hello\n');
    writeFileSync(at('out.txt'), 'mine');
    expect(await vfio(at('foreign.jsonl'), '--output', at('out.txt'))).toMatchObject({ status: 1, err: expect.stringContaining('header') });
    expect(readFileSync(at('out.txt'), 'utf8')).toBe('mine');
    const before = readFileSync(recording);
    expect(await vfio(recording, '--output', join(folder, '.', 'run.jsonl'))).toMatchObject({
      status: 1,
      err: expect.stringContaining('that is read'),
    });
    expect(readFileSync(recording).equals(before)).toBe(true);
  });

  it('wrong values are errors of usage that name the right ones', async () => {
    expect(await vfio(recording, '--kinds', 'acess')).toMatchObject({ status: 2, err: expect.stringContaining("Did you mean 'access'?") });
    expect(await vfio(recording, '--as', 'pdf')).toMatchObject({ status: 2, err: expect.stringContaining('pcapng') });
    expect(await vfio(recording, '--from', 'noon')).toMatchObject({ status: 2, err: expect.stringContaining('20ms') });
    expect(await vfio(recording, '--output', at('out.xyz'))).toMatchObject({ status: 1, err: expect.stringContaining('.jsonl') });
  });

  it('a disk that is full ends it with an error', async () => {
    expect(await vfio(recording, '--output', '/dev/full', '--as', 'text')).toMatchObject({
      status: 1,
      err: expect.stringContaining('/dev/full cannot be written: ENOSPC'),
    });
  });
});
