/** DMA of edu through an iommufd, as domains come and go below it: iommufd-edu.txt. */
import { DeviceIoctl, IrqSetFlags } from '../../../src/abi/vfio.ts';
import { MapFlags, PollEvents, Prot } from '../../../src/ioctl/posix.ts';
import { hex } from '../asker.ts';
import { CONFIG, IommufdAsker, PG, packed } from './asker.ts';

/** Registers and buffer of edu. */
const IRQ_STATUS = 0x24;
const IRQ_RAISE = 0x60;
const IRQ_ACKNOWLEDGE = 0x64;
const DMA_SOURCE = 0x80;
const BUFFER = 0x4_0000;
/** DMA with an interrupt at its end. */
const TO_DEVICE = 5;
const TO_MEMORY = 7;
const SIGBUS = 7;

export class EduQuestions extends IommufdAsker {
  #device = -1;
  #bar = 0;
  #eventfd = -1;

  ask(): void {
    const u = this.user;
    this.io = this.openIommu();
    this.#device = this.openCdev();
    const id = this.bind(this.#device, this.io, '');
    this.#start();
    const [m, m2] = [this.anon(8 * PG), this.anon(8 * PG)];
    this.#write(m, 'first ioas');
    this.#write(m2, 'second ioas');
    const [a, b] = [this.ioas('a'), this.ioas('b')];
    this.map(a, 7, m, 8 * PG, 0x10_0000, 'a');
    this.map(b, 7, m2, 8 * PG, 0x10_0000, 'b');
    this.say('# not attached');
    this.#notAttached(a, b, m, m2);
    this.say('# copy shares the page');
    this.#copies(a, b, m);
    this.say('# explicit hwpt, detach');
    this.#explicit(id, b, m2);
    this.say('# munmap and remap below a live mapping: the device keeps the old page');
    // The door maps at no given address; a fresh page is as empty as one at the old address.
    const fresh = this.anon(PG);
    this.#dma(BUFFER, 0x10_5000, TO_MEMORY, 'DMA');
    this.say(`  new page at that address: "${this.#text(fresh)}"`);
    const file = this.memfd(2 * PG);
    const mapped = u.mmap(2 * PG, Prot.READ | Prot.WRITE, MapFlags.SHARED, file);
    this.mapFile(b, file, 0, 2 * PG, 0x70_0000, 7, 'memfd');
    this.#dma(BUFFER, 0x70_1000, TO_MEMORY, 'DMA to the memfd');
    this.say(`  memfd page 1 through mmap: "${this.#text(mapped + PG)}"`);
    this.say('# after reset, after iommufd close');
    this.#closes(mapped);
  }

  #start(): void {
    const u = this.user;
    this.t(u.pwrite(this.#device, new Uint8Array([6, 0]), CONFIG + 4), 'COMMAND=6');
    this.#bar = u.mmap(1 << 20, Prot.READ | Prot.WRITE, MapFlags.SHARED, this.#device);
    this.t(Math.min(this.#bar, 0), 'mmap BAR0');
    this.say(`id ${hex(u.load(this.#bar, 4) as number)}`);
    this.#eventfd = u.eventfd();
    const flags = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER;
    this.t(u.ioctl(this.#device, DeviceIoctl.SET_IRQS, packed([24, flags, 1, 0, 1, this.#eventfd])), 'MSI eventfd');
    u.store(this.#bar + IRQ_RAISE, 4, 0xab);
    const count = this.#wait('irq: poll');
    this.say(`  n=${count} status ${hex(u.load(this.#bar + IRQ_STATUS, 4) as number)}`);
    u.store(this.#bar + IRQ_ACKNOWLEDGE, 4, 0xab);
  }

  /** @returns the count of the eventfd */
  #wait(what: string): bigint {
    const value = new Uint8Array(8);
    if (this.t(this.user.poll([{ fd: this.#eventfd, events: PollEvents.IN }]).ready, what) === 1) this.user.read(this.#eventfd, value);
    return new DataView(value.buffer).getBigUint64(0, true);
  }

  #dma(from: number, to: number, command: number, what: string): void {
    const u = this.user;
    [from, to, 32, command].forEach((value, i) => {
      u.store(this.#bar + DMA_SOURCE + i * 8, 8, BigInt(value));
    });
    this.subject.clock.advance(100);
    this.#wait(what);
    u.store(this.#bar + IRQ_ACKNOWLEDGE, 4, u.load(this.#bar + IRQ_STATUS, 4) as number);
  }

  #write(address: number, text: string): void {
    this.poke(address, new TextEncoder().encode(`${text}\0`));
  }

  /** C's %.16s. */
  #text(address: number): string {
    return new TextDecoder().decode(this.peek(address, 16)).split('\0', 1)[0]!;
  }

  #notAttached(a: number, b: number, m: number, m2: number): void {
    this.#dma(0x10_0000, BUFFER, TO_DEVICE, 'DMA ram->edu, bound but not attached: poll');
    this.#dma(BUFFER, 0x10_1000, TO_MEMORY, 'DMA edu->ram, not attached');
    this.say(`  page 1: "${this.#text(m + PG)}"`);
    this.attach(this.#device, a, 'a');
    this.#dma(0x10_0000, BUFFER, TO_DEVICE, 'DMA ram->edu, attached a');
    this.#dma(BUFFER, 0x10_1000, TO_MEMORY, 'DMA edu->ram');
    this.say(`  page 1: "${this.#text(m + PG)}"`);
    this.attach(this.#device, b, 'b (replace, no detach)');
    this.#dma(0x10_0000, BUFFER, TO_DEVICE, 'DMA ram->edu after replace');
    this.#dma(BUFFER, 0x10_2000, TO_MEMORY, 'DMA edu->ram');
    this.say(`  a page 2: "${this.#text(m + 2 * PG)}" b page 2: "${this.#text(m2 + 2 * PG)}"`);
  }

  #copies(a: number, b: number, m: number): void {
    this.copy(b, 0x50_0000, a, 0x10_0000, 8 * PG, 7, 'a->b at 0x500000');
    this.#dma(BUFFER, 0x50_3000, TO_MEMORY, 'DMA edu->ram via the copy');
    this.say(`  a page 3: "${this.#text(m + 3 * PG)}"`);
    this.unmap(a, 0x10_0000, 8 * PG, 'source');
    this.#dma(BUFFER, 0x50_4000, TO_MEMORY, 'DMA via the copy after the source was unmapped');
    this.say(`  a page 4: "${this.#text(m + 4 * PG)}"`);
    this.copy(b, 0x60_0000, b, 0x50_0000, PG, 5, 'read-only copy');
    this.poke(m, new Uint8Array(32));
    this.#write(m, 'ro');
    this.#dma(BUFFER, 0x60_0000, TO_MEMORY, 'DMA write to a read-only mapping');
    this.say(`  page: "${this.#text(m)}"`);
    this.#dma(0x60_0000, BUFFER, TO_DEVICE, 'DMA read of it');
    this.unmap(b, 0x50_0000, 8 * PG, 'copy');
    this.#dma(BUFFER, 0x50_4000, TO_MEMORY, 'DMA to unmapped iova');
  }

  #explicit(id: number, b: number, m2: number): void {
    const page5 = () => this.say(`  b page 5: "${this.#text(m2 + 5 * PG)}"`);
    const h = this.hwpt(id, b, 0, 'in b');
    this.attach(this.#device, h, '');
    this.#dma(0x10_0000, BUFFER, TO_DEVICE, 'DMA ram->edu on the explicit hwpt');
    this.#dma(BUFFER, 0x10_5000, TO_MEMORY, 'DMA edu->ram');
    page5();
    this.detach(this.#device, '');
    this.poke(m2 + 5 * PG, new Uint8Array(32));
    this.#dma(BUFFER, 0x10_5000, TO_MEMORY, 'DMA after detach');
    page5();
    this.attach(this.#device, h, '');
    this.#dma(BUFFER, 0x10_5000, TO_MEMORY, 'DMA after re-attach');
    page5();
  }

  #closes(memfd: number): void {
    const u = this.user;
    const device = this.#device;
    const read = (what: string) => {
      const value = u.load(this.#bar, 4);
      this.say(`mmap read${what}: ${typeof value === 'number' ? hex(value) : `signal ${SIGBUS}`}`);
    };
    this.t(u.ioctl(device, DeviceIoctl.RESET), 'DEVICE_RESET');
    const command = new Uint8Array(4);
    u.pread(device, command, CONFIG + 4, 2);
    this.say(`  COMMAND ${hex(command[0]! | (command[1]! << 8))}`);
    read('');
    u.pwrite(device, new Uint8Array([0, 0]), CONFIG + 4);
    read(' with MEM off');
    u.pwrite(device, new Uint8Array([6, 0]), CONFIG + 4);
    read(' with MEM on');
    this.t(u.close(this.io), 'close(iommufd) while attached');
    this.poke(memfd + PG, new Uint8Array(32));
    this.#dma(BUFFER, 0x70_1000, TO_MEMORY, 'DMA after the iommufd fd closed');
    this.say(`  memfd: "${this.#text(memfd + PG)}"`);
    this.t(u.close(device), 'close(device), mapping of BAR0 kept');
    read(' after close of the device fd');
    const again = this.openCdev();
    this.io = this.openIommu();
    this.bind(again, this.io, 'new fd while the old mmap lives');
    u.munmap(this.#bar, 1 << 20);
    this.bind(again, this.io, 'after munmap');
  }
}
