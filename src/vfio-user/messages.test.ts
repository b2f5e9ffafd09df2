import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Header, HeaderFlags } from '../abi/vfio-user.ts';
import { VfioError } from '../base/errno.ts';
import * as messages from './messages.ts';
import { Command, DmaMap, IoFd, RegionIoFds, ShadowIoFd } from './messages.ts';

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const bytes = fc.uint8Array({ maxLength: 40 });

const LIMIT = 2 ** 20;

describe('every message comes out as it went in', () => {
  const check = <T>(what: fc.Arbitrary<T>, through: (value: T) => unknown) =>
    fc.assert(
      fc.property(what, (value) => {
        expect(through(value)).toEqual(value);
      }),
    );

  it('DMA_MAP', () =>
    check(fc.record({ flags: fc.integer({ min: 0, max: 15 }), offset: u64, address: u64, size: u64 }), (v) =>
      messages.decodeDmaMap(messages.encodeDmaMap(v)),
    ));
  it('DMA_UNMAP', () =>
    check(fc.record({ flags: fc.constant(0), address: u64, size: u64 }), (v) =>
      messages.decodeDmaUnmap(messages.encodeDmaUnmap(v), LIMIT),
    ));
  it('DMA_UNMAP with a bitmap', () =>
    check(
      fc.record({
        flags: fc.constant(1),
        address: u64,
        size: u64,
        bitmap: fc.record({ pgsize: u64, size: fc.bigInt({ min: 0n, max: 1000n }) }),
      }),
      (v) => messages.decodeDmaUnmap(messages.encodeDmaUnmap(v), LIMIT),
    ));
  it('DIRTY_PAGES', () => {
    const range = fc.record({ iova: u64, size: u64, pgsize: u64, bitmapSize: fc.bigInt({ min: 0n, max: 1000n }) });
    check(fc.oneof(fc.record({ flags: fc.constantFrom(1, 2) }), fc.record({ flags: fc.constant(4), range })), (v) =>
      messages.decodeDirtyPages(messages.encodeDirtyPages(v), LIMIT),
    );
  });
  it('DEVICE_GET_INFO', () =>
    check(fc.record({ flags: u32, numRegions: u32, numIrqs: u32 }), (v) => messages.decodeDeviceInfo(messages.encodeDeviceInfo(v))));
  it('DEVICE_GET_IRQ_INFO', () =>
    check(fc.record({ index: u32, flags: u32, count: u32 }), (v) => messages.decodeIrqInfo(messages.encodeIrqInfo(v))));
  it('DEVICE_SET_IRQS', () => {
    const range = { index: u32, start: u32, action: fc.constantFrom('mask' as const, 'unmask' as const, 'trigger' as const) };
    check(fc.record({ ...range, count: u32, data: fc.constantFrom('none' as const, 'eventfd' as const) }), (v) =>
      messages.decodeSetIrqs(messages.encodeSetIrqs(v)),
    );
    fc.assert(
      fc.property(fc.record(range), bytes, (v, values) => {
        const request = { ...v, count: values.length, data: 'bool' as const, values };
        expect(messages.decodeSetIrqs(messages.encodeSetIrqs(request))).toEqual(request);
      }),
    );
  });
  it('DEVICE_GET_REGION_INFO', () => {
    const size = fc.integer({ min: 2 ** 20, max: Number.MAX_SAFE_INTEGER });
    const area = fc.record({ offset: fc.integer({ min: 0, max: 2 ** 19 }), size: fc.integer({ min: 0, max: 2 ** 19 }) });
    const info = fc.record(
      {
        index: u32,
        flags: fc.integer({ min: 0, max: 7 }),
        size,
        sparseAreas: fc.array(area, { maxLength: 4 }),
        type: fc.record({ type: u32, subtype: u32 }),
        msixMappable: fc.constant(true),
      },
      { requiredKeys: ['index', 'flags', 'size'] },
    );
    fc.assert(
      fc.property(info, u64, (v, offset) => {
        const back = messages.decodeRegionInfo(messages.encodeRegionInfo(v, 4096, offset));
        const withCaps = v.sparseAreas !== undefined || v.type !== undefined || v.msixMappable !== undefined;
        expect(back).toMatchObject({ offset, info: { ...v, flags: v.flags | (withCaps ? 8 : 0) } });
        const short = messages.encodeRegionInfo(v, 32, offset);
        expect(short).toHaveLength(32);
        expect(messages.decodeRegionInfo(short).argsz).toBe(back.argsz);
      }),
    );
  });
  it('DEVICE_GET_REGION_IO_FDS', () => {
    const entry = fc.record({ offset: u64, size: u64, fdIndex: u32, type: u32, flags: u32, datamatch: u64 });
    fc.assert(
      fc.property(u32, fc.array(entry, { maxLength: 5 }), (index, entries) => {
        const { argsz } = messages.decodeIoFds(messages.encodeIoFds(index, entries, 16));
        expect(argsz).toBe(16 + 40 * entries.length);
        expect(messages.decodeIoFds(messages.encodeIoFds(index, entries, argsz)).entries).toEqual(entries);
      }),
    );
  });
  it('DEVICE_FEATURE', () =>
    check(
      fc.record({
        argsz: fc.integer({ min: 8, max: 1000 }),
        feature: fc.integer({ min: 0, max: 65535 }),
        get: fc.boolean(),
        set: fc.boolean(),
        probe: fc.boolean(),
        data: bytes,
      }),
      (v) => messages.decodeFeature(messages.encodeFeature(v)),
    ));
  it('migration data', () => {
    expect(messages.decodeMigDataRead(messages.encodeMigData(77))).toEqual({ size: 77 });
    fc.assert(
      fc.property(bytes, (data) => {
        expect(messages.decodeMigDataWrite(messages.encodeMigData(data.length, data))).toEqual({ data });
      }),
    );
  });
});

describe('what a peer may send', () => {
  it("libvfio-user's entries of 48 bytes in GET_REGION_IO_FDS", () => {
    const payload = new Uint8Array(RegionIoFds.structSize + 2 * ShadowIoFd.structSize);
    const view = new DataView(payload.buffer);
    RegionIoFds.encode(view, 0, { argsz: payload.length, count: 2 });
    for (const i of [0, 1]) {
      ShadowIoFd.encode(view, 16 + 48 * i, {
        offset: BigInt(i),
        size: 4n,
        fd_index: i,
        shadow_fd_index: 9,
        shadow_offset: 7n,
        datamatch: 5n,
      });
    }
    expect(messages.decodeIoFds(payload).entries).toMatchObject([
      { offset: 0n, size: 4n, fdIndex: 0, datamatch: 5n },
      { offset: 1n, size: 4n, fdIndex: 1, datamatch: 5n },
    ]);
    expect(IoFd.structSize).toBe(40);
  });

  it.each([
    ['a chain that goes round', (view: DataView) => view.setUint32(36, 32, true)],
    ['a chain that leaves the message', (view: DataView) => view.setUint32(36, 4000, true)],
    ['a chain that goes back into the structure', (view: DataView) => view.setUint32(36, 8, true)],
    ['an offset past the end', (view: DataView) => view.setUint32(12, 60, true)],
    ['more areas than there are', (view: DataView) => view.setUint32(40, 2, true)],
    ['areas beyond counting', (view: DataView) => view.setUint32(40, 0xffff_ffff, true)],
    ['an area past the end of the region', (view: DataView) => view.setBigUint64(48, 0x1000n, true)],
    ['a region beyond counting', (view: DataView) => view.setBigUint64(16, 2n ** 60n, true)],
  ])('region info with %s is EPROTO', (_, spoil) => {
    const good = messages.encodeRegionInfo({ index: 0, flags: 7, size: 0x1000, sparseAreas: [{ offset: 0, size: 0x1000 }] }, 64, 0n);
    expect(good).toHaveLength(64);
    spoil(new DataView(good.buffer));
    expect(() => messages.decodeRegionInfo(good)).toThrow(expect.objectContaining({ code: 'EPROTO' }));
  });

  it('errors: the errno, and EINVAL for what is none', () => {
    const error = (value: number) =>
      messages.replyError(messages.viewOf(messages.encodeError(1, Command.DMA_MAP, value)), 0, 'DMA_MAP')!.code;
    expect([error(17), error(0), error(4096), error(0xffff_ffff), error(133)]).toEqual(['EEXIST', 'EINVAL', 'EINVAL', 'EINVAL', 'EIO']);
    expect(
      messages.replyError(messages.viewOf(messages.encodeMessage(1, Command.DMA_MAP, undefined, HeaderFlags.REPLY)), 0, ''),
    ).toBeNull();
  });

  it('a header is 16 bytes in the order of the specification', () => {
    const bytes = messages.encodeMessage(0x1234, Command.REGION_READ, Uint8Array.of(9), 0x10, 7);
    expect([...bytes]).toEqual([0x34, 0x12, 9, 0, 17, 0, 0, 0, 0x10, 0, 0, 0, 7, 0, 0, 0, 9]);
    expect([Header.structSize, DmaMap.structSize]).toEqual([16, 32]);
  });
});

describe('decoders', () => {
  const decoders: [string, (payload: Uint8Array) => unknown][] = [
    ['DMA_MAP', messages.decodeDmaMap],
    ['DMA_UNMAP', (p) => messages.decodeDmaUnmap(p, LIMIT)],
    ['DIRTY_PAGES', (p) => messages.decodeDirtyPages(p, LIMIT)],
    ['GET_INFO', messages.decodeDeviceInfo],
    ['REGION_INFO request', messages.decodeRegionInfoRequest],
    ['REGION_INFO reply', messages.decodeRegionInfo],
    ['IO_FDS request', messages.decodeIoFdsRequest],
    ['IO_FDS reply', messages.decodeIoFds],
    ['IRQ_INFO', messages.decodeIrqInfo],
    ['SET_IRQS', messages.decodeSetIrqs],
    ['WRITE_MULTI', messages.checkWriteMulti],
    ['FEATURE', messages.decodeFeature],
    ['MIG_DATA_READ', (p) => messages.decodeMigDataRead(p)],
    ['MIG_DATA_WRITE', messages.decodeMigDataWrite],
  ];
  it.each(decoders)('%s: any bytes give a value or an errno, never anything else', (_, decode) => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), (payload) => {
        try {
          decode(payload);
        } catch (error) {
          expect(error).toBeInstanceOf(VfioError);
        }
      }),
      { numRuns: 300 },
    );
  });
  it.each(decoders)('%s: nothing at all is refused', (_, decode) => {
    expect(() => decode(new Uint8Array(0))).toThrow(VfioError);
  });
});
