/** Opening and binding a device's node: iommufd-bind-edu.txt. */
import { ContainerIoctl, DeviceIoctl, GroupIoctl } from '../../../src/abi/vfio.ts';
import { MapFlags, OpenFlags, PollEvents, Prot } from '../../../src/ioctl/posix.ts';
import { CONFIG, type Fields, IommufdAsker, io, PG, packed } from './asker.ts';

export class BindQuestions extends IommufdAsker {
  ask(): void {
    this.#readOnly();
    const u = this.user;
    const { cdev, cdev2, groupPath } = this.subject;
    const device = this.openCdev();
    this.fdinfo(device, 'unbound cdev');
    this.#before(device);
    const id = this.#binds(device);
    this.fdinfo(device, 'bound cdev');
    this.#bind(device, [40, 0, this.io, 0, 0n], 'again');
    this.t(u.ioctl(device, DeviceIoctl.BIND_IOMMUFD, 1), 'BIND bad pointer');
    const second = this.openCdev();
    this.say('second open -> fd ok');
    this.bind(second, this.io, 'second fd, same iommufd');
    const other = this.openIommu();
    this.bind(second, other, 'second fd, other iommufd');
    this.getInfo(second, 'GET_INFO on the unbound second fd');
    this.t(this.mapped(PG, Prot.READ, MapFlags.SHARED, second), 'mmap on the unbound second fd');
    this.t(u.pread(second, new Uint8Array(4), CONFIG), 'pread CONFIG on the unbound second fd');
    this.destroy(id, '(the bound device)');
    this.t(u.open(groupPath), 'open(group) while the cdev is bound');
    u.close(device);
    const group = this.t(u.open(groupPath), 'open(group) after the bound fd closed, second (unbound) fd still open');
    this.bind(second, other, 'second fd while the group is open');
    this.x(group, GroupIoctl.GET_STATUS, [8, 0], 'GROUP_GET_STATUS');
    this.fdinfo(group, 'group');
    u.close(group);
    this.bind(second, other, 'second fd after the group closed');
    this.t(u.open(groupPath), 'open(group) again');
    const copy = u.dup(second);
    u.close(second);
    this.getInfo(copy, 'GET_INFO on a dup after close of the original');
    const last = this.openCdev(cdev);
    this.bind(last, this.io, 'new fd while the dup is open');
    u.close(copy);
    this.bind(last, this.io, 'new fd after the dup closed');
    // The program's structure had the first answer in it, so that no word changes.
    const info = packed([20, 2, 9, 5], 20);
    this.x(last, DeviceIoctl.GET_INFO, info, 'GET_INFO argsz=20');
    const device2 = this.openCdev(cdev2);
    this.bind(device2, this.io, 'device 2, same iommufd');
    u.close(device2);
    this.t(u.ioctl(last, io(250), 0), 'unknown ioctl on a bound cdev');
    this.t(u.ioctl(last, GroupIoctl.GET_STATUS, info), 'GROUP_GET_STATUS on a cdev');
    this.t(u.ioctl(last, ContainerIoctl.GET_API_VERSION), 'GET_API_VERSION on a cdev');
    u.close(last);
  }

  #readOnly(): void {
    const u = this.user;
    const device = this.t(u.open(this.subject.cdev, OpenFlags.O_RDONLY), 'open(cdev) O_RDONLY');
    this.io = this.openIommu();
    this.bind(device, this.io, 'on an O_RDONLY cdev fd');
    const word = new Uint8Array(4);
    this.t(u.pread(device, word, CONFIG), 'pread CONFIG on it');
    this.t(u.pwrite(device, word, CONFIG), 'pwrite CONFIG on it');
    this.t(this.mapped(PG, Prot.READ | Prot.WRITE, MapFlags.SHARED, device), 'mmap RW on it');
    this.t(this.mapped(PG, Prot.READ, MapFlags.SHARED, device), 'mmap R on it');
    u.close(device);
  }

  #before(device: number): void {
    const u = this.user;
    this.t(u.read(device, new Uint8Array(8)), 'read before BIND');
    this.t(u.pwrite(device, new Uint8Array(4), CONFIG), 'pwrite before BIND');
    const { ready, events } = u.poll([{ fd: device, events: PollEvents.IN }]);
    this.t(ready, 'poll before BIND');
    this.say(`  revents 0x${events[0]!.toString(16)}`);
    for (let n = 100; n <= 121; n++) this.t(u.ioctl(device, io(n), packed([64], 64)), `ioctl ${n} before BIND`);
  }

  #bind(device: number, fields: Fields, what: string, tail: readonly number[] = []): number {
    const bytes = packed(fields, 88);
    bytes.set(tail, 24);
    return this.x(device, DeviceIoctl.BIND_IOMMUFD, bytes, `BIND ${what}`, 24).getUint32(12, true);
  }

  /** @returns the device's number */
  #binds(device: number): number {
    const iommufd = this.io;
    for (const argsz of [0, 4, 12, 15]) this.#bind(device, [argsz, 0, iommufd], `argsz=${argsz}`);
    this.#bind(device, [40, 0, iommufd], 'argsz=40 nonzero tail', [0, 0, 0, 1]);
    this.#bind(device, [8192, 0, iommufd], 'argsz=8192');
    this.#bind(device, [16, 1, iommufd], 'TOKEN argsz=16 (token pointer outside)');
    this.#bind(device, [24, 1, iommufd], 'TOKEN NULL pointer');
    const token = BigInt(this.put([1], 16));
    this.#bind(device, [24, 1, iommufd, 0, token], 'TOKEN on this device');
    this.#bind(device, [24, 2, iommufd, 0, token], 'flags=2');
    for (const fd of [-1, -2, 999]) this.#bind(device, [24, 0, fd, 0, token], `fd ${fd}`);
    this.#bind(device, [24, 0, 0, 0, token], 'fd 0 (/dev/null)');
    this.#bind(device, [24, 0, device, 0, token], 'fd = itself');
    const container = this.user.open('/dev/vfio/vfio');
    this.#bind(device, [24, 0, container, 0, token], 'fd = /dev/vfio/vfio');
    this.user.close(container);
    return this.#bind(device, [40, 0, iommufd, 0x5555_5555, token], 'argsz=40 zero tail');
  }
}
