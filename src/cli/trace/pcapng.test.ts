import { describe, expect, it } from 'vitest';
import { samples } from '../../../tests/kit/vfio-user-samples.ts';
import { capturedPacket, captureHeader, SNAP_BYTES } from './pcapng.ts';

describe('a capture', () => {
  const capture = () => {
    const packets = samples.map(({ bytes }, i) =>
      capturedPacket(bytes, i % 2 === 0 ? 'to server' : 'to client', BigInt(i) * 1_000_000n, i === 1 ? '1 descriptor: /memfd:x' : ''),
    );
    return Buffer.concat([captureHeader('unix:/tmp/x.sock'), ...packets]);
  };

  it('is a sequence of pcapng blocks whose lengths agree at both ends', () => {
    const bytes = capture();
    const types: number[] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = bytes.readUInt32LE(at + 4);
      expect(bytes.readUInt32LE(at + length - 4)).toBe(length);
      types.push(bytes.readUInt32LE(at));
      at += length;
    }
    expect(types).toEqual([0x0a0d0d0a, 1, ...samples.map(() => 6)]);
  });

  it('keeps the beginning of a message that is longer than Wireshark takes, and says how long it was', () => {
    const packet = Buffer.from(capturedPacket(new Uint8Array(2 ** 20), 'to server', 0n));
    expect([packet.readUInt32LE(20), packet.readUInt32LE(24)]).toEqual([SNAP_BYTES, 2 ** 20]);
    expect(packet.length).toBeLessThan(SNAP_BYTES + 100);
  });
});
