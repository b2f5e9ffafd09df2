import { expect, it } from 'vitest';
import { registerOf } from './register-bytes.ts';

it('house: a register has 1, 2, 4 or 8 bytes; nothing else is one', () => {
  const bytes = Uint8Array.of(0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89);
  const values = Array.from({ length: 10 }, (_, size) => registerOf(bytes.subarray(0, size)));
  expect(values).toEqual([
    undefined,
    0x81,
    0x8281,
    undefined,
    0x8483_8281,
    undefined,
    undefined,
    undefined,
    0x8887_8685_8483_8281n,
    undefined,
  ]);
});
