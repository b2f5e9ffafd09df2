import { describe, expect, it } from 'vitest';
import { Access } from '../../abi/memory.ts';
import { decodeVersion, encodeVersion } from '../messages.ts';
import { type AdoptedMapping, AdoptedRow, decodeAdopted, encodeAdopted } from './adoption.ts';

const rows: readonly AdoptedMapping[] = [
  { iova: 0x1000n, size: 8192, memory: 1, offset: 4096, access: Access.READ_WRITE },
  { iova: 0xffff_ffff_ffff_f000n, size: 4096, memory: 0, offset: 0, access: Access.READ },
];

describe('taking over a moved device', () => {
  it('is asked for, and answered, in VERSION', () => {
    expect(decodeVersion(encodeVersion(0, 2, {}, null, { adopt: true }))).toMatchObject({ adopt: true });
    expect(decodeVersion(encodeVersion(0, 2, {}))).not.toHaveProperty('adopt');
    const adopted = { mappings: 3, fdIndex: 1, memories: 2 };
    expect(decodeVersion(encodeVersion(0, 2, {}, null, { adopted }))).toMatchObject({ adopted });
    for (const wrong of ['{"vfio_ts_adopt":"yes"}', '{"vfio_ts_adopted":7}', '{"vfio_ts_adopted":{"mappings":-1}}']) {
      const json = new TextEncoder().encode(`{"capabilities":${wrong}}\0`);
      const payload = new Uint8Array(4 + json.length);
      payload.set(json, 4);
      expect(() => decodeVersion(payload)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    }
  });

  it('brings a table that has to be right', () => {
    const table = new Uint8Array(4096);
    encodeAdopted(rows, table);
    expect(decodeAdopted(table, 2, [4096, 16_384])).toEqual(rows);
    // Another row than announced, memories that are too small, none at all.
    for (const [count, sizes] of [
      [3, [4096, 16_384]],
      [2, [4096, 8192]],
      [2, [4096]],
      [129, [4096, 16_384]],
      [2 ** 21, [4096, 16_384]],
    ] as const) {
      expect([count, sizes, outcome(() => decodeAdopted(table, count, sizes))]).toEqual([count, sizes, 'EINVAL']);
    }
    const view = new DataView(table.buffer);
    for (const [at, value] of [
      [0, 0x1001],
      [8, 8191],
      [8, 0],
      [16, 1],
      [24, 0],
      [24, 4],
      [28, 2],
    ] as const) {
      encodeAdopted(rows, table);
      view.setUint32(at, value, true);
      expect([at, value, outcome(() => decodeAdopted(table, 2, [4096, 16_384]))]).toEqual([at, value, 'EINVAL']);
    }
    expect(AdoptedRow.structSize).toBe(32);
  });
});

function outcome(act: () => unknown): string {
  try {
    act();
    return 'taken';
  } catch (error) {
    return (error as { code: string }).code;
  }
}
