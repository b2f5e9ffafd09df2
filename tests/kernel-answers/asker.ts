/**
 * Asks the questions whose answers of real kernels are in linux-7.3/ and its like. It uses the
 * ioctl door, in the same order, and prints the answers in the same form:
 * `question -> return value [ERRNO(number)]`.
 */
import { ContainerIoctl, DeviceIoctl, Extension, GroupIoctl, REGION_OFFSET_STEP, RegionIndex } from '../../src/abi/vfio.ts';
import { IommuType1DmaMap, IommuType1DmaUnmap, IrqSet, RegionInfo } from '../../src/abi/vfio-structs.ts';
import type { ManualClock } from '../../src/base/clock.ts';
import { errnoName } from '../../src/base/errno.ts';
import { OpenFlags } from '../../src/ioctl/posix.ts';
import { cString, type IoctlArgument } from '../../src/ioctl/user-buffer.ts';
import type { UserProcess } from '../../src/ioctl/user-process.ts';

export const PAGE = 4096;
/** An address where nothing is mapped. */
export const BAD_POINTER = 8;
export const UNKNOWN_REQUEST = 0x3b00 + 250;
export const CONFIG = RegionIndex.CONFIG * REGION_OFFSET_STEP;

/** C's %#x. */
export function hex(value: number | bigint): string {
  return BigInt(value) === 0n ? '0' : `0x${value.toString(16)}`;
}

/** A structure in memory of `bytes` bytes. */
export function memory(bytes: number): { bytes: Uint8Array; view: DataView } {
  const buffer = new Uint8Array(bytes);
  return { bytes: buffer, view: new DataView(buffer.buffer) };
}

export interface Subject {
  readonly user: UserProcess;
  readonly clock: ManualClock;
  readonly groupPath: string;
  readonly bdf: string;
}

export abstract class Asker {
  readonly lines: string[] = [];
  protected readonly subject: Subject;
  protected readonly user: UserProcess;
  /** Descriptors. */
  protected container = -1;
  protected group = -1;
  protected device = -1;

  constructor(subject: Subject) {
    this.subject = subject;
    this.user = subject.user;
  }

  /** Ask everything; the answers are in `lines`. */
  abstract ask(): void;

  protected extensions(state: string): void {
    for (let i = 0; i <= 13; i++) {
      this.t(this.user.ioctl(this.container, ContainerIoctl.CHECK_EXTENSION, i), `CHECK_EXTENSION ${i} (${state})`);
    }
  }

  protected setContainer(fd: number): number {
    const argument = memory(4);
    argument.view.setInt32(0, fd, true);
    return this.user.ioctl(this.group, GroupIoctl.SET_CONTAINER, argument.bytes);
  }

  protected getDevice(name: string): number {
    return this.user.ioctl(this.group, GroupIoctl.GET_DEVICE_FD, cString(name));
  }

  protected regionInfo(index: number): { offset: number; size: number } {
    const region = memory(32);
    RegionInfo.encode(region.view, 0, { argsz: 32, index });
    this.onDevice(DeviceIoctl.GET_REGION_INFO, region.bytes);
    return { offset: Number(RegionInfo.offset.get(region.view, 0)), size: Number(RegionInfo.size.get(region.view, 0)) };
  }

  protected irqSet(index: number, start: number, count: number, flags: number, argsz: number, fd: number): number {
    const set = memory(36);
    IrqSet.encode(set.view, 0, { argsz, flags, index, start, count });
    set.view.setInt32(20, fd, true);
    set.view.setInt32(24, fd, true);
    return this.onDevice(DeviceIoctl.SET_IRQS, set.bytes);
  }

  protected cfg(at: number, width: 1 | 2 | 4): number {
    const value = memory(4);
    this.user.pread(this.device, value.bytes, CONFIG + at, width);
    return value.view.getUint32(0, true);
  }

  protected cw(at: number, width: 1 | 2 | 4, value: number, what: string): void {
    const before = this.cfg(at, width);
    const from = memory(4);
    from.view.setUint32(0, value, true);
    const result = this.user.pwrite(this.device, from.bytes, CONFIG + at, width);
    const returned = result < 0 ? `-1 ${errnoName(result)}` : `${result}`;
    // C pads `0x` in with the digits, and writes 0 without it.
    const where = at === 0 ? '00000' : `0x${at.toString(16).padStart(3, '0')}`;
    this.say(
      `cfg ${where}/${width} ${what.padEnd(34)} before=${hex(before)} write=${hex(value)} ret=${returned} after=${hex(this.cfg(at, width))}`,
    );
  }

  protected map(vaddr: number, iova: number | bigint, size: number, flags: number, argsz: number): number {
    const request = memory(32);
    IommuType1DmaMap.encode(request.view, 0, { argsz, flags, vaddr: BigInt(vaddr), iova: BigInt(iova), size: BigInt(size) });
    return this.user.ioctl(this.container, ContainerIoctl.IOMMU_MAP_DMA, request.bytes);
  }

  protected unmap(iova: number, size: number | bigint, flags: number, argsz: number, what: string): void {
    const request = memory(24);
    IommuType1DmaUnmap.encode(request.view, 0, { argsz, flags, iova: BigInt(iova), size: BigInt(size) });
    this.t(this.user.ioctl(this.container, ContainerIoctl.IOMMU_UNMAP_DMA, request.bytes), `UNMAP_DMA ${what}`);
    this.say(`  size out=${hex(IommuType1DmaUnmap.size.get(request.view, 0))}`);
  }

  protected openAll(): void {
    const u = this.user;
    const must = (result: number, what: string) => {
      if (result < 0) throw new Error(`${what}: ${errnoName(result)}`);
      return result;
    };
    this.container = must(u.open('/dev/vfio/vfio', OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC), 'open container');
    this.group = must(u.open(this.subject.groupPath, OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC), 'open group');
    must(this.setContainer(this.container), 'SET_CONTAINER');
    must(u.ioctl(this.container, ContainerIoctl.SET_IOMMU, Extension.TYPE1v2_IOMMU), 'SET_IOMMU');
    this.device = must(this.getDevice(this.subject.bdf), 'GET_DEVICE_FD');
  }

  protected onDevice(request: number, argument: IoctlArgument = 0): number {
    return this.user.ioctl(this.device, request, argument);
  }

  /** mmap, whose address is not printed. */
  protected mmapped(...request: Parameters<UserProcess['mmap']>): number {
    const address = this.user.mmap(...request);
    return Math.min(address, 0);
  }

  /** Print a question with its answer; returns the answer. */
  protected t(result: number, question: string): number {
    this.say(result < 0 ? `${question} -> -1 ${errnoName(result)}(${-result})` : `${question} -> ${result}`);
    return result;
  }

  protected say(line: string): void {
    this.lines.push(line);
  }
}
