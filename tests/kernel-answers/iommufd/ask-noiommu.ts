/**
 * A device without an IOMMU, whose user has to know physical addresses: iommufd-noiommu-edu.txt.
 */
import { IommufdCommand } from '../../../src/abi/iommufd.ts';
import { DeviceIoctl, IrqSetFlags } from '../../../src/abi/vfio.ts';
import { MapFlags, PollEvents, Prot } from '../../../src/ioctl/posix.ts';
import { hex } from '../asker.ts';
import { ALL, CONFIG, type Fields, IommufdAsker, io, PG, packed } from './asker.ts';

const DMA_SOURCE = 0x80;
const IRQ_STATUS = 0x24;
const IRQ_ACKNOWLEDGE = 0x64;
const BUFFER = 0x4_0000;
const TO_DEVICE = 5;
const TO_MEMORY = 7;

export class NoIommuQuestions extends IommufdAsker {
  #device = -1;
  #a = 0;

  ask(): void {
    const u = this.user;
    const { cdev } = this.subject;
    this.io = this.t(u.open('/dev/iommu'), 'open(/dev/iommu)');
    this.#device = this.t(u.open(cdev), 'open(noiommu cdev)');
    this.fdinfo(this.#device, 'noiommu cdev');
    const id = this.bind(this.#device, this.io, '');
    this.#a = this.ioas('a');
    this.ranges(this.#a, 'before attach');
    const domain = this.attach(this.#device, this.#a, '');
    this.ranges(this.#a, 'after attach');
    this.hwInfo(id, 0, 0, 0, 0, '');
    const m = this.anon(1 << 20);
    this.map(this.#a, 7, m, 4 * PG, 0x10_0000, '4 pages');
    this.map(this.#a, 7, m, PG, 0xfee0_0000, 'MSI window');
    this.map(this.#a, 7, m, PG, 1n << 50n, '1<<50');
    this.map(this.#a, 6, m, PG, 0, 'kernel picks');
    this.vm();
    this.#addresses(m);
    this.hwpt(id, this.#a, 0, 'plain');
    this.hwpt(id, this.#a, 2, 'dirty');
    this.setDirty(domain, 1, 'auto hwpt');
    this.x(this.#device, DeviceIoctl.ATTACH_IOMMUFD_PT, [16, 1, this.#a, 5], 'ATTACH PASID 5');
    this.#resets();
    this.#dma(m);
    this.detach(this.#device, '');
    this.unmap(this.#a, 0, ALL, 'all');
    this.destroy(this.#a, '');
    u.close(this.#device);
    this.drop('CAP_SYS_RAWIO', 17);
    this.t(u.open(cdev), 'open(noiommu cdev) without CAP_SYS_RAWIO');
    this.#physical([40, 0, this.#a, 0, 0x10_1000n, BigInt(PG), 0n], 'GET_PA without CAP_SYS_RAWIO');
  }

  #physical(fields: Fields, what: string): DataView {
    return this.x(this.io, io(IommufdCommand.IOAS_NOIOMMU_GET_PA), fields, what);
  }

  #addresses(m: number): void {
    const a = this.#a;
    for (let i = 0; i < 4; i++) {
      const answer = this.#physical([40, 0, a, 0, BigInt(0x10_0000 + i * PG), BigInt(4 * PG), 0n], `NOIOMMU_GET_PA page ${i}`);
      const [length, pa] = [answer.getBigUint64(24, true), answer.getBigUint64(32, true)];
      this.say(`  pa nonzero ${pa === 0n ? 0 : 1}, len out ${hex(length)}, pa & 0xfff = ${hex(pa & 0xfffn)}`);
    }
    const answer = this.#physical([40, 0, a, 0, 0x10_0010n, 16n, 0n], 'GET_PA unaligned');
    this.say(`  pa & 0xfff = ${hex(answer.getBigUint64(32, true) & 0xfffn)} len ${hex(answer.getBigUint64(24, true))}`);
    this.#physical([40, 0, a, 0, 0x10_0010n, 0n, 0n], 'GET_PA len 0');
    this.#physical([40, 0, a, 0, 0x90_0000n, BigInt(PG), 0n], 'GET_PA unmapped');
    this.#physical([40, 1, a, 0, 0x90_0000n, BigInt(PG), 0n], 'GET_PA flags 1');
    this.#physical([40, 0, 999, 0, 0x90_0000n, BigInt(PG), 0n], 'GET_PA ioas 999');
    const b = this.ioas('b');
    this.map(b, 7, m, PG, 0x10_0000, 'in b, no device');
    this.#physical([40, 0, b, 0, 0x10_0000n, BigInt(PG), 0n], 'GET_PA in an ioas without a device');
  }

  #resets(): void {
    const u = this.user;
    const device = this.#device;
    this.x(device, DeviceIoctl.GET_PCI_HOT_RESET_INFO, packed([76], 76), 'HOT_RESET_INFO ', 12);
    this.x(device, DeviceIoctl.PCI_HOT_RESET, packed([12, 0, 0], 20), 'PCI_HOT_RESET count=0');
    this.t(u.ioctl(device, DeviceIoctl.RESET), 'DEVICE_RESET');
    this.say(`  ${hex(this.config(device, 4, 2, 'COMMAND'))}`);
    this.t(u.pwrite(device, new Uint8Array([6, 0]), CONFIG + 4), 'COMMAND=6');
    const bar = u.mmap(PG, Prot.READ | Prot.WRITE, MapFlags.SHARED, device);
    this.t(Math.min(bar, 0), 'mmap BAR0');
    this.say(`  first word ${hex(u.load(bar, 4) as number)}`);
  }

  #dma(m: number): void {
    const u = this.user;
    const device = this.#device;
    this.poke(m, new TextEncoder().encode('physical\0'));
    const eventfd = u.eventfd();
    const flags = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER;
    this.t(u.ioctl(device, DeviceIoctl.SET_IRQS, packed([24, flags, 1, 0, 1, eventfd])), 'MSI eventfd');
    const pa = this.#physical([40, 0, this.#a, 0, 0x10_0000n, BigInt(PG), 0n], 'GET_PA').getBigUint64(32, true);
    const bar = u.mmap(1 << 20, Prot.READ | Prot.WRITE, MapFlags.SHARED, device);
    const run = (from: bigint, to: bigint, command: number, what: string) => {
      [from, to, 32n, BigInt(command)].forEach((value, i) => {
        u.store(bar + DMA_SOURCE + i * 8, 8, value);
      });
      this.subject.clock.advance(100);
      if (this.t(u.poll([{ fd: eventfd, events: PollEvents.IN }]).ready, what) === 1) u.read(eventfd, new Uint8Array(8));
      u.store(bar + IRQ_ACKNOWLEDGE, 4, u.load(bar + IRQ_STATUS, 4) as number);
    };
    run(pa, BigInt(BUFFER), TO_DEVICE, 'DMA from the physical address');
    const page1 = packed([40, 0, this.#a, 0, 0x10_1000n, BigInt(PG), 0n]);
    u.ioctl(this.io, io(IommufdCommand.IOAS_NOIOMMU_GET_PA), page1);
    run(BigInt(BUFFER), new DataView(page1.buffer).getBigUint64(32, true), TO_MEMORY, 'DMA to the physical address of page 1');
    this.say(`  page 1: "${new TextDecoder().decode(this.peek(m + PG, 16)).split('\0', 1)[0]}"`);
  }
}
