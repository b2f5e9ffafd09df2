/** DEVICE_GET_REGION_INFO: a region, its chain of capabilities, and the file behind it. */
import type { RegionInfo as RegionDescription } from '../../abi/device.ts';
import { RegionCap, RegionFlags, RegionIndex } from '../../abi/vfio.ts';
import { InfoCapHeader, RegionInfo, RegionInfoCapSparseMmap, RegionInfoCapType, SparseMmapArea } from '../../abi/vfio-structs.ts';
import { type DescribedRegion, decodeRegionInfo as decodeDescription } from '../../device/region-capabilities.ts';
import { message } from './message.ts';
import { check, checkArgsz, made } from './payload.ts';
import {
  bits,
  capabilities as capabilityWords,
  dec,
  flags as flagWords,
  name,
  otherwise,
  pick,
  ref,
  hex as shownHex,
  zero,
} from './shape.ts';

export function encodeRegionInfoRequest(index: number, argsz: number = RegionInfo.structSize): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(RegionInfo.structSize);
  RegionInfo.encode(view, 0, { argsz, index });
  return payload;
}

/** @throws VfioError EINVAL too short */
export function decodeRegionInfoRequest(payload: Uint8Array): { readonly argsz: number; readonly index: number } {
  const view = check('DEVICE_GET_REGION_INFO', payload, RegionInfo.structSize);
  const argsz = checkArgsz('DEVICE_GET_REGION_INFO', view, RegionInfo.structSize);
  return { argsz, index: RegionInfo.index.get(view, 0) };
}

/**
 * `argsz`: when it is more than the request's, this answer has no capabilities and brings no
 * descriptor. `offset`: where in the descriptor that comes along the region starts.
 */
export type RegionInfoReply = DescribedRegion;

/**
 * @param argsz what the client has room for; when that is too little for the capabilities, only the
 *   structure is sent
 * @param offset where in the descriptor that goes along the region starts
 */
export function encodeRegionInfo(info: RegionDescription, argsz: number, offset: bigint): Uint8Array<ArrayBuffer> {
  const capabilities = regionCapabilities(info, RegionInfo.structSize);
  const whole = RegionInfo.structSize + capabilities.length;
  const fits = argsz >= whole;
  const { payload, view } = made(fits ? whole : RegionInfo.structSize);
  const withCaps = fits && capabilities.length > 0;
  RegionInfo.encode(view, 0, {
    argsz: whole,
    flags: (info.flags & ~RegionFlags.CAPS) | (withCaps ? RegionFlags.CAPS : 0),
    index: info.index,
    cap_offset: withCaps ? RegionInfo.structSize : 0,
    size: BigInt(info.size),
    offset,
  });
  if (withCaps) payload.set(capabilities, RegionInfo.structSize);
  return payload;
}

/** The chain as it stands `at` bytes after the start of the structure. */
function regionCapabilities(info: RegionDescription, at: number): Uint8Array<ArrayBuffer> {
  const { sparseAreas, type, msixMappable } = info;
  const sizes: number[] = [];
  if (sparseAreas !== undefined) sizes.push(RegionInfoCapSparseMmap.structSize + sparseAreas.length * SparseMmapArea.structSize);
  if (type !== undefined) sizes.push(TYPE_CAP_BYTES);
  if (msixMappable === true) sizes.push(InfoCapHeader.structSize);
  const { payload, view } = made(sizes.reduce((sum, size) => sum + size, 0));
  let offset = 0;
  let left = sizes.length;
  const header = (id: number): number => {
    const size = sizes[sizes.length - left]!;
    left--;
    InfoCapHeader.encode(view, offset, { id, version: 1, next: left === 0 ? 0 : at + offset + size });
    offset += size;
    return offset - size;
  };
  if (sparseAreas !== undefined) {
    const start = header(RegionCap.SPARSE_MMAP);
    RegionInfoCapSparseMmap.nr_areas.set(view, start, sparseAreas.length);
    sparseAreas.forEach(({ offset, size }, i) => {
      const where = start + RegionInfoCapSparseMmap.structSize + i * SparseMmapArea.structSize;
      SparseMmapArea.encode(view, where, { offset: BigInt(offset), size: BigInt(size) });
    });
  }
  if (type !== undefined) RegionInfoCapType.encode(view, header(RegionCap.TYPE), type);
  if (msixMappable === true) header(RegionCap.MSIX_MAPPABLE);
  return payload;
}

const TYPE_CAP_BYTES = RegionInfoCapType.structSize;
/** @throws VfioError EINVAL too short; EPROTO an impossible capability chain or size */
export function decodeRegionInfo(payload: Uint8Array): RegionInfoReply {
  const view = check('DEVICE_GET_REGION_INFO', payload, RegionInfo.structSize);
  checkArgsz('DEVICE_GET_REGION_INFO', view, RegionInfo.structSize);
  return decodeDescription(view, 'DEVICE_GET_REGION_INFO');
}

const index = name(RegionInfo.index, RegionIndex, 'region');

export const regionInfo = message({
  name: 'DEVICE_GET_REGION_INFO',
  number: 5,
  from: 'client',
  size: { fixed: RegionInfo.structSize, argsz: true },
  shown: ({ size }, isReply) => (isReply ? size : RegionInfo.structSize),
  decode: decodeRegionInfoRequest,
  answer({ regionFiles }, { argsz, index }) {
    const { info, file } = regionFiles.region(index);
    const payload = encodeRegionInfo(info, argsz, BigInt(file?.offset ?? 0));
    // A client that left no room for the capabilities asks again, and gets the descriptor then.
    const whole = argsz >= RegionInfo.argsz.get(new DataView(payload.buffer), 0);
    return file !== null && whole ? { payload, fds: [file.duplicateFd()] } : { payload };
  },
  encode: ({ index, argsz }) => encodeRegionInfoRequest(index, argsz),
  decodeReply: decodeRegionInfo,
  command: { structs: [RegionInfo], words: [index, ', room for ', dec(RegionInfo.argsz), ' bytes'] },
  reply: {
    structs: [RegionInfo],
    words: [
      index,
      ': ',
      pick(
        zero(ref(RegionInfo.size), 'none'),
        otherwise(
          shownHex(RegionInfo.size),
          ' bytes ',
          flagWords(RegionInfo.flags, RegionFlags),
          pick(bits(ref(RegionInfo.flags), RegionFlags.MMAP, RegionFlags.MMAP, ', offset ', shownHex(RegionInfo.offset))),
          pick(bits(ref(RegionInfo.flags), RegionFlags.CAPS, RegionFlags.CAPS, capabilityWords(RegionInfo.cap_offset))),
        ),
      ),
    ],
  },
});
