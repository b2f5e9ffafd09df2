/** REGION_WRITE_MULTI: several register writes in one message. */
import { RegionIndex } from '../../abi/vfio.ts';
import { VfioError } from '../../base/errno.ts';
import { struct } from '../../base/struct.ts';
import { type IsMemory, message, type Payload } from './message.ts';
import { check, made } from './payload.ts';
import { dec, each, hex, name, ref, value } from './shape.ts';

/** Followed by `count` WriteMultiEntry. The reply is this alone. */
export const WriteMulti = struct('vfio_user_region_write_multi', 8, { count: 'u64' });
/** The bytes of `data` in memory order; `count` is at most 8. */
export const WriteMultiEntry = struct('vfio_user_write_multi_entry', 24, { offset: 'u64', region: 'u32', count: 'u32', data: 'u64' });

export interface WriteMultiWrite {
  readonly offset: bigint;
  readonly region: number;
  /** 1 to 8 bytes. */
  readonly data: Uint8Array;
}

export function encodeWriteMulti(writes: readonly WriteMultiWrite[]): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(WriteMulti.structSize + writes.length * WriteMultiEntry.structSize);
  WriteMulti.count.set(view, 0, BigInt(writes.length));
  writes.forEach(({ offset, region, data }, i) => {
    const at = WriteMulti.structSize + i * WriteMultiEntry.structSize;
    WriteMultiEntry.encode(view, at, { offset, region, count: data.length });
    payload.set(data.subarray(0, 8), at + WriteMultiEntry.data.offset);
  });
  return payload;
}

/**
 * How many writes: each is a WriteMultiEntry.
 * @throws VfioError EINVAL when the payload does not hold that many, or a count is above 8
 */
export function checkWriteMulti(payload: Uint8Array): number {
  const view = check('REGION_WRITE_MULTI', payload, WriteMulti.structSize);
  const count = WriteMulti.count.get(view, 0);
  const bytes = payload.length - WriteMulti.structSize;
  if (count * BigInt(WriteMultiEntry.structSize) !== BigInt(bytes)) {
    throw new VfioError('EINVAL', `REGION_WRITE_MULTI: ${count} writes in ${bytes} bytes`);
  }
  for (let at: number = WriteMulti.structSize; at < payload.length; at += WriteMultiEntry.structSize) {
    const size = WriteMultiEntry.count.get(view, at);
    if (size > 8) throw new VfioError('EINVAL', `REGION_WRITE_MULTI: a write of ${size} bytes; at most 8`);
  }
  return Number(count);
}

/** All writes, unless one goes to memory. */
function untilMemory({ view, at, size }: Payload, isMemory: IsMemory): number {
  for (let entry: number = WriteMulti.structSize; entry + WriteMultiEntry.structSize <= size; entry += WriteMultiEntry.structSize) {
    const offset = view.getUint32(at + entry, true) + view.getUint32(at + entry + 4, true) * 2 ** 32;
    if (isMemory(view.getUint32(at + entry + WriteMultiEntry.region.offset, true), offset)) return WriteMulti.structSize;
  }
  return size;
}

export const writeMulti = message({
  name: 'REGION_WRITE_MULTI',
  number: 15,
  from: 'client',
  size: { fixed: WriteMulti.structSize, data: 'negotiated', counted: { ref: ref(WriteMulti.count), unit: WriteMultiEntry.structSize } },
  shown: (payload, _, isMemory) => untilMemory(payload, isMemory),
  inPlace: (regions, reader, writer) => regions.writeMulti(reader, writer),
  command: {
    structs: [WriteMulti],
    words: [
      dec(WriteMulti.count),
      ': ',
      each(WriteMulti.structSize, ref(WriteMulti.count), {
        struct: WriteMultiEntry,
        words: [
          name(WriteMultiEntry.region, RegionIndex, 'region'),
          '+',
          hex(WriteMultiEntry.offset),
          ' ',
          value(WriteMultiEntry.data.offset, ref(WriteMultiEntry.count), WriteMultiEntry.data.size),
        ],
      }),
    ],
  },
  reply: { structs: [WriteMulti], words: [dec(WriteMulti.count), ' written'] },
});
