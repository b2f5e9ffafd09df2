/** No-IOMMU mode, as Linux 7.3 answered (iommufd-noiommu-edu), and as its source has it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bytesOf, fdBytes, said, viewOf } from '../../tests/kit/ioctl-bytes.ts';
import { Dma } from '../abi/device-host.ts';
import { IommufdCommand } from '../abi/iommufd.ts';
import {
  IommuHwInfo,
  IommuHwptAlloc,
  IommuIoasAlloc,
  IommuIoasMap,
  IommuIoasNoiommuGetPa,
  IommuIoasUnmap,
} from '../abi/iommufd-structs.ts';
import { ContainerIoctl, DeviceIoctl, Extension, GroupIoctl } from '../abi/vfio.ts';
import { DeviceAttachIommufdPt, DeviceBindIommufd, IommuType1Info } from '../abi/vfio-structs.ts';
import { ManualClock } from '../base/clock.ts';
import { Process } from '../engine/dma/process.ts';
import { Machine } from '../engine/machine/machine.ts';
import { edu } from '../models/edu/edu.ts';
import { HeapMemory } from '../sys/fake.ts';
import { KernelDoor } from './kernel-door.ts';
import { cString } from './user-buffer.ts';
import type { UserProcess } from './user-process.ts';

const BDF = '0000:00:04.0';
const CONFIG = 7 * 2 ** 40;
const io = (number: number) => 0x3b00 + number;

let lines: string[];
let machine: Machine;
let door: KernelDoor;
let user: UserProcess;

beforeEach(() => {
  lines = [];
  machine = new Machine(
    { iommu: { kind: 'none' }, params: { unsafeNoIommu: true }, devices: [{ at: '04.0', model: edu(), driver: 'vfio-pci' }] },
    { allocate: HeapMemory.allocate, clock: new ManualClock(), log: { log: (level, line) => void lines.push(`${level}: ${line}`) } },
  );
  door = new KernelDoor(machine);
  user = door.process(Process.root({ allocate: HeapMemory.allocate }));
});

afterEach(() => {
  user.exit();
  machine[Symbol.dispose]();
  expect(lines.filter((line) => line.startsWith('error'))).toEqual([]);
});

const ask = (fd: number, request: number, bytes: Uint8Array | number) => said(user.ioctl(fd, request, bytes));

/** A process that may do anything but raw I/O. */
function withoutRawIo(): UserProcess {
  const process = Process.root({ pid: 2, allocate: HeapMemory.allocate });
  process.capabilities.delete('CAP_SYS_RAWIO');
  return door.process(process);
}

describe('B.3 noiommu', () => {
  it('is off unless the machine asks for it, and says so loudly when it is on', async () => {
    expect(lines).toContainEqual(expect.stringContaining('warn: 0000:00:04.0 has no IOMMU: its user can make it write anywhere'));
    expect(machine.nodes.map(({ path }) => path)).toEqual([
      '/dev/vfio/vfio',
      '/dev/iommu',
      '/dev/vfio/noiommu-0',
      '/dev/vfio/devices/noiommu-vfio0',
    ]);
    machine.setParam('vfio.enable_unsafe_noiommu_mode', 'N');
    await machine.unbind(BDF);
    expect([machine.function(BDF).group, machine.groups.size, machine.nodes.length]).toEqual([null, 0, 2]);
    expect(() => machine.bind(BDF, 'vfio-pci')).toThrow('has no isolation group');
  });

  it('needs CAP_SYS_RAWIO for the group and for the device', () => {
    const other = withoutRawIo();
    expect([said(other.open('/dev/vfio/noiommu-0')), said(other.open('/dev/vfio/devices/noiommu-vfio0'))]).toEqual(['EPERM', 'EPERM']);
    expect([said(user.open('/dev/vfio/0')), said(user.open('/dev/vfio/devices/vfio0'))]).toEqual(['ENOENT', 'ENOENT']);
    other.exit();
  });

  it('a container takes its groups by type 8 alone, and then maps nothing', () => {
    const [container, group] = [user.open('/dev/vfio/vfio'), user.open('/dev/vfio/noiommu-0')];
    const extensions = () => [1, 3, 8, 9].map((extension) => ask(container, ContainerIoctl.CHECK_EXTENSION, extension));
    expect(extensions()).toEqual([1, 1, 1, 1]);
    expect(ask(group, GroupIoctl.SET_CONTAINER, fdBytes(container))).toBe(0);
    expect(extensions()).toEqual([0, 0, 1, 0]);
    expect([ask(container, ContainerIoctl.SET_IOMMU, Extension.TYPE1v2_IOMMU), ask(container, ContainerIoctl.SET_IOMMU, 8)]).toEqual([
      'ENODEV',
      0,
    ]);
    expect(ask(container, ContainerIoctl.IOMMU_GET_INFO, bytesOf(IommuType1Info, { argsz: 24 }))).toBe('ENOTTY');
    const device = ask(group, GroupIoctl.GET_DEVICE_FD, cString(BDF));
    expect([typeof device, said(user.pread(device as number, new Uint8Array(4), CONFIG))]).toEqual(['number', 4]);
  });
});

describe('B.5 noiommu', () => {
  it('an IOAS has physical addresses, at which the device reaches the memory, attached or not', () => {
    const [iommufd, cdev] = [user.open('/dev/iommu'), user.open('/dev/vfio/devices/noiommu-vfio0')];
    expect(ask(cdev, DeviceIoctl.BIND_IOMMUFD, bytesOf(DeviceBindIommufd, { argsz: 24, iommufd }))).toBe(0);
    const alloc = bytesOf(IommuIoasAlloc, { size: 12 });
    ask(iommufd, io(IommufdCommand.IOAS_ALLOC), alloc);
    const ioas_id = IommuIoasAlloc.out_ioas_id.get(viewOf(alloc), 0);
    const memory = user.memory.mapAnonymous(4 * 4096, 3);
    const map = (iova: bigint) =>
      ask(
        iommufd,
        io(IommufdCommand.IOAS_MAP),
        bytesOf(IommuIoasMap, { size: 40, flags: 7, ioas_id, user_va: BigInt(memory), length: 0x4000n, iova }),
      );
    const getPa = (iova: bigint, length = 0x4000n, flags = 0) => {
      const bytes = bytesOf(IommuIoasNoiommuGetPa, { size: 40, flags, ioas_id, iova, length });
      const result = ask(iommufd, io(IommufdCommand.IOAS_NOIOMMU_GET_PA), bytes);
      return result === 0 ? IommuIoasNoiommuGetPa.decode(viewOf(bytes)) : result;
    };
    expect([map(0x10_0000n), getPa(0x10_0000n)]).toEqual([0, 'EOPNOTSUPP']);
    expect(ask(cdev, DeviceIoctl.ATTACH_IOMMUFD_PT, bytesOf(DeviceAttachIommufdPt, { argsz: 16, pt_id: ioas_id }))).toBe(0);
    expect([map(0xfee0_0000n), map(2n ** 50n), getPa(0x90_0000n), getPa(0x10_0000n, 0n), getPa(0x10_0000n, 16n, 1)]).toEqual([
      0,
      0,
      'ENOENT',
      'EINVAL',
      'EOPNOTSUPP',
    ]);
    expect([getPa(0x10_1000n), getPa(0x10_0010n, 16n)]).toEqual([
      expect.objectContaining({ length: 0x3000n }),
      expect.objectContaining({ length: 0x10n }),
    ]);
    user.pwrite(cdev, new Uint8Array([6, 0]), CONFIG + 4);
    const { out_phys } = getPa(0x10_1000n) as { out_phys: bigint };
    const { dma } = machine.function(BDF).host;
    expect(dma.tryWrite(out_phys + 8n, new Uint8Array([7]))).toBe(Dma.DONE);
    expect(user.load(memory + 0x1008, 1)).toBe(7);
    const hwpt = (flags: number) =>
      ask(iommufd, io(IommufdCommand.HWPT_ALLOC), bytesOf(IommuHwptAlloc, { size: 48, flags, dev_id: 1, pt_id: ioas_id }));
    const info = bytesOf(IommuHwInfo, { size: 40, dev_id: 1 });
    expect([hwpt(0), hwpt(8), hwpt(2), ask(iommufd, io(IommufdCommand.GET_HW_INFO), info)]).toEqual([
      0,
      'EOPNOTSUPP',
      'EOPNOTSUPP',
      'EOPNOTSUPP',
    ]);
    ask(iommufd, io(IommufdCommand.IOAS_UNMAP), bytesOf(IommuIoasUnmap, { size: 24, ioas_id, iova: 0n, length: 2n ** 64n - 1n }));
    expect(dma.tryWrite(out_phys, new Uint8Array([7]))).not.toBe(Dma.DONE);
  });

  it('a group in an iommufd needs no IOAS, and its type is 8', () => {
    const [iommufd, group] = [user.open('/dev/iommu'), user.open('/dev/vfio/noiommu-0')];
    expect([
      ask(group, GroupIoctl.SET_CONTAINER, fdBytes(iommufd)),
      ask(iommufd, ContainerIoctl.SET_IOMMU, 3),
      ask(iommufd, ContainerIoctl.SET_IOMMU, 8),
      typeof ask(group, GroupIoctl.GET_DEVICE_FD, cString(BDF)),
    ]).toEqual([0, 'EINVAL', 0, 'number']);
  });
});
