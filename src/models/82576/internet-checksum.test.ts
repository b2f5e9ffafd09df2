import fc from 'fast-check';
import { expect, it } from 'vitest';
import { fold, sumWords } from './internet-checksum.js';

function simple(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
    sum = (sum & 0xffff) + (sum >>> 16);
  }
  return sum;
}

it('RFC 1071: the example of section 3 has its sum', () => {
  expect(fold(sumWords(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7), 0, 8))).toBe(0xddf2);
});

it('RFC 1071: at any place of any buffer, the sum is that of its 16-bit words', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 0, maxLength: 300 }), fc.nat(9), fc.nat(9), fc.nat(20), (data, place, from, cut) => {
      const view = new Uint8Array(new ArrayBuffer(place + from + data.length + 3), place);
      view.set(data, from);
      const to = Math.max(from, from + data.length - cut);
      expect(fold(sumWords(view, from, to)) % 0xffff).toBe(simple(view.slice(from, to)) % 0xffff);
    }),
    { numRuns: 3000 },
  );
});

it('RFC 1071: 64 KiB of ones keep all carries', () => {
  const bytes = new Uint8Array(65_536).fill(0xff);
  expect(fold(sumWords(bytes, 0, bytes.length))).toBe(0xffff);
});
