import { describe, expect, it } from 'vitest';
import { IommuInfoFlags, RegionCap, RegionFlags } from '../abi/vfio.ts';
import { InfoCapHeader, IommuType1Info, RegionInfo, RegionInfoCapSparseMmap, SparseMmapArea } from '../abi/vfio-structs.ts';
import { answerInfo, CapabilityChain } from './capability-chain.ts';
import { ByteBuffer } from './user-buffer.ts';

function info(argsz: number): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(IommuType1Info.structSize));
  IommuType1Info.encode(view, 0, { argsz, flags: IommuInfoFlags.PGSIZES, iova_pgsizes: 0x1000n });
  return view;
}

/** Two capabilities: 12 bytes, which take 16, and 24. */
function chain(): CapabilityChain {
  const made = new CapabilityChain();
  made.add(3, 1, 12, (view) => view.setUint32(8, 77, true));
  made.add(1, 2, 24, (view) => view.setBigUint64(16, 5n, true));
  return made;
}

describe('B.2 capability chains', () => {
  it('B.2 capabilities are aligned to 8 and linked from the start of the info structure', () => {
    const bytes = chain().at(24);
    const view = new DataView(bytes.buffer);
    expect(bytes.length).toBe(40);
    expect(InfoCapHeader.decode(view, 0)).toEqual({ id: 3, version: 1, next: 24 + 16 });
    expect(InfoCapHeader.decode(view, 16)).toEqual({ id: 1, version: 2, next: 0 });
    expect([view.getUint32(8, true), view.getBigUint64(32, true)]).toEqual([77, 5n]);
  });

  it('B.2 an empty chain changes nothing: no flag, no offset, argsz as it was', () => {
    const memory = new Uint8Array(64).fill(0xaa);
    answerInfo(new ByteBuffer(memory), IommuType1Info, info(64), new CapabilityChain(), IommuInfoFlags.CAPS);
    expect(IommuType1Info.decode(new DataView(memory.buffer))).toMatchObject({ argsz: 64, flags: 1, cap_offset: 0 });
    expect(memory.subarray(24)).toEqual(new Uint8Array(40).fill(0xaa));
  });

  it.each([16, 20, 23, 24, 25, 63])(
    'B.2 argsz %i is too small for the chain: flag CAPS, cap_offset 0, argsz is the size that is needed',
    (argsz) => {
      const memory = new Uint8Array(80).fill(0xaa);
      answerInfo(new ByteBuffer(memory), IommuType1Info, info(argsz), chain(), IommuInfoFlags.CAPS);
      const view = new DataView(memory.buffer);
      expect([IommuType1Info.argsz.get(view, 0), IommuType1Info.flags.get(view, 0)]).toEqual([64, 3]);
      if (argsz >= 20) expect(IommuType1Info.cap_offset.get(view, 0)).toBe(0);
      // Not a byte beyond the size that the caller gave.
      expect(memory.subarray(Math.min(argsz, 24)).every((byte) => byte === 0xaa)).toBe(true);
    },
  );

  it.each([64, 65, 80])('B.2 argsz %i has room for all of it', (argsz) => {
    const memory = new Uint8Array(80).fill(0xaa);
    answerInfo(new ByteBuffer(memory), IommuType1Info, info(argsz), chain(), IommuInfoFlags.CAPS);
    expect(IommuType1Info.decode(new DataView(memory.buffer))).toMatchObject({ argsz, flags: 3, cap_offset: 24 });
    expect(memory.slice(24, 64)).toEqual(chain().at(24));
    expect(memory.subarray(64).every((byte) => byte === 0xaa)).toBe(true);
  });

  it('B.2 an argsz that promises more than is mapped is EFAULT', () => {
    expect(() => answerInfo(new ByteBuffer(new Uint8Array(63)), IommuType1Info, info(64), chain(), IommuInfoFlags.CAPS)).toThrow(
      expect.objectContaining({ code: 'EFAULT' }),
    );
  });

  it('B.2 a sparse mmap capability: count, then the areas', () => {
    const made = new CapabilityChain();
    made.add(RegionCap.SPARSE_MMAP, 1, 48, (view) => {
      RegionInfoCapSparseMmap.nr_areas.set(view, 0, 2);
      SparseMmapArea.encode(view, 32, { offset: 0x3000n, size: 0x1000n });
    });
    const memory = new Uint8Array(80);
    const view = new DataView(new ArrayBuffer(32));
    RegionInfo.argsz.set(view, 0, 80);
    answerInfo(new ByteBuffer(memory), RegionInfo, view, made, RegionFlags.CAPS);
    const out = new DataView(memory.buffer);
    expect(RegionInfo.decode(out)).toMatchObject({ argsz: 80, flags: RegionFlags.CAPS, cap_offset: 32 });
    expect(RegionInfoCapSparseMmap.decode(out, 32)).toEqual({ id: 1, version: 1, next: 0, nr_areas: 2, reserved: 0 });
    expect(SparseMmapArea.decode(out, 64)).toEqual({ offset: 0x3000n, size: 0x1000n });
  });
});
