/** The capture, by a reader of its own and by tshark, where that is installed. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { printed } from '../../../tests/kit/arbitrary-events.ts';
import { samples } from '../../../tests/kit/vfio-user-samples.ts';
import type { MessageEvent, VfioEvent } from '../../abi/event.ts';
import { SNAP_BYTES } from './pcapng.ts';

const head = { seq: 1, timeNs: 0, hostNs: 5_000_000_001, device: '0000:00:04.0', cause: 0 };

function message(bytes: Uint8Array, more: Partial<MessageEvent> = {}): VfioEvent {
  const details = { direction: 'to server', id: 1, command: 'REGION_READ', type: 'command', fds: 0, twin: false } as const;
  return { ...head, kind: 'message', ...details, size: bytes.length, bytes, ...more };
}

const dropped: VfioEvent = { ...head, kind: 'dropped', count: 17 };

/** Blocks of a capture: type and content. Their lengths agree at both ends. */
function blocksOf(bytes: Buffer): { readonly type: number; readonly body: Buffer }[] {
  const blocks = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at + 4);
    expect([length % 4, bytes.readUInt32LE(at + length - 4)]).toEqual([0, length]);
    blocks.push({ type: bytes.readUInt32LE(at), body: bytes.subarray(at + 8, at + length - 4) });
    at += length;
  }
  return blocks;
}

const capture = (events: readonly VfioEvent[]) => blocksOf(printed('pcapng', events));

/** Texts and numbers of the options from byte `at` of a block. */
function optionsOf(body: Buffer, at: number): [code: number, value: Buffer][] {
  const options: [number, Buffer][] = [];
  for (let code = body.readUInt16LE(at); code !== 0; code = body.readUInt16LE(at)) {
    const length = body.readUInt16LE(at + 2);
    options.push([code, body.subarray(at + 4, at + 4 + length)]);
    at += 4 + Math.ceil(length / 4) * 4;
  }
  return options;
}

it('a capture is a section, an interface for each device, and a packet for each message', () => {
  const bytes = new Uint8Array(16);
  const other = { device: '0000:00:05.0' };
  const blocks = capture([message(bytes), message(bytes, other), message(bytes), message(bytes, other)]);
  expect(blocks.map(({ type }) => type)).toEqual([0x0a0d0d0a, 1, 6, 1, 6, 6, 6]);
  expect(blocks.filter(({ type }) => type === 6).map(({ body }) => body.readUInt32LE(0))).toEqual([0, 1, 0, 1]);
  expect(blocks.filter(({ type }) => type === 1).map(({ body }) => String(optionsOf(body, 8)[0]![1]))).toEqual([
    '0000:00:04.0',
    '0000:00:05.0',
  ]);
});

it('events of other kinds are not in it', () => {
  expect(capture([{ ...head, kind: 'power', state: 'D0' }])).toHaveLength(1);
});

it('a packet has the time of the host since 1970', () => {
  const { body } = capture([message(new Uint8Array(16))])[2]!;
  expect((BigInt(body.readUInt32LE(4)) << 32n) + BigInt(body.readUInt32LE(8))).toBe(1_790_000_005_000_000_001n);
});

it('a message without its data is cut behind its structure, and says how long it was', () => {
  const bytes = new Uint8Array(32).fill(7);
  const { body } = capture([message(bytes, { size: 4096 + 32 })])[2]!;
  expect([body.readUInt32LE(12), body.readUInt32LE(16), body.subarray(20, 52).equals(bytes)]).toEqual([32, 4128, true]);
});

it('a message with its data is the bytes of the wire', () => {
  const [bytes, data] = [new Uint8Array(33).fill(7), new Uint8Array(16).fill(8)];
  const { body } = capture([message(bytes, { size: 49, data })])[2]!;
  expect([body.readUInt32LE(12), body.readUInt32LE(16)]).toEqual([49, 49]);
  expect(body.subarray(20, 69).equals(Buffer.concat([bytes, data]))).toBe(true);
});

it('keeps the beginning of a message that is longer than Wireshark takes, and says how long it was', () => {
  const data = new Uint8Array(2 ** 20);
  const { body } = capture([message(new Uint8Array(32), { size: 2 ** 20 + 32, data })])[2]!;
  expect([body.readUInt32LE(12), body.readUInt32LE(16)]).toEqual([SNAP_BYTES, 2 ** 20 + 32]);
});

it('the packet has its direction, and a comment on what is not bytes', () => {
  const { body } = capture([dropped, message(new Uint8Array(16), { direction: 'to client', twin: true, fds: 2 })])[2]!;
  expect(optionsOf(body, 36).map(([code, value]) => [code, code === 2 ? value.readUInt32LE(0) : String(value)])).toEqual([
    [2, 2],
    [1, '17 events are missing before it; twin socket; 2 descriptors'],
  ]);
});

it('events that are missing at the end are said there', () => {
  const blocks = capture([message(new Uint8Array(16)), dropped, dropped]);
  expect(blocks.map(({ type }) => type)).toEqual([0x0a0d0d0a, 1, 6, 1, 5]);
  expect(String(optionsOf(blocks.at(-1)!.body, 12)[0]![1])).toBe('34 events are missing at the end');
});

it('a program with a thousand devices and more gets a bounded number of interfaces', () => {
  const events = Array.from({ length: 3000 }, (_, i) => message(new Uint8Array(16), { device: `device ${i}` }));
  expect(capture(events).filter(({ type }) => type === 1)).toHaveLength(1025);
});

const hasTshark = spawnSync('tshark', ['--version']).status === 0;
if (!hasTshark) console.warn('SKIPPED: tshark is not installed, so captures were not read with it (apt-get install tshark)');

describe.skipIf(!hasTshark)('tshark', () => {
  it('reads interfaces, lengths, times, directions and comments', () => {
    const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
    const file = join(folder, 'x.pcapng');
    const events = samples.map(({ bytes }, i) => message(bytes, { hostNs: head.hostNs + i, size: bytes.length + 8 * (i % 2) }));
    writeFileSync(
      file,
      printed('pcapng', [...events, message(new Uint8Array(16), { device: 'unix:/x\n', direction: 'to client', fds: 1 })]),
    );
    const fields = [
      'frame.interface_name',
      'frame.cap_len',
      'frame.len',
      'frame.time_epoch',
      'frame.packet_flags_direction',
      'frame.comment',
    ];
    const { stdout, stderr, status } = spawnSync('tshark', ['-r', file, '-T', 'fields', ...fields.flatMap((each) => ['-e', each])], {
      encoding: 'utf8',
    });
    rmSync(folder, { recursive: true });
    expect(status, stderr).toBe(0);
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(samples.length + 1);
    expect(lines[1]!.split('\t').slice(0, 4)).toEqual([
      head.device,
      ...[samples[1]!.bytes.length, samples[1]!.bytes.length + 8].map(String),
      '1790000005.000000002',
    ]);
    expect(lines.at(-1)!.split('\t').slice(0, 3)).toEqual(['unix:/x\\n', '16', '16']);
    expect(lines.at(-1)).toContain('1 descriptor');
  });
});
