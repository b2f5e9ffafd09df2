/** An iommufd as a container, as Linux 7.3 answered (iommufd-compat). */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EDU, Guest } from '../../tests/kernel-answers/guest.ts';
import { bytesOf, fdBytes, said, viewOf } from '../../tests/kit/ioctl-bytes.ts';
import { IommufdCommand, VfioIoasOp } from '../abi/iommufd.ts';
import { IommuDestroy, IommuFaultAlloc, IommuVfioIoas } from '../abi/iommufd-structs.ts';
import { ContainerIoctl, DeviceIoctl, DmaUnmapFlags, GroupFlags, GroupIoctl } from '../abi/vfio.ts';
import { GroupStatus, IommuType1DmaMap, IommuType1DmaUnmap, IommuType1Info } from '../abi/vfio-structs.ts';
import { cString } from './user-buffer.ts';
import type { UserProcess } from './user-process.ts';

const PAGE = 4096n;

let guest: Guest;
let user: UserProcess;
let iommufd: number;
let memory: bigint;

beforeEach(() => {
  guest = new Guest();
  ({ user } = guest.subject(EDU));
  iommufd = user.open('/dev/iommu');
  memory = BigInt(user.memory.mapAnonymous(64 * 4096, 3));
});

afterEach(() => {
  user.exit();
  expect(guest.errors).toEqual([]);
  guest[Symbol.dispose]();
});

const ask = (request: number, argument: Uint8Array | number) => said(user.ioctl(iommufd, request, argument));
const setIommu = (type: number) => ask(ContainerIoctl.SET_IOMMU, type);
const check = (extension: number) => ask(ContainerIoctl.CHECK_EXTENSION, extension);
const openGroup = () => user.open(`/dev/vfio/${guest.machine.function(EDU).group!.id}`);
const setContainer = (group: number, fd = iommufd) => said(user.ioctl(group, GroupIoctl.SET_CONTAINER, fdBytes(fd)));
const getDevice = (group: number) => said(user.ioctl(group, GroupIoctl.GET_DEVICE_FD, cString(EDU)));
const unsetContainer = (group: number) => said(user.ioctl(group, GroupIoctl.UNSET_CONTAINER, 0));

function map(iova: bigint, size: bigint, flags = 3, vaddr = memory) {
  return ask(ContainerIoctl.IOMMU_MAP_DMA, bytesOf(IommuType1DmaMap, { argsz: 32, flags, vaddr, iova, size }));
}

/** The errno or 0, and the size that came back. */
function unmap(iova: bigint, size: bigint, flags = 0): string {
  const bytes = bytesOf(IommuType1DmaUnmap, { argsz: 24, flags, iova, size });
  const result = ask(ContainerIoctl.IOMMU_UNMAP_DMA, bytes);
  return `${result} 0x${IommuType1DmaUnmap.size.get(viewOf(bytes), 0).toString(16)}`;
}

function vfioIoas(op: number, id = 0): string | number {
  const bytes = bytesOf(IommuVfioIoas, { size: 12, ioas_id: id, op });
  const result = ask(0x3b00 + IommufdCommand.VFIO_IOAS, bytes);
  return result === 0 && op === VfioIoasOp.GET ? `ioas ${IommuVfioIoas.ioas_id.get(viewOf(bytes), 0)}` : result;
}

function info(argsz: number): unknown[] {
  const bytes = bytesOf(IommuType1Info, { argsz }, new Uint8Array(512));
  const result = ask(ContainerIoctl.IOMMU_GET_INFO, bytes);
  const { argsz: needed, flags, iova_pgsizes, cap_offset } = IommuType1Info.decode(viewOf(bytes));
  return result === 0 ? [needed, flags, iova_pgsizes, cap_offset] : [result];
}

/** A group in the iommufd, with its device open. */
function opened(): { group: number; device: number } {
  const group = openGroup();
  expect(setContainer(group)).toBe(0);
  return { group, device: getDevice(group) as number };
}

describe('B.5 compat', () => {
  it('without an IOAS knows its extensions and nothing else', () => {
    expect([0, 1, 2, 3, 4, 8, 9, 10].map(check)).toEqual([0, 1, 0, 1, 'ENODEV', 1, 1, 0]);
    expect([ask(ContainerIoctl.GET_API_VERSION, 0), setIommu(3), setIommu(8), setIommu(99), info(24), map(0x10_0000n, PAGE)]).toEqual([
      0,
      'ENODEV',
      'EINVAL',
      'EINVAL',
      ['ENODEV'],
      'ENODEV',
    ]);
    expect([unmap(0x10_0000n, PAGE), ask(DeviceIoctl.FEATURE, 0), ask(ContainerIoctl.IOMMU_DIRTY_PAGES, 0)]).toEqual([
      'ENODEV 0x1000',
      'ENOTTY',
      'ENOTTY',
    ]);
    expect([vfioIoas(VfioIoasOp.GET), vfioIoas(VfioIoasOp.SET, 999), vfioIoas(VfioIoasOp.CLEAR), vfioIoas(3)]).toEqual([
      'ENODEV',
      'ENOENT',
      0,
      'EOPNOTSUPP',
    ]);
  });

  it('B.4 SET_CONTAINER iommufd: a group in it makes that IOAS, and opens its device before SET_IOMMU', () => {
    const group = openGroup();
    const status = bytesOf(GroupStatus, { argsz: 8 });
    expect([getDevice(group), setContainer(group), setContainer(group), vfioIoas(VfioIoasOp.GET)]).toEqual([
      'EINVAL',
      0,
      'EINVAL',
      'ioas 1',
    ]);
    expect([said(user.ioctl(group, GroupIoctl.GET_STATUS, status)), GroupStatus.flags.get(viewOf(status), 0)]).toEqual([
      0,
      GroupFlags.VIABLE | GroupFlags.CONTAINER_SET,
    ]);
    expect(info(24)).toEqual([72, 3, 0xffff_ffff_ffff_f000n, 0]);
    const device = getDevice(group);
    expect([typeof device, setIommu(3), typeof getDevice(group)]).toEqual(['number', 0, 'number']);
    expect([info(15), info(24), info(536)]).toEqual([['EINVAL'], [88, 3, 0x4020_1000n, 0], [88, 3, 0x4020_1000n, 24]]);
    expect(
      [DeviceIoctl.ATTACH_IOMMUFD_PT, DeviceIoctl.DETACH_IOMMUFD_PT].map((request) =>
        said(user.ioctl(device as number, request, new Uint8Array(16))),
      ),
    ).toEqual(['ENOTTY', 'ENOTTY']);
  });

  it('UNSET_CONTAINER leaves open devices as they are, and GET_DEVICE_FD without an IOMMU', () => {
    const { group, device } = opened();
    map(0x10_0000n, PAGE);
    expect([unsetContainer(group), unsetContainer(group), getDevice(group)]).toEqual([0, 'EINVAL', 'EINVAL']);
    expect(guest.machine.function(EDU).group!.domain?.size).toBe(1);
    user.close(device);
    expect(guest.machine.function(EDU).group!.domain).toBe(null);
    expect([setContainer(group, user.open('/dev/vfio/vfio')), setContainer(group)]).toEqual([0, 'EINVAL']);
  });

  it('B.6 MAP_DMA and UNMAP_DMA: as type1, but a cut is ENOENT, and nothing there is no error', () => {
    opened();
    expect([
      map(0x10_0000n, PAGE, 0),
      map(0x10_0000n, PAGE, 7),
      map(0x10_0000n, 0n),
      map(0x10_0010n, PAGE),
      map(2n ** 64n - PAGE, 2n * PAGE),
      map(0xfee0_0000n, PAGE),
      map(0x10_0000n, 4n * PAGE),
      map(0x10_3000n, PAGE),
    ]).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'EOVERFLOW', 'EINVAL', 0, 'EEXIST']);
    expect([
      unmap(0x10_0000n, PAGE),
      unmap(0x10_0000n, 0n),
      unmap(0x90_0000n, PAGE),
      unmap(0x10_0000n, PAGE, DmaUnmapFlags.GET_DIRTY_BITMAP),
      unmap(0x10_0000n, PAGE, DmaUnmapFlags.ALL),
      unmap(0x10_0000n, 4n * PAGE),
      unmap(0n, 0n, DmaUnmapFlags.ALL),
      unmap(0n, 2n ** 64n - 1n),
    ]).toEqual(['ENOENT 0x0', 'EINVAL 0x0', '0 0x0', 'EINVAL 0x1000', 'EINVAL 0x1000', '0 0x4000', '0 0x0', '0 0x0']);
  });

  it('B.6 UNMAP v1: TYPE1 cuts mappings, also after a return to TYPE1v2', () => {
    opened();
    map(0x10_0000n, 8n * PAGE);
    expect([setIommu(1), unmap(0x10_2000n, PAGE), unmap(0n, 0n, DmaUnmapFlags.ALL)]).toEqual(['EINVAL', 'ENOENT 0x0', '0 0x8000']);
    expect([setIommu(1), map(0x10_0000n, 8n * PAGE), unmap(0x10_2000n, PAGE), unmap(0x10_0000n, 8n * PAGE)]).toEqual([
      0,
      0,
      '0 0x1000',
      '0 0x7000',
    ]);
    expect([setIommu(3), map(0x10_0000n, 8n * PAGE), unmap(0x10_2000n, PAGE)]).toEqual([0, 0, '0 0x1000']);
    expect(user.process.lockedBytes).toBe(0);
  });
});

it('B.5 a fault queue is an object that its file and its domains keep', () => {
  const alloc = bytesOf(IommuFaultAlloc, { size: 16 });
  expect(ask(0x3b00 + IommufdCommand.FAULT_QUEUE_ALLOC, alloc)).toBe(0);
  const { out_fault_id: id, out_fault_fd: fd } = IommuFaultAlloc.decode(viewOf(alloc));
  const read = (count: number) => said(user.read(fd, new Uint8Array(count)));
  const write = (count: number) => said(user.write(fd, new Uint8Array(count)));
  expect([read(40), read(64), read(10), write(8), write(5), said(user.pread(fd, new Uint8Array(40), 40))]).toEqual([
    0,
    'ESPIPE',
    'ESPIPE',
    'EINVAL',
    'ESPIPE',
    'ESPIPE',
  ]);
  const destroy = () => ask(0x3b00 + IommufdCommand.DESTROY, bytesOf(IommuDestroy, { size: 8, id }));
  expect(destroy()).toBe('EBUSY');
  user.close(fd);
  expect(destroy()).toBe(0);
});
