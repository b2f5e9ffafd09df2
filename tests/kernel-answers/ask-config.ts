/** Config space: reads, and the effects of writes: config-edu.txt, config-nvme.txt. */
import { RegionIndex } from '../../src/abi/vfio.ts';
import { errnoName } from '../../src/base/errno.ts';
import { Asker, CONFIG, hex } from './asker.ts';

export class ConfigQuestions extends Asker {
  ask(): void {
    const u = this.user;
    this.openAll();
    const { size } = this.regionInfo(RegionIndex.CONFIG);
    const c = new Uint8Array(4096);
    this.t(u.pread(this.device, c, CONFIG), `pread CONFIG len 4096 (region size ${hex(size)})`);
    const n = this.t(u.pread(this.device, c, CONFIG, size), 'pread CONFIG len=size');
    for (let at = 0; at < 256; at += 16) {
      const row = [...c.subarray(at, at + 16)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
      this.say(`${at.toString(16).padStart(3, '0')}: ${row}`);
    }
    const view = new DataView(c.buffer);
    for (let at = n > 256 ? 0x100 : 0; at !== 0; at = view.getUint32(at, true) >>> 20) {
      const header = view.getUint32(at, true);
      this.say(`extcap ${hex(at)}: id=${hex(header & 0xffff)} ver=${(header >>> 16) & 15} next=${hex(header >>> 20)}`);
    }
    for (let at = c[0x34]!; at !== 0; at = c[at + 1]!) this.say(`cap ${hex(at)}: id=${hex(c[at]!)} next=${hex(c[at + 1]!)}`);
    this.t(u.pread(this.device, c, CONFIG + size, 4), 'pread CONFIG+size');
    this.t(u.pread(this.device, c, CONFIG + size - 4, 8), 'pread CONFIG+size-4 len 8');
    this.t(u.pread(this.device, c, CONFIG + 0x3d, 5), 'pread CONFIG+0x3d len 5');
    this.t(u.pread(this.device, c, CONFIG, 0), 'pread CONFIG len 0');
    this.t(u.pread(this.device, c, CONFIG + 1, 3), 'pread CONFIG+1 len 3');
    this.t(u.pwrite(this.device, c, CONFIG + 4096, 4), 'pwrite CONFIG+4096');
    this.#header();
    for (let at = this.cfg(0x34, 1); at !== 0; at = this.cfg(at + 1, 1)) this.#capability(at);
  }

  #header(): void {
    this.cw(0, 2, 0x1234, 'vendor id');
    this.cw(2, 2, 0x1234, 'device id');
    this.cw(8, 1, 0xff, 'revision');
    this.cw(4, 2, 0x0000, 'command 0');
    this.cw(4, 2, 0xffff, 'command all ones');
    this.cw(4, 2, 0x0002, 'command MEM');
    this.cw(4, 2, 0x0406, 'command MEM|MASTER|INTXDIS');
    this.cw(4, 2, 0x0006, 'command MEM|MASTER');
    this.cw(6, 2, 0xffff, 'status all ones');
    this.cw(0xc, 1, 0xaa, 'cache line');
    this.cw(0xd, 1, 0xaa, 'latency');
    this.cw(0xe, 1, 0x80, 'header type');
    this.cw(0xf, 1, 0xc0, 'BIST');
    for (let i = 0; i < 6; i++) {
      const at = 0x10 + 4 * i;
      const before = this.cfg(at, 4);
      this.cw(at, 4, 0xffff_ffff, `BAR${i} sizing`);
      this.cw(at, 4, before, '  restore');
    }
    this.cw(0x30, 4, 0xffff_f800, 'ROM sizing');
    this.cw(0x2c, 4, 0xdead_beef, 'subsystem ids');
    this.cw(0x34, 1, 0, 'cap pointer');
    this.cw(0x3c, 1, 0x55, 'interrupt line');
    this.cw(0x3d, 1, 4, 'interrupt pin');
  }

  #capability(at: number): void {
    switch (this.cfg(at, 1)) {
      case 0x01: {
        this.cw(at + 2, 2, 0xffff, 'PM capabilities');
        this.cw(at + 4, 2, 3, 'PMCSR -> D3hot');
        const read = this.user.pread(this.device, new Uint8Array(4), 0);
        this.say(`  BAR0 read in D3hot: ${read < 0 ? `-1 ${errnoName(read)}` : `${read} ok`}`);
        this.cw(at + 4, 2, 0, 'PMCSR -> D0');
        this.cw(4, 2, 6, 'command again');
        break;
      }
      case 0x05:
        this.cw(at + 2, 2, 0xffff, 'MSI control all ones');
        this.cw(at + 2, 2, 1, 'MSI enable, no eventfd');
        this.cw(at + 4, 4, 0xfee0_0000, 'MSI address');
        this.cw(at + 2, 2, 0, 'MSI control 0');
        break;
      case 0x11:
        this.cw(at + 2, 2, 0xffff, 'MSI-X control all ones');
        this.cw(at + 2, 2, 0, 'MSI-X control 0');
        this.cw(at + 4, 4, 0, 'MSI-X table off/bir');
        break;
      case 0x10:
        this.cw(at + 8, 2, 0x8000 | this.cfg(at + 8, 2), 'PCIe devctl with FLR bit');
        this.cw(at + 8, 2, 0x7fff, 'PCIe devctl');
        this.cw(at + 4, 4, 0xffff_ffff, 'PCIe devcap');
        this.cw(at + 0x10, 2, 0xffff, 'PCIe lnkctl');
        break;
    }
    this.cw(at, 2, 0xffff, 'capability header');
  }
}
