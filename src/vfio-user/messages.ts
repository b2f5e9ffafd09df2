/**
 * Every message of the protocol, encoded and decoded. Decoders look at lengths and at everything that can be said without a device, and throw
 * the errno to answer; they never read past the payload. Region accesses of a register's width do not come through here but are read and
 * written in place, with `RegionAccess` of abi/vfio-user.ts.
 *
 * A payload is what follows the header: `encode…` makes a fresh one.
 */
import type { MappableArea, RegionInfo as RegionDescription } from '../abi/device.ts';
import { DirtyFlags, DmaUnmapFlags, FeatureFlags, IrqSetFlags, RegionCap, RegionFlags } from '../abi/vfio.ts';
import {
  DeviceFeature,
  InfoCapHeader,
  IrqInfo,
  IrqSet,
  RegionInfo,
  RegionInfoCapSparseMmap,
  RegionInfoCapType,
  SparseMmapArea,
} from '../abi/vfio-structs.ts';
import {
  CapabilityDefaults,
  type Command,
  commandName,
  DirtyBitmap,
  DirtyPages,
  DirtyRange,
  DmaMap,
  DmaUnmap,
  HEADER_BYTES,
  Header,
  HeaderFlags,
  IoFd,
  IoFdType,
  MigData,
  RegionAccess,
  RegionIoFds,
  ShadowIoFd,
  UserDeviceInfo,
  UserDmaMapFlags,
  WriteMulti,
  WriteMultiEntry,
} from '../abi/vfio-user.ts';
import { hex } from '../base/check.ts';
import { type ErrnoName, errnoName, VfioError } from '../base/errno.ts';

const NOTHING = new Uint8Array(0);

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Write a header in place. Allocates nothing. */
export function putHeader(view: DataView, at: number, id: number, command: number, size: number, flags: number, error = 0): void {
  view.setUint16(at, id, true);
  view.setUint16(at + 2, command, true);
  view.setUint32(at + 4, size, true);
  view.setUint32(at + 8, flags, true);
  view.setUint32(at + 12, error, true);
}

/** A whole message. */
export function encodeMessage(id: number, command: Command, payload: Uint8Array = NOTHING, flags = 0, error = 0): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(HEADER_BYTES + payload.length);
  putHeader(viewOf(message), 0, id, command, message.length, flags, error);
  message.set(payload, HEADER_BYTES);
  return message;
}

/** A reply that says what went wrong: header only. @param error positive errno */
export function encodeError(id: number, command: number, error: number): Uint8Array<ArrayBuffer> {
  return encodeMessage(id, command as Command, NOTHING, HeaderFlags.REPLY | HeaderFlags.ERROR, error);
}

/**
 * The error that a reply carries, null when it is a success. 0, and a number that is no errno, become EINVAL, as libvfio-user reads them; an
 * errno that we have no name for is EIO.
 */
export function replyError(view: DataView, at: number, what: string): VfioError | null {
  if ((Header.flags.get(view, at) & HeaderFlags.ERROR) === 0) return null;
  const value = Header.error.get(view, at);
  const code: ErrnoName = value === 0 || value > 4095 ? 'EINVAL' : (errnoName(value) ?? 'EIO');
  return new VfioError(code, `${what}: the peer answered ${errnoName(value) ?? `errno ${value}`}`);
}

function tooShort(command: Command, size: number, least: number): VfioError {
  return new VfioError('EINVAL', `${commandName(command)}: ${size} bytes, ${least} at least`);
}

/** @throws VfioError EINVAL when `payload` has fewer than `least` bytes */
function check(command: Command, payload: Uint8Array, least: number): DataView {
  if (payload.length < least) throw tooShort(command, payload.length, least);
  return viewOf(payload);
}

/** @throws VfioError EINVAL when the first word, argsz, is below `least` */
function checkArgsz(command: Command, view: DataView, least: number): number {
  const argsz = view.getUint32(0, true);
  if (argsz < least) throw new VfioError('EINVAL', `${commandName(command)}: argsz ${argsz}, ${least} at least`);
  return argsz;
}

function made(size: number): { payload: Uint8Array<ArrayBuffer>; view: DataView<ArrayBuffer> } {
  const payload = new Uint8Array(size);
  return { payload, view: new DataView(payload.buffer) };
}

// DMA_MAP, DMA_UNMAP, DIRTY_PAGES ---------------------------------------------------------------------------------------------------------

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
  const view = check(2, payload, DmaMap.structSize);
  checkArgsz(2, view, DmaMap.structSize);
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
  const view = check(3, payload, DmaUnmap.structSize);
  const argsz = checkArgsz(3, view, DmaUnmap.structSize);
  const { flags, address, size } = DmaUnmap.decode(view);
  if ((flags & ~UNMAP_FLAGS) !== 0) throw new VfioError('EINVAL', `DMA_UNMAP: unknown flags ${hex(flags)}`);
  if ((flags & DmaUnmapFlags.ALL) !== 0) {
    if (flags !== DmaUnmapFlags.ALL) throw new VfioError('EINVAL', 'DMA_UNMAP: GET_DIRTY_BITMAP does not go with ALL');
    if (address !== 0n || size !== 0n) throw new VfioError('EINVAL', 'DMA_UNMAP: with ALL, address and size must be 0');
  }
  if ((flags & DmaUnmapFlags.GET_DIRTY_BITMAP) === 0) return { flags, address, size };
  if (payload.length < UNMAP_BITMAP_BYTES) throw tooShort(3, payload.length, UNMAP_BITMAP_BYTES);
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

/** The bitmap that an unmap's reply brings. @throws VfioError EPROTO when it is not `size` bytes */
export function decodeDmaUnmapBitmap(payload: Uint8Array, size: number): Uint8Array {
  if (payload.length !== UNMAP_BITMAP_BYTES + size) throw new VfioError('EPROTO', `DMA_UNMAP: the reply's bitmap is not ${size} bytes`);
  return payload.subarray(UNMAP_BITMAP_BYTES);
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
  const view = check(14, payload, DirtyPages.structSize);
  const argsz = checkArgsz(14, view, DirtyPages.structSize);
  const { flags } = DirtyPages.decode(view);
  if (flags !== DirtyFlags.START && flags !== DirtyFlags.STOP && flags !== DirtyFlags.GET_BITMAP) {
    throw new VfioError('EINVAL', `DIRTY_PAGES: flags ${hex(flags)}; give one of START, STOP and GET_BITMAP`);
  }
  if (flags !== DirtyFlags.GET_BITMAP) return { flags };
  if (payload.length < DIRTY_GET_BYTES) throw tooShort(14, payload.length, DIRTY_GET_BYTES);
  const { iova, size, pgsize, bitmap_size: bitmapSize } = DirtyRange.decode(view, DirtyPages.structSize);
  checkBitmapRoom('DIRTY_PAGES', argsz, DIRTY_GET_BYTES, bitmapSize, maxBytes);
  return { flags, range: { iova, size, pgsize, bitmapSize } };
}

// Discovery -------------------------------------------------------------------------------------------------------------------------------

export interface DeviceInfoReply {
  /** `DeviceFlags` */
  readonly flags: number;
  readonly numRegions: number;
  readonly numIrqs: number;
}

export function encodeDeviceInfo(info?: DeviceInfoReply): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(UserDeviceInfo.structSize);
  const { flags = 0, numRegions = 0, numIrqs = 0 } = info ?? {};
  UserDeviceInfo.encode(view, 0, { argsz: UserDeviceInfo.structSize, flags, num_regions: numRegions, num_irqs: numIrqs });
  return payload;
}

/** The same for request and reply. @throws VfioError EINVAL too short */
export function decodeDeviceInfo(payload: Uint8Array): DeviceInfoReply {
  const view = check(4, payload, UserDeviceInfo.structSize);
  checkArgsz(4, view, UserDeviceInfo.structSize);
  const { flags, num_regions: numRegions, num_irqs: numIrqs } = UserDeviceInfo.decode(view);
  return { flags, numRegions, numIrqs };
}

export function encodeRegionInfoRequest(index: number, argsz: number = RegionInfo.structSize): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(RegionInfo.structSize);
  RegionInfo.encode(view, 0, { argsz, index });
  return payload;
}

/** @throws VfioError EINVAL too short */
export function decodeRegionInfoRequest(payload: Uint8Array): { readonly argsz: number; readonly index: number } {
  const view = check(5, payload, RegionInfo.structSize);
  const argsz = checkArgsz(5, view, RegionInfo.structSize);
  return { argsz, index: RegionInfo.index.get(view, 0) };
}

export interface RegionInfoReply {
  /** Bytes that the whole answer takes: when more than the request's argsz, this answer has no capabilities and brings no descriptor. */
  readonly argsz: number;
  readonly info: RegionDescription;
  /** Where in the descriptor that comes along the region starts. */
  readonly offset: bigint;
}

/**
 * @param argsz what the client has room for; when that is too little for the capabilities, only the structure is sent
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
/** A chain of a peer's is followed this far. */
const MAX_CAPS = 64;

/** @throws VfioError EINVAL too short; EPROTO a capability chain or a size that cannot be */
export function decodeRegionInfo(payload: Uint8Array): RegionInfoReply {
  const view = check(5, payload, RegionInfo.structSize);
  const { argsz, flags, index, cap_offset: capOffset, size, offset } = RegionInfo.decode(view);
  const base = { index, flags, size: exact(size, 'size') };
  if ((flags & RegionFlags.CAPS) === 0 || capOffset === 0) return { argsz, info: base, offset };
  let sparseAreas: MappableArea[] | undefined;
  let type: RegionDescription['type'];
  let msixMappable: boolean | undefined;
  let hops = 0;
  for (let at = capOffset; at !== 0; at = InfoCapHeader.next.get(view, at)) {
    if (++hops > MAX_CAPS) throw badChain('has no end');
    if (at < RegionInfo.structSize || at + InfoCapHeader.structSize > payload.length) throw badChain(`leads to offset ${at}`);
    const id = InfoCapHeader.id.get(view, at);
    if (id === RegionCap.SPARSE_MMAP) sparseAreas = decodeSparseAreas(view, at, base.size);
    else if (id === RegionCap.TYPE) {
      if (at + TYPE_CAP_BYTES > payload.length) throw badChain('is cut short');
      type = { type: RegionInfoCapType.type.get(view, at), subtype: RegionInfoCapType.subtype.get(view, at) };
    } else if (id === RegionCap.MSIX_MAPPABLE) msixMappable = true;
  }
  return {
    argsz,
    info: {
      ...base,
      ...(sparseAreas === undefined ? {} : { sparseAreas }),
      ...(type === undefined ? {} : { type }),
      ...(msixMappable === undefined ? {} : { msixMappable }),
    },
    offset,
  };
}

function decodeSparseAreas(view: DataView, at: number, regionSize: number): MappableArea[] {
  const start = at + RegionInfoCapSparseMmap.structSize;
  if (start > view.byteLength) throw badChain('is cut short');
  const count = RegionInfoCapSparseMmap.nr_areas.get(view, at);
  if (count > (view.byteLength - start) / SparseMmapArea.structSize) throw badChain(`tells of ${count} areas and does not hold them`);
  return Array.from({ length: count }, (_, i) => {
    const { offset, size } = SparseMmapArea.decode(view, start + i * SparseMmapArea.structSize);
    if (offset + size > BigInt(regionSize)) throw badChain(`has an area past the region's end (${hex(offset)}+${hex(size)})`);
    return { offset: Number(offset), size: Number(size) };
  });
}

function badChain(what: string): VfioError {
  return new VfioError('EPROTO', `DEVICE_GET_REGION_INFO: the capability chain ${what}`);
}

function exact(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new VfioError('EPROTO', `${what} ${hex(value)} is beyond what we can count`);
  return Number(value);
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
  const view = check(6, payload, RegionIoFds.structSize);
  const argsz = checkArgsz(6, view, RegionIoFds.structSize);
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
  const view = check(6, payload, RegionIoFds.structSize);
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

export interface IrqInfoReply {
  readonly index: number;
  /** `IrqInfoFlags` */
  readonly flags: number;
  readonly count: number;
}

export function encodeIrqInfo(info: { readonly index: number; readonly flags?: number; readonly count?: number }): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(IrqInfo.structSize);
  IrqInfo.encode(view, 0, { argsz: IrqInfo.structSize, flags: 0, count: 0, ...info });
  return payload;
}

/** The same for request and reply. @throws VfioError EINVAL too short */
export function decodeIrqInfo(payload: Uint8Array): IrqInfoReply {
  const view = check(7, payload, IrqInfo.structSize);
  checkArgsz(7, view, IrqInfo.structSize);
  const { index, flags, count } = IrqInfo.decode(view);
  return { index, flags, count };
}

// SET_IRQS --------------------------------------------------------------------------------------------------------------------------------

export interface SetIrqsRequest {
  readonly index: number;
  readonly start: number;
  readonly count: number;
  readonly action: 'mask' | 'unmask' | 'trigger';
  readonly data: 'none' | 'bool' | 'eventfd';
  /** With 'bool': a byte for each. */
  readonly values?: Uint8Array;
}

const actionFlags = { mask: IrqSetFlags.ACTION_MASK, unmask: IrqSetFlags.ACTION_UNMASK, trigger: IrqSetFlags.ACTION_TRIGGER } as const;
const dataFlags = { none: IrqSetFlags.DATA_NONE, bool: IrqSetFlags.DATA_BOOL, eventfd: IrqSetFlags.DATA_EVENTFD } as const;
const SET_IRQS_FLAGS = IrqSetFlags.DATA_TYPE_MASK | IrqSetFlags.ACTION_TYPE_MASK;

export function encodeSetIrqs(request: SetIrqsRequest): Uint8Array<ArrayBuffer> {
  const { index, start, count, action, data, values = NOTHING } = request;
  const { payload, view } = made(IrqSet.structSize + values.length);
  IrqSet.encode(view, 0, { argsz: payload.length, flags: dataFlags[data] | actionFlags[action], index, start, count });
  payload.set(values, IrqSet.structSize);
  return payload;
}

/** @throws VfioError EINVAL too short, unknown flags, not exactly one DATA and one ACTION, or not `count` bytes of DATA_BOOL */
export function decodeSetIrqs(payload: Uint8Array): SetIrqsRequest {
  const view = check(8, payload, IrqSet.structSize);
  const argsz = checkArgsz(8, view, IrqSet.structSize);
  const { flags, index, start, count } = IrqSet.decode(view);
  const data = nameOf(dataFlags, flags & IrqSetFlags.DATA_TYPE_MASK);
  const action = nameOf(actionFlags, flags & IrqSetFlags.ACTION_TYPE_MASK);
  if ((flags & ~SET_IRQS_FLAGS) !== 0 || data === undefined || action === undefined) {
    throw new VfioError('EINVAL', `DEVICE_SET_IRQS: flags ${hex(flags)}; exactly one DATA and one ACTION must be set`);
  }
  if (data !== 'bool') return { index, start, count, action, data };
  if (payload.length - IrqSet.structSize !== count || argsz - IrqSet.structSize < count) {
    throw new VfioError('EINVAL', `DEVICE_SET_IRQS: ${payload.length - IrqSet.structSize} bytes of DATA_BOOL for ${count} interrupts`);
  }
  return { index, start, count, action, data, values: payload.slice(IrqSet.structSize) };
}

function nameOf<K extends string>(table: Readonly<Record<K, number>>, flag: number): K | undefined {
  for (const name in table) if (table[name] === flag) return name;
  return undefined;
}

// Region data -----------------------------------------------------------------------------------------------------------------------------

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
  const view = check(15, payload, WriteMulti.structSize);
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

export function encodeWriteMultiReply(count: number): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(WriteMulti.structSize);
  WriteMulti.count.set(view, 0, BigInt(count));
  return payload;
}

// FEATURE and migration -------------------------------------------------------------------------------------------------------------------

export interface FeatureMessage {
  readonly argsz: number;
  readonly feature: number;
  readonly get: boolean;
  readonly set: boolean;
  readonly probe: boolean;
  /** In for set and, where a feature says so, for get; out for get. */
  readonly data: Uint8Array;
}

const FEATURE_FLAGS = FeatureFlags.MASK | FeatureFlags.GET | FeatureFlags.SET | FeatureFlags.PROBE;

/** @param argsz of a request: at least what it holds, and room for what a get fills */
export function encodeFeature(message: Omit<FeatureMessage, 'argsz'> & { readonly argsz?: number }): Uint8Array<ArrayBuffer> {
  const { feature, get, set, probe, data, argsz = DeviceFeature.structSize + data.length } = message;
  const { payload, view } = made(DeviceFeature.structSize + data.length);
  const flags = feature | (get ? FeatureFlags.GET : 0) | (set ? FeatureFlags.SET : 0) | (probe ? FeatureFlags.PROBE : 0);
  DeviceFeature.encode(view, 0, { argsz, flags });
  payload.set(data, DeviceFeature.structSize);
  return payload;
}

/** The same for request and reply; `data` is part of `payload`. @throws VfioError EINVAL too short, or unknown flags */
export function decodeFeature(payload: Uint8Array): FeatureMessage {
  const view = check(16, payload, DeviceFeature.structSize);
  const argsz = checkArgsz(16, view, DeviceFeature.structSize);
  const flags = DeviceFeature.flags.get(view, 0);
  if ((flags & ~FEATURE_FLAGS) !== 0) throw new VfioError('EINVAL', `DEVICE_FEATURE: unknown flags ${hex(flags)}`);
  return {
    argsz,
    feature: flags & FeatureFlags.MASK,
    get: (flags & FeatureFlags.GET) !== 0,
    set: (flags & FeatureFlags.SET) !== 0,
    probe: (flags & FeatureFlags.PROBE) !== 0,
    data: payload.subarray(DeviceFeature.structSize),
  };
}

/** MIG_DATA_READ's request, or with `data` its reply; MIG_DATA_WRITE's request. */
export function encodeMigData(size: number, data: Uint8Array = NOTHING): Uint8Array<ArrayBuffer> {
  const { payload, view } = made(MigData.structSize + data.length);
  MigData.encode(view, 0, { argsz: MigData.structSize + size, size });
  payload.set(data, MigData.structSize);
  return payload;
}

/** @throws VfioError EINVAL too short, argsz that leaves no room for the data, or more than one message may carry */
export function decodeMigDataRead(payload: Uint8Array, max: number = CapabilityDefaults.MAX_DATA_XFER_SIZE): { readonly size: number } {
  const view = check(17, payload, MigData.structSize);
  const { argsz, size } = MigData.decode(view);
  if (argsz < MigData.structSize + size) throw new VfioError('EINVAL', `MIG_DATA_READ: argsz ${argsz} leaves no room for ${size} bytes`);
  if (size > max) throw new VfioError('EINVAL', `MIG_DATA_READ: ${size} bytes, at most ${max}`);
  return { size };
}

/** @throws VfioError EINVAL too short, or not `size` bytes of data */
export function decodeMigDataWrite(payload: Uint8Array): { readonly data: Uint8Array } {
  const view = check(18, payload, MigData.structSize);
  const { argsz, size } = MigData.decode(view);
  if (size !== payload.length - MigData.structSize || argsz < payload.length) {
    throw new VfioError(
      'EINVAL',
      `MIG_DATA_WRITE: size ${size}, argsz ${argsz}, with ${payload.length - MigData.structSize} bytes of data`,
    );
  }
  return { data: payload.subarray(MigData.structSize) };
}

export { IoFdType };
