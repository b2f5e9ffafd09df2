import fc from 'fast-check';
import { expect, it } from 'vitest';
import { crc32c as portable } from '../base/crc32c.ts';
import { addon } from './addon.ts';
import { crc32c } from './crc32c.ts';

it('the processor’s CRC32C is that of RFC 3720, of any piece, and goes on from any other', () => {
  // Appendix B.4.
  expect(crc32c(new Uint8Array(32).fill(0xff)).toString(16)).toBe('62a8ab43');
  const bytes = fc.uint8Array({ minLength: 300, maxLength: 2000 });
  fc.assert(
    fc.property(bytes, fc.nat(20), fc.nat(20), fc.nat(0xffff_ffff), (all, from, less, before) => {
      const to = all.length - less;
      expect(crc32c(all, from, to, before)).toBe(portable(all, from, to, before));
      expect(crc32c(all)).toBe(portable(all));
    }),
  );
});

it('a piece that is not there is refused', () => {
  const sys = addon();
  const bytes = new Uint8Array(16);
  for (const [from, to] of [
    [-1, 8],
    [9, 8],
    [0, 17],
  ] as const) {
    expect(sys.crc32c(bytes, from, to, 0)).toBeLessThan(0);
  }
  expect(sys.crc32c(new Uint16Array(16) as never, 0, 8, 0)).toBeLessThan(0);
});
