import { describe, expect, it } from 'vitest';
import { parseSize, SIZE_PATTERN, sizeOf } from './size.ts';

const sizes: readonly (readonly [string, number])[] = [
  ['0', 0],
  ['512', 512],
  ['4K', 4096],
  ['4k', 4096],
  ['2g', 2 ** 31],
  ['1.5M', 1_572_864],
  ['10GiB', 10 * 2 ** 30],
  ['2tib', 2 * 2 ** 40],
  ['0x1000', 4096],
  ['0X1f', 31],
];
const others = ['', 'K', '-1', '4KB', '4iB', '0x', '0x10K', '1e3', '1.3', ' 1', '1 ', '9007199254740993', '99999999T', '0x3fffffffffffff'];

describe('sizeOf', () => {
  it.each(sizes)('%s is %d bytes', (text, bytes) => expect(sizeOf(text)).toBe(bytes));

  it.each(others)("'%s' is not a size", (text) => expect(sizeOf(text)).toBeNaN());
});

it('the pattern of the schema accepts the same texts as sizeOf', () => {
  for (const [text] of sizes) expect(text).toMatch(new RegExp(SIZE_PATTERN));
  for (const text of ['', 'K', '-1', '4KB', '4iB', '0x', '0x10K', '1e3', ' 1']) expect(text).not.toMatch(new RegExp(SIZE_PATTERN));
});

it('parseSize names the option, quotes the text and shows sizes', () => {
  expect(() => parseSize('4KB', '--size')).toThrow(
    expect.objectContaining({
      code: 'EINVAL',
      message: expect.stringContaining("--size is '4KB', which is not a size in bytes"),
      fix: 'Give a size such as 4096, 4K, 1.5G or 0x1000.',
    }),
  );
});
