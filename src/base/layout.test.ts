import { expect, it } from 'vitest';
import { arrayOf, byteArray, cString, layout, text, u8, u16, u32, u64, u128 } from './layout.ts';

const Sample = layout('sample', 80, {
  a: u8(0),
  temperature: u16(1),
  b: u32(4),
  c: u64(8),
  d: u128(16),
  model: text(32, 8),
  nqn: cString(40, 8),
  guid: byteArray(48, 4),
  lbaf: arrayOf(56, 3, u32),
});

it('layout: decode gives the values that encode wrote, also where fields are not aligned', () => {
  const view = new DataView(new ArrayBuffer(88));
  const values = {
    a: 0xff,
    temperature: 0x1234,
    b: 0xffff_ffff,
    c: 2n ** 64n - 1n,
    d: 2n ** 127n + 5n,
    model: 'model',
    nqn: 'nqn:a',
    guid: Uint8Array.of(1, 2, 3, 4),
    lbaf: [1, 2, 0xffff_ffff],
  };
  Sample.encode(view, values, 8);
  expect(Sample.decode(view, 8)).toEqual(values);
  expect(Sample.temperature.get(view, 8)).toBe(0x1234);
  expect(view.getUint8(9)).toBe(0x34);
  expect(view.getUint32(0)).toBe(0);
});

it('layout: encode leaves all other bytes as they were', () => {
  const view = new DataView(new ArrayBuffer(80));
  new Uint8Array(view.buffer).fill(0xee);
  Sample.encode(view, { b: 0 });
  expect([3, 4, 7, 8].map((i) => view.getUint8(i))).toEqual([0xee, 0, 0, 0xee]);
});

it('layout: text is padded with spaces, a string ends with NUL, and both replace unprintable characters', () => {
  const view = new DataView(new ArrayBuffer(80));
  Sample.model.set(view, 'a\nbcdefghij');
  expect(Sample.model.get(view)).toBe('a?bcdefg');
  Sample.model.set(view, 'a');
  expect(view.getUint8(33)).toBe(0x20);
  Sample.nqn.set(view, '123456789');
  expect(Sample.nqn.get(view)).toBe('1234567');
  expect(view.getUint8(47)).toBe(0);
});

it('layout: a field that overlaps another or passes the end is an error at load', () => {
  expect(() => layout('x', 8, { a: u32(0), b: u16(2) })).toThrow('x.b');
  expect(() => layout('x', 8, { a: u64(1) })).toThrow('x.a');
});
