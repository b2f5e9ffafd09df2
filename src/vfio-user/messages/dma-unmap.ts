/**
 * DMA_UNMAP: the client takes memory back, and may ask which of its pages the device has written.
 */
import { DmaUnmapFlags } from '../../abi/vfio.ts';
import { hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { struct } from '../../base/struct.ts';
import type { DmaUnmapRequest } from './answer-context.ts';
import { checkBitmapRoom } from './bitmap-room.ts';
import { message } from './message.ts';
import { check, checkArgsz, made, NOTHING, tooShort } from './payload.ts';
import { bits, dec, dirty, longer, pick, range, ref, type Word } from './shape.ts';

/**
 * With GET_DIRTY_BITMAP followed by a DirtyBitmap; the reply appends the bitmap's bytes.
 * `DmaUnmapFlags` of vfio.ts.
 */
export const DmaUnmap = struct('vfio_user_dma_unmap', 24, { argsz: 'u32', flags: 'u32', address: 'u64', size: 'u64' });
/** `size` in bytes: of the bitmap. */
export const DirtyBitmap = struct('vfio_user_bitmap', 16, { pgsize: 'u64', size: 'u64' });

const KNOWN_FLAGS = DmaUnmapFlags.GET_DIRTY_BITMAP | DmaUnmapFlags.ALL;
const BITMAP_AT = DmaUnmap.structSize;
const WITH_BITMAP = DmaUnmap.structSize + DirtyBitmap.structSize;

export function encodeDmaUnmap(request: DmaUnmapRequest): Uint8Array<ArrayBuffer> {
  const { flags, address, size, bitmap } = request;
  const { payload, view } = made(bitmap === undefined ? DmaUnmap.structSize : WITH_BITMAP);
  // Field by field: clients map and unmap for each of their requests.
  DmaUnmap.argsz.set(view, 0, bitmap === undefined ? payload.length : payload.length + Number(bitmap.size));
  DmaUnmap.flags.set(view, 0, flags);
  DmaUnmap.address.set(view, 0, address);
  DmaUnmap.size.set(view, 0, size);
  if (bitmap !== undefined) DirtyBitmap.encode(view, BITMAP_AT, bitmap);
  return payload;
}

/**
 * @param maxBytes the most that the reply may take
 * @throws VfioError EINVAL too short, unknown flags, both flags, ALL with a range, argsz that
 *   leaves no room for the bitmap, or one too large
 */
export function decodeDmaUnmap(payload: Uint8Array, maxBytes: number): DmaUnmapRequest {
  const view = check('DMA_UNMAP', payload, DmaUnmap.structSize);
  const argsz = checkArgsz('DMA_UNMAP', view, DmaUnmap.structSize);
  const flags = DmaUnmap.flags.get(view, 0);
  const address = DmaUnmap.address.get(view, 0);
  const size = DmaUnmap.size.get(view, 0);
  if ((flags & ~KNOWN_FLAGS) !== 0) throw new VfioError('EINVAL', `DMA_UNMAP: unknown flags ${hex(flags)}`);
  if ((flags & DmaUnmapFlags.ALL) !== 0) {
    if (flags !== DmaUnmapFlags.ALL) throw new VfioError('EINVAL', 'DMA_UNMAP: GET_DIRTY_BITMAP does not go with ALL');
    if (address !== 0n || size !== 0n) throw new VfioError('EINVAL', 'DMA_UNMAP: with ALL, address and size must be 0');
  }
  if ((flags & DmaUnmapFlags.GET_DIRTY_BITMAP) === 0) return { flags, address, size };
  if (payload.length < WITH_BITMAP) throw tooShort('DMA_UNMAP', payload.length, WITH_BITMAP);
  const bitmap = DirtyBitmap.decode(view, BITMAP_AT);
  checkBitmapRoom('DMA_UNMAP', argsz, WITH_BITMAP, bitmap.size, maxBytes);
  return { flags, address, size, bitmap };
}

/**
 * The request's fields again, then the bitmap. Without a bitmap it is the 24 bytes that QEMU reads.
 */
export function encodeDmaUnmapReply(request: DmaUnmapRequest, bitmap: Uint8Array = NOTHING): Uint8Array<ArrayBuffer> {
  const fixed = encodeDmaUnmap(request);
  if (bitmap.length === 0) return fixed;
  const payload = new Uint8Array(fixed.length + bitmap.length);
  payload.set(fixed);
  payload.set(bitmap, fixed.length);
  return payload;
}

const unmapped = range(DmaUnmap.address, DmaUnmap.size);

function shape(...withBitmap: Word[]) {
  const asks = bits(ref(DmaUnmap.flags), DmaUnmapFlags.GET_DIRTY_BITMAP, DmaUnmapFlags.GET_DIRTY_BITMAP);
  const withStructure = { ...asks, shape: { at: BITMAP_AT, structs: [DirtyBitmap], words: withBitmap } };
  return {
    structs: [DmaUnmap],
    words: [pick(bits(ref(DmaUnmap.flags), DmaUnmapFlags.ALL, DmaUnmapFlags.ALL, 'all'), longer(-1, unmapped)), pick(withStructure)],
  };
}

export const dmaUnmap = message({
  name: 'DMA_UNMAP',
  number: 3,
  from: 'client',
  size: { fixed: WITH_BITMAP, argsz: true },
  // SPDK's client sends the descriptor that it mapped with. It is closed unused.
  fds: 1,
  decode: decodeDmaUnmap,
  answer: ({ mappings }, request) => ({ payload: encodeDmaUnmapReply(request, mappings.unmap(request)) }),
  command: shape(
    ', with its dirty bitmap of ',
    dec(DirtyBitmap.size, BITMAP_AT),
    ' bytes in pages of ',
    dec(DirtyBitmap.pgsize, BITMAP_AT),
  ),
  reply: shape(', ', dirty(WITH_BITMAP, ref(DmaUnmap.address), ref(DirtyBitmap.pgsize, BITMAP_AT))),
});
