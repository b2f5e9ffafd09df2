/** Group, container, IOMMU type, IOMMU info, and the names that open a device: group-edu.txt. */
import { ContainerIoctl, Extension, GroupIoctl } from '../../src/abi/vfio.ts';
import {
  InfoCapHeader,
  IommuInfoCapDmaAvail,
  IommuInfoCapIovaRange,
  IommuInfoCapMigration,
  IommuType1Info,
  IovaRangeEntry,
} from '../../src/abi/vfio-structs.ts';
import { OpenFlags } from '../../src/ioctl/posix.ts';
import { Asker, BAD_POINTER, hex, memory, UNKNOWN_REQUEST } from './asker.ts';

export class GroupQuestions extends Asker {
  ask(): void {
    const u = this.user;
    const { bdf, groupPath } = this.subject;
    this.container = u.open('/dev/vfio/vfio', OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC);
    this.t(u.open('/dev/vfio/9999'), 'open(/dev/vfio/9999)');
    this.group = this.t(u.open(groupPath, OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC), 'open(group)');
    this.t(u.open(groupPath, OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC), 'open(group) again while open');
    const status = memory(8);
    const getStatus = (argsz: number) => {
      status.view.setUint32(0, argsz, true);
      return u.ioctl(this.group, GroupIoctl.GET_STATUS, status.bytes);
    };
    this.t(getStatus(4), 'GROUP_GET_STATUS argsz=4');
    this.t(getStatus(8), 'GROUP_GET_STATUS');
    this.say(`  flags=${hex(status.view.getUint32(4, true))}`);
    this.t(u.ioctl(this.group, GroupIoctl.GET_STATUS, BAD_POINTER), 'GROUP_GET_STATUS bad pointer');
    this.t(this.getDevice(bdf), 'GET_DEVICE_FD before SET_CONTAINER');
    this.t(u.ioctl(this.group, GroupIoctl.UNSET_CONTAINER), 'UNSET_CONTAINER when unset');
    const nul = u.open('/dev/null');
    this.t(this.setContainer(-1), 'SET_CONTAINER fd=-1');
    this.t(this.setContainer(nul), 'SET_CONTAINER fd=/dev/null');
    this.t(u.ioctl(this.group, GroupIoctl.SET_CONTAINER, BAD_POINTER), 'SET_CONTAINER bad pointer');
    this.t(this.setContainer(this.container), 'SET_CONTAINER');
    this.t(this.setContainer(this.container), 'SET_CONTAINER again');
    this.t(getStatus(8), 'GROUP_GET_STATUS');
    this.say(`  flags=${hex(status.view.getUint32(4, true))}`);
    this.t(this.getDevice(bdf), 'GET_DEVICE_FD before SET_IOMMU');
    this.#iommuInfo(24, 'IOMMU_GET_INFO before SET_IOMMU');
    this.extensions('group, no iommu');
    const setIommu = (type: number) => u.ioctl(this.container, ContainerIoctl.SET_IOMMU, type);
    this.t(setIommu(99), 'SET_IOMMU 99');
    this.t(setIommu(Extension.NOIOMMU_IOMMU), 'SET_IOMMU NOIOMMU(8)');
    this.t(setIommu(Extension.TYPE1v2_IOMMU), 'SET_IOMMU TYPE1v2(3)');
    this.t(setIommu(Extension.TYPE1v2_IOMMU), 'SET_IOMMU TYPE1v2 again');
    this.extensions('type1v2');
    for (let argsz = 4; argsz <= 32; argsz += 4) this.#sayIommuInfo(this.#iommuInfo(argsz, `IOMMU_GET_INFO argsz=${argsz}`));
    const whole = this.#iommuInfo(1048, 'IOMMU_GET_INFO argsz=1048');
    this.#sayIommuInfo(whole);
    this.#sayIommuCapabilities(whole);
    this.t(this.getDevice('0000:ff:1f.7'), 'GET_DEVICE_FD of a BDF not in the group');
    this.t(this.getDevice(''), 'GET_DEVICE_FD ""');
    this.t(this.getDevice(bdf.slice(5)), `GET_DEVICE_FD short BDF "${bdf.slice(5)}"`);
    this.#tryDevice(`${bdf} `, `GET_DEVICE_FD "${bdf} " (trailing space)`);
    this.#tryDevice(`${bdf} bogus=1`, 'GET_DEVICE_FD "<bdf> bogus=1"');
    this.#tryDevice(`${bdf} vf_token=00000000-0000-0000-0000-000000000001`, 'GET_DEVICE_FD "<bdf> vf_token=<uuid>" on a non-SR-IOV device');
    this.#tryDevice(`${bdf} vf_token=zzz`, 'GET_DEVICE_FD "<bdf> vf_token=zzz"');
    this.t(u.ioctl(this.group, GroupIoctl.GET_DEVICE_FD, BAD_POINTER), 'GET_DEVICE_FD bad pointer');
    this.device = this.t(this.getDevice(bdf), 'GET_DEVICE_FD');
    this.#tryDevice(bdf, 'GET_DEVICE_FD second time (allowed?)');
    this.say(`  FD_CLOEXEC on device fd: ${u.getFd(this.device)}`);
    this.t(u.ioctl(this.group, GroupIoctl.UNSET_CONTAINER), 'UNSET_CONTAINER with the device open');
    this.t(u.ioctl(this.group, UNKNOWN_REQUEST), 'unknown ioctl on group');
    u.close(this.device);
    this.t(u.ioctl(this.group, GroupIoctl.UNSET_CONTAINER), 'UNSET_CONTAINER after device close');
    this.t(u.ioctl(this.container, ContainerIoctl.IOMMU_GET_INFO, whole.bytes), 'IOMMU_GET_INFO after last group left');
  }

  #tryDevice(name: string, question: string): void {
    const fd = this.t(this.getDevice(name), question);
    if (fd >= 0) this.user.close(fd);
  }

  #iommuInfo(argsz: number, question: string): { bytes: Uint8Array; view: DataView } {
    const info = memory(1048);
    IommuType1Info.argsz.set(info.view, 0, argsz);
    this.t(this.user.ioctl(this.container, ContainerIoctl.IOMMU_GET_INFO, info.bytes), question);
    return info;
  }

  #sayIommuInfo({ view }: { view: DataView }): void {
    const { argsz, flags, iova_pgsizes, cap_offset } = IommuType1Info.decode(view);
    this.say(`  argsz=${argsz} flags=${hex(flags)} pgsizes=${hex(iova_pgsizes)} cap_offset=${cap_offset}`);
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
      this.say(line);
    }
  }
}
