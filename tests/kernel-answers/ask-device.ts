/** Info, interrupts, resets, features, and refused reads and mappings: device-edu.txt. */
import { DeviceIoctl, IrqSetFlags, REGION_OFFSET_STEP } from '../../src/abi/vfio.ts';
import { DeviceInfo, IrqInfo, PciDependentDevice, PciHotReset, PciHotResetInfo, RegionInfo } from '../../src/abi/vfio-structs.ts';
import { MapFlags, Prot } from '../../src/ioctl/posix.ts';
import { Asker, BAD_POINTER, CONFIG, hex, memory, PAGE, UNKNOWN_REQUEST } from './asker.ts';

export class DeviceQuestions extends Asker {
  ask(): void {
    const u = this.user;
    this.openAll();
    const sayInfo = ({ view }: { view: DataView }) => {
      const { argsz, flags, num_regions, num_irqs, cap_offset } = DeviceInfo.decode(view);
      this.say(`  argsz=${argsz} flags=${hex(flags)} regions=${num_regions} irqs=${num_irqs} cap_offset=${cap_offset}`);
    };
    let info = memory(532);
    for (const argsz of [8, 12, 16, 20, 24, 28, 532]) {
      info = memory(532);
      DeviceInfo.argsz.set(info.view, 0, argsz);
      this.t(this.onDevice(DeviceIoctl.GET_INFO, info.bytes), `DEVICE_GET_INFO argsz=${argsz}`);
      sayInfo(info);
    }
    this.t(this.onDevice(DeviceIoctl.GET_INFO, BAD_POINTER), 'DEVICE_GET_INFO bad pointer');
    const { num_regions, num_irqs } = DeviceInfo.decode(info.view);
    for (let i = 0; i <= num_regions; i++) this.#askRegion(i);
    const short = memory(32);
    RegionInfo.argsz.set(short.view, 0, 31);
    this.t(this.onDevice(DeviceIoctl.GET_REGION_INFO, short.bytes), 'REGION_INFO 0 argsz=31');
    for (let i = 0; i <= num_irqs; i++) {
      const irq = memory(16);
      IrqInfo.encode(irq.view, 0, { argsz: 16, index: i });
      this.t(this.onDevice(DeviceIoctl.GET_IRQ_INFO, irq.bytes), `IRQ_INFO ${i}`);
      const { argsz, flags, count } = IrqInfo.decode(irq.view);
      this.say(`  argsz=${argsz} flags=${hex(flags)} count=${count}`);
    }
    const shortIrq = memory(16);
    IrqInfo.encode(shortIrq.view, 0, { argsz: 12, index: 1 });
    this.t(this.onDevice(DeviceIoctl.GET_IRQ_INFO, shortIrq.bytes), 'IRQ_INFO argsz=12');
    this.#setIrqs();
    this.t(this.onDevice(DeviceIoctl.RESET), 'DEVICE_RESET');
    this.#hotReset();
    this.#features();
    this.t(this.onDevice(UNKNOWN_REQUEST), 'unknown ioctl on device');
    const { offset, size } = this.regionInfo(0);
    const b4 = new Uint8Array(4);
    this.t(u.pread(this.device, b4, offset), 'pread BAR0+0 4 (memory decode off?)');
    this.t(u.pread(this.device, b4, offset + size), 'pread BAR0+size');
    this.t(u.pread(this.device, new Uint8Array(8), offset + size - 4), 'pread 8 bytes straddling the end of BAR0');
    this.say('  (expect 4: shortened)');
    this.t(u.pread(this.device, b4, 40 * REGION_OFFSET_STEP), 'pread region 40');
    this.t(u.pread(this.device, b4, 6 * REGION_OFFSET_STEP), 'pread ROM');
    this.t(u.pread(this.device, b4, 8 * REGION_OFFSET_STEP), 'pread VGA');
    this.t(u.pread(this.device, b4, offset, 0), 'pread len 0');
    const rw = Prot.READ | Prot.WRITE;
    this.t(this.mmapped(size, Prot.READ, MapFlags.PRIVATE, this.device, offset), 'mmap BAR0 MAP_PRIVATE');
    this.t(this.mmapped(size + PAGE, Prot.READ, MapFlags.SHARED, this.device, offset), 'mmap BAR0 too long');
    this.t(this.mmapped(PAGE, rw, MapFlags.SHARED, this.device, CONFIG), 'mmap CONFIG');
    this.t(this.mmapped(size, rw, MapFlags.SHARED, this.device, offset), 'mmap BAR0');
  }

  #askRegion(index: number): void {
    const ask = (argsz: number) => {
      const region = memory(544);
      RegionInfo.encode(region.view, 0, { argsz, index });
      this.t(this.onDevice(DeviceIoctl.GET_REGION_INFO, region.bytes), `REGION_INFO ${index} argsz=${argsz}`);
      return region.view;
    };
    const view = ask(32);
    const { argsz, flags, size, offset, cap_offset } = RegionInfo.decode(view);
    this.say(`  argsz=${argsz} flags=${hex(flags)} size=${hex(size)} offset=${hex(offset)} cap_offset=${cap_offset}`);
    if (argsz <= 32) return;
    const again = RegionInfo.decode(ask(544));
    this.say(`  argsz=${again.argsz} flags=${hex(again.flags)} cap_offset=${again.cap_offset}`);
  }

  #setIrqs(): void {
    const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_TRIGGER, ACTION_MASK, ACTION_UNMASK } = IrqSetFlags;
    const ev = this.user.eventfd(0);
    const set = (index: number, start: number, count: number, flags: number, argsz: number, fd: number, question: string) =>
      this.t(this.irqSet(index, start, count, flags, argsz, fd), `SET_IRQS ${question}`);
    const readCount = () => {
      const value = memory(8);
      this.t(this.user.read(ev, value.bytes), 'read(eventfd)');
      this.say(`  value=${value.view.getBigUint64(0, true)}`);
    };
    const enable = DATA_EVENTFD | ACTION_TRIGGER;
    const fire = DATA_NONE | ACTION_TRIGGER;
    set(1, 0, 1, enable, 19, ev, 'argsz=19');
    set(1, 0, 1, enable, 20, ev, 'MSI eventfd argsz=20 (no room for data)');
    set(9, 0, 1, enable, 24, ev, 'index=9');
    set(1, 0, 1, enable | DATA_NONE, 24, ev, 'two data types');
    set(1, 0, 1, ACTION_TRIGGER, 24, ev, 'no data type');
    set(1, 0, 1, DATA_EVENTFD, 24, ev, 'no action');
    set(1, 0, 1, enable | ACTION_MASK, 24, ev, 'two actions');
    set(1, 0, 1, enable | 0x100, 24, ev, 'unknown flag');
    set(1, 0, 9999, fire, 20, ev, 'count beyond irqs');
    set(1, 9999, 1, fire, 20, ev, 'start beyond irqs');
    set(1, 0, 0, fire, 20, ev, 'MSI disable when not enabled (DATA_NONE count=0)');
    set(1, 0, 1, fire, 20, ev, 'MSI trigger loopback when not enabled');
    set(1, 0, 1, enable, 24, 0, 'MSI eventfd=fd 0 (not an eventfd)');
    set(1, 0, 1, enable, 24, 9999, 'MSI eventfd=9999 (bad fd)');
    set(1, 0, 1, enable, 24, ev, 'MSI enable vector 0');
    set(2, 0, 1, enable, 24, ev, 'MSI-X while MSI is on');
    set(0, 0, 1, enable, 24, ev, 'INTx while MSI is on');
    set(1, 0, 1, DATA_NONE | ACTION_MASK, 20, ev, 'MSI mask');
    set(1, 0, 1, fire, 20, ev, 'MSI loopback trigger (DATA_NONE)');
    readCount();
    set(1, 0, 1, DATA_BOOL | ACTION_TRIGGER, 21, 1, 'MSI loopback trigger (DATA_BOOL 1)');
    readCount();
    set(1, 0, 1, enable, 24, -1, 'MSI de-assign vector 0 (fd -1)');
    set(1, 0, 0, fire, 20, ev, 'MSI disable');
    set(2, 0, 1, enable, 24, ev, 'MSI-X enable 1 vector');
    set(2, 1, 1, enable, 24, ev, 'MSI-X add vector 1 (dynamic)');
    set(2, 0, 0, fire, 20, ev, 'MSI-X disable');
    set(0, 0, 1, enable, 24, ev, 'INTx enable');
    set(0, 0, 1, DATA_NONE | ACTION_MASK, 20, ev, 'INTx mask');
    set(0, 0, 1, DATA_NONE | ACTION_UNMASK, 20, ev, 'INTx unmask');
    set(0, 0, 0, fire, 20, ev, 'INTx disable');
    set(3, 0, 1, enable, 24, ev, 'ERR eventfd');
    set(4, 0, 1, enable, 24, ev, 'REQ eventfd');
    set(4, 0, 1, fire, 20, ev, 'REQ loopback');
  }

  #hotReset(): void {
    const info = memory(12 + 16 * 8);
    const get = (argsz: number, question: string) => {
      info.bytes.fill(0);
      PciHotResetInfo.argsz.set(info.view, 0, argsz);
      const result = this.t(this.onDevice(DeviceIoctl.GET_PCI_HOT_RESET_INFO, info.bytes), question);
      return { ...PciHotResetInfo.decode(info.view), result };
    };
    const short = get(12, 'HOT_RESET_INFO argsz=12');
    this.say(`  argsz=${short.argsz} count=${short.count}`);
    const whole = get(info.bytes.length, 'HOT_RESET_INFO');
    this.say(`  flags=${hex(whole.flags)} count=${whole.count}`);
    for (let i = 0; whole.result === 0 && i < whole.count && i < 16; i++) {
      const { id, segment, bus, devfn } = PciDependentDevice.decode(info.view, 12 + i * 8);
      const padded = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
      this.say(`  group=${id} ${padded(segment, 4)}:${padded(bus, 2)} devfn=${hex(devfn)}`);
    }
    const reset = memory(20);
    PciHotReset.argsz.set(reset.view, 0, 12);
    this.t(this.onDevice(DeviceIoctl.PCI_HOT_RESET, reset.bytes), 'PCI_HOT_RESET count=0');
    PciHotReset.encode(reset.view, 0, { argsz: 20, count: 1 });
    reset.view.setInt32(12, this.group, true);
    this.t(this.onDevice(DeviceIoctl.PCI_HOT_RESET, reset.bytes), 'PCI_HOT_RESET own group');
  }

  #features(): void {
    const [get, set, probe] = [1 << 16, 1 << 17, 1 << 18];
    const feature = memory(72);
    const ask = (flags: number, question: string) => {
      feature.view.setUint32(0, 72, true);
      feature.view.setUint32(4, flags, true);
      this.t(this.onDevice(DeviceIoctl.FEATURE, feature.bytes), `FEATURE ${question}`);
    };
    for (let id = 0; id <= 11; id++) {
      feature.bytes.fill(0);
      ask(probe | id, `probe ${id}`);
      ask(probe | get | id, `probe|get ${id}`);
      ask(probe | set | id, `probe|set ${id}`);
    }
    const none = memory(8);
    none.view.setUint32(0, 8, true);
    this.t(this.onDevice(DeviceIoctl.FEATURE, none.bytes), 'FEATURE flags=0');
  }
}
