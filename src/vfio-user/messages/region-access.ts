/**
 * REGION_READ and REGION_WRITE: register accesses. Server and client read and build them in place
 * (server/region-messages.ts, client/region-io.ts); the encoder here is for everything else.
 */
import { RegionIndex } from '../../abi/vfio.ts';
import { struct } from '../../base/struct.ts';
import { type IsMemory, message, type Payload } from './message.ts';
import { made, NOTHING } from './payload.ts';
import { dec, hex, name, otherwise, pick, ref, type Shape, value, type Word } from './shape.ts';

/** Requests and replies: followed by `count` bytes where there is data. */
export const RegionAccess = struct('vfio_user_region_access', 16, { offset: 'u64', region: 'u32', count: 'u32' });

/**
 * REGION_READ's request, or a reply to REGION_WRITE; with `data`, REGION_WRITE's request, or a
 * reply to REGION_READ.
 */
export function encodeRegionAccess(offset: bigint, region: number, count: number, data: Uint8Array = NOTHING): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(RegionAccess.structSize + data.length);
  RegionAccess.encode(view, 0, { offset, region, count });
  payload.set(data, RegionAccess.structSize);
  return payload;
}

const where: readonly Word[] = [name(RegionAccess.region, RegionIndex, 'region'), '+', hex(RegionAccess.offset)];

/** Servers answer an access of no bytes with the header alone. */
function shape(...words: Word[]): Shape {
  const access = { test: { kind: 'longer', than: 0 } as const, shape: { structs: [RegionAccess], words: [...where, ...words] } };
  return { words: [pick(access, otherwise('ok'))] };
}

const withData = shape(' = ', value(RegionAccess.structSize));
const withoutData = shape(', ', dec(RegionAccess.count), ' bytes');

/** The widest register. */
const WIDEST = 8;

/** The structure, and behind it the value of a register. */
function withValue({ view, at, size }: Payload, isMemory: IsMemory): number {
  const value = size - RegionAccess.structSize;
  if (value <= 0 || value > WIDEST) return RegionAccess.structSize;
  const offset = view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
  return isMemory(view.getUint32(at + RegionAccess.region.offset, true), offset) ? RegionAccess.structSize : size;
}

export const regionRead = message({
  name: 'REGION_READ',
  number: 9,
  from: 'client',
  size: { fixed: RegionAccess.structSize },
  shown: (payload, isReply, isMemory) => (isReply ? withValue(payload, isMemory) : RegionAccess.structSize),
  inPlace: (regions, reader, writer) => regions.read(reader, writer),
  command: withoutData,
  reply: withData,
});

export const regionWrite = message({
  name: 'REGION_WRITE',
  number: 10,
  from: 'client',
  size: { fixed: RegionAccess.structSize, data: 'negotiated', counted: { ref: ref(RegionAccess.count), unit: 1 } },
  shown: (payload, isReply, isMemory) => (isReply ? RegionAccess.structSize : withValue(payload, isMemory)),
  inPlace: (regions, reader, writer) => regions.write(reader, writer),
  command: withData,
  reply: withoutData,
});
