/** Mapping and unmapping, locked memory, the limit of mappings: dma-edu.txt. */
import { MapFlags, Prot } from '../../src/ioctl/posix.ts';
import { Asker, PAGE } from './asker.ts';

export class DmaQuestions extends Asker {
  ask(): void {
    const u = this.user;
    this.openAll();
    const RW = 3;
    const MAP = 32;
    const UNMAP = 24;
    const ALL = 2;
    const m = u.mmap(64 * PAGE, Prot.READ | Prot.WRITE, MapFlags.PRIVATE | MapFlags.ANONYMOUS);
    const ro = u.mmap(PAGE, Prot.READ, MapFlags.PRIVATE | MapFlags.ANONYMOUS);
    const map = (vaddr: number, iova: number | bigint, size: number, flags: number, argsz: number, what: string) =>
      this.t(this.map(vaddr, iova, size, flags, argsz), `MAP_DMA ${what}`);
    const unmap = (iova: number, size: number | bigint, flags: number, argsz: number, what: string) =>
      this.unmap(iova, size, flags, argsz, what);
    const unmapAll = () => unmap(0, 0, ALL, UNMAP, 'ALL');

    map(m, 0x100000, PAGE, RW, MAP - 1, 'argsz one short');
    map(m, 0x100000, PAGE, RW, 4, 'argsz 4');
    map(m, 0x100000, PAGE, 0, MAP, 'flags 0');
    map(m, 0x100000, PAGE, 0x80 | RW, MAP, 'unknown flag');
    map(m, 0x100000, 0, RW, MAP, 'size 0');
    map(m, 0x100000, 100, RW, MAP, 'size 100');
    map(m, 0x100010, PAGE, RW, MAP, 'iova unaligned');
    map(m + 8, 0x100000, PAGE, RW, MAP, 'vaddr unaligned');
    map(m, 2n ** 64n - 4096n, 2 * PAGE, RW, MAP, 'iova+size wraps');
    map(m, 0xfee00000, PAGE, RW, MAP, 'iova in the MSI window');
    map(m, 1n << 60n, PAGE, RW, MAP, 'iova above the aperture');
    map(0x10000, 0x100000, PAGE, RW, MAP, 'vaddr not mapped');
    map(ro, 0x100000, PAGE, RW, MAP, 'vaddr read-only page, RW');
    map(ro, 0x100000, PAGE, 1, MAP, 'vaddr read-only page, R');
    unmap(0x100000, PAGE, 0, UNMAP, 'that');
    map(m, 0x100000, 4 * PAGE, RW, MAP, '4 pages');
    map(m, 0x100000, 4 * PAGE, RW, MAP, 'same again');
    map(m, 0x103000, PAGE, RW, MAP, 'overlap');
    map(m + 4 * PAGE, 0x104000, 4 * PAGE, RW, MAP, 'adjacent');
    unmap(0x100000, PAGE, 0, UNMAP, 'first page of 4 (v2)');
    unmap(0x101000, 3 * PAGE, 0, UNMAP, 'tail of 4');
    unmap(0x100000, 0, 0, UNMAP, 'size 0');
    unmap(0x100001, PAGE, 0, UNMAP, 'unaligned');
    unmap(0x900000, PAGE, 0, UNMAP, 'nothing there');
    unmap(0x100000, PAGE, 0x80, UNMAP, 'unknown flag');
    unmap(0x100000, PAGE, 0, UNMAP - 1, 'argsz short');
    unmap(0x100000, 8 * PAGE, 0, UNMAP, 'both in one');
    map(m, 0x100000, PAGE, RW, MAP, 'a');
    map(m, 0x200000, 2 * PAGE, RW, MAP, 'b');
    unmap(0x100000, PAGE, ALL, UNMAP, 'ALL with iova/size set');
    unmapAll();
    map(m, 0x100000, PAGE, RW, MAP, 'VADDR test');
    unmap(0x100000, PAGE, 4, UNMAP, 'VADDR flag');
    unmap(0, 2n ** 64n - 1n, 0, UNMAP, 'size ~0');
    unmap(0, 2n ** 47n, 0, UNMAP, '0..1<<47');
    unmapAll();

    const { process } = u;
    this.say(`RLIMIT_MEMLOCK default ${process.memlockLimit}`);
    process.memlockLimit = 8 * PAGE;
    map(m, 0x100000, 16 * PAGE, RW, MAP, '16 pages, RLIMIT_MEMLOCK=8 pages, with CAP_IPC_LOCK');
    unmapAll();
    process.capabilities.delete('CAP_IPC_LOCK');
    map(m, 0x100000, 16 * PAGE, RW, MAP, '16 pages, RLIMIT_MEMLOCK=8 pages, without CAP_IPC_LOCK');
    map(m, 0x100000, 8 * PAGE, RW, MAP, '8 pages, limit 8');
    map(m + 8 * PAGE, 0x200000, PAGE, RW, MAP, '1 more page');
    unmapAll();
    map(m, 0x100000, 8 * PAGE, RW, MAP, '8 pages after unmap');
    unmapAll();
    map(m, 0x100000, 8 * PAGE, RW, MAP, '8 pages');
    map(m, 0x200000, PAGE, RW, MAP, 'the same page again under the limit (counted twice?)');
    unmapAll();
    process.memlockLimit = 2 ** 30;
    let made = 0;
    let refused = 0;
    for (; made < 70000 && refused === 0; made++) refused = this.map(m, 0x1000_0000 + made * 2 * PAGE, PAGE, RW, MAP);
    this.t(refused, `1-page maps of one page until refused: ${refused === 0 ? made : made - 1} made, then`);
  }
}
