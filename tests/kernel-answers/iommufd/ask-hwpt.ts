/**
 * Domains: their allocation, dirty tracking, attaching and replacing, and the requests of nested
 * ones: iommufd-hwpt-edu.txt.
 */
import { IommufdCommand } from '../../../src/abi/iommufd.ts';
import { DeviceIoctl } from '../../../src/abi/vfio.ts';
import { PollEvents } from '../../../src/ioctl/posix.ts';
import { hex } from '../asker.ts';
import { type Fields, IommufdAsker, io, PG } from './asker.ts';

const PAGE = BigInt(PG);

export class HwptQuestions extends IommufdAsker {
  #device = -1;
  #id = 0;
  #a = 0;
  /** A plain domain of a. */
  #plain = 0;

  ask(): void {
    this.io = this.openIommu();
    this.#device = this.openCdev();
    this.#id = this.bind(this.#device, this.io, '');
    this.#a = this.ioas('a');
    this.#hardware();
    this.say('# HWPT_ALLOC');
    this.#alloc();
    this.say('# dirty tracking');
    this.#dirtyTracking();
    this.say('# attach to hwpt, replace');
    this.#attach();
    this.#pasids();
    this.say('# INVALIDATE, FAULT_QUEUE, VIOMMU, VDEVICE, VEVENTQ, HW_QUEUE, GET_PA');
    this.#nested();
    this.#faultQueue();
    this.#virtual();
    this.attach(this.#device, this.#a, 'end: attached, then close');
    this.user.close(this.#device);
    this.destroy(this.#plain, 'h0 after device close');
    this.hwpt(this.#id, this.#a, 0, 'device id after close');
    this.destroy(this.#id, 'device id after close');
    this.t(this.user.close(this.io), 'close(iommufd)');
  }

  #hardware(): void {
    const [id, data] = [this.#id, this.anon(PG)];
    this.poke(data, new Uint8Array(64).fill(0xee));
    this.hwInfo(id, 0, 0, 0, 0, 'len 0');
    this.hwInfo(id, 0, 64, data, 0, 'len 64');
    const words = new BigUint64Array(this.peek(data, 64).buffer);
    this.say(`  data ${[...words].map((word) => hex(word)).join(' ')}`);
    this.hwInfo(id, 0, 4, data, 0, 'len 4');
    this.hwInfo(id, 0, 64, 8, 0, 'bad pointer');
    this.hwInfo(id, 2, 0, 0, 0, 'flags 2');
    this.hwInfo(id, 1, 64, data, 0, 'INPUT_TYPE 0');
    this.hwInfo(id, 1, 64, data, 1, 'INPUT_TYPE 1');
    this.hwInfo(id, 1, 64, data, 2, 'INPUT_TYPE 2 (smmuv3)');
    this.hwInfo(id, 0, 64, data, 77, 'type 77 without the flag');
    this.hwInfo(this.#a, 0, 0, 0, 0, 'dev = ioas id');
    this.hwInfo(999, 0, 0, 0, 0, 'dev 999');
  }

  #alloc(): void {
    const [id, a] = [this.#id, this.#a];
    this.#plain = this.hwpt(id, a, 0, 'plain from ioas');
    this.hwpt(id, a, 2, 'DIRTY_TRACKING');
    this.hwpt(id, a, 1, 'NEST_PARENT');
    this.hwpt(id, a, 3, 'NEST_PARENT|DIRTY');
    this.hwpt(id, a, 8, 'PASID');
    this.hwpt(id, a, 4, 'FAULT_ID_VALID 999', [0, 0, 0, 999]);
    this.hwpt(id, a, 5, 'NEST_PARENT|FAULT');
    this.hwpt(id, a, 0x10, 'flag 0x10');
    this.hwpt(999, a, 0, 'dev 999');
    this.hwpt(a, a, 0, 'dev = ioas id');
    this.hwpt(id, 999, 0, 'pt 999');
    this.hwpt(id, id, 0, 'pt = device id');
    const s1 = this.put([0n, 0x10_0000n, 48, 0]);
    this.hwpt(id, a, 0, 'from ioas with VTD_S1 data', [1, 24, s1, 0]);
    this.hwpt(id, a, 0, 'data_type 1 len 0', [1, 0, 0, 0]);
    this.hwpt(id, a, 0, 'data_type 0 len 24', [0, 24, s1, 0]);
    this.hwpt(id, this.#plain, 0, 'nested on a plain hwpt', [1, 24, s1, 0]);
    this.hwpt(id, this.#plain, 0, 'from hwpt, no data');
    this.hwpt(id, this.#plain, 0, 'nested data type 9', [9, 24, s1, 0]);
    const alloc = (fields: Fields, what: string) => {
      const out = this.x(this.io, io(IommufdCommand.HWPT_ALLOC), fields, `HWPT_ALLOC ${what}`).getUint32(16, true);
      if (this.result === 0) this.destroy(out, 'it');
      return out;
    };
    // One structure: the number of the last domain stays in it.
    const out = alloc([24, 0, id, a, 0, 0, 0, 0, 0n, 0, 0], 'size=24 (first version)');
    alloc([24, 0, id, a, out, 1, 0, 0, 0n, 0, 0], 'reserved=1');
    alloc([48, 0, id, a, out, 0, 0, 0, 0n, 0, 1], 'reserved2=1');
  }

  #dirtyTracking(): void {
    const [plain, a] = [this.#plain, this.#a];
    this.map(a, 7, this.anon(16 * PG), 16 * PG, 0x10_0000, '16 pages');
    const bitmap = this.anon(PG);
    this.setDirty(plain, 1, 'plain hwpt on');
    this.setDirty(plain, 0, 'plain hwpt off');
    this.setDirty(plain, 2, 'flags 2');
    this.setDirty(a, 1, 'ioas id');
    this.setDirty(999, 1, '999');
    this.x(this.io, io(IommufdCommand.HWPT_SET_DIRTY_TRACKING), [16, 1, plain, 7], 'SET_DIRTY_TRACKING reserved=7');
    const get = (hwpt: number, flags: number, iova: number | bigint, length: number, page: number, what: string) =>
      this.dirty(hwpt, flags, iova, length, page, bitmap, what);
    get(plain, 0, 0x10_0000, 16 * PG, PG, 'plain hwpt');
    get(plain, 1, 0x10_0000, 16 * PG, PG, 'plain NO_CLEAR');
    get(plain, 2, 0x10_0000, 16 * PG, PG, 'flags 2');
    get(plain, 0, 0x10_0000, 0, PG, 'len 0');
    get(plain, 0, 0x10_0010, 16 * PG, PG, 'iova unaligned');
    get(plain, 0, 0x10_0000, 16 * PG, 1000, 'page size 1000');
    get(plain, 0, 0x10_0000, 16 * PG, 0, 'page size 0');
    get(plain, 0, 2n ** 64n - PAGE, 2 * PG, PG, 'wraps');
    get(999, 0, 0x10_0000, PG, PG, '999');
    get(a, 0, 0x10_0000, PG, PG, 'ioas id');
  }

  #attach(): void {
    const [device, id, a, plain] = [this.#device, this.#id, this.#a, this.#plain];
    this.attach(device, plain, 'hwpt');
    this.attach(device, plain, 'same hwpt again');
    this.attach(device, a, 'ioas while on its hwpt (auto domain?)');
    this.attach(device, a, 'ioas again');
    const b = this.ioas('b');
    const auto = this.attach(device, b, 'replace by ioas b');
    this.destroy(auto, 'the auto hwpt while attached');
    const own = this.hwpt(id, b, 0, 'in b');
    this.attach(device, own, 'replace by an explicit hwpt of the same ioas');
    this.destroy(auto, 'the former auto hwpt');
    this.destroy(own, 'attached hwpt');
    this.destroy(b, 'ioas with a hwpt attached');
    this.attach(device, id, 'pt = own device id');
    this.attach(device, 999, '999');
    this.attach(device, 0, '0');
    this.attach(device, 0xffff_ffff, '~0');
    this.detach(device, '');
    this.destroy(b, 'ioas with an idle hwpt');
    this.destroy(own, 'idle hwpt');
    this.destroy(b, 'ioas after its hwpt');
  }

  #pasids(): void {
    const [device, a] = [this.#device, this.#a];
    const attach = (fields: Fields, what: string) => this.x(device, DeviceIoctl.ATTACH_IOMMUFD_PT, fields, `ATTACH ${what}`);
    const detach = (fields: Fields, what: string) => this.x(device, DeviceIoctl.DETACH_IOMMUFD_PT, fields, `DETACH ${what}`);
    attach([16, 1, a, 5], 'PASID 5');
    attach([16, 1, a, 0], 'PASID 0');
    this.attach(device, a, 'plain, after PASID 0');
    this.detach(device, 'plain, after PASID 0');
    this.attach(device, a, 'plain, after that DETACH');
    detach([12, 1, 0], 'PASID 0');
    this.attach(device, a, 'plain, after DETACH PASID 0');
    attach([16, 1, a, 0], 'PASID 0 while plainly attached');
    detach([12, 1, 0], 'PASID 0');
    this.detach(device, 'plain');
    attach([16, 1, a, 0xf_ffff], 'PASID 0xfffff');
    attach([16, 1, a, 0x10_0000], 'PASID 0x100000');
    attach([16, 1, a, 0xffff_ffff], 'PASID ~0');
    attach([16, 1, 999, 5], 'PASID 5 pt 999');
    attach([12, 1, a, 5], 'PASID argsz=12');
    attach([16, 2, a, 5], 'flags=2');
    attach([11, 0, a, 5], 'argsz=11');
    attach([4096, 0, a, 5], 'argsz=4096');
    detach([12, 1, 5], 'PASID 5');
    detach([8, 1, 5], 'PASID argsz=8');
    detach([8, 2, 5], 'flags=2');
    detach([7, 0, 5], 'argsz=7');
    this.t(this.user.ioctl(device, DeviceIoctl.ATTACH_IOMMUFD_PT, 1), 'ATTACH bad pointer');
    this.detach(device, '');
    this.detach(device, 'twice');
  }

  #nested(): void {
    const data = BigInt(this.anon(PG));
    const invalidate = (hwpt: number, length: number, entries: number, what: string) =>
      this.x(this.io, io(IommufdCommand.HWPT_INVALIDATE), [32, hwpt, data, 0, length, entries, 0], `HWPT_INVALIDATE ${what}`);
    invalidate(this.#plain, 24, 1, 'plain hwpt');
    invalidate(this.#plain, 24, 0, 'plain hwpt, 0 entries');
    invalidate(this.#a, 24, 0, 'ioas');
    invalidate(999, 24, 0, '999');
    invalidate(999, 0, 5, 'entry_len 0');
  }

  #faultQueue(): void {
    const u = this.user;
    const request = io(IommufdCommand.FAULT_QUEUE_ALLOC);
    const answer = this.x(this.io, request, [16, 0, 0, 0], 'FAULT_QUEUE_ALLOC');
    const [queue, fd] = [answer.getUint32(8, true), answer.getInt32(12, true)];
    this.fdinfo(fd, 'fault queue');
    this.t(u.read(fd, new Uint8Array(40)), 'read(fault queue) 40 bytes, empty');
    this.t(u.read(fd, new Uint8Array(64)), 'read(fault queue) 64 bytes');
    this.t(u.read(fd, new Uint8Array(10)), 'read(fault queue) 10 bytes');
    this.t(u.pread(fd, new Uint8Array(40), 40), 'pread(fault queue) at 40');
    this.t(u.write(fd, new Uint8Array(8)), 'write(fault queue) unknown cookie');
    this.t(u.write(fd, new Uint8Array(5)), 'write(fault queue) 5 bytes');
    const { ready, events } = u.poll([{ fd, events: PollEvents.IN | PollEvents.OUT }]);
    this.t(ready, 'poll(fault queue)');
    this.say(`  revents 0x${events[0]!.toString(16)}`);
    this.hwpt(this.#id, this.#a, 4, 'with the fault queue', [0, 0, 0, queue]);
    this.destroy(queue, 'fault queue with its fd open');
    u.close(fd);
    this.destroy(queue, 'fault queue after close(fd)');
    this.x(this.io, request, [16, 1, queue, fd], 'FAULT_QUEUE_ALLOC flags=1');
  }

  #virtual(): void {
    const [id, plain] = [this.#id, this.#plain];
    const ask = (command: number, fields: Fields, what: string) => this.x(this.io, io(command), fields, what);
    const { VIOMMU_ALLOC, VDEVICE_ALLOC, VEVENTQ_ALLOC, HW_QUEUE_ALLOC, IOAS_NOIOMMU_GET_PA } = IommufdCommand;
    const viommu = (flags: number, type: number, device: number, hwpt: number, what: string) =>
      ask(VIOMMU_ALLOC, [40, flags, type, device, hwpt, 0, 0, 0, 0n], `VIOMMU_ALLOC ${what}`);
    for (let type = 0; type < 3; type++) viommu(0, type, id, plain, `type ${type} on plain hwpt`);
    viommu(1, 1, id, plain, 'flags 1');
    viommu(0, 1, id, 999, 'hwpt 999');
    viommu(0, 1, 999, 999, 'dev 999');
    ask(VDEVICE_ALLOC, [24, 999, id, 0, 1n], 'VDEVICE_ALLOC viommu 999');
    ask(VDEVICE_ALLOC, [24, plain, id, 0, 1n], 'VDEVICE_ALLOC viommu = hwpt');
    ask(VEVENTQ_ALLOC, [32, 0, 999, 1, 16, 0, 0, 0], 'VEVENTQ_ALLOC viommu 999');
    ask(VEVENTQ_ALLOC, [32, 1, 999, 1, 16, 0, 0, 0], 'VEVENTQ_ALLOC flags 1');
    ask(VEVENTQ_ALLOC, [32, 0, 999, 0, 16, 0, 0, 0], 'VEVENTQ_ALLOC type 0');
    ask(HW_QUEUE_ALLOC, [40, 0, 999, 1, 0, 0, 0x10_0000n, PAGE], 'HW_QUEUE_ALLOC viommu 999');
    ask(HW_QUEUE_ALLOC, [40, 1, 999, 1, 0, 0, 0x10_0000n, PAGE], 'HW_QUEUE_ALLOC flags 1');
    ask(IOAS_NOIOMMU_GET_PA, [40, 0, this.#a, 0, 0x10_0000n, PAGE, 0n], 'NOIOMMU_GET_PA in an ioas with a real device');
  }
}
