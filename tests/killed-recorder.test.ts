/** Files of events whose writer is killed at any moment are read up to their last whole event. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as zlib from 'node:zlib';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { readEvents } from '../src/api/recorded-events.ts';
import { formats } from '../src/events/printers/formats.ts';
import { NodeChild } from './kit/node-child.ts';

const KILLS = 20;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** The whole lines; the rest is of a line that breaks off. */
function lines(bytes: Uint8Array): string[] {
  return Buffer.from(bytes).toString().split('\n').slice(0, -1);
}

/** The number of whole pieces of a file whose pieces say how long they are, and of bytes behind. */
function pieces(bytes: Buffer, sizeAt: (at: number) => number | null): { readonly whole: number; readonly rest: number } {
  let at = 0;
  for (let whole = 0; ; whole++) {
    const size = sizeAt(at);
    if (size === null || at + size > bytes.length) return { whole, rest: bytes.length - at };
    at += size;
  }
}

/** A packet of a trace: field 1, a length. @throws for any other byte */
function packetSize(bytes: Buffer, from: number): number | null {
  if (from >= bytes.length) return null;
  expect(bytes[from]).toBe(0x0a);
  let size = 0;
  for (let at = from + 1, shift = 1; at < bytes.length; at++, shift *= 128) {
    size += (bytes[at]! & 0x7f) * shift;
    if (bytes[at]! < 0x80) return at + 1 - from + size;
  }
  return null;
}

/** A block of pcapng, whose length is at both ends. @throws where the two differ */
function blockSize(bytes: Buffer, from: number): number | null {
  if (from + 8 > bytes.length) return null;
  const size = bytes.readUInt32LE(from + 4);
  if (from + size <= bytes.length) expect(bytes.readUInt32LE(from + size - 4)).toBe(size);
  return size;
}

/** The number of whole events or pieces. @throws where the file is broken before its end */
const checks: Readonly<Record<string, (bytes: Buffer) => number>> = {
  text(bytes) {
    const all = lines(bytes);
    for (const line of all) expect(line).toMatch(/^ *\d+\.\d{6} {2}\S+ {2}\S/);
    return all.length;
  },
  jsonl: (bytes) => lines(bytes).map((line) => JSON.parse(line) as object).length - 1,
  pcapng: (bytes) => pieces(bytes, (at) => blockSize(bytes, at)).whole,
  perfetto: (bytes) => pieces(bytes, (at) => packetSize(bytes, at)).whole,
  vcd(bytes) {
    const text = Buffer.from(bytes).toString();
    const [, body] = text.split('$enddefinitions $end\n');
    if (body === undefined) return 0;
    const all = body.split('\n').slice(0, -1);
    for (const line of all) expect(line).toMatch(/^(#\d+|[01xz]\S+|[bs]\S* \S+|\$.*)$/);
    return all.length;
  },
};

it('every format has a check here', () => {
  expect(Object.keys(checks).sort()).toEqual(formats.map(({ name }) => name).sort());
});

it(`${KILLS} recorders that are killed leave files that are whole up to their last event`, async () => {
  let events = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const files = formats.map(({ name, extensions }) => ({ name, path: join(folder, `${kill}.${extensions[0]}`) }));
    const packed = join(folder, `${kill}.jsonl.gz`);
    const child = new NodeChild(join(import.meta.dirname, 'kit/recorder-child.ts'), [...files.map(({ path }) => path), packed]);
    await child.line(kill % 7);
    await child.kill();
    for (const { name, path } of files) expect(checks[name]!(readFileSync(path)), path).toBeGreaterThan(0);
    // A compressed file is a few milliseconds behind.
    const unpacked = zlib.gunzipSync(readFileSync(packed), { finishFlush: zlib.constants.Z_SYNC_FLUSH });
    if (unpacked.length > 0) checks.jsonl!(unpacked);
    let seq = 0;
    for await (const event of readEvents(join(folder, `${kill}.jsonl`))) expect(event.seq).toBe(++seq);
    events += seq;
    for (const { path } of files) rmSync(path);
  }
  expect(events).toBeGreaterThan(KILLS * 100);
});
