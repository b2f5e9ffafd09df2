/**
 * Dirty tracking of a domain: the part of iommufd-mock.txt that asks an IOMMU which can. The
 * kernel's mock device marks pages by a request of its own, in pages of 2 KiB; here a device's DMA
 * writes to them, in pages of 4 KiB.
 */
import { hex } from '../asker.ts';
import { CONFIG, IommufdAsker, PG } from './asker.ts';

const AT = 0x100_0000;
const SECOND = 0x110_0000;

export class DirtyQuestions extends IommufdAsker {
  #hwpt = 0;
  #bitmap = 0;

  ask(): void {
    this.io = this.openIommu();
    const device = this.openCdev();
    const id = this.bind(device, this.io, '');
    const a = this.ioas('a');
    this.#hwpt = this.hwpt(id, a, 2, 'DIRTY');
    this.attach(device, this.#hwpt, '');
    this.user.pwrite(device, new Uint8Array([6, 0]), CONFIG + 4);
    // The questions of the recording begin here.
    this.lines.length = 0;
    this.say('# dirty tracking');
    const m = this.anon(256 * PG);
    this.#bitmap = this.anon(PG);
    this.map(a, 7, m, 64 * PG, AT, '64 pages at 16 MiB');
    this.#get('tracking off');
    this.setDirty(this.#hwpt, 1, 'on');
    this.setDirty(this.#hwpt, 1, 'on again');
    this.#get('nothing dirty');
    this.#say(2);
    this.#write();
    this.#reads();
    this.#refused();
    this.#switched();
    this.#areas(a, m);
    this.attach(device, a, '');
    this.lines.pop();
    this.destroy(this.#hwpt, 'hwpt with tracking on');
    this.user.close(device);
  }

  /** A device writes to pages 0, 1, 4 and 5. */
  #write(pages: readonly number[] = [0, 1, 4, 5], at = AT): void {
    for (const page of pages) this.subject.deviceWrites(BigInt(at + page * PG));
  }

  #get(what: string, flags = 0, iova = AT, length = 64 * PG, page = PG, bitmap = this.#bitmap): void {
    this.dirty(this.#hwpt, flags, iova, length, page, bitmap, what);
  }

  /** Print words of the bitmap, and clear it. */
  #say(words: number): void {
    const bits = new BigUint64Array(this.peek(this.#bitmap, words * 8).buffer);
    this.say(`   ${[...bits].map((word) => hex(word)).join(' ')}`);
    this.poke(this.#bitmap, new Uint8Array(64));
  }

  #reads(): void {
    const NO_CLEAR = 1;
    this.#get('4 KiB NO_CLEAR', NO_CLEAR);
    this.#say(2);
    this.#get('8 KiB NO_CLEAR', NO_CLEAR, AT, 64 * PG, 2 * PG);
    this.#say(2);
    this.poke(this.#bitmap, new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0x80]));
    this.#get('bitmap with a bit set before (kept?)', NO_CLEAR);
    this.#say(2);
    this.#get('from page 2', NO_CLEAR, AT + 2 * PG, 32 * PG);
    this.#say(2);
    this.#get('bitmap pointer +1', NO_CLEAR, AT, 64 * PG, PG, this.#bitmap + 1);
    this.#say(3);
    this.#get('clear only pages 0-1', 0, AT, 2 * PG);
    this.#say(1);
    this.#get('clear the rest');
    this.#say(1);
    this.#get('again (clean)');
    this.#say(1);
  }

  #refused(): void {
    this.#get('bad bitmap pointer, clean', 0, AT, 64 * PG, PG, 8);
    this.#write();
    this.#get('bad bitmap pointer, dirty', 0, AT, 64 * PG, PG, 8);
    this.#get('after the fault', 1);
    this.#say(1);
    this.#get('range past the mapping', 0, AT, 65 * PG);
    this.#get('unmapped range', 0, 0x90_0000, PG);
    this.#get('page size 3000', 0, AT, 64 * PG, 3000);
    this.#get('page size 1024', 0, AT, 64 * PG, 1024);
    this.#get('length 100', 0, AT, 100);
    this.#get('length 0', 0, AT, 0);
    this.#get('iova unaligned', 0, AT + 0x400, PG);
  }

  #switched(): void {
    this.#write();
    this.setDirty(this.#hwpt, 0, 'off');
    this.#get('off');
    this.setDirty(this.#hwpt, 1, 'on: are old bits gone?');
    this.poke(this.#bitmap, new Uint8Array(64));
    this.#get('');
    this.#say(1);
  }

  #areas(a: number, m: number): void {
    this.map(a, 7, m + 64 * PG, 4 * PG, SECOND, 'second area, hole between');
    this.#write([0], SECOND);
    this.#get('range with a hole', 0, AT, 0x10_4000);
    this.#say(5);
    this.#write([0], SECOND);
    this.unmap(a, SECOND, 4 * PG, 'second');
    this.map(a, 7, m + 64 * PG, 4 * PG, SECOND, 'again');
    this.#get('dirty bits of an unmapped and remapped page', 0, SECOND, 4 * PG);
    this.#say(1);
  }
}
