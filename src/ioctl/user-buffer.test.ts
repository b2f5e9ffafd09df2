import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteBuffer, cString, immediate } from './user-buffer.ts';

describe('UserBuffer', () => {
  it('S2-21 a number is a bad pointer: EFAULT for every access', () => {
    const user = new ByteBuffer(8);
    expect(() => user.copyIn(0, 0)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    expect(() => user.copyOut(0, new Uint8Array(1))).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    expect(() => user.stringIn(4096)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
  });

  it('S2-21 memory that ends before the structure does is EFAULT, and nothing of it is written', () => {
    const memory = new Uint8Array(7);
    const user = new ByteBuffer(memory);
    expect(() => user.viewIn(0, 8)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    expect(() => user.copyOut(0, new Uint8Array(8).fill(1))).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    expect(memory).toEqual(new Uint8Array(7));
  });

  it('S2-21 a size that lies allocates nothing', () => {
    expect(() => new ByteBuffer(new Uint8Array(8)).copyIn(4, 2 ** 52)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
  });

  it('S2-21 bytes are copied before they are checked, from shared memory too', () => {
    const shared = new Uint8Array(new SharedArrayBuffer(4)).fill(7);
    const copy = new ByteBuffer(shared).copyIn(0, 4);
    shared.fill(9);
    expect(copy).toEqual(new Uint8Array([7, 7, 7, 7]));
    expect(new ByteBuffer(new Uint8Array(new SharedArrayBuffer(4))).stringIn(4)).toBe('');
  });

  it('S2-21 a view into a larger buffer ends where the view ends', () => {
    const whole = new Uint8Array(16).fill(1);
    const user = new ByteBuffer(whole.subarray(4, 8));
    user.copyOut(0, new Uint8Array(4));
    expect([...whole]).toEqual([1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
    expect(() => user.copyOut(1, new Uint8Array(4))).toThrow(expect.objectContaining({ code: 'EFAULT' }));
  });

  it.each([
    ['a NUL in the last byte of the limit', cString('abc'), 4, 'abc'],
    ['bytes after the NUL do not matter', new Uint8Array([97, 0, 255, 255]), 4, 'a'],
  ])('B.4 GET_DEVICE_FD string: %s', (_what, memory, limit, text) => {
    expect(new ByteBuffer(memory).stringIn(limit)).toBe(text);
  });

  it('B.4 GET_DEVICE_FD string: no NUL within the limit is EINVAL, memory that ends first EFAULT', () => {
    expect(() => new ByteBuffer(new Uint8Array(5).fill(65)).stringIn(4)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => new ByteBuffer(new Uint8Array(3).fill(65)).stringIn(4)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
  });

  it('B.1 an immediate is a number that requests know, or one that no request knows', () => {
    expect([immediate(3), immediate(3n), immediate(0)]).toEqual([3, 3, 0]);
    fc.assert(
      fc.property(fc.oneof(fc.double(), fc.bigInt(), fc.uint8Array()), (argument) => {
        const value = immediate(argument);
        expect(Number.isInteger(value) && value >= 0 && value < 2 ** 31).toBe(true);
      }),
    );
    expect([Number.NaN, -1, 1.5, 2 ** 53, -1n, 2n ** 64n, new Uint8Array([3])].map(immediate)).toEqual(new Array(7).fill(0x7fff_ffff));
  });
});
