/**
 * DIRTY_PAGES: which pages of the client's memory the device has written. The specification has it
 * no more, and does not use its number again.
 */
import { DirtyFlags } from '../../abi/vfio.ts';
import { hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { struct } from '../../base/struct.ts';
import type { DirtyPagesRequest } from './answer-context.ts';
import { checkBitmapRoom } from './bitmap-room.ts';
import { message } from './message.ts';
import { check, checkArgsz, made, NOTHING, tooShort } from './payload.ts';
import { bits, dec, dirty, flags as flagWords, pick, range, ref, type Word } from './shape.ts';

/**
 * With GET_BITMAP followed by DirtyRange; the reply appends the bitmap's bytes. `DirtyFlags` of
 * vfio.ts.
 */
export const DirtyPages = struct('vfio_user_dirty_pages', 8, { argsz: 'u32', flags: 'u32' });
export const DirtyRange = struct('vfio_user_bitmap_range', 32, { iova: 'u64', size: 'u64', pgsize: 'u64', bitmap_size: 'u64' });

const RANGE_AT = DirtyPages.structSize;
const WITH_RANGE = DirtyPages.structSize + DirtyRange.structSize;

/** A request, or with `bitmap` its reply. */
export function encodeDirtyPages(request: DirtyPagesRequest, bitmap: Uint8Array = NOTHING): Uint8Array<ArrayBuffer> {
  const { flags, range } = request;
  const fixed = range === undefined ? DirtyPages.structSize : WITH_RANGE;
  const { payload, view } = made(fixed + bitmap.length);
  DirtyPages.encode(view, 0, { argsz: fixed + Number(range?.bitmapSize ?? 0n), flags });
  if (range !== undefined) {
    const { iova, size, pgsize, bitmapSize } = range;
    DirtyRange.encode(view, RANGE_AT, { iova, size, pgsize, bitmap_size: bitmapSize });
  }
  payload.set(bitmap, fixed);
  return payload;
}

/**
 * @throws VfioError EINVAL too short, not exactly one flag, argsz that leaves no room for the
 *   bitmap, or one too large
 */
export function decodeDirtyPages(payload: Uint8Array, maxBytes: number): DirtyPagesRequest {
  const view = check('DIRTY_PAGES', payload, DirtyPages.structSize);
  const argsz = checkArgsz('DIRTY_PAGES', view, DirtyPages.structSize);
  const { flags } = DirtyPages.decode(view);
  if (flags !== DirtyFlags.START && flags !== DirtyFlags.STOP && flags !== DirtyFlags.GET_BITMAP) {
    throw new VfioError('EINVAL', `DIRTY_PAGES: flags ${hex(flags)}; give one of START, STOP and GET_BITMAP`);
  }
  if (flags !== DirtyFlags.GET_BITMAP) return { flags };
  if (payload.length < WITH_RANGE) throw tooShort('DIRTY_PAGES', payload.length, WITH_RANGE);
  const { iova, size, pgsize, bitmap_size: bitmapSize } = DirtyRange.decode(view, RANGE_AT);
  checkBitmapRoom('DIRTY_PAGES', argsz, WITH_RANGE, bitmapSize, maxBytes);
  return { flags, range: { iova, size, pgsize, bitmapSize } };
}

function shape(...withRange: Word[]) {
  const asks = bits(ref(DirtyPages.flags), DirtyFlags.GET_BITMAP, DirtyFlags.GET_BITMAP);
  const words = [' ', range(DirtyRange.iova, DirtyRange.size, RANGE_AT), ...withRange];
  return {
    structs: [DirtyPages],
    words: [flagWords(DirtyPages.flags, DirtyFlags), pick({ ...asks, shape: { at: RANGE_AT, structs: [DirtyRange], words } })],
  };
}

export const dirtyPages = message({
  name: 'DIRTY_PAGES',
  number: 14,
  from: 'client',
  size: { fixed: WITH_RANGE, argsz: true },
  decode: decodeDirtyPages,
  answer: ({ mappings }, request) => ({ payload: encodeDirtyPages(request, mappings.dirtyPages(request)) }),
  command: shape(' in pages of ', dec(DirtyRange.pgsize, RANGE_AT), ', a bitmap of ', dec(DirtyRange.bitmap_size, RANGE_AT), ' bytes'),
  reply: shape(', ', dirty(WITH_RANGE, ref(DirtyRange.iova, RANGE_AT), ref(DirtyRange.pgsize, RANGE_AT))),
});
