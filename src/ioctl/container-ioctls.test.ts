import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CARD, EDU, Guest, type Opened } from '../../tests/kernel-answers/guest.ts';
import { bytesOf, said, viewOf } from '../../tests/kit/ioctl-bytes.ts';
import { ContainerIoctl, DirtyFlags, DmaMapFlags, DmaUnmapFlags, Extension } from '../abi/vfio.ts';
import {
  Bitmap,
  InfoCapHeader,
  IommuType1DirtyBitmap,
  IommuType1DirtyBitmapGet,
  IommuType1DmaMap,
  IommuType1DmaUnmap,
  IommuType1Info,
} from '../abi/vfio-structs.ts';
import { MapFlags, Prot } from './posix.ts';

const PAGE = 4096;
const RW = DmaMapFlags.READ | DmaMapFlags.WRITE;
const CONFIG = 7 * 2 ** 40;

let guest: Guest;
let at: Opened;

function anonymous(pages: number): number {
  return at.user.mmap(pages * PAGE, Prot.READ | Prot.WRITE, MapFlags.PRIVATE | MapFlags.ANONYMOUS);
}

function map(vaddr: number, iova: bigint, size: number, flags: number = RW): string | number {
  const request = bytesOf(IommuType1DmaMap, { argsz: 32, flags, vaddr: BigInt(vaddr), iova, size: BigInt(size) });
  return said(at.user.ioctl(at.container, ContainerIoctl.IOMMU_MAP_DMA, request));
}

function dirty(flags: number, get?: { iova: bigint; size: bigint; pgsize: bigint; bytes: bigint; data: number | bigint }): string | number {
  const tail =
    get === undefined
      ? new Uint8Array(0)
      : bytesOf(IommuType1DirtyBitmapGet, {
          iova: get.iova,
          size: get.size,
          bitmap_pgsize: get.pgsize,
          bitmap_size: get.bytes,
          bitmap_data: BigInt(get.data),
        });
  const request = bytesOf(IommuType1DirtyBitmap, { argsz: 8 + tail.length, flags }, tail);
  return said(at.user.ioctl(at.container, ContainerIoctl.IOMMU_DIRTY_PAGES, request));
}

/** The device writes a byte there by DMA. */
function deviceWrites(iova: number): void {
  at.user.pwrite(at.device, new Uint8Array([6, 0]), CONFIG + 4);
  expect(guest.machine.function(EDU).host.dma.tryWrite(iova, new Uint8Array([1]))).toBe(0);
}

beforeEach(() => {
  guest = new Guest();
  at = guest.open(EDU);
});
afterEach(() => {
  at.user.exit();
  expect([guest.errors, at.user.process.lockedBytes]).toEqual([[], 0]);
  guest[Symbol.dispose]();
});

describe('GET_INFO', () => {
  it('B.2 the chain is MIGRATION, DMA_AVAIL, IOVA_RANGE, and every argsz below its end becomes the size that is needed', () => {
    for (let argsz = 16; argsz < 120; argsz++) {
      const memory = new Uint8Array(128);
      viewOf(memory).setUint32(0, argsz, true);
      expect(at.user.ioctl(at.container, ContainerIoctl.IOMMU_GET_INFO, memory)).toBe(0);
      expect([argsz, viewOf(memory).getUint32(0, true)]).toEqual([argsz, 120]);
    }
    const memory = new Uint8Array(120);
    viewOf(memory).setUint32(0, 120, true);
    expect(at.user.ioctl(at.container, ContainerIoctl.IOMMU_GET_INFO, memory)).toBe(0);
    const ids: number[] = [];
    for (let cap = IommuType1Info.cap_offset.get(viewOf(memory), 0); cap !== 0; cap = InfoCapHeader.next.get(viewOf(memory), cap)) {
      expect(cap % 8).toBe(0);
      ids.push(InfoCapHeader.id.get(viewOf(memory), cap));
    }
    expect(ids).toEqual([2, 3, 1]);
  });

  it('B.2 an argsz that promises room which is not mapped is EFAULT', () => {
    const memory = new Uint8Array(119);
    viewOf(memory).setUint32(0, 120, true);
    expect(said(at.user.ioctl(at.container, ContainerIoctl.IOMMU_GET_INFO, memory))).toBe('EFAULT');
  });
});

describe('MAP_DMA and UNMAP_DMA', () => {
  it('B.6 MAP resolves vaddr in the process that asks: what is not mapped there is EFAULT, another process’ address too', () => {
    const vaddr = anonymous(1);
    const other = guest.subject(EDU).user;
    const theirs = other.mmap(64 * PAGE, Prot.READ, MapFlags.PRIVATE | MapFlags.ANONYMOUS);
    expect([map(vaddr + PAGE, 0x1000n, PAGE), map(0, 0x1000n, PAGE), map(theirs + PAGE, 0x1000n, PAGE), map(vaddr, 0x1000n, PAGE)]).toEqual(
      ['EFAULT', 'EFAULT', 'EFAULT', 0],
    );
    other.exit();
  });

  it('S2-48 two processes map into one container, and each is charged for its own', () => {
    const other = guest.subject(EDU).user;
    const container = at.user.sendFd(at.container, other);
    const theirs = other.mmap(2 * PAGE, Prot.READ | Prot.WRITE, MapFlags.PRIVATE | MapFlags.ANONYMOUS);
    const request = bytesOf(IommuType1DmaMap, { argsz: 32, flags: RW, vaddr: BigInt(theirs), iova: 0x8000n, size: 8192n });
    expect([map(anonymous(1), 0x1000n, PAGE), other.ioctl(container, ContainerIoctl.IOMMU_MAP_DMA, request)]).toEqual([0, 0]);
    expect([at.user.process.lockedBytes, other.process.lockedBytes]).toEqual([PAGE, 2 * PAGE]);
    const all = bytesOf(IommuType1DmaUnmap, { argsz: 24, flags: DmaUnmapFlags.ALL });
    expect(at.user.ioctl(at.container, ContainerIoctl.IOMMU_UNMAP_DMA, all)).toBe(0);
    expect([IommuType1DmaUnmap.size.get(viewOf(all), 0), at.user.process.lockedBytes, other.process.lockedBytes]).toEqual([12288n, 0, 0]);
    other.exit();
  });

  it('B.3 a container that was sent to another process outlives the process that opened it', () => {
    const other = guest.subject(EDU).user;
    const container = at.user.sendFd(at.container, other);
    at.user.exit();
    expect(other.ioctl(container, ContainerIoctl.CHECK_EXTENSION, Extension.TYPE1v2_IOMMU)).toBe(1);
    const group = other.open(`/dev/vfio/${guest.machine.function(EDU).group!.id}`);
    expect(other.ioctl(group, 0x3b68, new Uint8Array(new Int32Array([container]).buffer))).toBe(0);
    other.exit();
  });

  it('B.6 MAP of a BAR of plain memory: another device reaches it, and no page is locked for it', () => {
    using peer = new Guest();
    const card = peer.open(CARD);
    const bar = card.user.mmap(0x4000, Prot.READ | Prot.WRITE, MapFlags.SHARED, card.device, 2 * 2 ** 40);
    expect(bar).toBeGreaterThan(0);
    const request = bytesOf(IommuType1DmaMap, { argsz: 32, flags: RW, vaddr: BigInt(bar), iova: 0x10000n, size: 0x4000n });
    expect(card.user.ioctl(card.container, ContainerIoctl.IOMMU_MAP_DMA, request)).toBe(0);
    expect(card.user.process.lockedBytes).toBe(0);
    card.user.pwrite(card.device, new Uint8Array([6, 0]), CONFIG + 4);
    expect(peer.machine.function(CARD).host.dma.tryWrite(0x10008n, new Uint8Array([1, 2, 3, 4]))).toBe(0);
    expect(card.user.load(bar + 8, 4)).toBe(0x04030201);
    card.user.exit();
    expect(peer.errors).toEqual([]);
  });

  it('B.6 MAP of a BAR of registers is EFAULT: there is no memory behind it', () => {
    const bar = at.user.mmap(PAGE, Prot.READ | Prot.WRITE, MapFlags.SHARED, at.device, 0);
    expect(map(bar, 0x1000n, PAGE)).toBe('EFAULT');
  });
});

describe('DIRTY_PAGES', () => {
  it('B.6 dirty pages: the bits arrive in the process’ memory, and are gone the second time', () => {
    const memory = anonymous(4);
    const bitmap = anonymous(1);
    map(memory, 0x100000n, 4 * PAGE);
    const get = { iova: 0x100000n, size: 0x4000n, pgsize: 4096n, bytes: 8n, data: bitmap };
    expect([dirty(DirtyFlags.GET_BITMAP, get), dirty(DirtyFlags.START)]).toEqual(['EINVAL', 0]);
    deviceWrites(0x102010);
    expect([dirty(DirtyFlags.GET_BITMAP, get), at.user.load(bitmap, 8)]).toEqual([0, 4n]);
    at.user.store(bitmap, 8, 0);
    expect([dirty(DirtyFlags.GET_BITMAP, get), at.user.load(bitmap, 8), dirty(DirtyFlags.STOP)]).toEqual([0, 0n, 0]);
  });

  it('B.6 dirty pages: a bitmap over two areas of memory is written in both', () => {
    const memory = anonymous(128);
    // Two areas side by side, so that the bitmap's 16 bytes have 8 in each.
    const low = BigInt(0x1000_0000);
    const { process } = at.user;
    for (const place of [low, low + 4096n]) {
      using backing = guest.machine.context.allocate(4096);
      process.addressSpace.map(backing, { at: place });
    }
    map(memory, 0x100000n, 128 * PAGE);
    dirty(DirtyFlags.START);
    deviceWrites(0x100000 + 63 * PAGE);
    deviceWrites(0x100000 + 64 * PAGE);
    const data = low + 4096n - 8n;
    expect(dirty(DirtyFlags.GET_BITMAP, { iova: 0x100000n, size: 0x80000n, pgsize: 4096n, bytes: 16n, data })).toBe(0);
    expect([at.user.load(Number(data), 8), at.user.load(Number(data) + 8, 8)]).toEqual([1n << 63n, 1n]);
  });

  it.each([
    ['the bitmap is not mapped', { data: 0x10000 }, 'EFAULT'],
    ['the bitmap is past user memory', { data: 2n ** 47n }, 'EINVAL'],
    ['the bitmap wraps', { data: 2n ** 64n - 8n }, 'EINVAL'],
    ['the bitmap is too small', { bytes: 7n }, 'EINVAL'],
    ['the bitmap is more than 256 MiB', { bytes: 2n ** 28n + 1n }, 'EINVAL'],
    ['another page size', { pgsize: 8192n }, 'EINVAL'],
    ['page size 0', { pgsize: 0n }, 'EINVAL'],
    ['iova misaligned', { iova: 0x100001n }, 'EINVAL'],
    ['size 0', { size: 0n }, 'EINVAL'],
    ['past 2^64', { iova: 2n ** 64n - 4096n, size: 8192n }, 'EOVERFLOW'],
    ['a mapping would be cut', { size: 0x3000n }, 'EINVAL'],
  ])('B.6 dirty pages: %s', (_what, change, errno) => {
    map(anonymous(4), 0x100000n, 4 * PAGE);
    dirty(DirtyFlags.START);
    const get = { iova: 0x100000n, size: 0x4000n, pgsize: 4096n, bytes: 8n, data: anonymous(1), ...change };
    expect(dirty(DirtyFlags.GET_BITMAP, get)).toBe(errno);
  });

  it('B.6 dirty pages: exactly one flag; GET without its range is EINVAL; START and STOP may be repeated', () => {
    expect([0, 3, 5, 6, 7].map((flags) => dirty(flags))).toEqual(new Array(5).fill('EINVAL'));
    expect([dirty(DirtyFlags.GET_BITMAP), dirty(1), dirty(1), dirty(2), dirty(2)]).toEqual(['EINVAL', 0, 0, 0, 0]);
  });

  it('B.6 dirty pages: TYPE1 v1 is EACCES before anything is looked at', () => {
    using old = new Guest();
    const { user, container } = old.open(EDU, Extension.TYPE1_IOMMU);
    expect(said(user.ioctl(container, ContainerIoctl.IOMMU_DIRTY_PAGES, 8))).toBe('EACCES');
  });

  it('B.6 UNMAP with GET_DIRTY: the last bits come with the unmapping', () => {
    const bitmap = anonymous(1);
    map(anonymous(2), 0x100000n, 2 * PAGE);
    const unmap = (data: number, argsz = 48, flags: number = DmaUnmapFlags.GET_DIRTY_BITMAP) =>
      said(
        at.user.ioctl(
          at.container,
          ContainerIoctl.IOMMU_UNMAP_DMA,
          bytesOf(
            IommuType1DmaUnmap,
            { argsz, flags, iova: 0x100000n, size: 0x2000n },
            bytesOf(Bitmap, { pgsize: 4096n, size: 8n, data: BigInt(data) }),
          ),
        ),
      );
    expect(unmap(bitmap)).toBe('EINVAL');
    dirty(DirtyFlags.START);
    deviceWrites(0x101000);
    expect([unmap(bitmap, 47), unmap(bitmap, 48, 3), unmap(bitmap, 48, 5), unmap(0x10000)]).toEqual([
      'EINVAL',
      'EINVAL',
      'EINVAL',
      'EFAULT',
    ]);
    expect([unmap(bitmap), at.user.load(bitmap, 8), at.user.process.lockedBytes]).toEqual([0, 2n, 0]);
  });
});
