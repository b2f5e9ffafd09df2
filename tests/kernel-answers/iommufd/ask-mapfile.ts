/**
 * IOAS_MAP_FILE, IOAS_CHANGE_PROCESS and DMA buffers of BARs: iommufd-mapfile.txt. Seals of memfds,
 * tmpfs and hugetlbfs are the host's; plain memfds stand for their files. The device is
 * a card whose BAR 0 is memory: DMA buffers of registers are not offered (kernel-differences.md).
 */
import { IommufdCommand } from '../../../src/abi/iommufd.ts';
import { DeviceIoctl, FeatureFlags } from '../../../src/abi/vfio.ts';
import { ALL, CONFIG, IommufdAsker, io, PG, packed } from './asker.ts';

const DMA_BUF = 11;
const O_RDWR = 2;
const O_CLOEXEC = 0o2000000;
const O_TRUNC = 0o1000;

interface DmaBufFields {
  readonly argsz?: number;
  readonly region?: number;
  readonly openFlags?: number;
  readonly flags?: number;
  readonly ranges?: number;
  readonly offset?: number;
  readonly length?: number;
}

export class MapFileQuestions extends IommufdAsker {
  #device = -1;
  #a = 0;

  ask(): void {
    this.io = this.openIommu();
    this.#device = this.openCdev();
    this.bind(this.#device, this.io, '');
    this.#a = this.ioas('a');
    this.attach(this.#device, this.#a, '');
    const file = this.memfd(16 * PG);
    this.t(0, 'memfd 16 pages');
    this.#files(file);
    this.#changeProcess();
    this.say('# a dma-buf of a BAR');
    this.#buffers();
    this.say('# BAR memory by address');
    this.#byAddress();
  }

  #mapPage(fd: number, start: number | bigint, iova: number, what: string, length = PG, flags = 7): void {
    this.mapFile(this.#a, fd, start, length, iova, flags, what);
  }

  #files(file: number): void {
    this.#mapPage(file, 0, 0x10_0000, '4 pages at 0', 4 * PG);
    this.#mapPage(file, PG, 0x20_0000, '1 page at 4096');
    this.#mapPage(file, 16, 0x21_0010, 'start 16, iova+16');
    this.#mapPage(file, 16, 0x22_0000, 'start 16, iova aligned');
    this.#mapPage(file, 15 * PG, 0x23_0000, 'past the end of the file', 2 * PG);
    this.#mapPage(file, 0, 0x23_0000, 'len 0', 0);
    this.#mapPage(file, 2n ** 64n - BigInt(PG), 0x23_0000, 'start wraps', 2 * PG);
    this.#mapPage(file, 0, 0, 'kernel picks', PG, 6);
    this.#mapPage(999, 0, 0x24_0000, 'fd 999');
    this.#mapPage(-1, 0, 0x24_0000, 'fd -1');
    this.#mapPage(this.io, 0, 0x24_0000, 'fd /dev/iommu');
    this.#mapPage(0, 0, 0x24_0000, 'fd 0 (/dev/null)');
    this.#mapPage(this.#device, 0, 0x24_0000, 'fd = vfio cdev');
    const other = this.memfd(4 * PG);
    this.#mapPage(other, 0, 0x25_0000, 'tmpfs file');
    this.#mapPage(this.memfd(4 * PG), 0, 0x26_0000, 'rootfs (ramfs/tmpfs) file');
    const copy = this.user.dup(other);
    this.#mapPage(copy, 0, 0x27_0000, 'O_RDONLY fd, RW');
    this.#mapPage(copy, 0, 0x27_0000, 'O_RDONLY fd, R', PG, 5);
    this.vm();
    this.#mapPage(file, 0, 0x28_0000, 'after the seal');
    const sealed = this.memfd(PG);
    this.#mapPage(sealed, 0, 0x29_0000, 'write-sealed memfd RW');
    this.#mapPage(sealed, 0, 0x29_0000, 'write-sealed memfd R', PG, 5);
    // The one of huge pages, which the guest did not have.
    this.memfd(PG);
  }

  #changeProcess(): void {
    const a = this.#a;
    const change = (what: string, reserved = 0) =>
      this.x(this.io, io(IommufdCommand.IOAS_CHANGE_PROCESS), [8, reserved], `CHANGE_PROCESS${what}`);
    change(' with only file mappings');
    const m = this.anon(PG);
    this.map(a, 7, m, PG, 0x90_0000, 'one anon page');
    change(' with an anon mapping');
    this.unmap(a, 0x90_0000, PG, 'anon');
    change(' reserved=1', 1);
    this.vm();
    this.inChild(() => {
      this.say('# in a forked child');
      this.vm();
      change(' in the child');
      this.vm();
      this.map(a, 7, m, PG, 0x90_0000, 'child maps its anon page');
      this.copy(a, 0xa0_0000, a, 0x10_0000, PG, 7, 'child copies the file mapping');
      this.unmap(a, 0x90_0000, PG, 'child');
    });
    this.say('# back in the parent');
    this.vm();
    this.map(a, 7, m, PG, 0x90_0000, 'parent maps');
    change(' in the parent, anon mapped');
    this.unmap(a, 0, ALL, 'all');
    change(', nothing mapped');
    this.vm();
  }

  #dmaBuf(what: string, fields: DmaBufFields = {}): number {
    const { argsz = 40, region = 0, openFlags = O_RDWR | O_CLOEXEC, flags = 0, ranges = 1, offset = 0, length = PG } = fields;
    const request = packed([argsz, FeatureFlags.GET | DMA_BUF, region, openFlags, flags, ranges, BigInt(offset), BigInt(length)]);
    this.x(this.#device, DeviceIoctl.FEATURE, request, what);
    return this.result;
  }

  #command(bits: number): void {
    this.user.pwrite(this.#device, new Uint8Array([bits, 0]), CONFIG + 4);
  }

  #buffers(): void {
    const buffer = this.#dmaBuf('FEATURE DMA_BUF GET region 0 [0+4096]');
    this.fdinfo(buffer, 'dma-buf');
    this.#mapPage(buffer, 0, 0x200_0000, 'dma-buf, memory enable off');
    this.#command(6);
    this.#mapPage(buffer, 0, 0x200_0000, 'dma-buf, memory enable on');
    this.#mapPage(buffer, PG, 0x210_0000, 'dma-buf past its end');
    this.#mapPage(buffer, 16, 0x220_0010, 'dma-buf unaligned', 16);
    const b2 = this.ioas('b2');
    this.copy(b2, 0x10_0000, this.#a, 0x200_0000, PG, 7, 'dma-buf mapping');
    this.#command(4);
    this.say('(memory disabled: revoked)');
    this.#mapPage(buffer, 0, 0x230_0000, 'dma-buf while revoked');
    this.copy(b2, 0x20_0000, this.#a, 0x200_0000, PG, 7, 'copy of a revoked mapping');
    this.unmap(this.#a, 0x200_0000, PG, 'revoked mapping');
    this.t(this.mapped(PG, 1, 1, buffer), 'mmap(dma-buf)');
    this.user.close(buffer);
    this.#dmaBuf('DMA_BUF len 16', { length: 16 });
    this.#dmaBuf('DMA_BUF beyond the BAR', { offset: 1 << 30 });
    this.#dmaBuf('DMA_BUF 0 ranges', { ranges: 0 });
    this.#dmaBuf('DMA_BUF flags 1', { flags: 1 });
    this.#dmaBuf('DMA_BUF region CONFIG', { region: 7 });
    this.#dmaBuf('DMA_BUF region 5', { region: 5 });
    this.#dmaBuf('DMA_BUF O_RDONLY', { openFlags: 0 });
    this.#dmaBuf('DMA_BUF O_TRUNC', { openFlags: O_TRUNC });
    this.#dmaBuf('DMA_BUF argsz 24', { openFlags: O_RDWR, argsz: 24 });
  }

  #byAddress(): void {
    this.#command(6);
    const bar = this.user.mmap(PG, 3, 1, this.#device);
    this.map(this.#a, 7, bar, PG, 0x300_0000, 'va of an mmapped BAR');
    this.vfioIoas(1, this.#a, 'SET a');
    const request = packed([32, 3, BigInt(bar), 0x300_0000n, BigInt(PG)]);
    this.x(this.io, io(113), request, 'compat MAP_DMA of the mmapped BAR');
  }
}
