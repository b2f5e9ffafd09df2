import fc from 'fast-check';
import { expect, it } from 'vitest';
import { VfioError } from '../../base/errno.ts';
import { decodePlain, encodePlain } from './plain-data.ts';

const plain = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.constantFrom(undefined, null, true, false),
    fc.double(),
    fc.bigInt(),
    fc.string(),
    fc.uint8Array(),
    fc.uint32Array(),
    fc.float64Array(),
    fc.bigInt64Array(),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(
      fc.string().filter((key) => key !== '__proto__'),
      tie('value'),
      { maxKeys: 4, noNullPrototype: true },
    ),
  ),
})).value;

it('what was encoded comes back the same', () => {
  fc.assert(fc.property(plain, (value) => void expect(decodePlain(encodePlain(value))).toStrictEqual(value)));
});

it('of any size', () => {
  for (let size = 0; size < 600; size++) {
    const value = [new Uint8Array(size).fill(3), null, 'x'.repeat(size), 5n, size, { a: true }];
    expect(decodePlain(encodePlain(value))).toStrictEqual(value);
  }
});

it('bytes that are something else are EINVAL, whatever they are', () => {
  const refused = (bytes: Uint8Array) => {
    try {
      decodePlain(bytes);
    } catch (error) {
      if (!(error instanceof VfioError) || error.code !== 'EINVAL') throw error;
      return true;
    }
    return false;
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => void refused(bytes)));
  fc.assert(
    fc.property(plain, fc.nat(), (value, cut) => {
      const bytes = encodePlain(value);
      expect(refused(bytes.subarray(0, cut % bytes.length))).toBe(true);
    }),
  );
  // Lengths of 4 GiB with nothing behind them.
  for (const tag of [6, 8, 9]) expect(refused(new Uint8Array([tag, 0xff, 0xff, 0xff, 0xff]))).toBe(true);
});

it('B.11 a state of a few bytes a value is not taken for more than a model could mean: an array too long ends a process', () => {
  const most = 2 ** 20;
  // An array and its elements, a byte each.
  const flood = new Uint8Array(5 + most);
  flood.set([8, 0, 0, 16, 0]);
  expect(() => decodePlain(flood)).toThrow('more than 1048576 values');
  expect(() => encodePlain(new Array(most).fill(null))).toThrow('more than 1048576 values');
  expect(decodePlain(encodePlain(new Array(most - 1).fill(null)))).toHaveLength(most - 1);
});

it('what is no plain data is named', () => {
  expect(() => encodePlain({ a: { b: [1, new Map()] } })).toThrow('a.b[1] is a Map, which is no plain data');
  expect(() => encodePlain({ run: () => 1 })).toThrow('run is a function');
  const loop: { self?: unknown } = {};
  loop.self = loop;
  expect(() => encodePlain(loop)).toThrow('levels deep');
});
