/** Captures of frames: written, read, and read by tshark and capinfos where those are there. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VfioError } from './errno.ts';
import { FrameCapture, type FrameDirection } from './frame-capture.ts';
import { framesOf } from './frame-file.ts';
import { block, interfaceBlock, option, PcapngBlock, packetBlock, sectionBlock } from './pcapng.ts';

const start = 1_790_000_000_123_456_789n;
const frame = (length: number, fill: number) => new Uint8Array(length).fill(fill);

function written(frames: readonly (readonly [Uint8Array, bigint, FrameDirection?, number?])[]): Uint8Array {
  const capture = new FrameCapture('vfio-ts 9.9.9', [{ name: 'first', mac: new Uint8Array([2, 0, 0, 0, 0, 1]) }, { name: 'second' }]);
  return Buffer.concat([...capture.begin(), ...frames.map((each) => capture.frame(...each))]);
}

/** A pcap file, made by hand. */
function pcap({ magic, little, link = 1 }: { magic: number; little: boolean; link?: number }, frames: readonly Uint8Array[]): Uint8Array {
  const word = (value: number) => {
    const bytes = Buffer.alloc(4);
    if (little) bytes.writeUInt32LE(value);
    else bytes.writeUInt32BE(value);
    return bytes;
  };
  const version = Buffer.from(little ? [2, 0, 4, 0] : [0, 2, 0, 4]);
  const records = frames.flatMap((each, i) => [word(100), word(i), word(each.length), word(each.length), each]);
  return Buffer.concat([word(magic), version, word(0), word(0), word(65_535), word(link), ...records]);
}

const errorOf = (bytes: Uint8Array) => {
  try {
    framesOf(bytes, 'x.pcap');
  } catch (error) {
    if (error instanceof VfioError) return [error.code, error.message];
    throw error;
  }
  return 'none';
};

it('house: frames of any length come back with their times', () => {
  const some = fc.array(fc.tuple(fc.uint8Array({ maxLength: 200 }), fc.bigInt(0n, 2n ** 63n)), { maxLength: 20 });
  fc.assert(
    fc.property(some, (frames) => {
      const read = framesOf(written(frames), 'x');
      expect(read.map(({ bytes, timeNs }) => [[...bytes], timeNs])).toEqual(frames.map(([bytes, time]) => [[...bytes], time]));
    }),
    { numRuns: 50 },
  );
});

it.each([
  ['microseconds, little-endian', 0xa1b2c3d4, true, 1000n],
  ['microseconds, big-endian', 0xa1b2c3d4, false, 1000n],
  ['nanoseconds, little-endian', 0xa1b23c4d, true, 1n],
  ['nanoseconds, big-endian', 0xa1b23c4d, false, 1n],
] as const)('house: pcap in %s', (_, magic, little, unit) => {
  const frames = framesOf(pcap({ magic, little }, [frame(60, 1), frame(1514, 2)]), 'x');
  expect(frames.map(({ bytes }) => [bytes.length, bytes[0]])).toEqual([
    [60, 1],
    [1514, 2],
  ]);
  expect(frames.map(({ timeNs }) => timeNs)).toEqual([100_000_000_000n, 100_000_000_000n + unit]);
});

it('house: pcapng with times in microseconds, of a power of two, and without any', () => {
  const ethernet = (...options: Uint8Array[]) => block(PcapngBlock.INTERFACE, [new Uint8Array([1, 0, 0, 0, 0, 0, 4, 0]), ...options]);
  const bytes = Buffer.concat([
    sectionBlock('x'),
    ethernet(),
    ethernet(option(9, new Uint8Array([0x80 | 10])), option(0, new Uint8Array(0))),
    packetBlock(0, 5_000_000n, [frame(60, 1)], 60, []),
    packetBlock(1, 2048n, [frame(61, 2)], 61, []),
    block(PcapngBlock.SIMPLE_PACKET, [new Uint8Array([62, 0, 0, 0]), frame(62, 3), new Uint8Array(2)]),
  ]);
  expect(framesOf(bytes, 'x').map(({ timeNs, bytes }) => [timeNs, bytes.length])).toEqual([
    [5_000_000_000n, 60],
    [2_000_000_000n, 61],
    [0n, 62],
  ]);
});

it('house: a frame that the capture has cut is left out', () => {
  const bytes = Buffer.concat([
    written([]),
    packetBlock(0, start, [frame(96, 1)], 1514, []),
    packetBlock(0, start, [frame(60, 2)], 60, []),
  ]);
  expect(framesOf(bytes, 'x').map(({ bytes: [first] }) => first)).toEqual([2]);
});

it('house: files that are no capture of Ethernet are refused by name', () => {
  const whole = written([[frame(60, 1), start]]);
  const cases: readonly (readonly [Uint8Array, RegExp])[] = [
    [new Uint8Array(4), /x\.pcap is no capture: it is too short/],
    [frame(100, 7), /begins like neither pcap nor pcapng/],
    [pcap({ magic: 0xa1b2c3d4, little: true, link: 101 }, []), /no Ethernet frames/],
    [pcap({ magic: 0xa1b2c3d4, little: true }, [frame(60, 1)]).subarray(0, 90), /ends within the frame at byte 24/],
    [whole.subarray(0, whole.length - 8), /ends within the block at byte/],
    [Buffer.concat([sectionBlock('x'), packetBlock(0, 0n, [frame(60, 1)], 60, [])]), /packet of interface 0, which it does not describe/],
    [Buffer.concat([sectionBlock('x'), interfaceBlock(147, 0, []), packetBlock(0, 0n, [frame(60, 1)], 60, [])]), /no Ethernet frames/],
  ];
  for (const [bytes, message] of cases) expect(errorOf(bytes)).toEqual(['EINVAL', expect.stringMatching(message)]);
});

it('house: no bytes make the reader throw anything but EINVAL, or read beyond them', () => {
  const whole = Buffer.from(
    written([
      [frame(60, 1), start, 'inbound'],
      [frame(61, 2), start, 'outbound', 1],
    ]),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 6 }), fc.nat(whole.length), (changes, length) => {
      const bytes = Buffer.from(whole);
      for (const [at, value] of changes) bytes[at] = value;
      const result = errorOf(bytes.subarray(0, length));
      expect(result === 'none' || result[0] === 'EINVAL').toBe(true);
    }),
    { numRuns: 500 },
  );
});

const missing = ['tshark', 'capinfos'].filter((program) => spawnSync(program, ['--version']).status !== 0);
if (missing.length > 0) console.warn(`SKIPPED: captures of frames were not read with ${missing} (apt-get install tshark)`);

describe.skipIf(missing.length > 0)('Wireshark', () => {
  it('house: reads names, times in nanoseconds, directions and every byte', () => {
    const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
    try {
      const file = join(folder, 'x.pcapng');
      writeFileSync(
        file,
        written([
          [frame(60, 0x22), start, 'inbound'],
          [frame(9018, 0x22), start + 1n, 'outbound', 1],
        ]),
      );
      const fields = ['frame.interface_name', 'frame.len', 'frame.time_epoch', 'frame.packet_flags_direction', 'eth.src'];
      const read = spawnSync('tshark', ['-r', file, '-T', 'fields', ...fields.flatMap((each) => ['-e', each])], { encoding: 'utf8' });
      expect(read.status, read.stderr).toBe(0);
      const [first, second] = read.stdout
        .trimEnd()
        .split('\n')
        .map((line) => line.split('\t'));
      expect([first!.slice(0, 3), Number(first![3])]).toEqual([['first', '60', '1790000000.123456789'], 1]);
      expect([second!.slice(0, 3), Number(second![3])]).toEqual([['second', '9018', '1790000000.123456790'], 2]);
      expect(first![4]).toBe('22:22:22:22:22:22');
      const about = spawnSync('capinfos', ['-M', file], { encoding: 'utf8' });
      expect(about.stdout).toMatch(/Number of packets:\s+2$/m);
      expect(about.stdout).toMatch(/Encapsulation = Ethernet/);
      expect(about.stdout).toMatch(/Time precision = nanoseconds/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
