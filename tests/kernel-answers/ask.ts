/**
 * The questions whose answers of a real kernel are in linux-7.2/, asked through the ioctl door in the same order, answers printed in the same
 * form: `question -> return value [ERRNO(number)]`.
 */

import { ContainerIoctl, DeviceIoctl, Extension, GroupIoctl, IrqSetFlags, REGION_OFFSET_STEP, RegionIndex } from '../../src/abi/vfio.ts';
import {
  DeviceInfo,
  InfoCapHeader,
  IommuInfoCapDmaAvail,
  IommuInfoCapIovaRange,
  IommuInfoCapMigration,
  IommuType1DmaMap,
  IommuType1DmaUnmap,
  IommuType1Info,
  IovaRangeEntry,
  IrqInfo,
  IrqSet,
  PciDependentDevice,
  PciHotReset,
  PciHotResetInfo,
  RegionInfo,
} from '../../src/abi/vfio-structs.ts';
import type { ManualClock } from '../../src/base/clock.ts';
import { errnoName } from '../../src/base/errno.ts';
import { MapFlags, OpenFlags, PollEvents, Prot } from '../../src/ioctl/posix.ts';
import { cString, type IoctlArgument } from '../../src/ioctl/user-buffer.ts';
import type { UserProcess } from '../../src/ioctl/user-process.ts';

const PAGE = 4096;
/** An address where nothing is mapped. */
const BAD_POINTER = 8;
const UNKNOWN_REQUEST = 0x3b00 + 250;
const CONFIG = RegionIndex.CONFIG * REGION_OFFSET_STEP;

/** C's %#x. */
function hex(value: number | bigint): string {
  return BigInt(value) === 0n ? '0' : `0x${value.toString(16)}`;
}

/** A structure in memory of `bytes` bytes. */
function memory(bytes: number): { bytes: Uint8Array; view: DataView } {
  const buffer = new Uint8Array(bytes);
  return { bytes: buffer, view: new DataView(buffer.buffer) };
}

export interface Subject {
  readonly user: UserProcess;
  readonly clock: ManualClock;
  readonly groupPath: string;
  readonly bdf: string;
}

export class Questions {
  readonly lines: string[] = [];
  readonly #subject: Subject;
  readonly #user: UserProcess;
  #container = -1;
  #group = -1;
  #device = -1;

  constructor(subject: Subject) {
    this.#subject = subject;
    this.#user = subject.user;
  }

  // Container ---------------------------------------------------------------------------------------------------------------------------

  container(): void {
    const u = this.#user;
    this.#container = this.#t(u.open('/dev/vfio/vfio', OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC), 'open(/dev/vfio/vfio)');
    const c = this.#container;
    this.#t(u.ioctl(c, ContainerIoctl.GET_API_VERSION), 'GET_API_VERSION');
    this.#t(u.ioctl(c, ContainerIoctl.GET_API_VERSION, 1), 'GET_API_VERSION arg=1');
    this.#extensions('no iommu set');
    const info = memory(24);
    IommuType1Info.argsz.set(info.view, 0, 24);
    this.#t(u.ioctl(c, ContainerIoctl.IOMMU_GET_INFO, info.bytes), 'IOMMU_GET_INFO before SET_IOMMU');
    this.#t(u.ioctl(c, ContainerIoctl.SET_IOMMU, 1), 'SET_IOMMU 1 with no group');
    this.#t(u.ioctl(c, ContainerIoctl.SET_IOMMU, 99), 'SET_IOMMU 99 with no group');
    this.#t(u.ioctl(c, UNKNOWN_REQUEST), 'unknown ioctl on container');
    this.#t(u.read(c, new Uint8Array(8)), 'read(container)');
    this.#t(this.#mmapped(PAGE, Prot.READ, MapFlags.SHARED, c, 0), 'mmap(container)');
  }

  #extensions(state: string): void {
    for (let i = 0; i <= 13; i++)
      this.#t(this.#user.ioctl(this.#container, ContainerIoctl.CHECK_EXTENSION, i), `CHECK_EXTENSION ${i} (${state})`);
  }

  // Group -------------------------------------------------------------------------------------------------------------------------------

  group(): void {
    const u = this.#user;
    const { bdf, groupPath } = this.#subject;
    this.#container = u.open('/dev/vfio/vfio', OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC);
    this.#t(u.open('/dev/vfio/9999'), 'open(/dev/vfio/9999)');
    this.#group = this.#t(u.open(groupPath, OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC), 'open(group)');
    this.#t(u.open(groupPath, OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC), 'open(group) again while open');
    const status = memory(8);
    const getStatus = (argsz: number) => {
      status.view.setUint32(0, argsz, true);
      return u.ioctl(this.#group, GroupIoctl.GET_STATUS, status.bytes);
    };
    this.#t(getStatus(4), 'GROUP_GET_STATUS argsz=4');
    this.#t(getStatus(8), 'GROUP_GET_STATUS');
    this.#say(`  flags=${hex(status.view.getUint32(4, true))}`);
    this.#t(u.ioctl(this.#group, GroupIoctl.GET_STATUS, BAD_POINTER), 'GROUP_GET_STATUS bad pointer');
    this.#t(this.#getDevice(bdf), 'GET_DEVICE_FD before SET_CONTAINER');
    this.#t(u.ioctl(this.#group, GroupIoctl.UNSET_CONTAINER), 'UNSET_CONTAINER when unset');
    const nul = u.open('/dev/null');
    this.#t(this.#setContainer(-1), 'SET_CONTAINER fd=-1');
    this.#t(this.#setContainer(nul), 'SET_CONTAINER fd=/dev/null');
    this.#t(u.ioctl(this.#group, GroupIoctl.SET_CONTAINER, BAD_POINTER), 'SET_CONTAINER bad pointer');
    this.#t(this.#setContainer(this.#container), 'SET_CONTAINER');
    this.#t(this.#setContainer(this.#container), 'SET_CONTAINER again');
    this.#t(getStatus(8), 'GROUP_GET_STATUS');
    this.#say(`  flags=${hex(status.view.getUint32(4, true))}`);
    this.#t(this.#getDevice(bdf), 'GET_DEVICE_FD before SET_IOMMU');
    this.#iommuInfo(24, 'IOMMU_GET_INFO before SET_IOMMU');
    this.#extensions('group, no iommu');
    const setIommu = (type: number) => u.ioctl(this.#container, ContainerIoctl.SET_IOMMU, type);
    this.#t(setIommu(99), 'SET_IOMMU 99');
    this.#t(setIommu(Extension.NOIOMMU_IOMMU), 'SET_IOMMU NOIOMMU(8)');
    this.#t(setIommu(Extension.TYPE1v2_IOMMU), 'SET_IOMMU TYPE1v2(3)');
    this.#t(setIommu(Extension.TYPE1v2_IOMMU), 'SET_IOMMU TYPE1v2 again');
    this.#extensions('type1v2');
    for (let argsz = 4; argsz <= 32; argsz += 4) this.#sayIommuInfo(this.#iommuInfo(argsz, `IOMMU_GET_INFO argsz=${argsz}`));
    const whole = this.#iommuInfo(1048, 'IOMMU_GET_INFO argsz=1048');
    this.#sayIommuInfo(whole);
    this.#sayIommuCapabilities(whole);
    this.#t(this.#getDevice('0000:ff:1f.7'), 'GET_DEVICE_FD of a BDF not in the group');
    this.#t(this.#getDevice(''), 'GET_DEVICE_FD ""');
    this.#t(this.#getDevice(bdf.slice(5)), `GET_DEVICE_FD short BDF "${bdf.slice(5)}"`);
    this.#tryDevice(`${bdf} `, `GET_DEVICE_FD "${bdf} " (trailing space)`);
    this.#tryDevice(`${bdf} bogus=1`, 'GET_DEVICE_FD "<bdf> bogus=1"');
    this.#tryDevice(`${bdf} vf_token=00000000-0000-0000-0000-000000000001`, 'GET_DEVICE_FD "<bdf> vf_token=<uuid>" on a non-SR-IOV device');
    this.#tryDevice(`${bdf} vf_token=zzz`, 'GET_DEVICE_FD "<bdf> vf_token=zzz"');
    this.#t(u.ioctl(this.#group, GroupIoctl.GET_DEVICE_FD, BAD_POINTER), 'GET_DEVICE_FD bad pointer');
    this.#device = this.#t(this.#getDevice(bdf), 'GET_DEVICE_FD');
    this.#tryDevice(bdf, 'GET_DEVICE_FD second time (allowed?)');
    this.#say(`  FD_CLOEXEC on device fd: ${u.getFd(this.#device)}`);
    this.#t(u.ioctl(this.#group, GroupIoctl.UNSET_CONTAINER), 'UNSET_CONTAINER with the device open');
    this.#t(u.ioctl(this.#group, UNKNOWN_REQUEST), 'unknown ioctl on group');
    u.close(this.#device);
    this.#t(u.ioctl(this.#group, GroupIoctl.UNSET_CONTAINER), 'UNSET_CONTAINER after device close');
    this.#t(u.ioctl(this.#container, ContainerIoctl.IOMMU_GET_INFO, whole.bytes), 'IOMMU_GET_INFO after last group left');
  }

  #setContainer(fd: number): number {
    const argument = memory(4);
    argument.view.setInt32(0, fd, true);
    return this.#user.ioctl(this.#group, GroupIoctl.SET_CONTAINER, argument.bytes);
  }

  #getDevice(name: string): number {
    return this.#user.ioctl(this.#group, GroupIoctl.GET_DEVICE_FD, cString(name));
  }

  #tryDevice(name: string, question: string): void {
    const fd = this.#t(this.#getDevice(name), question);
    if (fd >= 0) this.#user.close(fd);
  }

  #iommuInfo(argsz: number, question: string): { bytes: Uint8Array; view: DataView } {
    const info = memory(1048);
    IommuType1Info.argsz.set(info.view, 0, argsz);
    this.#t(this.#user.ioctl(this.#container, ContainerIoctl.IOMMU_GET_INFO, info.bytes), question);
    return info;
  }

  #sayIommuInfo({ view }: { view: DataView }): void {
    const { argsz, flags, iova_pgsizes, cap_offset } = IommuType1Info.decode(view);
    this.#say(`  argsz=${argsz} flags=${hex(flags)} pgsizes=${hex(iova_pgsizes)} cap_offset=${cap_offset}`);
  }

  #sayIommuCapabilities({ view }: { view: DataView }): void {
    for (let at = IommuType1Info.cap_offset.get(view, 0); at !== 0 && at < view.byteLength; at = InfoCapHeader.next.get(view, at)) {
      const { id, version, next } = InfoCapHeader.decode(view, at);
      let line = `  cap id=${id} ver=${version} next=${next} at ${at}:`;
      if (id === 1) {
        for (let i = 0; i < IommuInfoCapIovaRange.nr_iovas.get(view, at); i++) {
          const { start, end } = IovaRangeEntry.decode(view, at + IommuInfoCapIovaRange.structSize + i * IovaRangeEntry.structSize);
          line += ` [${hex(start)}-${hex(end)}]`;
        }
      } else if (id === 2) {
        const { flags, pgsize_bitmap, max_dirty_bitmap_size } = IommuInfoCapMigration.decode(view, at);
        line += ` flags=${hex(flags)} pgsize_bitmap=${hex(pgsize_bitmap)} max_dirty_bitmap=${max_dirty_bitmap_size}`;
      } else if (id === 3) line += ` avail=${IommuInfoCapDmaAvail.avail.get(view, at)}`;
      this.#say(line);
    }
  }

  // Device ------------------------------------------------------------------------------------------------------------------------------

  device(): void {
    const u = this.#user;
    this.#openAll();
    const sayInfo = ({ view }: { view: DataView }) => {
      const { argsz, flags, num_regions, num_irqs, cap_offset } = DeviceInfo.decode(view);
      this.#say(`  argsz=${argsz} flags=${hex(flags)} regions=${num_regions} irqs=${num_irqs} cap_offset=${cap_offset}`);
    };
    let info = memory(532);
    for (const argsz of [8, 12, 16, 20, 24, 28, 532]) {
      info = memory(532);
      DeviceInfo.argsz.set(info.view, 0, argsz);
      this.#t(this.#onDevice(DeviceIoctl.GET_INFO, info.bytes), `DEVICE_GET_INFO argsz=${argsz}`);
      sayInfo(info);
    }
    this.#t(this.#onDevice(DeviceIoctl.GET_INFO, BAD_POINTER), 'DEVICE_GET_INFO bad pointer');
    const { num_regions, num_irqs } = DeviceInfo.decode(info.view);
    for (let i = 0; i <= num_regions; i++) this.#askRegion(i);
    const short = memory(32);
    RegionInfo.argsz.set(short.view, 0, 31);
    this.#t(this.#onDevice(DeviceIoctl.GET_REGION_INFO, short.bytes), 'REGION_INFO 0 argsz=31');
    for (let i = 0; i <= num_irqs; i++) {
      const irq = memory(16);
      IrqInfo.encode(irq.view, 0, { argsz: 16, index: i });
      this.#t(this.#onDevice(DeviceIoctl.GET_IRQ_INFO, irq.bytes), `IRQ_INFO ${i}`);
      const { argsz, flags, count } = IrqInfo.decode(irq.view);
      this.#say(`  argsz=${argsz} flags=${hex(flags)} count=${count}`);
    }
    const shortIrq = memory(16);
    IrqInfo.encode(shortIrq.view, 0, { argsz: 12, index: 1 });
    this.#t(this.#onDevice(DeviceIoctl.GET_IRQ_INFO, shortIrq.bytes), 'IRQ_INFO argsz=12');
    this.#setIrqs();
    this.#t(this.#onDevice(DeviceIoctl.RESET), 'DEVICE_RESET');
    this.#hotReset();
    this.#features();
    this.#t(this.#onDevice(UNKNOWN_REQUEST), 'unknown ioctl on device');
    const { offset, size } = this.#regionInfo(0);
    const b4 = new Uint8Array(4);
    this.#t(u.pread(this.#device, b4, offset), 'pread BAR0+0 4 (memory decode off?)');
    this.#t(u.pread(this.#device, b4, offset + size), 'pread BAR0+size');
    this.#t(u.pread(this.#device, new Uint8Array(8), offset + size - 4), 'pread 8 bytes straddling the end of BAR0');
    this.#say('  (expect 4: shortened)');
    this.#t(u.pread(this.#device, b4, 40 * REGION_OFFSET_STEP), 'pread region 40');
    this.#t(u.pread(this.#device, b4, 6 * REGION_OFFSET_STEP), 'pread ROM');
    this.#t(u.pread(this.#device, b4, 8 * REGION_OFFSET_STEP), 'pread VGA');
    this.#t(u.pread(this.#device, b4, offset, 0), 'pread len 0');
    const rw = Prot.READ | Prot.WRITE;
    this.#t(this.#mmapped(size, Prot.READ, MapFlags.PRIVATE, this.#device, offset), 'mmap BAR0 MAP_PRIVATE');
    this.#t(this.#mmapped(size + PAGE, Prot.READ, MapFlags.SHARED, this.#device, offset), 'mmap BAR0 too long');
    this.#t(this.#mmapped(PAGE, rw, MapFlags.SHARED, this.#device, CONFIG), 'mmap CONFIG');
    this.#t(this.#mmapped(size, rw, MapFlags.SHARED, this.#device, offset), 'mmap BAR0');
  }

  #askRegion(index: number): void {
    const ask = (argsz: number) => {
      const region = memory(544);
      RegionInfo.encode(region.view, 0, { argsz, index });
      this.#t(this.#onDevice(DeviceIoctl.GET_REGION_INFO, region.bytes), `REGION_INFO ${index} argsz=${argsz}`);
      return region.view;
    };
    const view = ask(32);
    const { argsz, flags, size, offset, cap_offset } = RegionInfo.decode(view);
    this.#say(`  argsz=${argsz} flags=${hex(flags)} size=${hex(size)} offset=${hex(offset)} cap_offset=${cap_offset}`);
    if (argsz <= 32) return;
    const again = RegionInfo.decode(ask(544));
    this.#say(`  argsz=${again.argsz} flags=${hex(again.flags)} cap_offset=${again.cap_offset}`);
  }

  #regionInfo(index: number): { offset: number; size: number } {
    const region = memory(32);
    RegionInfo.encode(region.view, 0, { argsz: 32, index });
    this.#onDevice(DeviceIoctl.GET_REGION_INFO, region.bytes);
    return { offset: Number(RegionInfo.offset.get(region.view, 0)), size: Number(RegionInfo.size.get(region.view, 0)) };
  }

  #setIrqs(): void {
    const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_TRIGGER, ACTION_MASK, ACTION_UNMASK } = IrqSetFlags;
    const ev = this.#user.eventfd(0);
    const set = (index: number, start: number, count: number, flags: number, argsz: number, fd: number, question: string) =>
      this.#t(this.#irqSet(index, start, count, flags, argsz, fd), `SET_IRQS ${question}`);
    const readCount = () => {
      const value = memory(8);
      this.#t(this.#user.read(ev, value.bytes), 'read(eventfd)');
      this.#say(`  value=${value.view.getBigUint64(0, true)}`);
    };
    const enable = DATA_EVENTFD | ACTION_TRIGGER;
    const fire = DATA_NONE | ACTION_TRIGGER;
    set(1, 0, 1, enable, 19, ev, 'argsz=19');
    set(1, 0, 1, enable, 20, ev, 'MSI eventfd argsz=20 (no room for data)');
    set(9, 0, 1, enable, 24, ev, 'index=9');
    set(1, 0, 1, enable | DATA_NONE, 24, ev, 'two data types');
    set(1, 0, 1, ACTION_TRIGGER, 24, ev, 'no data type');
    set(1, 0, 1, DATA_EVENTFD, 24, ev, 'no action');
    set(1, 0, 1, enable | ACTION_MASK, 24, ev, 'two actions');
    set(1, 0, 1, enable | 0x100, 24, ev, 'unknown flag');
    set(1, 0, 9999, fire, 20, ev, 'count beyond irqs');
    set(1, 9999, 1, fire, 20, ev, 'start beyond irqs');
    set(1, 0, 0, fire, 20, ev, 'MSI disable when not enabled (DATA_NONE count=0)');
    set(1, 0, 1, fire, 20, ev, 'MSI trigger loopback when not enabled');
    set(1, 0, 1, enable, 24, 0, 'MSI eventfd=fd 0 (not an eventfd)');
    set(1, 0, 1, enable, 24, 9999, 'MSI eventfd=9999 (bad fd)');
    set(1, 0, 1, enable, 24, ev, 'MSI enable vector 0');
    set(2, 0, 1, enable, 24, ev, 'MSI-X while MSI is on');
    set(0, 0, 1, enable, 24, ev, 'INTx while MSI is on');
    set(1, 0, 1, DATA_NONE | ACTION_MASK, 20, ev, 'MSI mask');
    set(1, 0, 1, fire, 20, ev, 'MSI loopback trigger (DATA_NONE)');
    readCount();
    set(1, 0, 1, DATA_BOOL | ACTION_TRIGGER, 21, 1, 'MSI loopback trigger (DATA_BOOL 1)');
    readCount();
    set(1, 0, 1, enable, 24, -1, 'MSI de-assign vector 0 (fd -1)');
    set(1, 0, 0, fire, 20, ev, 'MSI disable');
    set(2, 0, 1, enable, 24, ev, 'MSI-X enable 1 vector');
    set(2, 1, 1, enable, 24, ev, 'MSI-X add vector 1 (dynamic)');
    set(2, 0, 0, fire, 20, ev, 'MSI-X disable');
    set(0, 0, 1, enable, 24, ev, 'INTx enable');
    set(0, 0, 1, DATA_NONE | ACTION_MASK, 20, ev, 'INTx mask');
    set(0, 0, 1, DATA_NONE | ACTION_UNMASK, 20, ev, 'INTx unmask');
    set(0, 0, 0, fire, 20, ev, 'INTx disable');
    set(3, 0, 1, enable, 24, ev, 'ERR eventfd');
    set(4, 0, 1, enable, 24, ev, 'REQ eventfd');
    set(4, 0, 1, fire, 20, ev, 'REQ loopback');
  }

  #irqSet(index: number, start: number, count: number, flags: number, argsz: number, fd: number): number {
    const set = memory(36);
    IrqSet.encode(set.view, 0, { argsz, flags, index, start, count });
    set.view.setInt32(20, fd, true);
    set.view.setInt32(24, fd, true);
    return this.#onDevice(DeviceIoctl.SET_IRQS, set.bytes);
  }

  #hotReset(): void {
    const info = memory(12 + 16 * 8);
    const get = (argsz: number, question: string) => {
      info.bytes.fill(0);
      PciHotResetInfo.argsz.set(info.view, 0, argsz);
      const result = this.#t(this.#onDevice(DeviceIoctl.GET_PCI_HOT_RESET_INFO, info.bytes), question);
      return { ...PciHotResetInfo.decode(info.view), result };
    };
    const short = get(12, 'HOT_RESET_INFO argsz=12');
    this.#say(`  argsz=${short.argsz} count=${short.count}`);
    const whole = get(info.bytes.length, 'HOT_RESET_INFO');
    this.#say(`  flags=${hex(whole.flags)} count=${whole.count}`);
    for (let i = 0; whole.result === 0 && i < whole.count && i < 16; i++) {
      const { id, segment, bus, devfn } = PciDependentDevice.decode(info.view, 12 + i * 8);
      const padded = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
      this.#say(`  group=${id} ${padded(segment, 4)}:${padded(bus, 2)} devfn=${hex(devfn)}`);
    }
    const reset = memory(20);
    PciHotReset.argsz.set(reset.view, 0, 12);
    this.#t(this.#onDevice(DeviceIoctl.PCI_HOT_RESET, reset.bytes), 'PCI_HOT_RESET count=0');
    PciHotReset.encode(reset.view, 0, { argsz: 20, count: 1 });
    reset.view.setInt32(12, this.#group, true);
    this.#t(this.#onDevice(DeviceIoctl.PCI_HOT_RESET, reset.bytes), 'PCI_HOT_RESET own group');
  }

  #features(): void {
    const [get, set, probe] = [1 << 16, 1 << 17, 1 << 18];
    const feature = memory(72);
    const ask = (flags: number, question: string) => {
      feature.view.setUint32(0, 72, true);
      feature.view.setUint32(4, flags, true);
      this.#t(this.#onDevice(DeviceIoctl.FEATURE, feature.bytes), `FEATURE ${question}`);
    };
    for (let id = 0; id <= 11; id++) {
      feature.bytes.fill(0);
      ask(probe | id, `probe ${id}`);
      ask(probe | get | id, `probe|get ${id}`);
      ask(probe | set | id, `probe|set ${id}`);
    }
    const none = memory(8);
    none.view.setUint32(0, 8, true);
    this.#t(this.#onDevice(DeviceIoctl.FEATURE, none.bytes), 'FEATURE flags=0');
  }

  // Config space ------------------------------------------------------------------------------------------------------------------------

  config(): void {
    const u = this.#user;
    this.#openAll();
    const { size } = this.#regionInfo(RegionIndex.CONFIG);
    const c = new Uint8Array(4096);
    this.#t(u.pread(this.#device, c, CONFIG), `pread CONFIG len 4096 (region size ${hex(size)})`);
    const n = this.#t(u.pread(this.#device, c, CONFIG, size), 'pread CONFIG len=size');
    for (let at = 0; at < 256; at += 16) {
      const row = [...c.subarray(at, at + 16)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
      this.#say(`${at.toString(16).padStart(3, '0')}: ${row}`);
    }
    const view = new DataView(c.buffer);
    for (let at = n > 256 ? 0x100 : 0; at !== 0; at = view.getUint32(at, true) >>> 20) {
      const header = view.getUint32(at, true);
      this.#say(`extcap ${hex(at)}: id=${hex(header & 0xffff)} ver=${(header >>> 16) & 15} next=${hex(header >>> 20)}`);
    }
    for (let at = c[0x34]!; at !== 0; at = c[at + 1]!) this.#say(`cap ${hex(at)}: id=${hex(c[at]!)} next=${hex(c[at + 1]!)}`);
    this.#t(u.pread(this.#device, c, CONFIG + size, 4), 'pread CONFIG+size');
    this.#t(u.pread(this.#device, c, CONFIG + size - 4, 8), 'pread CONFIG+size-4 len 8');
    this.#t(u.pread(this.#device, c, CONFIG + 0x3d, 5), 'pread CONFIG+0x3d len 5');
    this.#t(u.pread(this.#device, c, CONFIG, 0), 'pread CONFIG len 0');
    this.#t(u.pread(this.#device, c, CONFIG + 1, 3), 'pread CONFIG+1 len 3');
    this.#t(u.pwrite(this.#device, c, CONFIG + 4096, 4), 'pwrite CONFIG+4096');
    this.#header();
    for (let at = this.#cfg(0x34, 1); at !== 0; at = this.#cfg(at + 1, 1)) this.#capability(at);
  }

  #header(): void {
    this.#cw(0, 2, 0x1234, 'vendor id');
    this.#cw(2, 2, 0x1234, 'device id');
    this.#cw(8, 1, 0xff, 'revision');
    this.#cw(4, 2, 0x0000, 'command 0');
    this.#cw(4, 2, 0xffff, 'command all ones');
    this.#cw(4, 2, 0x0002, 'command MEM');
    this.#cw(4, 2, 0x0406, 'command MEM|MASTER|INTXDIS');
    this.#cw(4, 2, 0x0006, 'command MEM|MASTER');
    this.#cw(6, 2, 0xffff, 'status all ones');
    this.#cw(0xc, 1, 0xaa, 'cache line');
    this.#cw(0xd, 1, 0xaa, 'latency');
    this.#cw(0xe, 1, 0x80, 'header type');
    this.#cw(0xf, 1, 0xc0, 'BIST');
    for (let i = 0; i < 6; i++) {
      const at = 0x10 + 4 * i;
      const before = this.#cfg(at, 4);
      this.#cw(at, 4, 0xffff_ffff, `BAR${i} sizing`);
      this.#cw(at, 4, before, '  restore');
    }
    this.#cw(0x30, 4, 0xffff_f800, 'ROM sizing');
    this.#cw(0x2c, 4, 0xdead_beef, 'subsystem ids');
    this.#cw(0x34, 1, 0, 'cap pointer');
    this.#cw(0x3c, 1, 0x55, 'interrupt line');
    this.#cw(0x3d, 1, 4, 'interrupt pin');
  }

  #capability(at: number): void {
    switch (this.#cfg(at, 1)) {
      case 0x01: {
        this.#cw(at + 2, 2, 0xffff, 'PM capabilities');
        this.#cw(at + 4, 2, 3, 'PMCSR -> D3hot');
        const read = this.#user.pread(this.#device, new Uint8Array(4), 0);
        this.#say(`  BAR0 read in D3hot: ${read < 0 ? `-1 ${errnoName(read)}` : `${read} ok`}`);
        this.#cw(at + 4, 2, 0, 'PMCSR -> D0');
        this.#cw(4, 2, 6, 'command again');
        break;
      }
      case 0x05:
        this.#cw(at + 2, 2, 0xffff, 'MSI control all ones');
        this.#cw(at + 2, 2, 1, 'MSI enable, no eventfd');
        this.#cw(at + 4, 4, 0xfee0_0000, 'MSI address');
        this.#cw(at + 2, 2, 0, 'MSI control 0');
        break;
      case 0x11:
        this.#cw(at + 2, 2, 0xffff, 'MSI-X control all ones');
        this.#cw(at + 2, 2, 0, 'MSI-X control 0');
        this.#cw(at + 4, 4, 0, 'MSI-X table off/bir');
        break;
      case 0x10:
        this.#cw(at + 8, 2, 0x8000 | this.#cfg(at + 8, 2), 'PCIe devctl with FLR bit');
        this.#cw(at + 8, 2, 0x7fff, 'PCIe devctl');
        this.#cw(at + 4, 4, 0xffff_ffff, 'PCIe devcap');
        this.#cw(at + 0x10, 2, 0xffff, 'PCIe lnkctl');
        break;
    }
    this.#cw(at, 2, 0xffff, 'capability header');
  }

  #cfg(at: number, width: 1 | 2 | 4): number {
    const value = memory(4);
    this.#user.pread(this.#device, value.bytes, CONFIG + at, width);
    return value.view.getUint32(0, true);
  }

  #cw(at: number, width: 1 | 2 | 4, value: number, what: string): void {
    const before = this.#cfg(at, width);
    const from = memory(4);
    from.view.setUint32(0, value, true);
    const result = this.#user.pwrite(this.#device, from.bytes, CONFIG + at, width);
    const returned = result < 0 ? `-1 ${errnoName(result)}` : `${result}`;
    // C pads `0x` in with the digits, and writes 0 without it.
    const where = at === 0 ? '00000' : `0x${at.toString(16).padStart(3, '0')}`;
    this.#say(
      `cfg ${where}/${width} ${what.padEnd(34)} before=${hex(before)} write=${hex(value)} ret=${returned} after=${hex(this.#cfg(at, width))}`,
    );
  }

  // DMA ---------------------------------------------------------------------------------------------------------------------------------

  dma(): void {
    const u = this.#user;
    this.#openAll();
    const RW = 3;
    const MAP = 32;
    const UNMAP = 24;
    const ALL = 2;
    const m = u.mmap(64 * PAGE, Prot.READ | Prot.WRITE, MapFlags.PRIVATE | MapFlags.ANONYMOUS);
    const ro = u.mmap(PAGE, Prot.READ, MapFlags.PRIVATE | MapFlags.ANONYMOUS);
    const map = (vaddr: number, iova: number | bigint, size: number, flags: number, argsz: number, what: string) =>
      this.#t(this.#map(vaddr, iova, size, flags, argsz), `MAP_DMA ${what}`);
    const unmap = (iova: number, size: number | bigint, flags: number, argsz: number, what: string) =>
      this.#unmap(iova, size, flags, argsz, what);
    const unmapAll = () => unmap(0, 0, ALL, UNMAP, 'ALL');

    map(m, 0x100000, PAGE, RW, MAP - 1, 'argsz one short');
    map(m, 0x100000, PAGE, RW, 4, 'argsz 4');
    map(m, 0x100000, PAGE, 0, MAP, 'flags 0');
    map(m, 0x100000, PAGE, 0x80 | RW, MAP, 'unknown flag');
    map(m, 0x100000, 0, RW, MAP, 'size 0');
    map(m, 0x100000, 100, RW, MAP, 'size 100');
    map(m, 0x100010, PAGE, RW, MAP, 'iova unaligned');
    map(m + 8, 0x100000, PAGE, RW, MAP, 'vaddr unaligned');
    map(m, 2n ** 64n - 4096n, 2 * PAGE, RW, MAP, 'iova+size wraps');
    map(m, 0xfee00000, PAGE, RW, MAP, 'iova in the MSI window');
    map(m, 1n << 60n, PAGE, RW, MAP, 'iova above the aperture');
    map(0x10000, 0x100000, PAGE, RW, MAP, 'vaddr not mapped');
    map(ro, 0x100000, PAGE, RW, MAP, 'vaddr read-only page, RW');
    map(ro, 0x100000, PAGE, 1, MAP, 'vaddr read-only page, R');
    unmap(0x100000, PAGE, 0, UNMAP, 'that');
    map(m, 0x100000, 4 * PAGE, RW, MAP, '4 pages');
    map(m, 0x100000, 4 * PAGE, RW, MAP, 'same again');
    map(m, 0x103000, PAGE, RW, MAP, 'overlap');
    map(m + 4 * PAGE, 0x104000, 4 * PAGE, RW, MAP, 'adjacent');
    unmap(0x100000, PAGE, 0, UNMAP, 'first page of 4 (v2)');
    unmap(0x101000, 3 * PAGE, 0, UNMAP, 'tail of 4');
    unmap(0x100000, 0, 0, UNMAP, 'size 0');
    unmap(0x100001, PAGE, 0, UNMAP, 'unaligned');
    unmap(0x900000, PAGE, 0, UNMAP, 'nothing there');
    unmap(0x100000, PAGE, 0x80, UNMAP, 'unknown flag');
    unmap(0x100000, PAGE, 0, UNMAP - 1, 'argsz short');
    unmap(0x100000, 8 * PAGE, 0, UNMAP, 'both in one');
    map(m, 0x100000, PAGE, RW, MAP, 'a');
    map(m, 0x200000, 2 * PAGE, RW, MAP, 'b');
    unmap(0x100000, PAGE, ALL, UNMAP, 'ALL with iova/size set');
    unmapAll();
    map(m, 0x100000, PAGE, RW, MAP, 'VADDR test');
    unmap(0x100000, PAGE, 4, UNMAP, 'VADDR flag');
    unmap(0, 2n ** 64n - 1n, 0, UNMAP, 'size ~0');
    unmap(0, 2n ** 47n, 0, UNMAP, '0..1<<47');
    unmapAll();

    const { process } = u;
    this.#say(`RLIMIT_MEMLOCK default ${process.memlockLimit}`);
    process.memlockLimit = 8 * PAGE;
    map(m, 0x100000, 16 * PAGE, RW, MAP, '16 pages, RLIMIT_MEMLOCK=8 pages, with CAP_IPC_LOCK');
    unmapAll();
    process.capabilities.delete('CAP_IPC_LOCK');
    map(m, 0x100000, 16 * PAGE, RW, MAP, '16 pages, RLIMIT_MEMLOCK=8 pages, without CAP_IPC_LOCK');
    map(m, 0x100000, 8 * PAGE, RW, MAP, '8 pages, limit 8');
    map(m + 8 * PAGE, 0x200000, PAGE, RW, MAP, '1 more page');
    unmapAll();
    map(m, 0x100000, 8 * PAGE, RW, MAP, '8 pages after unmap');
    unmapAll();
    map(m, 0x100000, 8 * PAGE, RW, MAP, '8 pages');
    map(m, 0x200000, PAGE, RW, MAP, 'the same page again under the limit (counted twice?)');
    unmapAll();
    process.memlockLimit = 2 ** 30;
    let made = 0;
    let refused = 0;
    for (; made < 70000 && refused === 0; made++) refused = this.#map(m, 0x1000_0000 + made * 2 * PAGE, PAGE, RW, MAP);
    this.#t(refused, `1-page maps of one page until refused: ${refused === 0 ? made : made - 1} made, then`);
  }

  #map(vaddr: number, iova: number | bigint, size: number, flags: number, argsz: number): number {
    const request = memory(32);
    IommuType1DmaMap.encode(request.view, 0, { argsz, flags, vaddr: BigInt(vaddr), iova: BigInt(iova), size: BigInt(size) });
    return this.#user.ioctl(this.#container, ContainerIoctl.IOMMU_MAP_DMA, request.bytes);
  }

  #unmap(iova: number, size: number | bigint, flags: number, argsz: number, what: string): void {
    const request = memory(24);
    IommuType1DmaUnmap.encode(request.view, 0, { argsz, flags, iova: BigInt(iova), size: BigInt(size) });
    this.#t(this.#user.ioctl(this.#container, ContainerIoctl.IOMMU_UNMAP_DMA, request.bytes), `UNMAP_DMA ${what}`);
    this.#say(`  size out=${hex(IommuType1DmaUnmap.size.get(request.view, 0))}`);
  }

  // edu at work -------------------------------------------------------------------------------------------------------------------------

  edu(): void {
    const u = this.#user;
    this.#openAll();
    const { offset, size } = this.#regionInfo(0);
    const rw = Prot.READ | Prot.WRITE;
    const b = u.mmap(size, rw, MapFlags.SHARED, this.#device, offset);
    this.#t(Math.min(b, 0), `mmap BAR0 ${hex(size)}`);
    this.#cw(4, 2, 0, 'command 0');
    const v = memory(16);
    this.#t(u.pread(this.#device, v.bytes, offset, 4), 'pread BAR0 with MEM off');
    const off = u.load(b, 4);
    this.#say(
      `mmap read with MEM off: ${off === 'SIGBUS' ? 'signal Bus error' : off === 'SIGSEGV' ? 'signal Segmentation fault' : hex(off)}`,
    );
    this.#cw(4, 2, 6, 'command MEM|MASTER');
    const load = (register: number) => {
      const value = u.load(b + register, 4);
      if (typeof value !== 'number') throw new Error(`load of ${hex(register)} ended in ${String(value)}`);
      return value;
    };
    this.#say(`id via mmap ${hex(load(0))}`);
    this.#t(u.pread(this.#device, v.bytes, offset, 4), 'id via pread');
    this.#say(`  ${hex(v.view.getUint32(0, true))}`);
    const w = memory(4);
    w.view.setUint32(0, 0x12345678, true);
    this.#t(u.pwrite(this.#device, w.bytes, offset + 4), 'liveness write');
    this.#say(`  ~ = ${hex(load(4))}`);
    this.#t(u.pread(this.#device, v.bytes, offset + 1, 3), 'pread BAR0+1 len 3');
    this.#t(u.pread(this.#device, v.bytes, offset, 8), 'pread BAR0 len 8');
    this.#t(u.pread(this.#device, v.bytes, offset, 16), 'pread BAR0 len 16');

    const ev = u.eventfd(0);
    const n = memory(8);
    /** poll(2) with a timeout: time passes for the device meanwhile. */
    const poll = (timeoutMs: number) => {
      for (let waited = 0; ; waited++) {
        const { ready } = u.poll([{ fd: ev, events: PollEvents.IN }]);
        if (ready > 0 || waited >= timeoutMs) return ready;
        this.#subject.clock.advance(1);
      }
    };
    const { DATA_NONE, DATA_EVENTFD, ACTION_TRIGGER, ACTION_UNMASK } = IrqSetFlags;
    this.#t(this.#irqSet(1, 0, 1, DATA_EVENTFD | ACTION_TRIGGER, 24, ev), 'MSI eventfd');
    let seen = '';
    for (let at = this.#cfg(0x34, 1); at !== 0; at = this.#cfg(at + 1, 1)) {
      if (this.#cfg(at, 1) === 5)
        seen = `${hex(this.#cfg(at + 2, 2))} addr ${hex(this.#cfg(at + 4, 4))} data ${hex(this.#cfg(at + 12, 2))}`;
    }
    this.#say(`MSI ctrl seen in config: ${seen}`);

    const store = (register: number, value: number) => u.store(b + register, 4, value);
    store(0x60, 0xab);
    let ready = this.#t(poll(2000), 'raise irq 0xab: poll(eventfd)');
    if (ready === 1) this.#t(u.read(ev, n.bytes), '  read n');
    this.#say(`  n=${n.view.getBigUint64(0, true)} irq status ${hex(load(0x24))}`);
    store(0x64, 0xab);
    store(0x20, 0x80);
    store(0x08, 5);
    ready = this.#t(poll(2000), 'factorial 5 with irq: poll');
    if (ready === 1) u.read(ev, n.bytes);
    this.#say(`  5! = ${load(0x08)} irq status ${hex(load(0x24))}`);
    store(0x64, load(0x24));

    const m = u.mmap(2 * PAGE, rw, MapFlags.PRIVATE | MapFlags.ANONYMOUS);
    u.memory.copyOut(m, cString('through the IOMMU'));
    this.#t(this.#map(m, 0x100000, 2 * PAGE, 3, 32), 'MAP_DMA 2 pages for edu at iova 0x100000');
    const dma = (source: number, destination: number, count: number, command: number, question: string) => {
      u.store(b + 0x80, 8, source);
      u.store(b + 0x88, 8, destination);
      u.store(b + 0x90, 8, count);
      u.store(b + 0x98, 8, command);
      if (this.#t(poll(3000), question) === 1) u.read(ev, n.bytes);
      this.#say(`  irq status ${hex(load(0x24))} dma cmd ${hex(load(0x98))}`);
      store(0x64, load(0x24));
    };
    const page2 = () => {
      const bytes = u.memory.copyIn(m + PAGE, PAGE);
      return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
    };
    dma(0x100000, 0x40000, 18, 1 | 4, 'DMA ram->edu 18 bytes: poll');
    dma(0x40000, 0x101000, 18, 1 | 2 | 4, 'DMA edu->ram: poll');
    this.#say(`  page 2 now: "${page2()}"`);
    this.#unmap(0x100000, 2 * PAGE, 0, 24, 'the two pages');
    u.memory.copyOut(m + PAGE, new Uint8Array(32));
    dma(0x40000, 0x101000, 18, 1 | 2 | 4, 'DMA edu->unmapped iova: poll');
    this.#say(`  page 2 now: "${page2()}" (DMA must not land)`);

    this.#t(this.#irqSet(1, 0, 0, DATA_NONE | ACTION_TRIGGER, 20, ev), 'MSI off');
    this.#t(this.#irqSet(0, 0, 1, DATA_EVENTFD | ACTION_TRIGGER, 24, ev), 'INTx eventfd');
    store(0x60, 1);
    if (this.#t(poll(2000), 'INTx: poll') === 1) u.read(ev, n.bytes);
    this.#say(`  n=${n.view.getBigUint64(0, true)}`);
    this.#t(poll(100), 'INTx again without unmask: poll');
    this.#t(this.#irqSet(0, 0, 1, DATA_NONE | ACTION_UNMASK, 20, ev), 'INTx unmask, not acked in the device');
    if (this.#t(poll(2000), '  poll (must fire again)') === 1) u.read(ev, n.bytes);
    store(0x64, 1);
    this.#t(this.#irqSet(0, 0, 1, DATA_NONE | ACTION_UNMASK, 20, ev), 'INTx unmask, acked');
    this.#t(poll(100), '  poll (must stay quiet)');
    this.#t(this.#onDevice(DeviceIoctl.RESET), 'DEVICE_RESET (edu)');
  }

  // -------------------------------------------------------------------------------------------------------------------------------------

  #openAll(): void {
    const u = this.#user;
    const must = (result: number, what: string) => {
      if (result < 0) throw new Error(`${what}: ${errnoName(result)}`);
      return result;
    };
    this.#container = must(u.open('/dev/vfio/vfio', OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC), 'open container');
    this.#group = must(u.open(this.#subject.groupPath, OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC), 'open group');
    must(this.#setContainer(this.#container), 'SET_CONTAINER');
    must(u.ioctl(this.#container, ContainerIoctl.SET_IOMMU, Extension.TYPE1v2_IOMMU), 'SET_IOMMU');
    this.#device = must(this.#getDevice(this.#subject.bdf), 'GET_DEVICE_FD');
  }

  #onDevice(request: number, argument: IoctlArgument = 0): number {
    return this.#user.ioctl(this.#device, request, argument);
  }

  /** mmap, whose address is not printed. */
  #mmapped(...request: Parameters<UserProcess['mmap']>): number {
    const address = this.#user.mmap(...request);
    return Math.min(address, 0);
  }

  /** Print a question with its answer; gives the answer back. */
  #t(result: number, question: string): number {
    this.#say(result < 0 ? `${question} -> -1 ${errnoName(result)}(${-result})` : `${question} -> ${result}`);
    return result;
  }

  #say(line: string): void {
    this.lines.push(line);
  }
}
