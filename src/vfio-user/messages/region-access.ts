/** What reaches a region: REGION_READ, REGION_WRITE, REGION_WRITE_MULTI, and the descriptors of REGION_IO_FDS that stand for writes. */
import { Command, IoFd, RegionAccess, RegionIoFds, ShadowIoFd, WriteMulti, WriteMultiEntry } from '../../abi/vfio-user.ts';
import { hex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import { check, checkArgsz, made, NOTHING } from './payload.ts';

/** REGION_READ's request, or a reply to REGION_WRITE; with `data`, REGION_WRITE's request, or a reply to REGION_READ. */
export function encodeRegionAccess(offset: bigint, region: number, count: number, data: Uint8Array = NOTHING): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(RegionAccess.structSize + data.length);
  RegionAccess.encode(view, 0, { offset, region, count });
  payload.set(data, RegionAccess.structSize);
  return payload;
}

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

/** How many writes: each is a WriteMultiEntry. @throws VfioError EINVAL when the payload does not hold that many, or a count is above 8 */
export function checkWriteMulti(payload: Uint8Array): number {
  const view = check(Command.REGION_WRITE_MULTI, payload, WriteMulti.structSize);
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
  const view = check(Command.DEVICE_GET_REGION_IO_FDS, payload, RegionIoFds.structSize);
  const argsz = checkArgsz(Command.DEVICE_GET_REGION_IO_FDS, view, RegionIoFds.structSize);
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

/** Entries of 40 bytes, or libvfio-user's of 48. None when argsz was too small: ask again with the `argsz` told. @throws VfioError EPROTO */
export function decodeIoFds(payload: Uint8Array): {
  readonly argsz: number;
  readonly count: number;
  readonly entries: readonly IoFdEntry[];
} {
  const view = check(Command.DEVICE_GET_REGION_IO_FDS, payload, RegionIoFds.structSize);
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
