/**
 * For tests: memory of a host that is direct, remote or absent, page by page. Its asynchronous
 * answers come when the test says so.
 */
import { Dma, DmaFault, type DmaPlace, type DmaPort, type Iova } from '../../../src/abi/device-host.ts';

export const TEST_PAGE = 4096;
export type PageKind = 'direct' | 'remote' | 'none' | 'read-only';

export class TestMemory implements DmaPort {
  readonly bytes: Uint8Array;
  /** I/O address of the first byte. */
  readonly base: bigint;
  readonly kinds: PageKind[];
  /** Set: asynchronous DMA waits for `answer`. */
  hold = false;
  /** DMAs that have ended, asynchronous ones included. */
  writes = 0;
  reads = 0;
  /** Change it together with `kinds`: views that were taken before end. */
  epoch = 0;
  readonly #held: (() => void)[] = [];

  constructor(pages: number, base = 0x10_0000n) {
    this.bytes = new Uint8Array(pages * TEST_PAGE);
    this.base = base;
    this.kinds = new Array<PageKind>(pages).fill('direct');
  }

  /** The low and high half of the address of byte `at`. */
  address(at: number): [low: number, high: number] {
    const iova = this.base + BigInt(at);
    return [Number(iova & 0xffff_ffffn), Number(iova >> 32n)];
  }

  /** Asynchronous DMAs that wait for `answer`. */
  get held(): number {
    return this.#held.length;
  }

  /** Answer all asynchronous DMAs that wait. */
  answer(): void {
    for (const go of this.#held.splice(0)) go();
  }

  tryRead(iova: Iova, into: Uint8Array): Dma {
    const kind = this.#kind(iova, into.length, false);
    if (kind !== 'direct') return kind === 'remote' ? Dma.REMOTE : Dma.FAULT;
    this.#read(iova, into);
    return Dma.DONE;
  }

  tryWrite(iova: Iova, from: Uint8Array): Dma {
    const kind = this.#kind(iova, from.length, true);
    if (kind !== 'direct') return kind === 'remote' ? Dma.REMOTE : Dma.FAULT;
    this.#write(iova, from);
    return Dma.DONE;
  }

  async read(iova: Iova, into: Uint8Array): Promise<void> {
    await this.#turn();
    if (this.#kind(iova, into.length, false) === 'none') throw new DmaFault('not-mapped', BigInt(iova));
    this.#read(iova, into);
  }

  async write(iova: Iova, from: Uint8Array): Promise<void> {
    await this.#turn();
    if (this.#kind(iova, from.length, true) === 'none') throw new DmaFault('not-mapped', BigInt(iova));
    this.#write(iova, from);
  }

  view(iova: Iova, size: number, access: number): Uint8Array | null {
    if (this.#kind(iova, size, (access & 2) !== 0) !== 'direct') return null;
    const at = this.#at(iova);
    return this.bytes.subarray(at, at + size);
  }

  locate(iova: Iova, size: number, access: number, place: DmaPlace): boolean {
    if (this.#kind(iova, size, (access & 2) !== 0) !== 'direct') return false;
    place.bytes = this.bytes;
    place.offset = this.#at(iova);
    return true;
  }

  #turn(): Promise<void> {
    return this.hold ? new Promise((resolve) => this.#held.push(resolve)) : Promise.resolve();
  }

  #at(iova: Iova): number {
    return Number(BigInt(iova) - this.base);
  }

  #kind(iova: Iova, size: number, write: boolean): 'direct' | 'remote' | 'none' {
    const at = this.#at(iova);
    if (at < 0 || at + size > this.bytes.length) return 'none';
    let kind: 'direct' | 'remote' = 'direct';
    for (let page = Math.floor(at / TEST_PAGE); page * TEST_PAGE < at + size; page++) {
      const of = this.kinds[page]!;
      if (of === 'none' || (write && of === 'read-only')) return 'none';
      if (of === 'remote') kind = 'remote';
    }
    return kind;
  }

  #read(iova: Iova, into: Uint8Array): void {
    this.reads++;
    const at = this.#at(iova);
    into.set(this.bytes.subarray(at, at + into.length));
  }

  #write(iova: Iova, from: Uint8Array): void {
    this.writes++;
    this.bytes.set(from, this.#at(iova));
  }
}
