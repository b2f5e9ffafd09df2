import { describe, expect, it } from 'vitest';
import type { DirectMemory } from '../abi/memory.ts';
import { MemoryWindows } from './memory-windows.ts';

/** 16 bytes that begin at `offset` of their buffer. */
function memoryAt(offset: number): { windows: MemoryWindows; bytes: Uint8Array } {
  const bytes = new Uint8Array(new ArrayBuffer(64), offset, 16);
  bytes.forEach((_, i) => {
    bytes[i] = 0x11 * i;
  });
  return { windows: new MemoryWindows({ kind: 'direct', size: 16, windows: [bytes] } as unknown as DirectMemory), bytes };
}

describe.each([0, 8, 3])('memory at offset %i of its buffer', (offset) => {
  it('is read by width, little-endian', () => {
    const { windows } = memoryAt(offset);
    expect([windows.load(3, 1), windows.load(2, 2), windows.load(4, 4), windows.load64(8)]).toEqual([
      0x33,
      0x3322,
      0x77665544,
      0xffeeddccbbaa9988n,
    ]);
  });

  it('is written by width, little-endian', () => {
    const { windows, bytes } = memoryAt(offset);
    windows.store(1, 1, 0xa1);
    windows.store(2, 2, 0xb2b1);
    windows.store(4, 4, 0xc4c3c2c1);
    windows.store64(8, 0xd8d7d6d5d4d3d2d1n);
    expect([...bytes].map((b) => b.toString(16)).join(' ')).toBe('0 a1 b1 b2 c1 c2 c3 c4 d1 d2 d3 d4 d5 d6 d7 d8');
  });
});
