/**
 * DMA_READ and DMA_WRITE: the server's commands, by which a model reaches memory that the client
 * did not share. Server and client build and answer them in place (server/dma-commands.ts,
 * client/serving.ts).
 */
import { struct } from '../../base/struct.ts';
import { message, type Payload } from './message.ts';
import { bits, hex, longer, otherwise, pick, type Ref, type Shape, value, type Word } from './shape.ts';

/**
 * Followed by `count` bytes where there is data. Early QEMUs have a u32 `count` and data at 12:
 * server/dma-layout.ts.
 */
export const DmaAccess = struct('vfio_user_dma_rw', 16, { address: 'u64', count: 'u64' });

const COUNT: Ref = { at: DmaAccess.count.offset, bytes: 4 };
/**
 * The upper half of the count. Where an early QEMU has data there, it shows unless the data is 0.
 */
const QEMU_DATA: Ref = { at: COUNT.at + 4, bytes: 4 };
const U32 = 0xffff_ffff;

/** QEMU answers DMA_WRITE with the header alone. */
function shape(...words: Word[]): Shape {
  const access = { ...longer(0), shape: { structs: [DmaAccess], words: [hex(DmaAccess.address), ...words] } };
  return { words: [pick(access, otherwise('ok'))] };
}

const withData = shape(' = ', pick(bits(QEMU_DATA, U32, 0, value(DmaAccess.structSize, COUNT)), otherwise(value(QEMU_DATA.at, COUNT))));
const withoutData = shape(', ', { kind: 'dec', ref: COUNT }, ' bytes');

/** Up to the data, which begins where QEMU has it when the upper half of the count is no 0. */
function upToData({ view, at, size }: Payload): number {
  return size >= DmaAccess.structSize && view.getUint32(at + QEMU_DATA.at, true) !== 0 ? QEMU_DATA.at : DmaAccess.structSize;
}

export const dmaRead = message({
  name: 'DMA_READ',
  number: 11,
  from: 'server',
  size: { fixed: DmaAccess.structSize, data: 'negotiated' },
  shown: upToData,
  command: withoutData,
  reply: withData,
});

export const dmaWrite = message({
  name: 'DMA_WRITE',
  number: 12,
  from: 'server',
  size: { fixed: DmaAccess.structSize },
  shown: upToData,
  command: withData,
  reply: withoutData,
});
