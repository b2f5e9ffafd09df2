/**
 * edu at work: registers through a mapping, MSI, DMA both ways and to an unmapped address, INTx:
 * edu-irq-dma.txt.
 */
import { DeviceIoctl, IrqSetFlags } from '../../src/abi/vfio.ts';
import { MapFlags, PollEvents, Prot } from '../../src/ioctl/posix.ts';
import { cString } from '../../src/ioctl/user-buffer.ts';
import { Asker, hex, memory, PAGE } from './asker.ts';

export class EduQuestions extends Asker {
  ask(): void {
    const u = this.user;
    this.openAll();
    const { offset, size } = this.regionInfo(0);
    const rw = Prot.READ | Prot.WRITE;
    const b = u.mmap(size, rw, MapFlags.SHARED, this.device, offset);
    this.t(Math.min(b, 0), `mmap BAR0 ${hex(size)}`);
    this.cw(4, 2, 0, 'command 0');
    const v = memory(16);
    this.t(u.pread(this.device, v.bytes, offset, 4), 'pread BAR0 with MEM off');
    const off = u.load(b, 4);
    this.say(
      `mmap read with MEM off: ${off === 'SIGBUS' ? 'signal Bus error' : off === 'SIGSEGV' ? 'signal Segmentation fault' : hex(off)}`,
    );
    this.cw(4, 2, 6, 'command MEM|MASTER');
    const load = (register: number) => {
      const value = u.load(b + register, 4);
      if (typeof value !== 'number') throw new Error(`load of ${hex(register)} ended in ${String(value)}`);
      return value;
    };
    this.say(`id via mmap ${hex(load(0))}`);
    this.t(u.pread(this.device, v.bytes, offset, 4), 'id via pread');
    this.say(`  ${hex(v.view.getUint32(0, true))}`);
    const w = memory(4);
    w.view.setUint32(0, 0x12345678, true);
    this.t(u.pwrite(this.device, w.bytes, offset + 4), 'liveness write');
    this.say(`  ~ = ${hex(load(4))}`);
    this.t(u.pread(this.device, v.bytes, offset + 1, 3), 'pread BAR0+1 len 3');
    this.t(u.pread(this.device, v.bytes, offset, 8), 'pread BAR0 len 8');
    this.t(u.pread(this.device, v.bytes, offset, 16), 'pread BAR0 len 16');

    const ev = u.eventfd(0);
    const n = memory(8);
    /** poll(2) with a timeout: time passes for the device meanwhile. */
    const poll = (timeoutMs: number) => {
      for (let waited = 0; ; waited++) {
        const { ready } = u.poll([{ fd: ev, events: PollEvents.IN }]);
        if (ready > 0 || waited >= timeoutMs) return ready;
        this.subject.clock.advance(1);
      }
    };
    const { DATA_NONE, DATA_EVENTFD, ACTION_TRIGGER, ACTION_UNMASK } = IrqSetFlags;
    this.t(this.irqSet(1, 0, 1, DATA_EVENTFD | ACTION_TRIGGER, 24, ev), 'MSI eventfd');
    let seen = '';
    for (let at = this.cfg(0x34, 1); at !== 0; at = this.cfg(at + 1, 1)) {
      if (this.cfg(at, 1) === 5) seen = `${hex(this.cfg(at + 2, 2))} addr ${hex(this.cfg(at + 4, 4))} data ${hex(this.cfg(at + 12, 2))}`;
    }
    this.say(`MSI ctrl seen in config: ${seen}`);

    const store = (register: number, value: number) => u.store(b + register, 4, value);
    store(0x60, 0xab);
    let ready = this.t(poll(2000), 'raise irq 0xab: poll(eventfd)');
    if (ready === 1) this.t(u.read(ev, n.bytes), '  read n');
    this.say(`  n=${n.view.getBigUint64(0, true)} irq status ${hex(load(0x24))}`);
    store(0x64, 0xab);
    store(0x20, 0x80);
    store(0x08, 5);
    ready = this.t(poll(2000), 'factorial 5 with irq: poll');
    if (ready === 1) u.read(ev, n.bytes);
    this.say(`  5! = ${load(0x08)} irq status ${hex(load(0x24))}`);
    store(0x64, load(0x24));

    const m = u.mmap(2 * PAGE, rw, MapFlags.PRIVATE | MapFlags.ANONYMOUS);
    u.memory.copyOut(m, cString('through the IOMMU'));
    this.t(this.map(m, 0x100000, 2 * PAGE, 3, 32), 'MAP_DMA 2 pages for edu at iova 0x100000');
    const dma = (source: number, destination: number, count: number, command: number, question: string) => {
      u.store(b + 0x80, 8, source);
      u.store(b + 0x88, 8, destination);
      u.store(b + 0x90, 8, count);
      u.store(b + 0x98, 8, command);
      if (this.t(poll(3000), question) === 1) u.read(ev, n.bytes);
      this.say(`  irq status ${hex(load(0x24))} dma cmd ${hex(load(0x98))}`);
      store(0x64, load(0x24));
    };
    const page2 = () => {
      const bytes = u.memory.copyIn(m + PAGE, PAGE);
      return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
    };
    dma(0x100000, 0x40000, 18, 1 | 4, 'DMA ram->edu 18 bytes: poll');
    dma(0x40000, 0x101000, 18, 1 | 2 | 4, 'DMA edu->ram: poll');
    this.say(`  page 2 now: "${page2()}"`);
    this.unmap(0x100000, 2 * PAGE, 0, 24, 'the two pages');
    u.memory.copyOut(m + PAGE, new Uint8Array(32));
    dma(0x40000, 0x101000, 18, 1 | 2 | 4, 'DMA edu->unmapped iova: poll');
    this.say(`  page 2 now: "${page2()}" (DMA must not land)`);

    this.t(this.irqSet(1, 0, 0, DATA_NONE | ACTION_TRIGGER, 20, ev), 'MSI off');
    this.t(this.irqSet(0, 0, 1, DATA_EVENTFD | ACTION_TRIGGER, 24, ev), 'INTx eventfd');
    store(0x60, 1);
    if (this.t(poll(2000), 'INTx: poll') === 1) u.read(ev, n.bytes);
    this.say(`  n=${n.view.getBigUint64(0, true)}`);
    this.t(poll(100), 'INTx again without unmask: poll');
    this.t(this.irqSet(0, 0, 1, DATA_NONE | ACTION_UNMASK, 20, ev), 'INTx unmask, not acked in the device');
    if (this.t(poll(2000), '  poll (must fire again)') === 1) u.read(ev, n.bytes);
    store(0x64, 1);
    this.t(this.irqSet(0, 0, 1, DATA_NONE | ACTION_UNMASK, 20, ev), 'INTx unmask, acked');
    this.t(poll(100), '  poll (must stay quiet)');
    this.t(this.onDevice(DeviceIoctl.RESET), 'DEVICE_RESET (edu)');
  }
}
