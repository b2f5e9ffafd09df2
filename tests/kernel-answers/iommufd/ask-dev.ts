/**
 * The requests of a device through its own node, and its resets: iommufd-dev-edu.txt,
 * -reset-edu.txt.
 */
import { DeviceIoctl, FeatureFlags, IrqSetFlags } from '../../../src/abi/vfio.ts';
import { MapFlags, Prot } from '../../../src/ioctl/posix.ts';
import { hex } from '../asker.ts';
import { CONFIG, type Fields, IommufdAsker, io, PG, packed } from './asker.ts';

const { GET_INFO, GET_REGION_INFO, GET_IRQ_INFO, SET_IRQS, FEATURE, RESET, IOEVENTFD, GET_PCI_HOT_RESET_INFO, PCI_HOT_RESET } = DeviceIoctl;
const { DATA_EVENTFD, DATA_NONE, ACTION_TRIGGER } = IrqSetFlags;

const word = (value: number) => packed([value]);

export class DeviceQuestions extends IommufdAsker {
  ask(): void {
    const u = this.user;
    this.io = this.openIommu();
    let device = this.openCdev();
    this.bind(device, this.io, '');
    for (const argsz of [8, 12, 16, 20, 24, 28, 512]) this.x(device, GET_INFO, packed([argsz], 512), `GET_INFO argsz=${argsz}`, 64);
    for (let i = 0; i < 10; i++) this.x(device, GET_REGION_INFO, packed([128, 0, i], 128), `REGION_INFO ${i}`);
    for (let i = 0; i < 6; i++) this.x(device, GET_IRQ_INFO, [16, 0, i, 0], `IRQ_INFO ${i}`);
    const eventfd = u.eventfd();
    this.fdinfo(eventfd, 'eventfd');
    for (let i = 0; i < 5; i++) this.#interrupt(device, i, eventfd);
    for (let id = 0; id <= 15; id++) {
      const probe = (flags: number, name: string) =>
        this.x(device, FEATURE, packed([72, id | FeatureFlags.PROBE | flags], 72), `FEATURE ${name} ${id}`);
      probe(0, 'probe');
      probe(FeatureFlags.GET, 'probe|get');
      probe(FeatureFlags.SET, 'probe|set');
    }
    device = this.#config(device);
    this.#refused(device, eventfd);
  }

  #interrupt(device: number, index: number, eventfd: number): void {
    const set = (argsz: number, flags: number, count: number, what: string) =>
      this.x(device, SET_IRQS, [argsz, flags, index, 0, count, eventfd, eventfd], what, 20);
    set(24, DATA_EVENTFD | ACTION_TRIGGER, 1, `SET_IRQS index ${index} eventfd`);
    set(20, DATA_NONE | ACTION_TRIGGER, 1, '  loopback trigger');
    const value = new Uint8Array(8);
    if (this.t(this.user.read(eventfd, value), '  read') === 8) this.say(`  value=${new DataView(value.buffer).getBigUint64(0, true)}`);
    set(20, DATA_NONE | ACTION_TRIGGER, 0, '  count 0 (disable)');
  }

  /** @returns the device, opened again */
  #config(device: number): number {
    const u = this.user;
    const COMMAND = 4;
    const BAR0 = 0x10;
    const sayCommand = (what = '') => {
      const bytes = new Uint8Array(4);
      u.pread(device, bytes, CONFIG + COMMAND, 2);
      this.say(`  ${what}${hex(new DataView(bytes.buffer).getUint32(0, true))}`);
    };
    this.say(`  ${hex(this.config(device, COMMAND, 2, 'COMMAND after open'))}`);
    this.t(u.pwrite(device, word(0x406), CONFIG + COMMAND, 2), 'COMMAND=0x406');
    sayCommand();
    this.t(u.ioctl(device, RESET), 'DEVICE_RESET');
    sayCommand('COMMAND after RESET ');
    u.pwrite(device, word(0x406), CONFIG + COMMAND, 2);
    this.t(u.pwrite(device, word(0x1234_5678), CONFIG + BAR0), 'BAR0=0x12345678');
    const bar = new Uint8Array(4);
    u.pread(device, bar, CONFIG + BAR0);
    this.say(`  ${hex(new DataView(bar.buffer).getUint32(0, true))}`);
    u.close(device);
    const again = this.openCdev();
    this.bind(again, this.io, 'reopened');
    this.say(`  ${hex(this.config(again, COMMAND, 2, 'COMMAND after close and reopen'))}`);
    this.say(`  ${hex(this.config(again, BAR0, 4, 'BAR0'))}`);
    return again;
  }

  #refused(device: number, eventfd: number): void {
    const u = this.user;
    this.t(this.mapped(PG, Prot.READ, MapFlags.PRIVATE, device), 'mmap private');
    this.t(this.mapped(PG, Prot.READ, MapFlags.SHARED, device, CONFIG), 'mmap CONFIG region');
    this.t(this.mapped(PG, Prot.READ, MapFlags.SHARED, device, 9 * 2 ** 40), 'mmap region 9');
    const bytes = new Uint8Array(4);
    this.t(u.pread(device, bytes, 9 * 2 ** 40), 'pread region 9');
    this.t(u.pread(device, bytes, CONFIG + 4096), 'pread CONFIG+4096');
    this.t(u.pread(device, bytes, CONFIG, 0), 'pread CONFIG len 0');
    this.t(u.read(device, bytes), 'read() at pos 0 (region 0)');
    this.t(u.pread(device, bytes, -4), 'pread at -4');
    const ioeventfd = (fd: number, what: string) => this.x(device, IOEVENTFD, [32, 4, 0n, 1n, fd, 0], `IOEVENTFD ${what}`);
    ioeventfd(eventfd, 'add');
    ioeventfd(eventfd, 'same');
    ioeventfd(-1, 'remove');
    ioeventfd(-1, 'remove again');
    for (let n = 100; n <= 125; n++) this.t(u.ioctl(device, io(n), new Uint8Array(64)), `ioctl ${n} argsz=0`);
  }
}

export class ResetQuestions extends IommufdAsker {
  ask(): void {
    const u = this.user;
    this.io = this.openIommu();
    const device = this.openCdev();
    const id = this.bind(device, this.io, '');
    this.x(device, GET_PCI_HOT_RESET_INFO, packed([11], 44), 'HOT_RESET_INFO argsz=11');
    this.x(device, GET_PCI_HOT_RESET_INFO, packed([12], 44), 'HOT_RESET_INFO argsz=12');
    this.x(device, GET_PCI_HOT_RESET_INFO, packed([76], 76), 'HOT_RESET_INFO full', 12);
    this.say(`  own devid ${id}`);
    const reset = (fields: Fields, what: string) => this.x(device, PCI_HOT_RESET, packed(fields, 20), `PCI_HOT_RESET ${what}`);
    reset([11, 0, 0], 'argsz=11');
    reset([12, 1, 0], 'flags=1');
    reset([12, 0, 0], 'count=0');
    reset([20, 0, 1, this.io], 'count=1 iommufd');
    reset([16, 0, 1, device], 'count=1 cdev fd');
    reset([16, 0, 1, 999], 'count=1 fd 999');
    this.attach(device, this.ioas(''), '');
    reset([12, 0, 0], 'count=0, attached');
    this.t(u.ioctl(device, RESET), 'DEVICE_RESET attached');
    this.say(`  ${hex(this.config(device, 4, 2, 'COMMAND'))}`);
  }
}
