/** DMA_MAP, DMA_UNMAP and DIRTY_PAGES: which of its memory the client lends. DMA_READ and DMA_WRITE are made in place, in dma-commands.ts. */
import { DirtyFlags, DmaUnmapFlags } from '../../abi/vfio.ts';
import { Command, DirtyBitmap, DirtyPages, DirtyRange, DmaMap, DmaUnmap, UserDmaMapFlags } from '../../abi/vfio-user.ts';
import { hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { check, checkArgsz, made, NOTHING, tooShort } from './payload.ts';

export interface DmaMapRequest {
  /** `UserDmaMapFlags` */
  readonly flags: number;
  /** In the file that comes along. */
  readonly offset: bigint;
  readonly address: bigint;
  readonly size: bigint;
}

const MAP_FLAGS = UserDmaMapFlags.READ | UserDmaMapFlags.WRITE | UserDmaMapFlags.MMAP | UserDmaMapFlags.FILE_IO;

export function encodeDmaMap(request: DmaMapRequest): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(DmaMap.structSize);
  DmaMap.encode(view, 0, { ...request, argsz: DmaMap.structSize });
  return payload;
}

/** @throws VfioError EINVAL too short, or unknown flags */
export function decodeDmaMap(payload: Uint8Array): DmaMapRequest {
  const view = check(Command.DMA_MAP, payload, DmaMap.structSize);
  checkArgsz(Command.DMA_MAP, view, DmaMap.structSize);
  const { flags, offset, address, size } = DmaMap.decode(view);
  if ((flags & ~MAP_FLAGS) !== 0) throw new VfioError('EINVAL', `DMA_MAP: unknown flags ${hex(flags)}`);
  return { flags, offset, address, size };
}

export interface DmaUnmapRequest {
  /** `DmaUnmapFlags` */
  readonly flags: number;
  readonly address: bigint;
  readonly size: bigint;
  /** With GET_DIRTY_BITMAP: bytes that one bit stands for, and bytes of the bitmap. */
  readonly bitmap?: { readonly pgsize: bigint; readonly size: bigint };
}

const UNMAP_FLAGS = DmaUnmapFlags.GET_DIRTY_BITMAP | DmaUnmapFlags.ALL;
const UNMAP_BITMAP_BYTES = DmaUnmap.structSize + DirtyBitmap.structSize;

export function encodeDmaUnmap(request: DmaUnmapRequest): Uint8Array<ArrayBuffer> {
  const { flags, address, size, bitmap } = request;
  const { payload, view } = made(bitmap === undefined ? DmaUnmap.structSize : UNMAP_BITMAP_BYTES);
  const argsz = payload.length + Number(bitmap?.size ?? 0n);
  DmaUnmap.encode(view, 0, { argsz, flags, address, size });
  if (bitmap !== undefined) DirtyBitmap.encode(view, DmaUnmap.structSize, bitmap);
  return payload;
}

/**
 * @param maxBytes the most that the reply may take
 * @throws VfioError EINVAL too short, unknown flags, both flags, ALL with a range, argsz that leaves no room for the bitmap, or one too large
 */
export function decodeDmaUnmap(payload: Uint8Array, maxBytes: number): DmaUnmapRequest {
  const view = check(Command.DMA_UNMAP, payload, DmaUnmap.structSize);
  const argsz = checkArgsz(Command.DMA_UNMAP, view, DmaUnmap.structSize);
  const { flags, address, size } = DmaUnmap.decode(view);
  if ((flags & ~UNMAP_FLAGS) !== 0) throw new VfioError('EINVAL', `DMA_UNMAP: unknown flags ${hex(flags)}`);
  if ((flags & DmaUnmapFlags.ALL) !== 0) {
    if (flags !== DmaUnmapFlags.ALL) throw new VfioError('EINVAL', 'DMA_UNMAP: GET_DIRTY_BITMAP does not go with ALL');
    if (address !== 0n || size !== 0n) throw new VfioError('EINVAL', 'DMA_UNMAP: with ALL, address and size must be 0');
  }
  if ((flags & DmaUnmapFlags.GET_DIRTY_BITMAP) === 0) return { flags, address, size };
  if (payload.length < UNMAP_BITMAP_BYTES) throw tooShort(Command.DMA_UNMAP, payload.length, UNMAP_BITMAP_BYTES);
  const bitmap = DirtyBitmap.decode(view, DmaUnmap.structSize);
  checkBitmapRoom('DMA_UNMAP', argsz, UNMAP_BITMAP_BYTES, bitmap.size, maxBytes);
  return { flags, address, size, bitmap };
}

function checkBitmapRoom(what: string, argsz: number, fixed: number, size: bigint, maxBytes: number): void {
  if (size > BigInt(maxBytes - fixed)) throw new VfioError('EINVAL', `${what}: a bitmap of ${size} bytes; at most ${maxBytes - fixed} fit`);
  if (BigInt(argsz - fixed) < size) throw new VfioError('EINVAL', `${what}: argsz ${argsz} leaves no room for a bitmap of ${size} bytes`);
}

/** The request's fields again, then the bitmap. Without one, what QEMU reads: 24 bytes. */
export function encodeDmaUnmapReply(request: DmaUnmapRequest, bitmap: Uint8Array = NOTHING): Uint8Array<ArrayBuffer> {
  const fixed = encodeDmaUnmap(request);
  if (bitmap.length === 0) return fixed;
  const payload = new Uint8Array(fixed.length + bitmap.length);
  payload.set(fixed);
  payload.set(bitmap, fixed.length);
  return payload;
}

export interface DirtyPagesRequest {
  /** `DirtyFlags`, exactly one. */
  readonly flags: number;
  /** With GET_BITMAP; `bitmapSize` in bytes. */
  readonly range?: { readonly iova: bigint; readonly size: bigint; readonly pgsize: bigint; readonly bitmapSize: bigint };
}

const DIRTY_GET_BYTES = DirtyPages.structSize + DirtyRange.structSize;

export function encodeDirtyPages(request: DirtyPagesRequest, bitmap: Uint8Array = NOTHING): Uint8Array<ArrayBuffer> {
  const { flags, range } = request;
  const fixed = range === undefined ? DirtyPages.structSize : DIRTY_GET_BYTES;
  const { payload, view } = made(fixed + bitmap.length);
  DirtyPages.encode(view, 0, { argsz: fixed + Number(range?.bitmapSize ?? 0n), flags });
  if (range !== undefined) {
    const { iova, size, pgsize, bitmapSize } = range;
    DirtyRange.encode(view, DirtyPages.structSize, { iova, size, pgsize, bitmap_size: bitmapSize });
  }
  payload.set(bitmap, fixed);
  return payload;
}

/** @throws VfioError EINVAL too short, not exactly one flag, argsz that leaves no room for the bitmap, or one too large */
export function decodeDirtyPages(payload: Uint8Array, maxBytes: number): DirtyPagesRequest {
  const view = check(Command.DIRTY_PAGES, payload, DirtyPages.structSize);
  const argsz = checkArgsz(Command.DIRTY_PAGES, view, DirtyPages.structSize);
  const { flags } = DirtyPages.decode(view);
  if (flags !== DirtyFlags.START && flags !== DirtyFlags.STOP && flags !== DirtyFlags.GET_BITMAP) {
    throw new VfioError('EINVAL', `DIRTY_PAGES: flags ${hex(flags)}; give one of START, STOP and GET_BITMAP`);
  }
  if (flags !== DirtyFlags.GET_BITMAP) return { flags };
  if (payload.length < DIRTY_GET_BYTES) throw tooShort(Command.DIRTY_PAGES, payload.length, DIRTY_GET_BYTES);
  const { iova, size, pgsize, bitmap_size: bitmapSize } = DirtyRange.decode(view, DirtyPages.structSize);
  checkBitmapRoom('DIRTY_PAGES', argsz, DIRTY_GET_BYTES, bitmapSize, maxBytes);
  return { flags, range: { iova, size, pgsize, bitmapSize } };
}
