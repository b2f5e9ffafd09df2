/** Answers that no kernel should give: an error, and neither a loop nor memory by its numbers. */
import { describe, expect, it } from 'vitest';
import { type Answer, AnsweringFile } from '../../tests/kit/answering-file.ts';
import { errnoFrom } from '../../tests/kit/errno.ts';
import { IommufdCommand } from '../abi/iommufd.ts';
import { IommuIoasIovaRanges } from '../abi/iommufd-structs.ts';
import { ContainerIoctl, Extension, RegionFlags } from '../abi/vfio.ts';
import {
  DeviceInfo,
  InfoCapHeader,
  IommuInfoCapIovaRange,
  IommuType1Info,
  PciHotResetInfo,
  RegionInfo,
  RegionInfoCapSparseMmap,
  SparseMmapArea,
} from '../abi/vfio-structs.ts';
import { Errno } from '../base/errno.ts';
import { EventStream } from '../events/stream.ts';
import type { KernelFile } from '../sys/kernel-file.ts';
import { KernelContainer } from './container.ts';
import { KernelDevice } from './device.ts';
import { hotResetInfo } from './hot-reset.ts';
import { KernelIoas } from './ioas.ts';
import { OpenState } from './open-state.ts';
import type { OpenedFile } from './opened.ts';
import { describeRegion } from './region-info.ts';

const U32 = 0xffff_ffff;
/** Room that the client takes for an answer at most, with its head. */
const MOST = 2 ** 20 + 4096;
const stream = new EventStream();
const portOf = (file: KernelFile) => new OpenState('0000:03:00.0', file, stream.source('0000:03:00.0'));

/** A container whose IOMMU_GET_INFO is answered so. */
function containerOf(info: Answer) {
  const { file, notes } = AnsweringFile.file((view, request) => (request === ContainerIoctl.IOMMU_GET_INFO ? info(view, request) : 0));
  return { open: () => KernelContainer.lent(file, Extension.TYPE1v2_IOMMU), notes };
}

/** `head` behind the structure, in a chain of one. */
function withCapability(view: DataView, id: number, more: (at: number) => void = () => {}): number {
  const at = IommuType1Info.structSize;
  IommuType1Info.encode(view, 0, { argsz: view.byteLength, flags: 3, iova_pgsizes: 4096n, cap_offset: at });
  InfoCapHeader.encode(view, at, { id, version: 1, next: 0 });
  more(at);
  return 0;
}

describe('IOMMU_GET_INFO', () => {
  const rows: readonly (readonly [string, Answer])[] = [
    ['wants 4 GiB', (view) => void IommuType1Info.argsz.set(view, 0, U32)],
    ['wants more each time', (view) => void IommuType1Info.argsz.set(view, 0, view.byteLength + 8)],
    ['a chain that points outside', (view) => withCapability(view, 99, (at) => InfoCapHeader.next.set(view, at, 0x1000))],
    ['a chain that points to itself', (view) => withCapability(view, 99, (at) => InfoCapHeader.next.set(view, at, at))],
    ['more ranges than there are bytes', (view) => withCapability(view, 1, (at) => IommuInfoCapIovaRange.nr_iovas.set(view, at, U32))],
    [
      'a capability that is cut short',
      (view) =>
        withCapability(view, 99, (at) => {
          const end = view.byteLength - InfoCapHeader.structSize;
          InfoCapHeader.next.set(view, at, end);
          InfoCapHeader.encode(view, end, { id: 3, version: 1, next: 0 });
        }),
    ],
  ];
  for (const [title, answer] of rows) {
    it(`${title}: EPROTO`, () => {
      const { open, notes } = containerOf(answer);
      expect(errnoFrom(open)).toBe('EPROTO');
      expect(notes.largest).toBeLessThan(MOST);
    });
  }

  it('pages that are smaller than 4096 bytes are not used', () => {
    const sizes = (iova_pgsizes: bigint) =>
      containerOf((view) => void IommuType1Info.encode(view, 0, { argsz: 24, flags: 1, iova_pgsizes }))
        .open()
        .abilities().pageSizes;
    expect([sizes(1n), sizes(0x20_1400n), sizes(0x20_0000n)]).toEqual([4096n, 0x20_1000n, 0x20_0000n]);
  });
});

describe('IOMMU_IOAS_IOVA_RANGES', () => {
  const rows: readonly (readonly [string, (room: number) => number, number])[] = [
    ['names 2^32 - 1 ranges', () => U32, -Errno.EMSGSIZE],
    ['names more each time', (room) => room + 1, -Errno.EMSGSIZE],
    ['names ranges that it does not give', (room) => room + 1, 0],
  ];
  for (const [title, count, result] of rows) {
    it(`${title}: EPROTO`, () => {
      const { file, notes } = AnsweringFile.file((view, request) => {
        expect(request).toBe(0x3b00 | IommufdCommand.IOAS_IOVA_RANGES);
        IommuIoasIovaRanges.num_iovas.set(view, 0, count(IommuIoasIovaRanges.num_iovas.get(view, 0)));
        return result;
      });
      expect(errnoFrom(() => new KernelIoas(file, 1).abilities())).toBe('EPROTO');
      expect(notes.requests).toBeLessThan(10);
    });
  }
});

describe('GET_PCI_HOT_RESET_INFO', () => {
  for (const [title, count, result] of [
    ['names 2^32 - 1 functions', () => U32, -Errno.ENOSPC],
    ['names more each time', (room: number) => room + 1, -Errno.ENOSPC],
    ['names functions that it does not give', (room: number) => room + 1, 0],
  ] as const) {
    it(`${title}: EPROTO`, () => {
      const { file, notes } = AnsweringFile.file((view) => {
        PciHotResetInfo.count.set(view, 0, count((view.byteLength - PciHotResetInfo.structSize) / 8));
        return result;
      });
      expect(errnoFrom(() => hotResetInfo(portOf(file), undefined as never))).toBe('EPROTO');
      expect(notes.largest).toBeLessThan(MOST);
    });
  }
});

describe('GET_REGION_INFO', () => {
  const info = (values: object, more: (view: DataView) => void = () => {}): Answer => {
    return (view) => {
      RegionInfo.encode(view, 0, { argsz: 32, flags: 3, index: 0, cap_offset: 0, size: 4096n, offset: 0n, ...values });
      more(view);
      return 0;
    };
  };
  const areas = (count: number, offset: bigint, size: bigint): Answer =>
    info({ flags: 3 | RegionFlags.CAPS, cap_offset: 32 }, (view) => {
      RegionInfoCapSparseMmap.encode(view, 32, { id: 1, version: 1, next: 0, nr_areas: count });
      SparseMmapArea.encode(view, 32 + RegionInfoCapSparseMmap.structSize, { offset, size });
    });
  const rows: readonly (readonly [string, Answer])[] = [
    ['wants 4 GiB', info({ argsz: U32 })],
    ['wants more each time', (view) => void RegionInfo.argsz.set(view, 0, view.byteLength + 1)],
    ['a region that is larger than 2^53', info({ size: 2n ** 64n - 1n })],
    ['a region that ends past 2^53', info({ size: 2n ** 53n - 4096n, offset: 2n ** 52n })],
    ['a region that begins past 2^53', info({ offset: 2n ** 63n })],
    ['2^32 - 1 areas', areas(U32, 0n, 4096n)],
    ['an area outside', areas(1, 4096n, 4096n)],
    ['an area that wraps around', areas(1, 2n ** 64n - 4096n, 8192n)],
    [
      'a chain that loops',
      info({ flags: 3 | RegionFlags.CAPS, cap_offset: 32 }, (view) => InfoCapHeader.encode(view, 32, { id: 9, version: 1, next: 32 })),
    ],
    ['a chain that begins in the head', info({ flags: 3 | RegionFlags.CAPS, cap_offset: 4 })],
  ];
  for (const [title, answer] of rows) {
    it(`${title}: EPROTO`, () => {
      const { file, notes } = AnsweringFile.file(answer);
      expect(errnoFrom(() => describeRegion(portOf(file), 0))).toBe('EPROTO');
      expect(notes.largest).toBeLessThan(MOST);
      expect(notes.requests).toBeLessThan(10);
    });
  }

  it('a region of another number is the one that was asked for', () => {
    const { file } = AnsweringFile.file(info({ index: 77 }));
    expect(describeRegion(portOf(file), 2).info.index).toBe(2);
  });
});

describe('GET_INFO', () => {
  it('more regions and interrupts than a device can have: EPROTO', () => {
    for (const [num_regions, num_irqs] of [
      [U32, 5],
      [9, U32],
    ] as const) {
      const { file, notes } = AnsweringFile.file((view) => void DeviceInfo.encode(view, 0, { argsz: 20, flags: 2, num_regions, num_irqs }));
      const opened = { name: '0000:03:00.0', file, [Symbol.dispose]: () => file[Symbol.dispose]() } as OpenedFile;
      expect(errnoFrom(() => KernelDevice.take('0000:03:00.0', () => opened))).toBe('EPROTO');
      expect(notes.closed).toBe(true);
    }
  });
});
