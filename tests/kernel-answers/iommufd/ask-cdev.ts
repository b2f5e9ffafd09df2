/** The way of a program through a device's node and /dev/iommu: cdev-edu.txt. */
import { IommufdCommand } from '../../../src/abi/iommufd.ts';
import { ContainerIoctl, DeviceIoctl, GroupIoctl } from '../../../src/abi/vfio.ts';
import { MapFlags, Prot } from '../../../src/ioctl/posix.ts';
import { hex } from '../asker.ts';
import { ALL, CONFIG, type Fields, IommufdAsker, io, PG, packed } from './asker.ts';

const { BIND_IOMMUFD, ATTACH_IOMMUFD_PT, DETACH_IOMMUFD_PT, GET_INFO, GET_PCI_HOT_RESET_INFO } = DeviceIoctl;

export class CdevQuestions extends IommufdAsker {
  #device = -1;
  #id = 0;
  #ioas = 0;

  ask(): void {
    const u = this.user;
    const { cdev, groupPath } = this.subject;
    this.#device = this.t(u.open(cdev), 'open(cdev)');
    this.io = this.t(u.open('/dev/iommu'), 'open(/dev/iommu)');
    this.#bind();
    this.#spaces();
    this.#maps();
    this.#end();
    this.t(u.open(groupPath), 'open(group) while its cdev is bound');
    u.close(this.#device);
    const group = this.t(u.open(groupPath), 'open(group) after the cdev closed');
    const again = u.open(cdev);
    this.t(u.ioctl(again, BIND_IOMMUFD, packed([16, 0, this.io, 0, 0n])), 'BIND while the group is open');
    this.t(u.ioctl(group, GroupIoctl.SET_CONTAINER, packed([this.io])), 'GROUP_SET_CONTAINER with /dev/iommu as the container');
    this.t(u.ioctl(this.io, ContainerIoctl.SET_IOMMU, 3), 'SET_IOMMU TYPE1v2 on /dev/iommu');
  }

  /** One ioctl; its structure is the answer. */
  #ask(fd: number, request: number, fields: Fields, what: string): DataView<ArrayBuffer> {
    const bytes = packed(fields);
    this.t(this.user.ioctl(fd, request, bytes), what);
    return new DataView(bytes.buffer);
  }

  #bind(): void {
    const u = this.user;
    const device = this.#device;
    this.#ask(device, GET_INFO, [20, 0, 0, 0, 0], 'DEVICE_GET_INFO before BIND');
    this.t(u.pread(device, new Uint8Array(4), CONFIG), 'pread CONFIG before BIND');
    this.t(this.mapped(PG, Prot.READ, MapFlags.SHARED, device), 'mmap before BIND');
    this.#ask(device, ATTACH_IOMMUFD_PT, [12, 0, 1], 'ATTACH before BIND');
    const bind = (argsz: number, flags: number, fd: number, what: string) =>
      this.#ask(device, BIND_IOMMUFD, [argsz, flags, fd, 0, 0n], `BIND${what}`);
    bind(12, 0, this.io, ' argsz=12');
    bind(16, 1, this.io, ' flags=1 (TOKEN in newer kernels)');
    bind(16, 0x80, this.io, ' unknown flag');
    bind(16, 0, -1, ' iommufd=-1');
    bind(16, 0, 9999, ' iommufd=9999');
    bind(16, 0, device, ' iommufd=not an iommufd');
    this.#id = bind(16, 0, this.io, '').getUint32(12, true);
    this.say(`  out_devid=${this.#id}`);
    bind(16, 0, this.io, ' again');
    const second = this.t(u.open(this.subject.cdev), 'open(cdev) second time');
    this.#ask(second, BIND_IOMMUFD, [16, 0, this.io, 0, 0n], 'BIND the second fd');
    u.close(second);
    const info = packed([276], 276);
    this.t(u.ioctl(device, GET_INFO, info), 'DEVICE_GET_INFO after BIND');
    const view = new DataView(info.buffer);
    this.say(`  flags=${hex(view.getUint32(4, true))} regions=${view.getUint32(8, true)} irqs=${view.getUint32(12, true)}`);
    this.say(`  ${hex(this.config(device, 0, 4, 'pread CONFIG after BIND'))}`);
  }

  #spaces(): void {
    const { IOAS_ALLOC, IOAS_IOVA_RANGES } = IommufdCommand;
    this.#ask(this.io, io(IOAS_ALLOC), [12, 1, 0], 'IOAS_ALLOC flags=1');
    this.#ask(this.io, io(IOAS_ALLOC), [8, 0, 0], 'IOAS_ALLOC size=8');
    this.#ioas = this.#ask(this.io, io(IOAS_ALLOC), [12, 0, 0], 'IOAS_ALLOC').getUint32(8, true);
    this.say(`  id=${this.#ioas}`);
    const attach = (pt: number, what: string) =>
      this.#ask(this.#device, ATTACH_IOMMUFD_PT, [12, 0, pt], `ATTACH ${what}`).getUint32(8, true);
    attach(9999, 'pt 9999');
    this.say(`  pt_id out=${attach(this.#ioas, 'ioas')} (hwpt)`);
    attach(this.#ioas, 'the same ioas again');
    const list = this.anon(PG);
    const ranges = (count: number) =>
      this.#ask(this.io, io(IOAS_IOVA_RANGES), [32, this.#ioas, count, 0, BigInt(list), 0n], `IOVA_RANGES num=${count}`);
    const none = ranges(0);
    this.say(`  num out=${none.getUint32(8, true)} align=${hex(none.getBigUint64(24, true))}`);
    const found = ranges(8).getUint32(8, true);
    const words = new BigUint64Array(this.peek(list, 16 * found).buffer);
    this.say(Array.from({ length: found }, (_, i) => `  [${hex(words[2 * i]!)}-${hex(words[2 * i + 1]!)}]`).join(''));
  }

  #maps(): void {
    const m = this.anon(16 * PG);
    const map = (ioas: number, flags: number, va: number, length: number, iova: number | bigint, what: string) =>
      this.#ask(this.io, io(IommufdCommand.IOAS_MAP), [40, flags, ioas, 0, BigInt(va), BigInt(length), BigInt(iova)], `IOAS_MAP ${what}`);
    const a = this.#ioas;
    map(a, 7, m, 2 * PG, 0x10_0000, 'fixed 2 pages at 0x100000');
    map(a, 7, m, 2 * PG, 0x10_0000, 'same again');
    map(a, 7, m, 2 * PG, 0x10_1000, 'overlap');
    map(a, 7, m, 2 * PG, 0x20_0010, 'iova unaligned');
    map(a, 7, m + 8, 2 * PG, 0x20_0000, 'va unaligned');
    map(a, 7, m, 0, 0x20_0000, 'len 0');
    map(a, 7, m, 100, 0x20_0000, 'len 100');
    map(a, 1, m, PG, 0x20_0000, 'no perms');
    map(a, 0x17, m, PG, 0x20_0000, 'unknown flag');
    map(a, 7, 0x1_0000, PG, 0x20_0000, 'va not mapped');
    map(a, 7, m, PG, 0xfee0_0000, 'MSI window');
    map(a, 7, m, PG, 1n << 60n, 'above aperture');
    map(a, 7, m, 2 * PG, -BigInt(PG), 'wraps');
    const picked = map(a, 6, m, PG, 0, 'kernel picks iova').getBigUint64(32, true);
    this.say(`  iova=${hex(picked)}`);
    map(9999, 6, m, PG, picked, 'ioas 9999');
    map(this.#id, 6, m, PG, picked, 'ioas=device id');
    const unmap = (iova: number, length: number | bigint, what: string) => {
      const answer = this.#ask(this.io, io(IommufdCommand.IOAS_UNMAP), [24, a, BigInt(iova), BigInt(length)], `IOAS_UNMAP ${what}`);
      this.say(`  len out=${hex(answer.getBigUint64(16, true))}`);
    };
    unmap(0x10_0000, PG, 'half');
    unmap(0x90_0000, PG, 'nothing there');
    unmap(0x10_0000, 2 * PG, 'exact');
    unmap(0, ALL, 'all');
    unmap(0, ALL, 'all when empty');
    unmap(0, 0, 'len 0');
  }

  #end(): void {
    const u = this.user;
    const { DESTROY, GET_HW_INFO, VFIO_IOAS } = IommufdCommand;
    const destroy = (id: number, what: string) => this.#ask(this.io, io(DESTROY), [8, id], `DESTROY ${what}`);
    destroy(this.#ioas, 'ioas while attached');
    destroy(this.#id, 'device id');
    destroy(9999, '9999');
    const info = this.#ask(this.io, io(GET_HW_INFO), [40, 0, this.#id, 0, 0n, 0, 0, 0n], 'GET_HW_INFO');
    this.say(`  type=${info.getUint32(24, true)} len=${info.getUint32(12, true)} caps=${hex(info.getBigUint64(32, true))}`);
    const reset = packed([76], 76);
    this.t(u.ioctl(this.#device, GET_PCI_HOT_RESET_INFO, reset), 'HOT_RESET_INFO (cdev)');
    const dependents = new DataView(reset.buffer);
    this.say(
      `  flags=${hex(dependents.getUint32(4, true))} count=${dependents.getUint32(8, true)} devid0=${dependents.getInt32(12, true)}`,
    );
    const detach = (flags: number, what: string) => this.#ask(this.#device, DETACH_IOMMUFD_PT, [8, flags], `DETACH${what}`);
    detach(1, ' flags=1');
    detach(0, '');
    detach(0, ' again');
    destroy(this.#ioas, 'ioas after detach');
    this.#ask(this.io, io(VFIO_IOAS), [12, 0, 0], 'VFIO_IOAS GET (none)');
    this.t(u.ioctl(this.io, ContainerIoctl.GET_API_VERSION), 'GET_API_VERSION on /dev/iommu');
    this.t(u.ioctl(this.io, ContainerIoctl.CHECK_EXTENSION, 3), 'CHECK_EXTENSION 3 on /dev/iommu');
    this.t(u.ioctl(this.io, io(250)), 'unknown ioctl on /dev/iommu');
  }
}
