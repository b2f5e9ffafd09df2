/**
 * The requests of /dev/iommu: a row each, with the ends of its first and its newest version.
 *
 * @see linux/drivers/iommu/iommufd/main.c, iommufd_ioctl_ops
 */
import { IommufdCommand, IommuHwptAllocFlags, IommuOption, IommuOptionOp, VfioIoasOp } from '../abi/iommufd.ts';
import {
  IommuDestroy,
  IommuFaultAlloc,
  IommuHwInfo,
  IommuHwptAlloc,
  IommuHwptGetDirtyBitmap,
  IommuHwptInvalidate,
  IommuHwptSetDirtyTracking,
  IommuHwQueueAlloc,
  IommuIoasAlloc,
  IommuIoasAllowIovas,
  IommuIoasChangeProcess,
  IommuIoasCopy,
  IommuIoasIovaRanges,
  IommuIoasMap,
  IommuIoasMapFile,
  IommuIoasNoiommuGetPa,
  IommuIoasUnmap,
  IommuIovaRange,
  IommuOptionStruct,
  IommuVdeviceAlloc,
  IommuVeventqAlloc,
  IommuVfioIoas,
  IommuViommuAlloc,
} from '../abi/iommufd-structs.ts';
import { U64_MAX } from '../base/check.ts';
import { viewOf } from '../base/data-view.ts';
import { VfioError } from '../base/errno.ts';
import type { Iommufd } from '../engine/iommufd/iommufd.ts';
import type { PagesSource } from '../engine/iommufd/pinned-pages.ts';
import type { LinuxRules } from '../engine/linux-version.ts';
import { type Caller, describeFile } from './caller.ts';
import { OpenFile } from './file-table.ts';
import { iommufdCompatIoctls } from './iommufd-compat-ioctls.ts';
import { sizedRequest } from './sized-request.ts';
import type { IoctlArgument, UserBuffer } from './user-buffer.ts';

/** @param view the structure; what is written into it goes back to the caller */
type Run = (iommufd: Iommufd, view: DataView<ArrayBuffer>, caller: Caller) => void;

interface Row {
  readonly name: string;
  /** The end of the first version. */
  readonly least: number;
  readonly size: number;
  readonly run: Run;
  /** The structure goes back also after an error of the kind. */
  readonly answersErrors?: readonly string[];
}

const unsupported = (what: string) => new VfioError('EOPNOTSUPP', `${what} is no option of this kernel`);

/** @throws VfioError EOPNOTSUPP for a reserved field that is not zero */
function checkReserved(value: number, what: string): void {
  if (value !== 0) throw new VfioError('EOPNOTSUPP', `${what}: a reserved field is not zero`);
}

const destroy: Run = (iommufd, view) => iommufd.destroy(IommuDestroy.id.get(view, 0));

const ioasAlloc: Run = (iommufd, view) => {
  if (IommuIoasAlloc.flags.get(view, 0) !== 0) throw unsupported('a flag of IOAS_ALLOC');
  IommuIoasAlloc.out_ioas_id.set(view, 0, iommufd.allocIoas());
};

const iovaRanges: Run = (iommufd, view, caller) => {
  const { ioas_id, num_iovas, reserved, allowed_iovas } = IommuIoasIovaRanges.decode(view);
  checkReserved(reserved, 'IOAS_IOVA_RANGES');
  const { ranges, alignment } = iommufd.ranges(ioas_id);
  IommuIoasIovaRanges.num_iovas.set(view, 0, ranges.length);
  IommuIoasIovaRanges.out_iova_alignment.set(view, 0, alignment);
  const fitting = ranges.slice(0, num_iovas);
  const list = new DataView(new ArrayBuffer(fitting.length * IommuIovaRange.structSize));
  fitting.forEach(({ first, last }, i) => {
    IommuIovaRange.encode(list, i * IommuIovaRange.structSize, { start: first, last });
  });
  if (fitting.length > 0) {
    const room = caller.memory.window(allowed_iovas, list.byteLength);
    room.bytes.set(new Uint8Array(list.buffer));
    room.commit();
  }
  if (fitting.length < ranges.length) {
    throw new VfioError('EMSGSIZE', `there are ${ranges.length} ranges, and room for ${num_iovas}`, { fix: 'Ask again with more room.' });
  }
};

const allowIovas: Run = (iommufd, view, caller) => {
  const { ioas_id, num_iovas, reserved, allowed_iovas } = IommuIoasAllowIovas.decode(view);
  checkReserved(reserved, 'IOAS_ALLOW_IOVAS');
  const ioas = iommufd.ioas(ioas_id);
  const ranges: { first: bigint; last: bigint }[] = [];
  for (let i = 0; i < num_iovas; i++) {
    const { bytes } = caller.memory.window(allowed_iovas + BigInt(i * IommuIovaRange.structSize), IommuIovaRange.structSize);
    const { start, last } = IommuIovaRange.decode(viewOf(bytes));
    ranges.push({ first: start, last });
  }
  ioas.allow(ranges);
};

const ioasMap: Run = (iommufd, view, { process }) => {
  const { flags, ioas_id, reserved, user_va, length, iova } = IommuIoasMap.decode(view);
  checkReserved(reserved, 'IOAS_MAP');
  const source = { kind: 'address', vaddr: user_va } as const;
  IommuIoasMap.iova.set(view, 0, iommufd.map({ ioas: ioas_id, process, flags, source, length, iova }));
};

const ioasCopy: Run = (iommufd, view) => {
  const { flags, dst_ioas_id, src_ioas_id, length, dst_iova, src_iova } = IommuIoasCopy.decode(view);
  const request = { flags, destination: dst_ioas_id, source: src_ioas_id, length, destinationIova: dst_iova, sourceIova: src_iova };
  IommuIoasCopy.dst_iova.set(view, 0, iommufd.copy(request));
};

const ioasUnmap: Run = (iommufd, view) => {
  const { ioas_id, iova, length } = IommuIoasUnmap.decode(view);
  IommuIoasUnmap.length.set(view, 0, iommufd.unmap(ioas_id, iova, length));
};

const option: Run = (iommufd, view, { process }) => {
  const { option_id, op, reserved, object_id, val64 } = IommuOptionStruct.decode(view);
  checkReserved(reserved, 'OPTION');
  if (option_id === IommuOption.RLIMIT_MODE) {
    if (object_id !== 0) throw unsupported('RLIMIT_MODE of an object');
    if (op === IommuOptionOp.GET) IommuOptionStruct.val64.set(view, 0, iommufd.rlimitMode === 'process' ? 1n : 0n);
    else if (op !== IommuOptionOp.SET) throw unsupported(`operation ${op}`);
    else if (val64 > 1n) throw new VfioError('EINVAL', `RLIMIT_MODE ${val64} is neither 0 (user) nor 1 (process)`);
    else iommufd.setRlimitMode(val64 === 1n ? 'process' : 'user', process);
    return;
  }
  if (option_id !== IommuOption.HUGE_PAGES) throw unsupported(`option ${option_id}`);
  const ioas = iommufd.ioas(object_id);
  if (op === IommuOptionOp.GET) IommuOptionStruct.val64.set(view, 0, ioas.hugePages ? 1n : 0n);
  else if (op !== IommuOptionOp.SET) throw unsupported(`operation ${op}`);
  else if (val64 > 1n) throw new VfioError('EINVAL', `HUGE_PAGES ${val64} is neither 0 nor 1`);
  else ioas.hugePages = val64 === 1n;
};

const vfioIoas: Run = (iommufd, view) => {
  const { ioas_id, op, reserved } = IommuVfioIoas.decode(view);
  checkReserved(reserved, 'VFIO_IOAS');
  if (op === VfioIoasOp.SET) iommufd.setCompat(ioas_id);
  else if (op === VfioIoasOp.CLEAR) iommufd.setCompat(null);
  else if (op !== VfioIoasOp.GET) throw unsupported(`operation ${op} of VFIO_IOAS`);
  else IommuVfioIoas.ioas_id.set(view, 0, iommufd.compatId());
};

const changeProcess: Run = (iommufd, view, { process }) => {
  checkReserved(IommuIoasChangeProcess.reserved.get(view, 0), 'IOAS_CHANGE_PROCESS');
  iommufd.changeProcess(process);
};

/**
 * Memory of a file, or of a BAR. A file that this kernel cannot map for devices is EINVAL.
 *
 * @see iopt_map_file_pages(): shmem, memfd and hugetlbfs; dma-bufs of vfio-pci
 */
const ioasMapFile: Run = (iommufd, view, { process, files }) => {
  const { flags, ioas_id, fd, start, length, iova } = IommuIoasMapFile.decode(view);
  const source = fileSource(files.get(fd), fd, start, length);
  IommuIoasMapFile.iova.set(view, 0, iommufd.map({ ioas: ioas_id, process, flags, source, length, iova }));
};

function fileSource(file: OpenFile, fd: number, start: bigint, length: bigint): PagesSource {
  const { body } = file;
  if (body.kind !== 'memory' && body.kind !== 'dmabuf') {
    throw new VfioError('EINVAL', `descriptor ${fd} is ${describeFile(file)}, which is no memory`, {
      fix: 'Give a memfd, a file of tmpfs or hugetlbfs, or a DMA buffer of a BAR.',
    });
  }
  const { size } = body.kind === 'memory' ? body.memory : body.buffer;
  if (start + length > BigInt(size) && length !== 0n && start + length <= U64_MAX) {
    throw new VfioError('EINVAL', `the file has ${size} bytes, and the mapping would end at ${start + length}`);
  }
  const offset = Number(start);
  return body.kind === 'memory' ? { kind: 'file', memory: body.memory, offset } : { kind: 'buffer', buffer: body.buffer, offset };
}

const hwptAlloc: Run = (iommufd, view) => {
  const { flags, dev_id, pt_id, reserved, data_type, data_len, fault_id } = IommuHwptAlloc.decode(view);
  checkReserved(reserved, 'HWPT_ALLOC');
  const known =
    IommuHwptAllocFlags.NEST_PARENT | IommuHwptAllocFlags.DIRTY_TRACKING | IommuHwptAllocFlags.FAULT_ID_VALID | IommuHwptAllocFlags.PASID;
  if ((flags & ~known) !== 0) throw unsupported('a flag of HWPT_ALLOC');
  if ((data_type === 0) !== (data_len === 0)) throw new VfioError('EINVAL', 'HWPT_ALLOC: a type and a length of data go together');
  IommuHwptAlloc.out_hwpt_id.set(
    view,
    0,
    iommufd.allocHwpt({ flags, device: dev_id, pt: pt_id, dataType: data_type, faultQueue: fault_id }),
  );
};

/** Bytes that are written to the caller at a time: lengths are the caller's word. */
const PIECE = 4096;

/** The data of the hardware goes out as far as there is room, and zeroes behind it. */
const hwInfo: Run = (iommufd, view, caller) => {
  const { flags, dev_id, data_len, data_uptr, out_data_type } = IommuHwInfo.decode(view);
  if ((flags & ~1) !== 0) throw unsupported('a flag of GET_HW_INFO');
  for (const field of [IommuHwInfo.reserved0, IommuHwInfo.reserved1, IommuHwInfo.reserved2])
    checkReserved(field.get(view, 0), 'GET_HW_INFO');
  const wanted = (flags & 1) === 0 ? 0 : out_data_type;
  const info = iommufd.hwInfo(dev_id);
  if (wanted !== 0 && wanted !== info.type) throw unsupported(`data of type ${wanted}`);
  for (let at = 0; at < data_len; at += PIECE) {
    const room = caller.memory.window(data_uptr + BigInt(at), Math.min(PIECE, data_len - at));
    room.bytes.fill(0);
    if (at === 0) room.bytes.set(info.data.subarray(0, data_len));
    room.commit();
  }
  IommuHwInfo.encode(view, 0, {
    data_len: info.data.length,
    out_data_type: info.type,
    out_max_pasid_log2: info.pasidBits,
    out_capabilities: info.capabilities,
  });
};

const setDirtyTracking: Run = (iommufd, view) => {
  const { flags, hwpt_id, reserved } = IommuHwptSetDirtyTracking.decode(view);
  if ((flags & ~1) !== 0) throw unsupported('a flag of HWPT_SET_DIRTY_TRACKING');
  checkReserved(reserved, 'HWPT_SET_DIRTY_TRACKING');
  iommufd.setDirtyTracking(hwpt_id, flags === 1);
};

/**
 * The bits of one page after the other, from the lowest. As in Linux, a bitmap that is not there is
 * no error, and its bits are lost.
 *
 * @see iommufd_check_iova_range(), iova_bitmap_alloc()
 */
const getDirtyBitmap: Run = (iommufd, view, caller) => {
  const { flags, hwpt_id, reserved, iova, length, page_size, data } = IommuHwptGetDirtyBitmap.decode(view);
  if ((flags & ~1) !== 0) throw unsupported('a flag of HWPT_GET_DIRTY_BITMAP');
  checkReserved(reserved, 'HWPT_GET_DIRTY_BITMAP');
  const sink = (offset: number, bits: Uint8Array) => {
    try {
      const room = caller.memory.window(data + BigInt(offset), bits.length);
      for (let i = 0; i < bits.length; i++) room.bytes[i]! |= bits[i]!;
      room.commit();
    } catch (error) {
      if (!(error instanceof VfioError)) throw error;
    }
  };
  iommufd.dirtyBitmap({ hwpt: hwpt_id, iova, length, pageSize: page_size, sink, keep: flags === 1 });
};

/** The descriptor closes on exec. */
const faultQueueAlloc: Run = (iommufd, view, { files }) => {
  if (IommuFaultAlloc.flags.get(view, 0) !== 0) throw unsupported('a flag of FAULT_QUEUE_ALLOC');
  files.reserve();
  const queue = iommufd.allocFaultQueue();
  IommuFaultAlloc.out_fault_id.set(view, 0, iommufd.objects.idOf(queue));
  IommuFaultAlloc.out_fault_fd.set(view, 0, files.install(new OpenFile({ kind: 'fault-queue', queue }, () => queue.close()), true));
};

/** `entry_num` becomes the number of entries that were done, in every case. */
const hwptInvalidate: Run = (iommufd, view) => {
  const { hwpt_id, data_uptr, entry_len, entry_num, reserved } = IommuHwptInvalidate.decode(view);
  IommuHwptInvalidate.entry_num.set(view, 0, 0);
  checkReserved(reserved, 'HWPT_INVALIDATE');
  if (entry_num > 0 && (data_uptr === 0n || entry_len === 0)) throw new VfioError('EINVAL', 'HWPT_INVALIDATE: entries without data');
  iommufd.invalidate(hwpt_id);
};

/** No IOMMU here has virtual ones. @see iommufd_viommu_alloc_ioctl() */
const viommuAlloc: Run = (iommufd, view) => {
  const { flags, type, dev_id } = IommuViommuAlloc.decode(view);
  if (flags !== 0 || type === 0) throw unsupported('a flag, or no type, of VIOMMU_ALLOC');
  iommufd.objects.get(dev_id, 'device');
  throw new VfioError('EOPNOTSUPP', 'this IOMMU has no virtual ones');
};

/** The objects of a virtual IOMMU, of which there is none. */
const vdeviceAlloc: Run = (_iommufd, view) => {
  throw noViommu(IommuVdeviceAlloc.viommu_id.get(view, 0));
};

const veventqAlloc: Run = (_iommufd, view) => {
  const { flags, viommu_id, type, veventq_depth } = IommuVeventqAlloc.decode(view);
  if (flags !== 0 || type === 0) throw unsupported('a flag, or no type, of VEVENTQ_ALLOC');
  if (veventq_depth === 0) throw new VfioError('EINVAL', 'VEVENTQ_ALLOC: a queue of no entries');
  throw noViommu(viommu_id);
};

const hwQueueAlloc: Run = (_iommufd, view) => {
  const { flags, viommu_id, type, nesting_parent_iova, length } = IommuHwQueueAlloc.decode(view);
  if (flags !== 0 || type === 0) throw unsupported('a flag, or no type, of HW_QUEUE_ALLOC');
  if (length === 0n) throw new VfioError('EINVAL', 'HW_QUEUE_ALLOC: a queue of no bytes');
  if (nesting_parent_iova + length - 1n > U64_MAX) throw new VfioError('EOVERFLOW', 'HW_QUEUE_ALLOC: the queue passes 2^64');
  throw noViommu(viommu_id);
};

const noViommu = (id: number) => new VfioError('ENOENT', `object ${id} is no virtual IOMMU`);

/** Only an address space of devices without an IOMMU has physical addresses. */
const noiommuGetPa: Run = (iommufd, view, { process }) => {
  const { flags, ioas_id, reserved, iova, length } = IommuIoasNoiommuGetPa.decode(view);
  if (flags !== 0) throw unsupported('a flag of IOAS_NOIOMMU_GET_PA');
  checkReserved(reserved, 'IOAS_NOIOMMU_GET_PA');
  if (length === 0n) throw new VfioError('EINVAL', 'IOAS_NOIOMMU_GET_PA: a range of no bytes');
  const found = iommufd.physicalOf(ioas_id, iova, length, process);
  IommuIoasNoiommuGetPa.length.set(view, 0, found.length);
  IommuIoasNoiommuGetPa.out_phys.set(view, 0, found.address);
};

const rows: Readonly<Record<number, Row>> = {
  [IommufdCommand.DESTROY]: { name: 'DESTROY', least: 8, size: 8, run: destroy },
  [IommufdCommand.IOAS_ALLOC]: { name: 'IOAS_ALLOC', least: 12, size: 12, run: ioasAlloc },
  [IommufdCommand.IOAS_ALLOW_IOVAS]: { name: 'IOAS_ALLOW_IOVAS', least: 24, size: 24, run: allowIovas },
  [IommufdCommand.IOAS_COPY]: { name: 'IOAS_COPY', least: 40, size: 40, run: ioasCopy },
  [IommufdCommand.IOAS_IOVA_RANGES]: { name: 'IOAS_IOVA_RANGES', least: 32, size: 32, run: iovaRanges, answersErrors: ['EMSGSIZE'] },
  [IommufdCommand.IOAS_MAP]: { name: 'IOAS_MAP', least: 40, size: 40, run: ioasMap },
  [IommufdCommand.IOAS_UNMAP]: { name: 'IOAS_UNMAP', least: 24, size: 24, run: ioasUnmap },
  [IommufdCommand.OPTION]: { name: 'OPTION', least: 24, size: 24, run: option },
  [IommufdCommand.VFIO_IOAS]: { name: 'VFIO_IOAS', least: 12, size: 12, run: vfioIoas },
  [IommufdCommand.HWPT_ALLOC]: { name: 'HWPT_ALLOC', least: 24, size: 48, run: hwptAlloc },
  [IommufdCommand.GET_HW_INFO]: { name: 'GET_HW_INFO', least: 32, size: 40, run: hwInfo },
  [IommufdCommand.HWPT_SET_DIRTY_TRACKING]: { name: 'HWPT_SET_DIRTY_TRACKING', least: 16, size: 16, run: setDirtyTracking },
  [IommufdCommand.HWPT_GET_DIRTY_BITMAP]: { name: 'HWPT_GET_DIRTY_BITMAP', least: 48, size: 48, run: getDirtyBitmap },
  [IommufdCommand.HWPT_INVALIDATE]: {
    name: 'HWPT_INVALIDATE',
    least: 32,
    size: 32,
    run: hwptInvalidate,
    answersErrors: ['EOPNOTSUPP', 'EINVAL', 'ENOENT'],
  },
  [IommufdCommand.FAULT_QUEUE_ALLOC]: { name: 'FAULT_QUEUE_ALLOC', least: 16, size: 16, run: faultQueueAlloc },
  [IommufdCommand.IOAS_MAP_FILE]: { name: 'IOAS_MAP_FILE', least: 40, size: 40, run: ioasMapFile },
  [IommufdCommand.VIOMMU_ALLOC]: { name: 'VIOMMU_ALLOC', least: 32, size: 40, run: viommuAlloc },
  [IommufdCommand.VDEVICE_ALLOC]: { name: 'VDEVICE_ALLOC', least: 24, size: 24, run: vdeviceAlloc },
  [IommufdCommand.IOAS_CHANGE_PROCESS]: { name: 'IOAS_CHANGE_PROCESS', least: 8, size: 8, run: changeProcess },
  [IommufdCommand.VEVENTQ_ALLOC]: { name: 'VEVENTQ_ALLOC', least: 28, size: 32, run: veventqAlloc },
  [IommufdCommand.HW_QUEUE_ALLOC]: { name: 'HW_QUEUE_ALLOC', least: 40, size: 40, run: hwQueueAlloc },
  [IommufdCommand.IOAS_NOIOMMU_GET_PA]: { name: 'IOAS_NOIOMMU_GET_PA', least: 40, size: 40, run: noiommuGetPa },
};

/** `_IO(';', n)`: no direction and no size. */
const TYPE = 0x3b00;

/** Whether a kernel has the request at all. */
function isKnown(number: number, linux: LinuxRules): boolean {
  if (number === IommufdCommand.IOAS_NOIOMMU_GET_PA) return linux.noIommuCdev;
  return number < IommufdCommand.IOAS_MAP_FILE || linux.mapFile;
}

/**
 * One request of /dev/iommu.
 *
 * @throws VfioError ENOTTY for a request that does not exist
 */
export function iommufdIoctl(iommufd: Iommufd, request: number, caller: Caller, user: UserBuffer, argument: IoctlArgument): number {
  const number = request & 0xff;
  const row = isKnown(number, iommufd.linux) ? rows[number] : undefined;
  // A number that exists is looked up before the rest of the request is.
  if (row !== undefined && request >>> 8 !== TYPE >>> 8) user.viewIn(0, 4);
  if (row === undefined || request >>> 8 !== TYPE >>> 8) {
    const compat = iommufdCompatIoctls.get(request);
    if (compat === undefined) throw new VfioError('ENOTTY', `request 0x${request.toString(16)} means nothing to an iommufd`);
    return compat(iommufd, caller, user, argument);
  }
  const sized = sizedRequest(user, row.least, row.size, row.name);
  try {
    row.run(iommufd, sized.view, caller);
  } catch (error) {
    if (error instanceof VfioError && row.answersErrors?.includes(error.code) === true) sized.answer();
    throw error;
  }
  sized.answer();
  return 0;
}
