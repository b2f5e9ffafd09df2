/** Mapping, unmapping and copying, and where the kernel may map: iommufd-ioas.txt. */
import { IommufdCommand } from '../../../src/abi/iommufd.ts';
import { Prot } from '../../../src/ioctl/posix.ts';
import { ALL, IommufdAsker, io, PG } from './asker.ts';

const U64 = 2n ** 64n;
const PAGE = BigInt(PG);
const MSI = 0xfee0_0000;

export class IoasQuestions extends IommufdAsker {
  #device = -1;
  /** Two address spaces; a device is attached to the first. */
  #a = 0;
  #b = 0;
  /** 64 pages, and one that is read-only. */
  #memory = 0;
  #readOnly = 0;

  ask(): void {
    this.io = this.openIommu();
    this.#device = this.openCdev();
    const id = this.bind(this.#device, this.io, '');
    this.#a = this.ioas('a');
    this.#b = this.ioas('b');
    this.#memory = this.anon(64 * PG);
    this.#readOnly = this.anon(PG, Prot.READ);
    this.x(this.io, io(IommufdCommand.IOAS_ALLOC), [12, 1, 0], 'IOAS_ALLOC flags=1');
    this.#askRanges(id);
    this.say('# MAP order of checks');
    this.#checks(id);
    this.say('# overlap, unmap granularity');
    this.#overlap();
    this.say('# kernel picks');
    this.#picks();
    this.say('# COPY');
    this.#copies();
    this.say('# munmap under a mapping');
    const c = this.#munmapped();
    this.say('# ALLOW_IOVAS');
    this.#allowed(c);
    this.#late();
    this.user.close(this.#device);
    this.t(0, 'device closed');
    this.ranges(this.#a, 'of a after close');
    this.destroy(this.#a, '');
    this.destroy(this.#b, '');
  }

  #askRanges(device: number): void {
    this.ranges(this.#a, 'before attach');
    this.attach(this.#device, this.#a, 'ioas a');
    this.ranges(this.#a, 'attached');
    const request = io(IommufdCommand.IOAS_IOVA_RANGES);
    // The program asks with one structure, which keeps what the kernel has written into it.
    const two = BigInt(this.anon(PG));
    this.x(this.io, request, [32, this.#a, 0, 0, 0n, 0n], 'IOVA_RANGES num 0');
    this.x(this.io, request, [32, this.#a, 1, 0, two, PAGE], 'IOVA_RANGES num 1');
    this.x(this.io, request, [32, this.#a, 9, 0, 8n, PAGE], 'IOVA_RANGES bad pointer');
    this.x(this.io, request, [32, this.#a, 9, 1, 8n, PAGE], 'IOVA_RANGES reserved=1');
    this.x(this.io, request, [32, 999, 9, 0, 8n, PAGE], 'IOVA_RANGES ioas 999');
    this.x(this.io, request, [32, device, 9, 0, 8n, PAGE], 'IOVA_RANGES ioas = device id');
  }

  #checks(device: number): void {
    const [a, b, m, at] = [this.#a, this.#b, this.#memory, 0x10_0000];
    this.x(this.io, io(IommufdCommand.IOAS_MAP), [40, 7, a, 1, BigInt(m), PAGE, BigInt(at)], 'MAP reserved=1');
    this.map(a, 0x17, m, PG, at, 'flag 0x10');
    this.map(a, 0, m, PG, at, 'flags 0');
    this.map(a, 1, m, PG, at, 'FIXED only');
    this.map(a, 7, m, 0, at, 'len 0');
    this.map(a, 7, m, ALL, at, 'len ~0');
    this.map(a, 7, m, PG, ALL, 'iova ~0');
    this.map(a, 7, m, PG, U64 - PAGE, 'iova -4096 len 4096');
    this.map(a, 7, m, 2 * PG, U64 - PAGE, 'iova -4096 len 8192');
    this.map(a, 7, U64 - PAGE, 2 * PG, at, 'va wraps');
    this.map(a, 7, 1n << 47n, PG, at, 'va kernel half');
    this.map(a, 7, m + 1, PG, at, 'va+1, aligned iova');
    this.map(a, 7, m + 1, PG, at + 1, 'va+1 iova+1 (same offset in page)');
    this.map(a, 7, m + 16, PG - 16, at + 16, 'va+16 iova+16 len 4080');
    this.map(a, 7, m, 100, at, 'len 100');
    this.map(a, 7, m, PG + 100, at, 'len 4196');
    this.map(999, 7, m, PG, at, 'ioas 999');
    this.map(device, 7, m, PG, at, 'ioas = device id');
    this.map(a, 7, 0x1_0000, PG, at, 'va not mapped, attached');
    this.map(b, 7, 0x1_0000, PG, at, 'va not mapped, ioas without a device');
    this.unmap(b, at, PG, 'that');
    this.map(a, 7, this.#readOnly, PG, at, 'read-only va RW');
    this.map(a, 5, this.#readOnly, PG, at, 'read-only va R');
    this.unmap(a, at, PG, 'that');
    this.map(a, 3, m, PG, at, 'W only');
    this.unmap(a, at, PG, 'that');
    this.map(a, 7, m, PG, MSI, 'MSI window');
    this.map(a, 7, m, 2 * PG, MSI - PG, 'straddles the MSI window');
    this.map(a, 7, m, PG, 1n << 48n, 'above 48 bits');
    this.map(b, 7, m, PG, 1n << 60n, 'iova 1<<60 in an ioas with no device');
    this.unmap(b, 0, ALL, 'all of b');
  }

  #overlap(): void {
    const [a, m] = [this.#a, this.#memory];
    this.map(a, 7, m, 4 * PG, 0x10_0000, '4 pages');
    this.map(a, 7, m, 4 * PG, 0x10_0000, 'same');
    this.map(a, 7, m, PG, 0x10_3000, 'last page');
    this.map(a, 7, m + 4 * PG, 4 * PG, 0x10_4000, 'adjacent');
    this.unmap(a, 0x10_0000, PG, 'first page of 4');
    this.unmap(a, 0x10_3000, PG, 'last page of 4');
    this.unmap(a, 0x10_1000, PG, 'middle page');
    this.unmap(a, 0x10_2000, 4 * PG, 'spans both, cuts both');
    this.unmap(a, 0xf_f000, 2 * PG, 'before + cut');
    this.unmap(a, 0x90_0000, PG, 'nothing there');
    this.unmap(a, 0x10_0000, 0, 'len 0');
    this.unmap(a, 0x10_0001, 4 * PG, 'unaligned');
    this.unmap(a, 0, 0x10_0000, 'hole below');
    this.unmap(a, 0x10_0000, 8 * PG, 'both');
    this.unmap(a, 0x10_0000, 8 * PG, 'both again');
    this.map(a, 7, m, PG, 0x10_0000, 'p1');
    this.map(a, 7, m, PG, 0x20_0000, 'p2');
    this.unmap(a, 0, 1n << 40n, '0..1<<40 (2 maps with gaps)');
    this.unmap(a, 0, ALL, 'all (empty)');
    this.unmap(a, 1, ALL, 'iova 1 len ~0');
    this.unmap(a, PG, U64 - PAGE, 'iova 4096 len -4096');
    this.unmap(999, 0, ALL, 'ioas 999');
    this.map(a, 7, m, PG, 0, 'fixed at 0');
    this.unmap(a, 0, PG, '0');
  }

  #picks(): void {
    const [a, b, m] = [this.#a, this.#b, this.#memory];
    this.map(a, 6, m, PG, 0x77_7000, 'pick 1 page');
    this.map(a, 6, m, PG, 0, 'pick 1 page more');
    this.map(a, 6, m + 16, 100, 0, 'pick va+16 len 100');
    this.map(a, 6, m, 48 * PG, 0, 'pick 48 pages');
    this.map(a, 6, this.anon(8 << 20), 4 << 20, 0, 'pick 4 MiB');
    this.map(b, 6, m, PG, 0, 'pick in b (no device)');
    this.unmap(a, 0, ALL, 'all');
    this.unmap(b, 0, ALL, 'all of b');
  }

  #copies(): void {
    const [a, b, m] = [this.#a, this.#b, this.#memory];
    this.map(a, 7, m, 8 * PG, 0x10_0000, '8 pages in a');
    this.copy(b, 0x50_0000, a, 0x10_0000, 8 * PG, 7, 'a->b whole');
    this.copy(b, 0x50_0000, a, 0x10_0000, 8 * PG, 7, 'again');
    this.copy(a, 0x50_0000, a, 0x10_0000, 8 * PG, 7, 'a->a');
    this.copy(b, 0x60_0000, a, 0x10_1000, 2 * PG, 7, 'middle 2 pages');
    this.copy(b, 0x70_0000, a, 0x10_1010, 32, 7, '32 bytes unaligned, dst aligned');
    this.copy(b, 0x70_0010, a, 0x10_1010, PG, 7, 'unaligned both');
    this.copy(b, 0, a, 0x10_1010, 32, 6, '32 bytes, kernel picks');
    this.copy(b, 0, a, 0x10_1000, PG, 6, '1 page, kernel picks');
    this.copy(b, 0x80_0000, a, 0x10_7000, 2 * PG, 7, 'past the end');
    this.copy(b, 0x80_0000, a, 0x90_0000, PG, 7, 'source unmapped');
    this.copy(b, 0x80_0000, a, 0x10_0000, 0, 7, 'len 0');
    this.copy(b, 0x80_0000, a, 0x10_0000, PG, 1, 'no perms');
    this.copy(b, 0x80_0000, a, 0x10_0000, PG, 0x17, 'flag 0x10');
    this.copy(999, 0x80_0000, a, 0x10_0000, PG, 7, 'dst 999');
    this.copy(b, 0x80_0000, 999, 0x10_0000, PG, 7, 'src 999');
    this.copy(b, ALL, a, 0x10_0000, PG, 7, 'dst ~0');
    this.copy(a, MSI, a, 0x10_0000, PG, 7, 'dst MSI window');
    this.map(a, 5, this.#readOnly, PG, 0x30_0000, 'read-only page R');
    this.copy(b, 0x90_0000, a, 0x30_0000, PG, 7, 'R-only source copied RW');
    this.copy(b, 0x90_0000, a, 0x30_0000, PG, 5, 'R-only source copied R');
    this.map(a, 5, m + 20 * PG, PG, 0x31_0000, 'writable page mapped R');
    this.copy(b, 0x91_0000, a, 0x31_0000, PG, 7, 'that copied RW');
    this.unmap(a, 0x10_0000, 8 * PG, 'source of copies');
    this.copy(a, 0x10_0000, b, 0x50_0000, 8 * PG, 7, 'copy back from b');
    this.unmap(b, 0, ALL, 'all of b');
    this.unmap(a, 0, ALL, 'all of a');
    this.map(a, 7, m, 4 * PG, 0x10_0000, '4 pages');
    this.map(a, 7, m + 8 * PG, 4 * PG, 0x10_4000, 'adjacent, other memory');
    this.copy(b, 0x50_0000, a, 0x10_2000, 4 * PG, 7, 'across two areas');
    this.unmap(b, 0x50_0000, 2 * PG, 'first half of that copy (was two areas)');
    this.unmap(b, 0, ALL, 'b');
    this.unmap(a, 0, ALL, 'a');
  }

  /** @returns a third address space, which has the device now */
  #munmapped(): number {
    const [a, b] = [this.#a, this.#b];
    const gone = this.anon(2 * PG);
    this.map(a, 7, gone, 2 * PG, 0x10_0000, '2 pages');
    this.user.munmap(gone, 2 * PG);
    this.copy(a, 0x20_0000, a, 0x10_0000, 2 * PG, 7, 'copy inside attached a after munmap');
    this.copy(b, 0x20_0000, a, 0x10_0000, 2 * PG, 7, 'copy to unattached b after munmap');
    this.unmap(a, 0, ALL, 'a');
    const c = this.ioas('c');
    this.detach(this.#device, 'a');
    this.attach(this.#device, b, 'b, whose memory was munmapped and unpinned');
    this.unmap(b, 0, ALL, 'b');
    this.attach(this.#device, b, 'b now empty');
    this.attach(this.#device, c, 'c');
    return c;
  }

  #allowed(c: number): void {
    const m = this.#memory;
    const two = [0x10_0000n, 0x1f_ffffn, 0x40_0000n, 0x7f_ffffn];
    this.allow(c, two, 'two ranges');
    this.ranges(c, 'after allow (attached)');
    this.map(c, 6, m, PG, 0, 'kernel picks');
    this.map(c, 6, m, 0x50_0000, 0, 'kernel picks 5 MiB (no room)');
    this.map(c, 7, m, PG, 0x90_0000, 'fixed outside the allowed (allowed?)');
    this.allow(c, [0x2000n, 0x1000n], 'reversed');
    this.allow(c, [0x1000n, 0x1000n], 'start==last');
    this.allow(c, [0x1000n, 0x5fffn, 0x5000n, 0x8fffn], 'overlapping');
    this.allow(c, [0x1001n, 0x8000n], 'unaligned');
    this.allow(c, [BigInt(MSI), 0xfeef_ffffn], 'only the MSI window');
    this.allow(c, [0n, ALL], 'everything');
    this.allow(c, 8, 'bad pointer');
    this.allow(999, [0x10_0000n, 0x1f_ffffn], 'ioas 999');
    this.allow(c, 0, 'num 0 (clear)');
    this.map(c, 6, m, PG, 0, 'kernel picks after clear');
    this.unmap(c, 0, ALL, 'c');
  }

  /** Address spaces that were filled before a device came. */
  #late(): void {
    const m = this.#memory;
    const e = this.ioas('e');
    this.allow(e, [0x10_0000n, 0x1f_ffffn, 0x40_0000n, 0x7f_ffffn], 'before any device');
    const f = this.ioas('f');
    this.allow(f, [BigInt(MSI), 0xfee0_ffffn], 'MSI window allowed before the device');
    this.attach(this.#device, f, '(reserved region inside allowed)');
    const g = this.ioas('g');
    this.map(g, 7, m, PG, MSI, 'MSI window, no device yet');
    this.attach(this.#device, g, '(mapping inside the reserved region)');
    this.map(e, 7, m, PG, 1n << 50n, '1<<50, no device yet');
    this.attach(this.#device, e, '(mapping above the aperture)');
    this.attach(this.#device, this.#a, 'back to a');
  }
}
