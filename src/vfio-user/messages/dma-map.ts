/**
 * DMA_MAP: the client lends memory for DMA. The memory comes as a file; without one the server
 * reaches it by messages.
 */
import { hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { struct } from '../../base/struct.ts';
import type { DmaMapRequest } from './answer-context.ts';
import { EMPTY_ANSWER, message } from './message.ts';
import { check, checkArgsz, made } from './payload.ts';
import { DONE, flags, range, hex as shownHex } from './shape.ts';

/** `offset` is into the descriptor that comes along. */
export const DmaMap = struct('vfio_user_dma_map', 32, { argsz: 'u32', flags: 'u32', offset: 'u64', address: 'u64', size: 'u64' });
/** MMAP and FILE_IO are libvfio-user's: how the server is to use the descriptor. */
export const UserDmaMapFlags = { READ: 1, WRITE: 2, MMAP: 4, FILE_IO: 8 } as const;

const KNOWN_FLAGS = UserDmaMapFlags.READ | UserDmaMapFlags.WRITE | UserDmaMapFlags.MMAP | UserDmaMapFlags.FILE_IO;

export function encodeDmaMap(request: DmaMapRequest): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(DmaMap.structSize);
  DmaMap.encode(view, 0, { ...request, argsz: DmaMap.structSize });
  return payload;
}

/** @throws VfioError EINVAL too short, or unknown flags */
export function decodeDmaMap(payload: Uint8Array): DmaMapRequest {
  const view = check('DMA_MAP', payload, DmaMap.structSize);
  checkArgsz('DMA_MAP', view, DmaMap.structSize);
  // Field by field: clients map and unmap for each of their requests.
  const flags = DmaMap.flags.get(view, 0);
  if ((flags & ~KNOWN_FLAGS) !== 0) throw new VfioError('EINVAL', `DMA_MAP: unknown flags ${hex(flags)}`);
  return { flags, offset: DmaMap.offset.get(view, 0), address: DmaMap.address.get(view, 0), size: DmaMap.size.get(view, 0) };
}

export const dmaMap = message({
  name: 'DMA_MAP',
  number: 2,
  from: 'client',
  fds: 1,
  size: { fixed: DmaMap.structSize, argsz: true },
  decode: decodeDmaMap,
  answer({ mappings }, request, fds) {
    mappings.map(request, fds);
    return EMPTY_ANSWER;
  },
  command: {
    structs: [DmaMap],
    words: [
      range(DmaMap.address, DmaMap.size),
      ' ',
      flags(DmaMap.flags, UserDmaMapFlags),
      ', offset ',
      shownHex(DmaMap.offset),
      ' of its memory',
    ],
  },
  reply: DONE,
});
