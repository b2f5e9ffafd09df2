/** An iommufd as a container, alone and with a group: iommufd-compat.txt. */
import { IommufdCommand } from '../../../src/abi/iommufd.ts';
import { ContainerIoctl, GroupIoctl } from '../../../src/abi/vfio.ts';
import {
  InfoCapHeader,
  IommuInfoCapDmaAvail,
  IommuInfoCapIovaRange,
  IommuType1DmaMap,
  IommuType1DmaUnmap,
  IommuType1Info,
  IovaRangeEntry,
} from '../../../src/abi/vfio-structs.ts';
import { cString } from '../../../src/ioctl/user-buffer.ts';
import { hex, memory } from '../asker.ts';
import { ALL, IommufdAsker, io, PG, packed } from './asker.ts';

const { GET_API_VERSION, CHECK_EXTENSION, SET_IOMMU, IOMMU_GET_INFO, IOMMU_MAP_DMA, IOMMU_UNMAP_DMA, IOMMU_DIRTY_PAGES } = ContainerIoctl;
const [GET, SET, CLEAR] = [0, 1, 2];
const [UNMAP_DIRTY, UNMAP_ALL, UNMAP_VADDR] = [1, 2, 4];
const MAP_ARGSZ = 32;
const UNMAP_ARGSZ = 24;

export class CompatQuestions extends IommufdAsker {
  #memory = 0;

  ask(): void {
    this.io = this.openIommu();
    this.#memory = this.anon(64 * PG);
    this.say('# no IOAS yet');
    this.#without();
    this.#vfioIoas();
    this.say('# group through iommufd as container');
    const { groupPath } = this.subject;
    const group = this.user.open(groupPath);
    const [a, device] = this.#group(group);
    this.say('# MAP');
    this.#maps();
    this.say('# UNMAP');
    this.#unmaps();
    this.say('# TYPE1 (v1)');
    this.#type1();
    this.user.process.memlockLimit = 8 * PG;
    this.#map(0x10_0000, 16 * PG, 3, '16 pages, limit 8, root');
    this.vm();
    this.#unmap(0, 0, UNMAP_ALL, 'ALL');
    this.option(0, 1, 0, 0, 'RLIMIT_MODE GET (SET_CONTAINER changed it?)');
    this.say('# native on the compat ioas; leaving');
    this.#leaving(group, device, a);
    this.say('# mixing');
    this.#mixing();
  }

  #ioctl(request: number, argument: number, what: string): void {
    this.t(this.user.ioctl(this.io, request, argument), what);
  }

  #extensions(what: string): void {
    for (let i = 0; i <= 13; i++) this.#ioctl(CHECK_EXTENSION, i, `CHECK_EXTENSION ${i}${what}`);
  }

  #without(): void {
    this.#ioctl(GET_API_VERSION, 0, 'GET_API_VERSION');
    this.#extensions('');
    for (const type of [3, 8, 99]) this.#ioctl(SET_IOMMU, type, `SET_IOMMU ${type}`);
    this.#info(24);
    this.#map(0x10_0000, PG, 3, '');
    this.#unmap(0x10_0000, PG, 0, '');
    for (let n = 115; n <= 121; n++) this.t(this.user.ioctl(this.io, io(n), new Uint8Array(64)), `ioctl ${n}`);
  }

  #vfioIoas(): void {
    this.vfioIoas(GET, 0, 'GET (none)');
    this.vfioIoas(SET, 999, 'SET 999');
    this.vfioIoas(CLEAR, 0, 'CLEAR (none)');
    this.vfioIoas(3, 0, 'op 3');
    this.x(this.io, io(IommufdCommand.VFIO_IOAS), [12, 0, 0x1_0000], 'VFIO_IOAS reserved=1');
    const a = this.ioas('a');
    this.vfioIoas(SET, a, 'SET a');
    this.vfioIoas(GET, 0, 'GET');
    this.say('# IOAS set, no device');
    for (const argsz of [16, 15, 24, 40, 536]) this.#info(argsz);
    this.#ioctl(CHECK_EXTENSION, 4, 'CHECK_EXTENSION DMA_CC');
    this.#ioctl(SET_IOMMU, 3, 'SET_IOMMU 3');
    this.#ioctl(SET_IOMMU, 1, 'SET_IOMMU 1');
    this.#ioctl(SET_IOMMU, 3, 'SET_IOMMU 3 again');
    this.#map(0x10_0000, PG, 3, 'no device');
    this.destroy(a, 'the compat ioas');
    this.vfioIoas(GET, 0, 'GET after destroy');
    this.#unmap(0, 0, UNMAP_ALL, 'ALL');
  }

  /** @returns the IOAS of the group, and the device's descriptor */
  #group(group: number): readonly [ioas: number, device: number] {
    const u = this.user;
    const { bdf } = this.subject;
    const getDevice = (what: string) => this.t(u.ioctl(group, GroupIoctl.GET_DEVICE_FD, cString(bdf)), `GET_DEVICE_FD ${what}`);
    getDevice('before SET_CONTAINER');
    const setContainer = (what: string) => this.t(u.ioctl(group, GroupIoctl.SET_CONTAINER, packed([this.io])), what);
    setContainer('GROUP_SET_CONTAINER iommufd');
    this.x(group, GroupIoctl.GET_STATUS, [8, 0], 'GROUP_GET_STATUS');
    setContainer('again');
    const a = this.vfioIoas(GET, 0, 'GET (auto created)');
    this.#extensions(' (group set)');
    const device = getDevice('before SET_IOMMU');
    this.#ioctl(SET_IOMMU, 3, 'SET_IOMMU 3 after the device');
    u.close(getDevice('second'));
    this.#info(24);
    this.#info(536);
    this.fdinfo(device, 'group-derived device fd');
    this.getInfo(device, 'GET_INFO');
    this.bind(device, this.io, 'on a group-derived fd');
    this.attach(device, a, 'on a group-derived fd');
    this.detach(device, 'on a group-derived fd');
    return [a, device];
  }

  #info(argsz: number): void {
    const info = memory(536);
    IommuType1Info.argsz.set(info.view, 0, argsz);
    const view = this.x(this.io, IOMMU_GET_INFO, info.bytes as Uint8Array<ArrayBuffer>, `compat IOMMU_GET_INFO argsz=${argsz}`, 24);
    if (this.result !== 0) return;
    const { argsz: size, flags, iova_pgsizes, cap_offset } = IommuType1Info.decode(view);
    this.say(`  argsz=${size} flags=${hex(flags)} pgsizes=${hex(iova_pgsizes)} cap_offset=${cap_offset}`);
    for (let at = cap_offset; at !== 0 && at < argsz; at = InfoCapHeader.next.get(view, at)) {
      const { id, version, next } = InfoCapHeader.decode(view, at);
      let line = `  cap id=${id} ver=${version} next=${next} at ${at}:`;
      for (let i = 0; id === 1 && i < IommuInfoCapIovaRange.nr_iovas.get(view, at); i++) {
        const { start, end } = IovaRangeEntry.decode(view, at + IommuInfoCapIovaRange.structSize + i * IovaRangeEntry.structSize);
        line += ` [${hex(start)}-${hex(end)}]`;
      }
      if (id === 3) line += ` avail=${hex(IommuInfoCapDmaAvail.avail.get(view, at))}`;
      this.say(line);
    }
  }

  #map(iova: number | bigint, size: number, flags: number, what: string, vaddr = this.#memory, argsz = MAP_ARGSZ): void {
    const request = memory(32);
    IommuType1DmaMap.encode(request.view, 0, {
      argsz,
      flags,
      vaddr: BigInt(vaddr),
      iova: BigInt.asUintN(64, BigInt(iova)),
      size: BigInt(size),
    });
    this.x(this.io, IOMMU_MAP_DMA, request.bytes as Uint8Array<ArrayBuffer>, `compat MAP_DMA ${what}`);
  }

  #unmap(iova: number, size: number | bigint, flags: number, what: string, argsz = UNMAP_ARGSZ): void {
    const request = memory(24);
    IommuType1DmaUnmap.encode(request.view, 0, { argsz, flags, iova: BigInt(iova), size: BigInt(size) });
    const answer = this.x(this.io, IOMMU_UNMAP_DMA, request.bytes as Uint8Array<ArrayBuffer>, `compat UNMAP_DMA ${what}`);
    this.say(`  size out=${hex(IommuType1DmaUnmap.size.get(answer, 0))}`);
  }

  #maps(): void {
    const [m, at] = [this.#memory, 0x10_0000];
    this.#map(at, PG, 3, 'argsz 31', m, 31);
    this.#map(at, PG, 0, 'flags 0');
    this.#map(at, PG, 7, 'VADDR flag');
    this.#map(at, PG, 0x83, 'unknown flag');
    this.#map(at, 0, 3, 'size 0');
    this.#map(at, 100, 3, 'size 100');
    this.#map(at + 16, PG, 3, 'iova unaligned');
    this.#map(at, PG, 3, 'vaddr unaligned', m + 8);
    this.#map(-PG, 2 * PG, 3, 'wraps');
    this.#map(0xfee0_0000, PG, 3, 'MSI');
    this.#map(1n << 60n, PG, 3, 'above');
    this.#map(at, PG, 3, 'bad vaddr', 0x1_0000);
    this.#map(at, 4 * PG, 3, '4 pages');
    this.#map(at, 4 * PG, 3, 'same');
    this.#map(0x10_3000, PG, 3, 'overlap');
    this.#map(0x10_4000, 4 * PG, 3, 'adjacent', m + 4 * PG);
  }

  #unmaps(): void {
    this.#unmap(0x10_0000, PG, 0, 'first page (v2)');
    this.#unmap(0x10_1000, 3 * PG, 0, 'tail');
    this.#unmap(0x10_0000, 0, 0, 'size 0');
    this.#unmap(0x90_0000, PG, 0, 'nothing');
    this.#unmap(0x10_0001, PG, 0, 'unaligned');
    this.#unmap(0x10_0000, PG, UNMAP_DIRTY, 'GET_DIRTY');
    this.#unmap(0x10_0000, PG, UNMAP_VADDR, 'VADDR');
    this.#unmap(0x10_0000, PG, UNMAP_ALL, 'ALL with range');
    this.#unmap(0x10_0000, 8 * PG, 0, 'both');
    this.#unmap(0, 0, UNMAP_ALL, 'ALL empty');
    this.#unmap(0, ALL, 0, '0..~0');
    this.#unmap(0, 1n << 47n, 0, '0..1<<47');
    this.#unmap(0, 0, UNMAP_ALL, 'argsz 23', 23);
    this.x(this.io, IOMMU_DIRTY_PAGES, [8, 1], 'DIRTY_PAGES START');
  }

  #type1(): void {
    const eight = () => this.#map(0x10_0000, 8 * PG, 3, '8 pages');
    const all = () => this.#unmap(0, 0, UNMAP_ALL, 'ALL');
    const middle = (what: string) => this.#unmap(0x10_2000, PG, 0, `middle page${what}`);
    eight();
    this.#ioctl(SET_IOMMU, 1, 'SET_IOMMU 1 with mappings');
    middle(' after SET_IOMMU 1');
    all();
    this.#ioctl(SET_IOMMU, 1, 'SET_IOMMU 1 empty');
    eight();
    middle('');
    this.#unmap(0x10_0000, 8 * PG, 0, 'the rest (hole inside)');
    this.#ioctl(SET_IOMMU, 3, 'back to 3');
    eight();
    middle(' after SET_IOMMU 3 again');
    all();
  }

  #leaving(group: number, device: number, a: number): void {
    const u = this.user;
    const { cdev } = this.subject;
    const unset = (what: string) => this.t(u.ioctl(group, GroupIoctl.UNSET_CONTAINER), what);
    this.map(a, 7, this.#memory, PG, 0x50_0000, 'native map in the compat ioas');
    this.#unmap(0x50_0000, PG, 0, 'unmap it by compat');
    const b = this.ioas('b');
    this.vfioIoas(SET, b, 'SET b while a group uses a');
    this.#map(0x10_0000, PG, 3, 'now lands in b');
    this.unmap(b, 0x10_0000, PG, 'native unmap in b');
    this.vfioIoas(CLEAR, 0, 'CLEAR while a group uses it');
    this.#map(0x10_0000, PG, 3, 'no compat ioas');
    unset('UNSET_CONTAINER with the device open');
    const own = this.t(u.open(cdev), 'open(cdev) while the group is open');
    this.bind(own, this.io, 'while the group is open');
    u.close(own);
    u.close(device);
    unset('UNSET_CONTAINER');
    unset('again');
    this.destroy(a, 'the auto ioas');
    u.close(group);
  }

  #mixing(): void {
    const u = this.user;
    const { cdev, groupPath } = this.subject;
    const group = u.open(groupPath);
    const container = u.open('/dev/vfio/vfio');
    this.t(u.ioctl(group, GroupIoctl.SET_CONTAINER, packed([container])), 'classic SET_CONTAINER');
    this.t(u.ioctl(group, GroupIoctl.SET_CONTAINER, packed([this.io])), 'then iommufd');
    this.t(u.ioctl(container, SET_IOMMU, 3), 'classic SET_IOMMU');
    const device = u.open(cdev);
    this.bind(device, this.io, 'cdev while the classic group is set');
    u.close(group);
    u.close(container);
    this.bind(device, this.io, 'cdev after the group closed');
    this.t(u.open(groupPath), 'open(group) while bound');
    this.fdinfo(this.io, '/dev/iommu');
  }
}
