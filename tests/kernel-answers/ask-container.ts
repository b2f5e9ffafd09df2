/** A container before a group is in it: container.txt. */
import { ContainerIoctl } from '../../src/abi/vfio.ts';
import { IommuType1Info } from '../../src/abi/vfio-structs.ts';
import { MapFlags, OpenFlags, Prot } from '../../src/ioctl/posix.ts';
import { Asker, memory, PAGE, UNKNOWN_REQUEST } from './asker.ts';

export class ContainerQuestions extends Asker {
  ask(): void {
    const u = this.user;
    this.container = this.t(u.open('/dev/vfio/vfio', OpenFlags.O_RDWR | OpenFlags.O_CLOEXEC), 'open(/dev/vfio/vfio)');
    const c = this.container;
    this.t(u.ioctl(c, ContainerIoctl.GET_API_VERSION), 'GET_API_VERSION');
    this.t(u.ioctl(c, ContainerIoctl.GET_API_VERSION, 1), 'GET_API_VERSION arg=1');
    this.extensions('no iommu set');
    const info = memory(24);
    IommuType1Info.argsz.set(info.view, 0, 24);
    this.t(u.ioctl(c, ContainerIoctl.IOMMU_GET_INFO, info.bytes), 'IOMMU_GET_INFO before SET_IOMMU');
    this.t(u.ioctl(c, ContainerIoctl.SET_IOMMU, 1), 'SET_IOMMU 1 with no group');
    this.t(u.ioctl(c, ContainerIoctl.SET_IOMMU, 99), 'SET_IOMMU 99 with no group');
    this.t(u.ioctl(c, UNKNOWN_REQUEST), 'unknown ioctl on container');
    this.t(u.read(c, new Uint8Array(8)), 'read(container)');
    this.t(this.mmapped(PAGE, Prot.READ, MapFlags.SHARED, c, 0), 'mmap(container)');
  }
}
