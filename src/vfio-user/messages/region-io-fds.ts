/** DEVICE_GET_REGION_IO_FDS: eventfds that stand for writes to doorbells of a region. */
import { RegionIndex } from '../../abi/vfio.ts';
import { hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { struct } from '../../base/struct.ts';
import { message } from './message.ts';
import { check, checkArgsz, made } from './payload.ts';
import { bits, dec, each, name, pick, range, ref, hex as shownHex, type Word } from './shape.ts';

/** Followed by `count` IoFd. */
export const RegionIoFds = struct('vfio_user_region_io_fds', 16, { argsz: 'u32', flags: 'u32', index: 'u32', count: 'u32' });
export const IoFd = struct('vfio_user_sub_region_ioeventfd', 40, {
  offset: 'u64',
  size: 'u64',
  fd_index: 'u32',
  type: 'u32',
  flags: 'u32',
  reserved: 'u32',
  datamatch: 'u64',
});
/**
 * libvfio-user sends these instead. The stride, (argsz - 16) / count, shows which of the two came.
 */
export const ShadowIoFd = struct('libvfio_user_sub_region_ioeventfd', 48, {
  offset: 'u64',
  size: 'u64',
  fd_index: 'u32',
  type: 'u32',
  flags: 'u32',
  shadow_fd_index: 'u32',
  shadow_offset: 'u64',
  datamatch: 'u64',
});
const IoFdType = { IOEVENTFD: 0, IOREGIONFD: 1, SHADOW_IOEVENTFD: 2 } as const;
/** KVM_IOEVENTFD_FLAG_*. */
const IoFdFlags = { DATAMATCH: 1, PIO: 2 } as const;

export interface IoFdEntry {
  readonly offset: bigint;
  readonly size: bigint;
  /** Which of the descriptors that come along. */
  readonly fdIndex: number;
  /** `IoFdType` */
  readonly type: number;
  /** `IoFdFlags` */
  readonly flags: number;
  readonly datamatch: bigint;
}

export function encodeIoFdsRequest(index: number, argsz: number = RegionIoFds.structSize): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(RegionIoFds.structSize);
  RegionIoFds.encode(view, 0, { argsz, index });
  return payload;
}

/** @throws VfioError EINVAL too short, or flags or count not 0 */
export function decodeIoFdsRequest(payload: Uint8Array): { readonly argsz: number; readonly index: number } {
  const view = check('DEVICE_GET_REGION_IO_FDS', payload, RegionIoFds.structSize);
  const argsz = checkArgsz('DEVICE_GET_REGION_IO_FDS', view, RegionIoFds.structSize);
  const { flags, index, count } = RegionIoFds.decode(view);
  if (flags !== 0 || count !== 0)
    throw new VfioError('EINVAL', `DEVICE_GET_REGION_IO_FDS: flags ${hex(flags)}, count ${count}; both must be 0`);
  return { argsz, index };
}

/** The bytes that the whole answer takes, and `entries` when `argsz` has room for them. */
export function encodeIoFds(index: number, entries: readonly IoFdEntry[], argsz: number): Uint8Array<ArrayBuffer> {
  const whole = RegionIoFds.structSize + entries.length * IoFd.structSize;
  const { payload, view } = made(argsz >= whole ? whole : RegionIoFds.structSize);
  RegionIoFds.encode(view, 0, { argsz: whole, index, count: entries.length });
  if (argsz < whole) return payload;
  entries.forEach(({ offset, size, fdIndex, type, flags, datamatch }, i) => {
    IoFd.encode(view, RegionIoFds.structSize + i * IoFd.structSize, { offset, size, fd_index: fdIndex, type, flags, datamatch });
  });
  return payload;
}

/**
 * Entries of 40 bytes, or libvfio-user's of 48. None when argsz was too small: ask again with the
 * `argsz` of the reply.
 * @throws VfioError EPROTO
 */
export function decodeIoFds(payload: Uint8Array): {
  readonly argsz: number;
  readonly count: number;
  readonly entries: readonly IoFdEntry[];
} {
  const view = check('DEVICE_GET_REGION_IO_FDS', payload, RegionIoFds.structSize);
  const { argsz, count } = RegionIoFds.decode(view);
  const bytes = payload.length - RegionIoFds.structSize;
  if (bytes === 0) return { argsz, count, entries: [] };
  const stride = bytes / count;
  if (stride !== IoFd.structSize && stride !== ShadowIoFd.structSize) {
    throw new VfioError('EPROTO', `DEVICE_GET_REGION_IO_FDS: ${bytes} bytes for ${count} entries`);
  }
  const layout = stride === IoFd.structSize ? IoFd : ShadowIoFd;
  const entries = Array.from({ length: count }, (_, i) => {
    const { fd_index: fdIndex, ...rest } = layout.decode(view, RegionIoFds.structSize + i * stride);
    const { offset, size, type, flags, datamatch } = rest;
    return { offset, size, fdIndex, type, flags, datamatch };
  });
  return { argsz, count, entries };
}

const index = name(RegionIoFds.index, RegionIndex, 'region');

function entry(layout: typeof IoFd | typeof ShadowIoFd): { readonly struct: typeof layout; readonly words: readonly Word[] } {
  const value = bits(ref(layout.flags), IoFdFlags.DATAMATCH, IoFdFlags.DATAMATCH, ' = ', shownHex(layout.datamatch));
  const words = [range(layout.offset, layout.size), pick(value), ' ', name(layout.type, IoFdType, 'type'), ' ', dec(layout.fd_index)];
  return { struct: layout, words };
}

export const regionIoFds = message({
  name: 'DEVICE_GET_REGION_IO_FDS',
  number: 6,
  from: 'client',
  size: { fixed: RegionIoFds.structSize, argsz: true },
  shown: ({ size }, isReply) => (isReply ? size : RegionIoFds.structSize),
  decode: decodeIoFdsRequest,
  answer({ regionFiles }, { argsz, index }) {
    const { bells, open } = regionFiles.doorbells(index);
    const entries = bells.map(({ offset, size, value }, fdIndex) => ({
      offset: BigInt(offset),
      size: BigInt(size),
      fdIndex,
      type: IoFdType.IOEVENTFD,
      flags: value === null ? 0 : IoFdFlags.DATAMATCH,
      datamatch: value ?? 0n,
    }));
    const payload = encodeIoFds(index, entries, argsz);
    const whole = argsz >= RegionIoFds.argsz.get(new DataView(payload.buffer), 0);
    return whole && bells.length > 0 ? { payload, fds: open() } : { payload };
  },
  command: { structs: [RegionIoFds], words: [index, ', room for ', dec(RegionIoFds.argsz), ' bytes'] },
  reply: {
    structs: [RegionIoFds],
    words: [index, ': ', dec(RegionIoFds.count), ' ', each(RegionIoFds.structSize, ref(RegionIoFds.count), entry(IoFd), entry(ShadowIoFd))],
  },
});
