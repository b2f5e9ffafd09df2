/** The answers of `vfio net echo`: by hand, and tshark finds their checksums right. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { FrameCapture } from '../../base/frame-capture.ts';
import { internetChecksum } from '../../base/internet-checksum.ts';
import { answer, type Station } from './answers.ts';
import { generatedFrame, numberFrame, numberOf } from './generated.ts';

const mac = new Uint8Array([2, 0, 0, 0, 0, 1]);
const peer = new Uint8Array([2, 0, 0, 0, 0, 2]);
const broadcast = new Uint8Array(6).fill(0xff);
const ip = new Uint8Array([10, 0, 0, 1]);
const station: Station = { mac, ip };
const bytesOf = (hex: string) => Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ''), 'hex'));

const arp = (to: Uint8Array, operation: number, target: string) =>
  Buffer.concat([
    to,
    peer,
    bytesOf(`0806 0001 0800 06 04 000${operation}`),
    peer,
    bytesOf('0a000002 000000000000'),
    bytesOf(target),
    Buffer.alloc(18),
  ]);

/** An ICMP echo request with 20 bytes of data. */
function ping(target: string, { vlan = '', fragment = '0000' } = {}): Uint8Array {
  const icmp = Buffer.concat([bytesOf('0800 0000 1234 0001'), Buffer.alloc(20, 0x61)]);
  icmp.writeUInt16BE(internetChecksum(icmp, 0, icmp.length), 2);
  const header = Buffer.concat([bytesOf(`4500 0030 0007 ${fragment} 40 01 0000 0a000002`), bytesOf(target)]);
  header.writeUInt16BE(internetChecksum(header, 0, 20), 10);
  return Buffer.concat([mac, peer, bytesOf(`${vlan}0800`), header, icmp]);
}

const hex = (bytes: Uint8Array, from: number, to: number) => Buffer.from(bytes.subarray(from, to)).toString('hex');

it('house: answers an ARP request for its address, and no other', () => {
  const frame = arp(broadcast, 1, '0a000001');
  expect(answer(station, frame, frame.length)).toBe('arp');
  expect(hex(frame, 0, 14)).toBe('020000000002020000000001' + '0806');
  expect(hex(frame, 20, 42)).toBe('0002' + '020000000001' + '0a000001' + '020000000002' + '0a000002');
  expect(answer(station, arp(broadcast, 1, '0a000003'), 60)).toBe('ignored');
  expect(answer(station, arp(mac, 2, '0a000001'), 60)).toBe('ignored');
});

it('house: answers a ping, also with a VLAN tag, and the checksums of the answer are right', () => {
  for (const vlan of ['', '81000064', '8100006481000065']) {
    const frame = ping('0a000001', { vlan });
    const at = 14 + vlan.length / 2;
    expect(answer(station, frame, frame.length)).toBe('ping');
    expect(hex(frame, 0, 12)).toBe('020000000002020000000001');
    expect(hex(frame, at + 12, at + 20)).toBe('0a0000010a000002');
    expect(frame[at + 20]).toBe(0);
    expect([internetChecksum(frame, at, at + 20), internetChecksum(frame, at + 20, frame.length)]).toEqual([0, 0]);
  }
});

it('house: a ping for another address, a fragment, and one to a station without an address are swapped', () => {
  for (const [frame, at] of [
    [ping('0a000009'), station],
    [ping('0a000001', { fragment: '2000' }), station],
    [ping('0a000001'), { mac, ip: null }],
  ] as const) {
    expect(answer(at, frame, frame.length)).toBe('swapped');
    expect([frame[34], internetChecksum(frame, 14, 34)]).toEqual([8, 0]);
  }
});

it('house: a datagram comes back with addresses and ports swapped, and its number', () => {
  const frame = generatedFrame(60, peer, mac);
  frame.set([0x30, 0x39], 34);
  numberFrame(frame, 0, 0xdead_beef);
  expect(numberOf(frame, 0, frame.length)).toBe(0xdead_beef);
  expect(answer(station, frame, frame.length)).toBe('swapped');
  expect(hex(frame, 0, 12)).toBe('020000000002020000000001');
  expect(hex(frame, 26, 38)).toBe('c6130001c6120001' + '0009' + '3039');
  expect(numberOf(frame, 0, frame.length)).toBe(-1);
});

it('house: frames for all, for others, of itself and of groups get no answer, and stay as they are', () => {
  for (const [to, from] of [
    [broadcast, peer],
    [bytesOf('020000000009'), peer],
    [mac, mac],
    [mac, broadcast],
  ] as const) {
    const frame = generatedFrame(60, from, to);
    const before = frame.slice();
    expect(answer(station, frame, frame.length)).toBe('ignored');
    expect(frame).toEqual(before);
  }
});

it('house: no frame makes it throw, or write beyond the frame', () => {
  const kinds = ['', '0806', '0800', '86dd', '81000064' + '0800', '81008100', '0800' + '4f', '0800' + '45000018'].map(bytesOf);
  fc.assert(
    fc.property(fc.constantFrom(...kinds), fc.uint8Array({ maxLength: 80 }), fc.nat(100), (head, rest, length) => {
      const frame = Buffer.concat([mac, peer, head, rest, Buffer.alloc(100, 0xcc)]);
      const used = Math.min(length, 12 + head.length + rest.length);
      const behind = frame.subarray(used).toString('hex');
      answer(station, frame, used);
      expect(frame.subarray(used).toString('hex')).toBe(behind);
    }),
    { numRuns: 500 },
  );
});

const hasTshark = spawnSync('tshark', ['--version']).status === 0;
if (!hasTshark) console.warn('SKIPPED: tshark is not installed, so no answer was checked with it (apt-get install tshark)');

it.skipIf(!hasTshark)('house: tshark finds answers and generated frames well-formed', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  try {
    const [reply, pong] = [arp(broadcast, 1, '0a000001'), ping('0a000001')];
    answer(station, reply, reply.length);
    answer(station, pong, pong.length);
    const capture = new FrameCapture('test', [{ name: 'x' }]);
    const frames = [reply, pong, generatedFrame(60, mac, peer), generatedFrame(1514, mac, peer)];
    writeFileSync(join(folder, 'x.pcapng'), Buffer.concat([...capture.begin(), ...frames.map((frame) => capture.frame(frame, 1n))]));
    const checks = ['-o', 'ip.check_checksum:TRUE', '-o', 'udp.check_checksum:TRUE'];
    const fields = [
      'frame.protocols',
      'arp.opcode',
      'icmp.type',
      'ip.checksum.status',
      'icmp.checksum.status',
      'udp.length',
      '_ws.malformed',
    ];
    const { stdout } = spawnSync(
      'tshark',
      ['-r', join(folder, 'x.pcapng'), ...checks, '-T', 'fields', ...fields.flatMap((each) => ['-e', each])],
      { encoding: 'utf8' },
    );
    expect(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => line.split('\t').slice(1).join(' ').trim()),
    ).toEqual(['2', '0 1 1', '1  26', '1  1480']);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
