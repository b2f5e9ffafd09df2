/** Who holds what, in every order of closes and in children: iommufd-life.txt. */
import { DeviceIoctl } from '../../../src/abi/vfio.ts';
import { MapFlags, Prot } from '../../../src/ioctl/posix.ts';
import { CONFIG, IommufdAsker, PG, packed } from './asker.ts';

export class LifeQuestions extends IommufdAsker {
  #memory = 0;

  ask(): void {
    this.#memory = this.anon(8 * PG);
    this.say('# iommufd fd closed first');
    this.#iommufdFirst();
    this.say('# device closed first, mapping kept');
    this.#deviceFirst();
    this.say('# bound but never attached: what works');
    const device = this.#neverAttached();
    this.say('# fork: child closes');
    this.#forked(device);
    this.say('# SCM-less handover: iommufd kept by a mmap? exit with everything open');
    this.inChild(() => {
      const [child] = this.#open();
      const a = this.ioas('');
      this.attach(child, a, '');
      this.map(a, 7, this.#memory, PG, 0x10_0000, '');
    });
    this.io = this.openIommu();
    const again = this.openCdev();
    this.bind(again, this.io, 'after the owner exited');
    this.#close(again);
    this.say('# IOAS destroyed while its auto hwpt is detached');
    this.#autoDomain();
  }

  /** @returns the device's descriptor, and its number */
  #open(what = ''): readonly [device: number, id: number] {
    this.io = this.openIommu();
    const device = this.openCdev();
    return [device, this.bind(device, this.io, what)];
  }

  #close(device: number): void {
    this.user.close(device);
    this.user.close(this.io);
  }

  #iommufdFirst(): void {
    const u = this.user;
    const [device] = this.#open();
    const a = this.ioas('');
    this.attach(device, a, '');
    this.map(a, 7, this.#memory, PG, 0x10_0000, '');
    this.vm();
    this.t(u.close(this.io), 'close(iommufd)');
    this.vm();
    this.getInfo(device, 'GET_INFO');
    this.t(u.pread(device, new Uint8Array(4), CONFIG), 'pread CONFIG');
    this.detach(device, '');
    this.attach(device, a, 'after the iommufd fd is gone');
    this.t(u.close(device), 'close(device)');
    this.vm();
  }

  #deviceFirst(): void {
    const u = this.user;
    const m = this.#memory;
    const [device, id] = this.#open();
    const a = this.ioas('');
    this.attach(device, a, '');
    this.map(a, 7, m, 4 * PG, 0x10_0000, '');
    this.vm();
    this.t(u.close(device), 'close(device)');
    this.vm();
    this.hwInfo(id, 0, 0, 0, 0, 'old id');
    this.ranges(a, '');
    this.unmap(a, 0x10_0000, 4 * PG, 'still mapped');
    this.map(a, 7, m, PG, 0x10_0000, 'again');
    const second = this.openCdev();
    const id2 = this.bind(second, this.io, 'again (id reused?)');
    this.attach(second, a, 'replays the mapping');
    this.vm();
    this.destroy(id2, 'bound device');
    this.destroy(a, 'attached ioas');
    this.detach(second, '');
    this.vm();
    this.destroy(a, 'ioas with a mapping');
    this.vm();
    this.map(a, 7, m, PG, 0x10_0000, 'freed ioas id');
    this.attach(second, a, 'freed ioas id');
    this.#close(second);
  }

  /** @returns a new descriptor of the device; the iommufd stays open */
  #neverAttached(): number {
    const u = this.user;
    const [device] = this.#open();
    // The program's structure had the answer in it, so that no word changes.
    this.x(device, DeviceIoctl.GET_INFO, packed([20, 2, 9, 5, 0]), 'GET_INFO');
    this.t(u.pwrite(device, new Uint8Array([6, 0]), CONFIG + 4), 'COMMAND=6');
    const bar = u.mmap(PG, Prot.READ, MapFlags.SHARED, device);
    this.t(Math.min(bar, 0), 'mmap BAR0');
    this.t(u.ioctl(device, DeviceIoctl.RESET), 'DEVICE_RESET');
    this.detach(device, 'never attached');
    u.close(device);
    const second = this.openCdev();
    this.bind(second, this.io, 'new fd: old fd closed, its BAR mapping kept');
    u.munmap(bar, PG);
    this.bind(second, this.io, 'after munmap');
    u.close(second);
    return this.openCdev();
  }

  #forked(device: number): void {
    this.bind(device, this.io, '');
    this.inChild(() => this.#close(device));
    this.x(device, DeviceIoctl.GET_INFO, packed([20, 2, 9, 5, 0]), 'GET_INFO after the child closed its copies');
    const a = this.ioas('');
    this.attach(device, a, '');
    this.map(a, 7, this.#memory, PG, 0x10_0000, 'parent');
    this.vm();
    this.inChild(() => {
      this.vm();
      this.map(a, 7, this.#memory, PG, 0x20_0000, 'child maps its own copy');
      this.vm();
    });
    this.vm();
    this.unmap(a, 0x20_0000, PG, "child's page after the child died");
    this.#close(device);
  }

  #autoDomain(): void {
    const [device] = this.#open();
    const a = this.ioas('');
    const domain = this.attach(device, a, '');
    this.detach(device, '');
    this.destroy(domain, 'auto hwpt after detach');
    this.attach(device, a, 'again (new id?)');
    this.detach(device, '');
    const next = this.ioas('next id');
    this.destroy(a, '');
    this.destroy(next, '');
    this.#close(device);
  }
}
